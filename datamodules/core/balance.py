"""Classes that differ in size: drawn equally often, or weighed by how rare they are."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from datamodules.core.errors import DataError, listed, refuse
from datamodules.core.randomness import REPEAT, bits, key, mix, permutation
from datamodules.core.splits import times_before

Rows = npt.NDArray[np.int64]


def balanced_rows(labels: Rows, seed: int, epoch: int) -> Rows:
    """Return the order of an epoch in which every class is drawn equally often.

    Counted over all epochs, draw j belongs to class j mod K, where K counts the classes that
    occur; so a class's counts in an epoch differ by at most one from another's, and not at all in
    the long run. A class's own draws go through its samples in a new order each time round, from
    one epoch into the next: at any moment each of its samples has been drawn equally often, give or
    take one. Within an epoch the draws are shuffled.

    Nothing is stored: any epoch's order is a function of (seed, epoch).

    Args:
        labels: The classes' numbers, (N,).
        seed: Chooses the order.
        epoch: The epoch, from 0.

    Returns:
        N positions in ``labels``, int64, each higher by ``REPEAT`` for each time that it has come
        before.

    Raises:
        OptionError: If a sample may have several labels, so that drawing it serves several classes.
    """
    if labels.ndim != 1:
        remedy = "set it to false and weigh the classes instead: a sample has several labels"
        raise refuse("balanced", True, remedy)
    count, first = len(labels), epoch * len(labels)
    classes, sizes = np.unique(labels, return_counts=True)
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(sizes)[:-1])
    drawn = np.empty(count, dtype=np.int64)
    for k, members in enumerate(by_class):
        mine = np.arange((k - first) % len(classes), count, len(classes))
        turns = (first + mine) // len(classes)  # the class's own count of its draws
        drawn[mine] = members[_round_robin(len(members), turns, seed, k)]
    order: Rows = permutation(count, seed, epoch).numpy()
    rows = drawn[order]
    return rows + times_before(rows) * REPEAT


def _round_robin(size: int, turns: Rows, seed: int, stream: int) -> Rows:
    """Return elements ``turns`` (consecutive) of the endless row of shuffled range(size)s."""
    if not len(turns):
        return turns
    first, last = int(turns[0]) // size, int(turns[-1]) // size
    index = torch.arange(first * size, (last + 1) * size)
    # mixed once more: these must not share their stream with the draws of an augmentation.
    words = bits(mix(key(seed, stream) + 2) >> 1, 0, index, 1).view(-1, size)
    shuffled: Rows = words.argsort(dim=1).flatten().numpy()
    return shuffled[turns - first * size]


def class_counts(labels: Rows, num_classes: int) -> Rows:
    """Return how many samples each class has, int64 (C,).

    Args:
        labels: (N,), or zeros and ones (N, C) where a sample may have several.
        num_classes: C.
    """
    if labels.ndim == 2:
        labels = np.nonzero(labels)[1]
    return np.bincount(labels, minlength=num_classes)


def class_weights(counts: Rows, class_names: Sequence[str]) -> list[float]:
    """Return a weight for each class, inverse to its frequency.

    w_c = N / (C n_c) with n_c samples of class c and N = n_1 + ... + n_C, scikit-learn's
    "balanced": the mean over all samples' weights is 1, so that the loss keeps its scale.

    Args:
        counts: How many samples, or pixels, of each class the training split has, (C,).
        class_names: The C classes.

    Raises:
        OptionError: If a class has none.
    """
    absent = [name for name, count in zip(class_names, counts, strict=True) if not count]
    if absent:
        lacking = f"{listed(absent)}, of which the training split has none"
        raise refuse("class_weights", "auto", f"give numbers, or add samples of {lacking}")
    weights: list[float] = (counts.sum() / (len(counts) * counts)).tolist()
    return weights


def need_every_class(
    counts: Rows, class_names: Sequence[str], split: str, where: str, counted: str
) -> None:
    """Refuse a split in which a class does not occur: its figures would leave that class out.

    Args:
        counts: How much of each class the split holds, (C,).
        class_names: The C classes.
        split: The split's name.
        where: What it was read from.
        counted: What was counted, "image" or "pixel".

    Raises:
        DataError: Naming the classes and the split.
    """
    absent = [name for name, count in zip(class_names, counts, strict=True) if not count]
    if absent:
        option = "" if split == "train" else ", or set allow_missing_classes: true"
        classes = "class" if len(absent) == 1 else "classes"
        raise DataError(
            f"{where!r} has no {counted} of {classes} {listed(absent)} in its {split} split; add "
            f"some{option}"
        )


def need_samples(classes: int, count: int, where: str, samples: str) -> None:
    """Refuse more classes than there are samples to train on: their labels are something else.

    Args:
        classes: How many classes.
        count: How many samples.
        where: What they were read from.
        samples: What several of them are called.

    Raises:
        DataError: Naming both counts.
    """
    if classes > count:
        raise DataError(
            f"{where!r} has more classes ({classes}) than {samples} to train on ({count}); check "
            f"what its labels are, or add {samples}"
        )
