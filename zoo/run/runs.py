"""The runs that are kept: which is meant by ``last`` and ``best``, and what one says at its end."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from datamodules.core.errors import refuse
from zoo.errors import UserError
from zoo.run.names import run_id

#: Where runs are kept unless told.
RUNS = Path("runs")
#: What stands for a file of the run that began last.
NEWEST = {"last": "last", "best": "best", "@last": "last", "@best": "best"}
#: Where what is no training is kept, and what its runs are called in a study's folder.
_NO_TRAINING = {"validate", "test", "predict", "check"}


def newest_checkpoint(which: str, root: Path, recipe: str | None) -> Path:
    """Return ``last.ckpt`` or ``best.ckpt`` of the run that began last.

    Args:
        which: ``last`` or ``best``.
        root: Where runs are kept.
        recipe: The name of the recipe whose runs are meant; None for all.

    Raises:
        OptionError: If there is no run, or it has no such file.
    """
    return checkpoint_of(runs_of(root, recipe, which)[0], which)


def newest_first(runs: Iterable[Path]) -> list[Path]:
    """Return the folders of runs by when they began, the newest first."""
    return sorted(runs, key=lambda run: run_id(run.name), reverse=True)


def of_training(run: Path) -> bool:
    """Return whether a run's folder is called as those that train are.

    The test of a search's winner lies among the runs of the search, as ``test-ID``.
    """
    label = run.name.removesuffix(run_id(run.name)).rstrip("-")
    return not {run.parent.name, label} & _NO_TRAINING


def summary_of(run: Path) -> dict[str, Any] | None:
    """Return a run's ``summary.json``; None where there is none.

    Raises:
        UserError: If it cannot be read.
    """
    path = run / "summary.json"
    if not path.is_file():
        return None
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{str(path)!r} cannot be read as JSON ({error}); copy it anew") from error
    if not isinstance(summary, dict):
        raise UserError(f"{str(path)!r} is no summary of a run; copy it anew")
    return summary


def runs_of(root: Path, recipe: str | None, which: str) -> list[Path]:
    """Return the folders of a recipe's runs, or of all that train, the one begun last first.

    Raises:
        OptionError: If there is none.
    """
    recipes = (root / recipe).glob("*/recipe.yaml") if recipe else root.glob("*/*/recipe.yaml")
    runs = newest_first([path.parent for path in recipes])
    if recipe is None:
        runs = [run for run in runs if of_training(run)]
    if not runs:
        remedy = (
            f"leave it out to start a run of {recipe!r}, of which there is none in {str(root)!r}"
            if recipe
            else f"give a file, as there is no run in {str(root)!r}; `zoo fit` makes one"
        )
        raise refuse("ckpt_path", which, remedy)
    return runs


def checkpoint_of(run: Path, which: str) -> Path:
    """Return ``last.ckpt`` or ``best.ckpt`` of a run.

    Raises:
        OptionError: If it has none.
    """
    path = run / "checkpoints" / f"{which}.ckpt"
    if not path.is_file():
        raise refuse(
            "ckpt_path",
            which,
            f"the run begun last, {str(run)!r}, has no {which}.ckpt: name the file of another run, "
            "or leave it out to start anew",
        )
    return path
