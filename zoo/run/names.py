"""How runs are called, and what may be the name of a checkpoint."""

from __future__ import annotations

import os
import re

from datamodules.core.errors import refuse

#: How the name of weights on the Hugging Face hub starts.
HUB_PREFIX = "hf:"
_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}$")


def run_id(folder: str) -> str:
    """Return the id at the end of a run folder's name, by which runs are in their order.

    >>> run_id("norm=group-20261125-101500-0a1b2c")
    '20261125-101500-0a1b2c'
    """
    found = _ID.search(folder)
    return found[0] if found else folder


def recipe_folder(recipe: str) -> str:
    """Return what the folder of a recipe's runs is called.

    >>> recipe_folder("llm/sft.yaml")
    'llm-sft'
    """
    return recipe.removeprefix("recipes/").removesuffix(".yaml").replace("/", "-")


def check_local(checkpoint: str) -> None:
    """Check that a checkpoint is a file on this machine.

    Raises:
        OptionError: If it is a URL, a folder, or not there.
    """
    remedy = None
    if "://" in checkpoint:
        remedy = "download the file, check where it comes from, and give its local path"
    elif os.path.isdir(checkpoint):
        remedy = "it is a folder: give a file in it, best.ckpt say"
    elif not os.path.isfile(checkpoint):
        remedy = "give a file that is there: runs keep theirs in RUN/checkpoints"
    if remedy is not None:
        raise refuse("ckpt_path", checkpoint, remedy)
