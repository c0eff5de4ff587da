"""Which of the runs that are kept is meant by ``last`` and ``best``."""

from __future__ import annotations

from pathlib import Path

from datamodules.core.errors import refuse
from zoo.run.names import run_id

#: What stands for a file of the newest run.
NEWEST = {"last": "last", "best": "best", "@last": "last", "@best": "best"}
#: Folders of what is no training.
_NO_TRAINING = ("validate", "test", "predict", "check")


def newest_checkpoint(which: str, root: Path, recipe: str | None) -> Path:
    """Return ``last.ckpt`` or ``best.ckpt`` of the newest run.

    Args:
        which: ``last`` or ``best``.
        root: Where runs are kept.
        recipe: The name of the recipe whose runs are meant; None for all.

    Raises:
        OptionError: If there is no run, or it has no such file.
    """
    return checkpoint_of(runs_of(root, recipe, which)[0], which)


def runs_of(root: Path, recipe: str | None, which: str) -> list[Path]:
    """Return the folders of a recipe's runs, or of all that train, the newest first.

    Raises:
        OptionError: If there is none.
    """
    recipes = (root / recipe).glob("*/recipe.yaml") if recipe else root.glob("*/*/recipe.yaml")
    runs = sorted((path.parent for path in recipes), key=lambda run: run_id(run.name), reverse=True)
    if recipe is None:
        runs = [run for run in runs if run.parent.name not in _NO_TRAINING]
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
            f"the newest run {str(run)!r} has no {which}.ckpt: name the file of another run, "
            "or leave it out to start anew",
        )
    return path
