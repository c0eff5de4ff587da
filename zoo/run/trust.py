"""What a recipe or a checkpoint may name: classes of a kind that has a place, and few functions.

Everything else would be somebody's code that runs because a file says so.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from jsonargparse import ArgumentError
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch import Callback, LightningDataModule
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import CheckpointIO, LayerSync, Precision
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import Strategy
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from datamodules.core.arrays import ArrayData
from datamodules.core.private import ask_before_import, asking_before_import
from zoo.errors import UserError

_TRANSFORMS = "torchvision.transforms.v2"
#: The packages whose classes a recipe may name; refused before anything of another is imported.
TRUSTED = (
    "zoo",
    "datamodules",
    "torch.nn",
    "torch.optim",
    "torchvision.models",
    _TRANSFORMS,
    "timm",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
    "lightning.pytorch.strategies",
    "lightning.pytorch.plugins",
    "lightning.pytorch.profilers",
)
#: What their classes have to be.
KINDS = (
    nn.Module,
    LightningDataModule,
    ArrayData,
    Callback,
    Logger,
    Profiler,
    Strategy,
    Precision,
    ClusterEnvironment,
    CheckpointIO,
    LayerSync,
    Optimizer,
    LRScheduler,
)
#: Packages that could fetch code from elsewhere, and what reaches them without it.
THROUGH_NETS = {
    "transformers": "PretrainedEncoder and PretrainedCausalLM",
    "peft": "the option lora of PretrainedCausalLM",
}
_TIMM = "timm>=1.0.31,<1.1"  # as in pyproject.toml
#: The user's own packages, any class of which may be named too.
_own: list[str] = []


def trust(packages: Sequence[str]) -> None:
    """Set what may be named from now on: what always may, and classes of the user's packages."""
    _own[:] = packages
    sys.path += [] if not packages or os.getcwd() in sys.path else [os.getcwd()]
    ask_before_import(lambda name: why_refused(name) is None)


@contextmanager
def trusting(packages: Sequence[str], path: str) -> Iterator[None]:
    """Let a checkpoint that is rebuilt in Python name what one of the command line may.

    Args:
        packages: Packages of the user's own, besides those that are trusted already.
        path: The checkpoint's file, for the message.

    Raises:
        UserError: If it names anything else; nothing of that is imported or called.
    """
    importlib.import_module("torchvision.models")  # what may be named has to be loaded
    before = list(_own)
    _own[:] = [*before, *packages]
    try:
        with asking_before_import(lambda name: why_refused(name) is None):
            yield
    except (ArgumentError, TypeError, ValueError) as error:
        found = re.search(r"Importing '([^']+)' is not allowed", str(error))
        if found is None:
            raise
        why = why_refused(found[1], 'pass trust=["{}"]')
        raise UserError(f"checkpoint {path!r} names {found[1]!r}, {why}") from error
    finally:
        _own[:] = before


def why_refused(name: str, remedy: str = "add --trust {}") -> str | None:
    """Return why something may not be named, to follow its name in a sentence; None if it may.

    Nothing is imported but modules of the user's own packages, timm and torchvision's transforms.

    Args:
        name: A dotted name.
        remedy: How a package is trusted.

    Raises:
        ImportError, AttributeError: If there is nothing of that name in a trusted package.
    """
    own = _is_within(name, _own)
    if not own and not _is_within(name, TRUSTED):
        top = name.split(".")[0]
        if top in THROUGH_NETS:
            return f"but {top}'s models are reached through {THROUGH_NETS[top]} alone"
        if known := [package for package in TRUSTED if package.startswith(f"{top}.")]:
            return f"but of {top} a recipe names classes of {', '.join(known)} alone"
        return (
            "which is not among the packages that a recipe may use; "
            f"if you trust it, {remedy.format(top)}"
        )
    module, _, attribute = name.rpartition(".")
    if own:
        importlib.import_module(module)
    elif name.startswith("timm."):
        try:
            importlib.import_module("timm")
        except ModuleNotFoundError:
            return f"but timm is not installed; pip install '{_TIMM}'"
    elif name.startswith(f"{_TRANSFORMS}."):
        importlib.import_module(_TRANSFORMS)
    if module not in sys.modules:  # what may be named is there already
        raise ModuleNotFoundError(f"No module named {module!r}")
    found = getattr(sys.modules[module], attribute)
    if isinstance(found, type):
        fits = own or issubclass(found, KINDS)
        return None if fits else "which is no class that a recipe has a place for"
    if any(found is builder for builder in builders()):
        return None
    return (
        "which is no class; of functions a recipe may name timm.create_model and torchvision's "
        "builders of models alone"
    )


def builders() -> Iterator[Any]:
    """Yield the functions that a recipe may name."""
    from torchvision import models

    yield from map(models.get_model_builder, models.list_models())
    if "timm" in sys.modules:
        yield sys.modules["timm"].create_model


def _is_within(name: str, packages: Sequence[str]) -> bool:
    return any(name.startswith(f"{package}.") for package in packages)
