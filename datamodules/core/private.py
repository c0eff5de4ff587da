"""What is used of other libraries beyond what they promise to keep; a new release may break it.

A test names each use, here and in the subclasses that cannot do without, so that a release that
breaks one says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # each takes long to import, and not all are installed
    from datasets import Dataset
    from torch.optim.lr_scheduler import LRScheduler
    from transformers import PreTrainedConfig


def is_built_by_command_line() -> bool:
    """Whether Lightning's command line is building a module, and knows the recipe's own words."""
    from lightning.pytorch.core.mixins.hparams_mixin import _given_hyperparameters

    return _given_hyperparameters.get() is not None


def dataset_fingerprint(dataset: Dataset) -> str:
    """Return what changes with any change of a data set of the library ``datasets``."""
    return str(dataset._fingerprint)


def attention_implementation(config: PreTrainedConfig) -> str:
    """Return how a transformers model computes its attention, such as ``sdpa``."""
    return str(config._attn_implementation)


def set_last_lr(schedule: LRScheduler, rates: Sequence[float]) -> None:
    """Set what a schedule says the learning rates are, of which it keeps a copy."""
    schedule._last_lr = list(rates)


class _Asked(dict[str, bool]):
    """Verdicts on dotted names by a function, where jsonargparse has a list of packages."""

    def __init__(self, allows: Callable[[str], bool]) -> None:
        super().__init__({"*": False})
        self._allows = allows

    def __contains__(self, name: object) -> bool:
        return True  # so that whole names alone are asked about

    def __getitem__(self, name: str) -> bool:
        return self._allows(name)


def ask_before_import(allows: Callable[[str], bool]) -> None:
    """Have jsonargparse ask about each dotted name that a value has, before it is imported.

    Its own lists allow whole packages, functions and all.

    Args:
        allows: Gets the name as given, and then where its object is defined.
    """
    import jsonargparse
    from jsonargparse._common import parsing_settings

    jsonargparse.set_parsing_settings(
        import_path_denylist=["*"], instantiate_subclass_spec_in_any=False
    )
    parsing_settings["import_path_verdicts"] = _Asked(allows)


@contextmanager
def asking_before_import(allows: Callable[[str], bool]) -> Iterator[None]:
    """Do as ``ask_before_import`` for a while: a library leaves a program's own parsers alone.

    Args:
        allows: As there.
    """
    from jsonargparse._common import parsing_settings

    before = dict(parsing_settings)
    ask_before_import(allows)
    try:
        yield
    finally:
        parsing_settings.clear()
        parsing_settings.update(before)
