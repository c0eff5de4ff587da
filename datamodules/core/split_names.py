"""What people call the splits of a data set: folders, files, and values of a column."""

from collections.abc import Callable, Iterable
from typing import Literal

from datamodules.core.errors import DataError

Split = Literal["train", "val", "test"]
Stage = Literal["train", "val", "test", "predict"]

#: The names of each split, in small letters.
SPLIT_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}


def split_of(name: str) -> Split | None:
    """Return the split that a name means, in any case of letters; None if it means none."""
    folded = name.lower()
    return next((split for split, names in SPLIT_NAMES.items() if folded in names), None)


def by_split(
    names: Iterable[str],
    source: str,
    meaning: Callable[[str], Split | None] = split_of,
    remedy: str = "merge them or rename one",
) -> dict[Split, str]:
    """Return the name of each split that some names mean, in the order of the splits.

    Args:
        names: What folders or parts are called.
        source: What holds them, for messages.
        meaning: Returns the split that a name means.
        remedy: What to do where two of them mean one split.

    Raises:
        DataError: If two of them mean one split.

    >>> by_split(["Test", "TRAIN", "notes"], "'films'")
    {'train': 'TRAIN', 'test': 'Test'}
    """
    found: dict[Split, str] = {}
    for name in names:
        split = meaning(name)
        if split is not None and found.setdefault(split, name) != name:
            raise DataError(
                f"in {source}, {found[split]!r} and {name!r} are both the {split} split's by their "
                f"names; {remedy}"
            )
    return {split: found[split] for split in SPLIT_NAMES if split in found}
