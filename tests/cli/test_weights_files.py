"""A weights file stands where a checkpoint does, with the same figures and predictions."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.run.checkpoint import read_checkpoint
from zoo.run.weights_file import write_weights
from zoo.tasks import ImageClassifier

FEW = "--trainer.limit_test_batches 1 --trainer.accelerator cpu --quiet"


@pytest.fixture
def weights(checkpoint: Path, tmp_path: Path) -> Path:
    path = tmp_path / "mine.safetensors"
    write_weights(read_checkpoint(checkpoint), path)
    return path


def test_it_tests_and_predicts_as_the_checkpoint(
    zoo: Callable[..., Any], checkpoint: Path, weights: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save("x.png")
    tested, predicted = [], []
    for path in (checkpoint, weights):
        ended = zoo(f"test --ckpt_path {path} {FEW} --json")
        assert ended.code == 0
        tested.append(json.loads(ended.out)["test"])
        ended = zoo(f"predict --ckpt_path {path} --inputs x.png --trainer.accelerator cpu")
        assert ended.code == 0
        predicted.append(ended.out.splitlines()[0])
    assert tested[0] == tested[1]
    assert predicted[0] == predicted[1]
    assert "x.png" in predicted[0]


def test_it_loads_in_python(weights: Path) -> None:
    task = ImageClassifier.load_from_checkpoint(str(weights))
    state = read_checkpoint(weights)["state_dict"]
    assert all(torch.equal(value, state[name]) for name, value in task.state_dict().items())


def test_no_training_goes_on_from_it(refuse: Callable[..., str], weights: Path) -> None:
    refuse(f"fit r.yaml --ckpt_path {weights}", "without an optimiser's state", "--init_from")
    refuse(f"fit {weights}", "it is a checkpoint: give it as --ckpt_path")
