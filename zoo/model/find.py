"""Which file of weights is meant."""

from __future__ import annotations

import os
from pathlib import Path

from datamodules.core.errors import refuse
from zoo.run.names import check_local
from zoo.run.runs import NEWEST, newest_checkpoint

#: Where runs are kept unless told.
_RUNS = Path("runs")
#: A run's checkpoints, the one that is meant first.
_OF_RUN = ("checkpoints/best.ckpt", "checkpoints/last.ckpt")


def find_weights(name: str | os.PathLike[str]) -> Path:
    """Return the file that a name stands for.

    Args:
        name: A checkpoint file; the folder of a run, whose best checkpoint is meant; ``last`` or
            ``best`` of the run under ``runs`` that was begun last, or, as ``RECIPE:best``, of that
            recipe's.

    Raises:
        OptionError: If there is none.
    """
    text = os.fspath(name)
    path = Path(text).expanduser()
    if path.is_dir():
        return _of_run(path)
    if not path.exists():
        recipe, _, which = text.rpartition(":")
        if which in NEWEST:
            return newest_checkpoint(NEWEST[which], _RUNS, recipe.replace("/", "-") or None)
    check_local(str(path))
    return path


def _of_run(folder: Path) -> Path:
    for name in _OF_RUN:
        if (folder / name).is_file():
            return folder / name
    raise refuse("ckpt_path", str(folder), "it is no run: there is no checkpoints/best.ckpt in it")
