"""Labels as people write them: one a row, several in one value, or a column a class."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from datamodules.core.errors import DataError, listed, refuse
from datamodules.core.splits import composed

Rows = npt.NDArray[np.int64]

#: Whether a sample has one class, or any number of labels.
LabelKind = Literal["multiclass", "multilabel"]

#: What a column of labels is often called, in small letters.
LABEL_NAMES = frozenset(
    (
        *("label", "labels", "class", "classes", "class_name", "class_label", "class index"),
        *("category", "categories", "target", "tag", "tags", "y", "diagnosis", "dx", "species"),
        *("finding_labels", "finding labels", "breed", "intent", "sentiment", "topic", "emotion"),
        *("stars", "rating"),
        *("라벨", "레이블", "분류", "범주", "감정", "의도", "주제", "평점"),
    )
)
_FLAGS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}
#: What may part several labels of a row, the likeliest first.
_SEPARATORS = "|;,"
#: Most classes a sample: with more, the labels are no classes but say which sample it is.
_MOST_CLASSES_A_SAMPLE = 0.9


def is_label_name(column: str) -> bool:
    """Return whether a column is called as labels often are."""
    return composed(column).strip().casefold() in LABEL_NAMES


def flag(value: object) -> bool | None:
    """Return what a zero or one means, or a word for it; None if the value is neither.

    >>> flag("1"), flag(0.0), flag(True), flag("2")
    (True, False, True, None)
    """
    return _FLAGS.get(str(value).strip().lower())


def flag_columns(columns: Mapping[str, Sequence[object]]) -> list[str]:
    """Return the columns of zeros and ones, if there are several: one a class.

    >>> flag_columns({"id": [0, 7], "toxic": ["0", "1"], "insult": ["0", "0"]})
    ['toxic', 'insult']
    """
    flags = [
        name
        for name, values in columns.items()
        if len(values) and all(flag(value) is not None for value in values)
    ]
    return flags if len(flags) > 1 else []


def flagged(
    classes: Sequence[str], values: Sequence[object], source: str, place: str
) -> tuple[str, ...]:
    """Return the classes whose columns hold a one.

    Args:
        classes: The columns.
        values: What a row holds in each.
        source: The file, as messages call it.
        place: Where in it the row stands.

    Raises:
        DataError: If a value is neither zero nor one.
    """
    flags = [flag(value) for value in values]
    if None in flags:
        number = flags.index(None)
        written = "" if values[number] is None else str(values[number])
        raise DataError(
            f"column {classes[number]!r} of {source} holds {written[:60]!r} in {place}, where "
            "several label columns hold 0 and 1; name one label_column, or mend it"
        )
    return tuple(name for name, there in zip(classes, flags, strict=True) if there)


def guess_separator(values: Iterable[str]) -> str | None:
    """Return what parts several labels in some rows; None where each row has one.

    What stands between two words of one label, as a comma may, makes more texts of few; what parts
    labels makes fewer of many.

    >>> guess_separator(["a|b", "a", "b"]), guess_separator(["north, cold", "south, warm"])
    ('|', None)
    """
    different = set(values)
    for separator in _SEPARATORS:
        if any(separator in value for value in different):
            pieces = {part for value in different for part in parts(value, separator)}
            if len(pieces) < len(different):
                return separator
    return None


def parts(value: str, separator: str | None) -> tuple[str, ...]:
    """Return the labels that a value holds, each once."""
    if separator is None:
        return (composed(value),)
    pieces = (composed(part.strip()) for part in value.split(separator))
    return tuple(dict.fromkeys(part for part in pieces if part))


def in_order(names: Iterable[str]) -> list[str]:
    """Return the different names sorted, whole numbers by their size."""
    found = sorted(set(names))
    if all(re.fullmatch("[+-]?[0-9]+", name) for name in found):
        found.sort(key=int)
    return found


def whole(label: str) -> str:
    """Return a label that is a whole number without a point.

    pandas puts one beside a missing value.

    >>> whole("1.0"), whole("2."), whole("v1.0")
    ('1', '2', 'v1.0')
    """
    number = re.fullmatch(r"([+-]?[0-9]+)\.0*", label)
    return number[1] if number else label


def check_columns(column: str | Sequence[str] | None, separator: str | None) -> None:
    """Refuse a choice of columns or of what parts labels that is none.

    Raises:
        OptionError: If no column is named, one is named twice, or nothing stands between labels.
    """
    if column is not None and not isinstance(column, str):
        if not column:
            raise refuse("label_column", [], "name a column at least, or leave it out")
        if len(set(column)) < len(column):
            raise refuse("label_column", [*column], "name each column once")
    if separator == "":
        remedy = "give the character between two labels, or leave it out"
        raise refuse("label_separator", separator, remedy)


def check_kind_of(kind: LabelKind | None, source: str, *, several: bool) -> None:
    """Refuse one class a sample where a sample has several.

    Raises:
        OptionError: If that is asked for.
    """
    if several and kind == "multiclass":
        raise refuse("label_kind", kind, f"leave it out: {source} has several labels in a row")


def check_recurring(counts: Sequence[int], column: str, source: str, samples: str) -> None:
    """Refuse a column that tells nearly every sample from all others: these are no classes.

    Args:
        counts: How often each label comes.
        column: Where they stand.
        source: The file.
        samples: What several samples are called.

    Raises:
        DataError: If it has nearly as many labels as there are samples.
    """
    count = sum(counts)
    if len(counts) > max(_MOST_CLASSES_A_SAMPLE * count, 1):
        held = "another label for each of" if len(counts) == count else f"{len(counts)} labels for"
        raise DataError(
            f"column {column!r} of {source} has {held} its {count} {samples}, more classes "
            "than can be learnt; name another by label_column"
        )


def check_known(
    where: str, found: Collection[str], names: Collection[str], whose: str, samples: str
) -> None:
    """Refuse classes that are not among those that are known, naming both lists.

    Args:
        where: What holds them.
        found: The classes there.
        names: Those that are known.
        whose: Who knows them, with a verb.
        samples: What several samples are called.

    Raises:
        DataError: If some are not.
    """
    others = [name for name in found if name not in names]
    if others:
        them = "it" if len(others) == 1 else "them"
        raise DataError(
            f"{where} has the classes {listed(found)}, but {whose} {listed(names)}; train on "
            f"{samples} of {listed(others)} too, or remove {them} there"
        )


def rarest_labels(labels: Rows) -> Rows:
    """Return a class for each sample to stratify by: of several that it has, the rarest.

    Args:
        labels: (N,), or zeros and ones (N, C); a sample without any is of a class of its own.
    """
    if labels.ndim == 1:
        return labels
    counts = labels.sum(axis=0)
    rarity = np.where(labels == 1, counts, np.iinfo(np.int64).max)
    rarest: Rows = np.where(labels.any(axis=1), rarity.argmin(axis=1), labels.shape[1])
    return rarest
