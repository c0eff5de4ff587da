"""Two processes on the CPU give the figures and the gradient of one."""

import csv
import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

# One step of plain gradient descent with rate 1: the weights' difference is the gradient's. In
# float64, so that the order in which a machine adds up is not what is compared.
RECIPE = """
model:
  class_path: ImageClassifier
  init_args:
    net: {class_path: GoogLeNet, init_args: {norm: group}}
    optimizer: sgd
    lr: 1.0
    momentum: 0.0
    weight_decay: 0.0
    schedule: constant
data: {class_path: Digits, init_args: {batch_size: 128, crop_padding: 1}}
trainer:
  max_epochs: 1
  limit_train_batches: 1
  accelerator: cpu
  precision: 64-true
  log_every_n_steps: 1
"""


# The same for texts, whose batches are of about the same length.
TEXT_RECIPE = """
model:
  class_path: TextClassifier
  init_args:
    net: {class_path: RNNClassifier, init_args: {embedding_dim: 8, hidden_size: 8}}
    optimizer: sgd
    lr: 1.0
    momentum: 0.0
    weight_decay: 0.0
    schedule: constant
data:
  class_path: TextClassification
  init_args: {path: REVIEWS, tokenizer: word, batch_size: 16, test_fraction: 0.3}
trainer:
  max_epochs: 1
  limit_train_batches: 1
  accelerator: cpu
  precision: 64-true
  log_every_n_steps: 1
"""


# The same for a language model; windows end at documents' ends, so that one process predicts fewer
# tokens than the other.
TOKEN_RECIPE = """
model:
  class_path: LanguageModel
  init_args:
    net: {class_path: GPT, init_args: {layout: gpt2, embedding_dim: 8, num_heads: 2}}
    sample_tokens: 0
    optimizer: sgd
    lr: 1.0
    momentum: 0.0
    weight_decay: 0.0
    schedule: constant
data:
  class_path: TextCorpus
  init_args:
    path: REVIEWS
    tokenizer: char
    respect_documents: true
    max_length: 24
    batch_size: 16
    test_fraction: 0.3
trainer:
  max_epochs: 1
  limit_train_batches: 1
  accelerator: cpu
  precision: 64-true
  log_every_n_steps: 1
"""


def fit(
    folder: Path, processes: int, recipe: str
) -> tuple[dict[str, Any], dict[str, torch.Tensor], Path]:
    (folder / "shared.yaml").write_text(recipe)
    command = [sys.executable, "-m", "zoo", "fit", "--config", "shared.yaml", "--wandb", "off"]
    command += ["--trainer.devices", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400
    )
    assert result.returncode == 0, result.stderr
    (run,) = (folder / "runs" / "shared").iterdir()
    summary: dict[str, Any] = json.loads((run / "summary.json").read_text())
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return summary, saved["state_dict"], run


def write_reviews(path: Path) -> None:
    """250 texts of 1 to 30 words: 75 to test on, so that two processes have uneven shards."""
    draw = random.Random(0)
    words = ["a", "dull", "slow", "tedious", "warm", "funny", "good", "film", "plot", "scene"]
    rows = [(" ".join(draw.choices(words, k=1 + n % 30)) + f" {n}", n % 2) for n in range(250)]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


@pytest.mark.timeout(900)
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["images", "texts", "tokens"])
def test_two_processes_equal_one(zoo: Callable[[str], Any], tmp_path: Path, kind: str) -> None:
    write_reviews(tmp_path / "reviews.csv")
    recipe = {"images": RECIPE, "texts": TEXT_RECIPE, "tokens": TOKEN_RECIPE}[kind]
    recipe = recipe.replace("REVIEWS", str(tmp_path / "reviews.csv"))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, weights_of_one, folder_of_one = fit(tmp_path / "one", 1, recipe)
    two, weights_of_two, folder_of_two = fit(tmp_path / "two", 2, recipe)
    for name, value in weights_of_one.items():
        torch.testing.assert_close(weights_of_two[name], value, atol=1e-5, rtol=0, msg=name)
    monitor = "val/loss" if kind == "tokens" else "val/acc"
    assert two[monitor] == pytest.approx(one[monitor], abs=1e-6)
    # The same weights tested by one process, of 359 images, 75 texts, or their tokens.
    best = folder_of_two / "checkpoints" / "best.ckpt"
    assert zoo(f"test --ckpt_path {best} --wandb off --trainer.devices 1").code == 0
    (again,) = (tmp_path / "runs" / "test").glob("*/summary.json")
    by_one = json.loads(again.read_text())["test"]
    assert by_one.keys() == two["test"].keys()
    for name, value in by_one.items():
        other = two["test"][name]
        if name == "perplexity":  # the exponential, which enlarges the loss's last digit
            value, other = math.log(value), math.log(other)
        # sums of float32 losses in another order
        assert other == pytest.approx(value, rel=1e-6, abs=1e-6), name
    same_samples(folder_of_two, again.parent)
    names = {path.name for path in folder_of_one.iterdir()}
    assert {path.name for path in folder_of_two.iterdir()} == names
    if kind == "texts":  # all that are wrong, each once
        found = [wrong_texts(folder) for folder in (folder_of_two, again.parent)]
        assert found[0] == found[1]
        assert len(found[0]) == round(75 * (1 - by_one["acc"])) > 10


def wrong_texts(folder: Path) -> list[tuple[str, str]]:
    with (folder / "wrong_texts.csv").open(encoding="utf-8") as file:
        return sorted((row["text"], row["prediction"]) for row in csv.DictReader(file))


def same_samples(one: Path, other: Path) -> None:
    """Two runs tested the same samples, in one order, with the same intervals around figures."""
    if not (one / "predictions.csv").exists():  # of a language model
        return
    tables = []
    for folder in (one, other):
        with (folder / "predictions.csv").open(encoding="utf-8") as file:
            tables.append(list(csv.DictReader(file)))
    for row, same in zip(*tables, strict=True):
        for name, value in row.items():
            is_number = name == "probability" or name.startswith("p(")
            assert (pytest.approx(float(value), abs=1e-5) if is_number else value) == (
                float(same[name]) if is_number else same[name]
            ), name
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (one, other)]
    found, same_found = (each["intervals"]["figures"] for each in summaries)
    assert found.keys() == same_found.keys() > {"acc", "loss"}
    for name, bounds in found.items():
        for side in ("low", "high"):
            assert bounds[side] == pytest.approx(same_found[name][side], abs=1e-5), name
