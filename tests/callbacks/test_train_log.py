"""What is printed of an epoch is of that epoch, and a run's seconds are those of all sessions."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Zoo = Callable[[str], Any]
FIT = "fit --config r.yaml --wandb off --model.net MLP"


def test_an_epoch_without_a_validation_shows_none(zoo: Zoo) -> None:
    options = "--trainer.max_epochs 5 --trainer.check_val_every_n_epoch 3"
    ended = zoo(f"{FIT} {options} --trainer.enable_progress_bar true")
    lines = [line for line in ended.out.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in lines] == ["1/5", "2/5", "3/5", "4/5", "5/5"]
    assert [line.split()[1] for line in lines if "val/" in line] == ["3/5"]
    assert all("train/loss" in line for line in lines)


def test_the_seconds_of_earlier_sessions_count(zoo: Zoo) -> None:
    assert zoo(FIT).code == 0
    (last,) = Path("runs").rglob("last.ckpt")
    saved = torch.load(last, weights_only=True)
    saved["callbacks"]["TrainLog"]["seconds"] += 1000
    torch.save(saved, last)
    ended = zoo(f"{FIT} --ckpt_path last --trainer.max_epochs 2")
    seconds = json.loads((last.parents[1] / "summary.json").read_text())["fit_seconds"]
    assert 1000 <= seconds < 2000
    assert f"{seconds} s" in ended.out
