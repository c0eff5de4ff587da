"""What a run prints while it trains."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from zoo import ImageClassifier
from zoo.callbacks.progress import Progress, line_of
from zoo.callbacks.train_log import TrainLog

LONG = {
    "train/loss": 1.23456e-10,
    "train/balanced_acc": 0.5,
    "val/loss": -1.23456e10,
    "val/balanced_acc": 0.5,
    "val/f1": 0.25,
}


def test_a_line_has_losses_and_the_monitored_figure_in_100_columns() -> None:
    line = line_of("epoch 1000/1000", LONG, "val/balanced_acc", 123_456.7)
    assert len(line) <= 100
    assert re.findall(r"\w+/[a-z]\w+", line) == ["train/loss", "val/loss", "val/balanced_acc"]
    assert line.endswith("123456.7 s")
    short = line_of("epoch 1/2", LONG, "val/balanced_acc", 1.0)
    assert "val/f1" not in short
    assert line_of("epoch 1/2", {"train/loss": 1.0}, "val/acc", 1.0).count("/") == 2


def loader() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(32, 1, 2, 2, generator=generator)
    return DataLoader(TensorDataset(images, torch.arange(32) % 2), batch_size=8)


def test_validations_within_an_epoch_print_their_figures(
    trainer: Callable[..., Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    described: list[str] = []
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr(
        "tqdm.std.tqdm.set_description",
        lambda self, text=None, refresh=True: described.append(str(text)),
    )
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    runner = trainer(
        max_epochs=2,
        val_check_interval=2,
        enable_progress_bar=True,
        callbacks=[TrainLog(), Progress()],
    )
    runner.fit(ImageClassifier(net, num_classes=2), loader(), loader())
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    places = [line.partition("  ")[0] for line in lines]
    assert places == ["epoch 1/2, step 2", "epoch 1/2", "epoch 2/2, step 6", "epoch 2/2"]
    number = r"\d\.\d{4}"
    figures = f"val/loss {number}  val/acc {number}"
    assert re.fullmatch(f"epoch 1/2, step 2  {figures}", lines[0])
    in_training = f"train/loss {number}  train/acc {number}"
    assert re.fullmatch(rf"epoch 1/2  {in_training}  {figures}  \d+\.\d s", lines[1])
    epochs = [text for text in described if text.startswith("epoch")]
    assert epochs == ["epoch 1/2", "epoch 2/2"]
