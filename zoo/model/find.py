"""Which file of weights is meant."""

from __future__ import annotations

import os
from pathlib import Path

from datamodules.core.errors import did_you_mean, refuse
from zoo.catalog.weights import weights_names, weights_path
from zoo.run.names import HUB_PREFIX, check_local, recipe_folder
from zoo.run.runs import NEWEST, RUNS, newest_checkpoint

#: A run's checkpoints, the one that is meant first.
_OF_RUN = ("checkpoints/best.ckpt", "checkpoints/last.ckpt")


def is_elsewhere(name: str) -> bool:
    """Return whether a name is that of weights that come with the package, or of the hub's."""
    return name.startswith(HUB_PREFIX) or (name in weights_names() and not os.path.exists(name))


def find_weights(name: str | os.PathLike[str], root: str | os.PathLike[str] = RUNS) -> Path:
    """Return the file that a name stands for.

    Args:
        name: A checkpoint file; the folder of a run, whose best checkpoint is meant; ``last`` or
            ``best`` of the run that was begun last, or, as ``RECIPE:best``, of that recipe's; the
            name of weights that come with the package; or ``hf:owner/name`` of a repository on the
            hub, perhaps with ``@COMMIT``.
        root: Where runs are kept.

    Raises:
        OptionError: If there is none.
    """
    text = os.fspath(name)
    if text.startswith(HUB_PREFIX):
        from zoo.run.hub import fetch_weights  # which brings more than a file needs

        return fetch_weights(text)
    path = Path(text).expanduser()
    if path.is_dir():
        return _of_run(path)
    if not path.exists():
        recipe, _, which = text.rpartition(":")
        if which in NEWEST:
            return _newest(text, recipe, NEWEST[which], Path(root))
        if text in weights_names():
            return weights_path(text)
        if hint := did_you_mean(text, weights_names()):
            raise refuse("ckpt_path", text, f"give a file or a name of `zoo list weights`{hint}")
    check_local(os.path.expanduser(text))
    return path


def _newest(text: str, recipe: str, which: str, root: Path) -> Path:
    """Return a checkpoint of the run that was begun last, of a recipe or of all."""
    name = recipe_folder(recipe)
    if name and not any((root / name).glob("*/recipe.yaml")):
        where = f"there is no run of {recipe!r} in {str(root)!r}"
        raise refuse("ckpt_path", text, f"{where}: `zoo fit {recipe}` makes one")
    return newest_checkpoint(which, root, name or None)


def _of_run(folder: Path) -> Path:
    for name in _OF_RUN:
        if (folder / name).is_file():
            return folder / name
    remedy = "it is a folder: give a file in it, or the folder of a run, which has checkpoints"
    raise refuse("ckpt_path", str(folder), remedy)
