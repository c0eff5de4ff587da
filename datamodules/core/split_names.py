"""What people call the splits of a data set: folders, files, and values of a column."""

from datamodules.core.base import Split

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
