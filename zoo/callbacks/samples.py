"""What a language model writes at each validation."""

from __future__ import annotations

import csv
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

from zoo.run.wandb_logger import active_wandb

if TYPE_CHECKING:
    from zoo.tasks.language_model import LanguageModel

_COLUMNS = ["step", "prompt", "text"]


class Samples(Callback):
    """Lets a language model write on from fixed prompts, at each validation and at the test.

    The texts are printed, added to ``samples.csv`` in the run folder, and logged to W&B as a
    table. Of a pretrained net, what it wrote before training stands beside what it writes now. The
    draws are the same each time, and training's own randomness is left alone.
    """

    def __init__(self) -> None:
        self.before: list[str] = []

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep what a pretrained net writes before it is trained."""
        pretrained = getattr(cast("Any", pl_module).net, "is_pretrained", False)
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
        task = cast("LanguageModel", pl_module)
        data: Any = getattr(trainer, "datamodule", None)
        if not hasattr(data, "encode_prompt"):
            return []
        prompts = data.default_prompts() if task.prompts is None else task.prompts
        return [
            (prompt, data.decode(list(task.write(tokens, stop_ids=data.stop_ids))))
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
        for logger in active_wandb(trainer):
            logger.log_rows("samples", _COLUMNS, rows, trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """Return what was written before training."""
        return {"before": self.before}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep comparing with that."""
        self.before = state_dict["before"]


def _entry(name: str, text: str) -> str:
    """Return a text under its name, indented."""
    return f"{name}:\n{textwrap.indent(text.rstrip(), '  ')}"
