"""What a language model writes at each validation."""

from __future__ import annotations

import csv
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

from datamodules.core.protocols import SupportsPrompts, data_of
from zoo.run.wandb_logger import active_wandb

_COLUMNS = ["step", "prompt", "text"]
#: Rows of the table that W&B shows.
_MOST_ROWS = 1000


@runtime_checkable
class WritingTask(Protocol):
    """A task whose net writes; it could before this training where ``is_pretrained`` is true."""

    #: What the user wants to see continued; None leaves it to the data.
    prompts: list[str] | None
    is_pretrained: bool

    def write(self, prompt: Sequence[int], *, stop_ids: Sequence[int] = ()) -> Iterator[int]:
        """Return the tokens that follow a prompt's, up to one of ``stop_ids``."""


class Samples(Callback):
    """Lets a language model write on from fixed prompts, at each validation and at the test.

    The texts are printed, added to ``samples.csv`` in the run folder, and logged to W&B as a
    table, behind those of earlier steps. Of a pretrained net, what it wrote before training stands
    beside what it writes now. The draws are the same each time, and training's own randomness is
    left alone.
    """

    def __init__(self) -> None:
        self.before: list[str] = []

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep what a pretrained net writes before it is trained."""
        pretrained = isinstance(pl_module, WritingTask) and pl_module.is_pretrained
        if pretrained and trainer.global_step == 0:
            texts = self._write(trainer, pl_module)
            self.before = [text for _, text in texts]
            self._keep(trainer, texts)

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show what it writes now."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._show(trainer, pl_module)

    @rank_zero_only
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show what the tested net writes."""
        self._show(trainer, pl_module)

    def _show(self, trainer: Trainer, pl_module: LightningModule) -> None:
        texts = self._write(trainer, pl_module)
        self._keep(trainer, texts)
        for number, (prompt, text) in enumerate(texts):
            parts = [("prompt", prompt)] if prompt else []
            parts += [("before", self.before[number])] if self.before else []
            parts += [("now" if self.before else "sample", text)]
            print("\n".join(_entry(name, part) for name, part in parts), flush=True)

    def _write(self, trainer: Trainer, pl_module: LightningModule) -> list[tuple[str, str]]:
        data = data_of(trainer)
        if not isinstance(data, SupportsPrompts) or not isinstance(pl_module, WritingTask):
            return []
        prompts = data.default_prompts() if pl_module.prompts is None else pl_module.prompts
        return [
            (prompt, data.decode(list(pl_module.write(tokens, stop_ids=data.stop_ids))))
            for prompt in prompts
            if (tokens := data.encode_prompt(prompt))
        ]

    def _keep(self, trainer: Trainer, texts: list[tuple[str, str]]) -> None:
        path = Path(trainer.default_root_dir) / "samples.csv"
        if not texts or not path.parent.is_dir():
            return
        is_new = not path.is_file()
        rows = [[trainer.global_step, prompt, text] for prompt, text in texts]
        with path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([*([_COLUMNS] if is_new else []), *rows])
        if loggers := active_wandb(trainer):
            with path.open(newline="", encoding="utf-8") as file:
                _, *written = csv.reader(file)
            # All of them each time: W&B shows the last table, and so they stand side by side.
            table = [[int(step), *texts] for step, *texts in written[-_MOST_ROWS:]]
            for logger in loggers:
                logger.log_rows("samples", _COLUMNS, table, trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """Return what was written before training."""
        return {"before": self.before}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep comparing with that."""
        self.before = state_dict["before"]


def _entry(name: str, text: str) -> str:
    """Return a text under its name, indented."""
    return f"{name}:\n{textwrap.indent(text.rstrip(), '  ')}"
