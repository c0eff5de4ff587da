"""What weights of clothes are worth for digits: 100 labelled images, with and without them.

    OMP_NUM_THREADS=1 python tests/benchmarks/init_from.py [SIDE] [EPOCHS] [WEIGHTS]

scikit-learn's digits, ten a class to train on (drawn by the seed), 20 a class to choose the epoch
by, all others for the test, as image files that are brought to SIDE pixels (28, those of
Fashion-MNIST, by default). The recipe `resnet` trains ResNet-20 on them for EPOCHS (20) from random
weights and, by `--init_from`, from WEIGHTS (resnet-fashion), by the same options, with 3 seeds.
Runs are kept in a folder that is gone afterwards.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from zoo.__main__ import main as zoo

SEEDS = (0, 1, 2)
TRAIN, VAL = 10, 20  # of each class


def write_digits(folder: Path, seed: int) -> None:
    """Write the digits as files, in folders by split and class."""
    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    for label in range(10):
        numbers = np.random.default_rng(seed).permutation(np.flatnonzero(digits.target == label))
        for place, number in enumerate(numbers):
            split = "train" if place < TRAIN else "val" if place < TRAIN + VAL else "test"
            path = folder / split / str(label) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[number]).save(path)


def train(data: Path, side: int, epochs: int, seed: int, weights: str | None) -> float:
    """Train and return the accuracy of the test."""
    options = {
        "data": "ImageFolder",
        "data.root": str(data),
        "data.image_size": str(side),
        "data.channels": "1",
        "data.resize": "squash",
        "data.batch_size": "20",
        "trainer.max_epochs": str(epochs),
        "trainer.check_val_every_n_epoch": "5",
        "trainer.enable_progress_bar": "false",
        "trainer.default_root_dir": f"{data}-runs",
        "seed_everything": str(seed),
        "wandb": "off",
    }
    if weights is not None:
        options["init_from"] = weights
    words = [f"--{name}={value}" for name, value in options.items()]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = zoo(["fit", "resnet", *words])
    if code:
        raise SystemExit(said.getvalue())
    if weights is not None and seed == SEEDS[0]:
        shown = ("weights", "afresh", "in part", "left", " " * 4)
        print("\n".join(line for line in said.getvalue().split("\n") if line.startswith(shown)))
    run = max(Path(f"{data}-runs").glob("*/*/summary.json"), key=os.path.getmtime)
    figures: dict[str, float] = json.loads(run.read_text(encoding="utf-8"))["test"]
    return figures["acc"]


def main(side: int = 28, epochs: int = 20, weights: str = "resnet-fashion") -> None:
    """Print a table."""
    found: dict[str | None, list[float]] = {None: [], weights: []}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in SEEDS:
            data = Path(scratch, f"digits{seed}")
            write_digits(data, seed)
            for start in found:
                found[start].append(train(data, side, epochs, seed, start))
    print(f"\n{10 * TRAIN} digits of {side} pixels, {epochs} epochs of {TRAIN // 2} steps\n")
    print(f"| from | {' | '.join(f'seed {seed}' for seed in SEEDS)} | mean |")
    print("|---|" + "---|" * (len(SEEDS) + 1))
    for start, figures in found.items():
        cells = [f"{figure:.4f}" for figure in [*figures, statistics.mean(figures)]]
        print(f"| {start or 'random weights'} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]), *sys.argv[3:4])
