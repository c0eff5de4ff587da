"""Which epoch is chosen, and that it is told."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from zoo.callbacks.checkpoints import Checkpoints
from zoo.tasks import ImageClassifier


class Scripted(L.LightningModule):
    """A module whose validation figures are written down before."""

    def __init__(self, figures: list[float]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.figures = figures

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return (self.weight * batch).sum()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/score", self.figures[self.current_epoch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(folder: Path, figures: list[float], ckpt_path: Path | None = None) -> Checkpoints:
    saved = Checkpoints("val/score", "max")
    trainer = L.Trainer(
        default_root_dir=folder, accelerator="cpu", logger=False, callbacks=[saved],
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        max_epochs=len(figures),
    )  # fmt: skip
    data = DataLoader(torch.ones(2, 1))
    trainer.fit(Scripted(figures), data, data, ckpt_path=ckpt_path, weights_only=True)
    return saved


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_figure_that_is_not_finite_is_never_the_best(tmp_path: Path, bad: float) -> None:
    saved = fit(tmp_path, [bad, 0.5, 0.3, bad])
    assert saved.best_model_score == 0.5
    assert (saved.best_epoch, saved.best_step) == (2, 4)
    assert torch.load(saved.best_model_path, weights_only=True)["global_step"] == 4


def test_a_run_that_goes_on_remembers_which_was_the_best(tmp_path: Path) -> None:
    fit(tmp_path, [0.2, 0.5, 0.3])
    last = tmp_path / "checkpoints" / "last.ckpt"
    saved = fit(tmp_path, [0.2, 0.5, 0.3, 0.4], last)
    assert (saved.best_model_score, saved.best_epoch, saved.best_step) == (0.5, 2, 4)
    saved = fit(tmp_path, [0.2, 0.5, 0.3, 0.4, 0.75], last)
    assert (saved.best_model_score, saved.best_epoch, saved.best_step) == (0.75, 5, 10)


@pytest.mark.parametrize("batches", [1, 0])
def test_the_table_names_the_epoch_that_was_chosen(
    zoo: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, batches: int
) -> None:
    figures = [0.25, 0.75, 0.5]

    def on_validation_epoch_end(self: ImageClassifier) -> None:
        self.log("val/acc", figures[self.current_epoch])

    monkeypatch.setattr(ImageClassifier, "on_validation_epoch_end", on_validation_epoch_end)
    options = f"--model.net MLP --trainer.max_epochs 3 --trainer.limit_val_batches {batches}"
    ended = zoo(f"fit --config r.yaml --wandb off {options}")
    assert ended.code == 0
    (line,) = [line for line in ended.out.splitlines() if line.startswith("chosen ")]
    (summary,) = Path("runs").rglob("summary.json")
    chosen = json.loads(summary.read_text())["chosen"]
    if batches:
        assert line.split(maxsplit=1)[1] == "epoch 2, step 2: val/acc 0.7500"
        assert chosen == {"by": "val/acc", "value": 0.75, "epoch": 2, "step": 2}
    else:
        assert "the last epoch, as there was no val/acc to choose by" in line
