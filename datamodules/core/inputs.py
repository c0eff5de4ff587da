"""What prepares inputs of a trained net, from files as from Python."""

import copy
from collections.abc import Sequence
from typing import Any, Self

from datamodules.core.arrays import ArrayData
from datamodules.core.errors import DataError
from datamodules.core.sampling import PositionedLoader


class Inputs(ArrayData):
    """Inputs that a trained net is asked about, prepared as its own data were.

    A subclass implements ``_take`` and ``predict_dataloader``; its constructor takes ``inputs``,
    which is None for a preparer that is given them later, by :meth:`of`.
    """

    names: list[str]
    """What each input is called; ``batch.index`` numbers them."""
    of_several: bool = False
    """Whether one of the inputs holds several: the rows of a table, however many it has."""

    def of(self, given: Any) -> tuple[Self, bool]:
        """Return the same preparer for other inputs, and whether there is one alone.

        A list, an array or a table of one is no input alone: how many there are does not change
        what a program gets.

        Args:
            given: What ``inputs`` of the constructor takes, what the class takes of Python's
                objects, or a list of any of these.

        Raises:
            DataError: If something among them is no input.
        """
        inputs, alone = self._apart(given)
        if not inputs:
            raise DataError(f"there is no input in {_emptiness(given)}; give {self._wanted()}")
        other = copy.copy(self)
        other.of_several = False
        other._take(inputs)
        return other, alone and not other.of_several and len(other.names) == 1

    def _apart(self, given: Any) -> tuple[list[Any], bool]:
        """Return what was given as a list, and whether it is meant as one input."""
        if isinstance(given, list | tuple):
            return list(given), False
        return [given], True

    def _take(self, inputs: Sequence[Any]) -> None:
        """Take up inputs, and name them."""
        raise NotImplementedError

    def _wanted(self) -> str:
        """Return what is taken, in words that follow "give"."""
        raise NotImplementedError

    def predict_dataloader(self) -> PositionedLoader:
        """Return the inputs in the order of ``names``."""
        raise NotImplementedError


def _emptiness(given: object) -> str:
    return f"an empty {type(given).__name__}"


def described(given: object) -> str:
    """Return what Python's object is, in few words for a message.

    >>> described([1, 2]), described("a text")
    ('a list', "the text 'a text'")
    """
    if isinstance(given, str):
        short = given if len(given) <= 60 else f"{given[:57]}..."
        return f"the text {short!r}"
    shape, dtype = getattr(given, "shape", None), getattr(given, "dtype", None)
    if shape is not None and dtype is not None:
        sizes = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        return f"an array ({sizes}) of {str(dtype).removeprefix('torch.')}"
    if given is None:
        return "None"
    name = type(given).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
