"""Samples that are copies of others, within a split and between two of them."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from datamodules.core.splits import Keys, Rows, times_before

Hashes = npt.NDArray[np.uint64]

#: Samples of a split that are hashed at once by one thread.
_CHUNK = 1024


class Copy(NamedTuple):
    """A sample that holds what another one holds.

    Attributes:
        sample: Its name, or its number in its split's array or file.
        split: Its split.
        label: Its class.
        original: The first sample that holds the same.
        original_split: That one's split.
        original_label: That one's class.
        kind: "exact", or "near" where only their perceptual hashes are alike.
    """

    sample: str
    split: str
    label: str
    original: str
    original_split: str
    original_label: str
    kind: str


@dataclass(frozen=True)
class Part:
    """What is compared of a split.

    Attributes:
        contents: A hash of what each sample holds, (N,).
        labels: Each sample's class, (N,), or zeros and ones (N, C).
        name: Gives a sample's name by its place, from 0 to N - 1.
        label: Gives the name of one of the labels.
        looks: A perceptual hash of each sample, uint64 (N,), of which near copies differ in few
            bits; None where they are not looked for.
    """

    contents: Keys
    labels: npt.NDArray[Any]
    name: Callable[[int], str]
    label: Callable[[Any], str]
    looks: Hashes | None = None


class Copies:
    """Which samples of a data set are copies of others, the first of which is the original.

    Args:
        parts: The splits, from which originals are taken in this order.
        bits: In how many bits perceptual hashes of near copies differ at most.

    Attributes:
        sizes: How many samples each split has.
        within: How many of a split's samples repeat an earlier one of it.
        between: How many samples of the first split stand in the second as well.
        near_within: As ``within``, of those that are near copies but no exact ones.
        near_between: As ``between``, likewise.
        conflicts: How many copies have another label than their original.
    """

    def __init__(self, parts: Mapping[str, Part], bits: int = 0) -> None:
        self._parts = dict(parts)
        self.sizes = {split: len(part.contents) for split, part in parts.items()}
        contents = {split: part.contents for split, part in parts.items()}
        looks = [part.looks for part in parts.values() if part.looks is not None]
        alike: dict[str, Rows] = {}
        if len(looks) == len(parts):
            cuts = np.cumsum([*self.sizes.values()])[:-1]
            groups = np.split(near_groups(np.concatenate(looks), bits), cuts)
            alike = dict(zip(parts, groups, strict=True))
        self.within, self.between = _counts(contents)
        near_within, near_between = _counts(alike)
        self.near_within = {s: number - self.within[s] for s, number in near_within.items()}
        self.near_between = {s: number - self.between[s] for s, number in near_between.items()}
        self._exact = _originals([*contents.values()])
        self._all = _originals([*alike.values()]) if alike else self._exact
        self.conflicts = 0
        for copy in np.flatnonzero(self._exact != np.arange(len(self._exact))).tolist():
            (split, place), (other, first) = self._place(copy), self._place(int(self._exact[copy]))
            labels = self._parts[split].labels[place], self._parts[other].labels[first]
            self.conflicts += not np.array_equal(*labels)

    def __len__(self) -> int:
        """Return how many samples are copies, near ones included."""
        return int((self._all != np.arange(len(self._all))).sum())

    def __iter__(self) -> Iterator[Copy]:
        """Yield each copy, in the order of the splits and of the samples in them."""
        numbers = np.arange(len(self._all))
        for number in np.flatnonzero(self._all != numbers).tolist():
            exact = self._exact[number] != number
            original = int((self._exact if exact else self._all)[number])
            here, there = self._described(number), self._described(original)
            yield Copy(*here, *there, "exact" if exact else "near")

    def _place(self, number: int) -> tuple[str, int]:
        for split, size in self.sizes.items():
            if number < size:
                return split, number
            number -= size
        raise IndexError

    def _described(self, number: int) -> tuple[str, str, str]:
        split, place = self._place(number)
        part = self._parts[split]
        return part.name(place), split, part.label(part.labels[place])

    def values(self) -> dict[str, int]:
        """Return the counts that are not 0 as plain data."""
        counts: dict[str, int] = {}
        found = {"": (self.within, self.between), "nearly ": (self.near_within, self.near_between)}
        for how, (within, between) in found.items():
            counts |= {f"{how}in {split}": number for split, number in within.items()}
            counts |= {f"of {one} {how}in {other}": n for (one, other), n in between.items()}
        counts["with another label"] = self.conflicts
        return {name: number for name, number in counts.items() if number}

    def text(self) -> str:
        """Return the counts that are not 0 in words."""
        return ", ".join(f"{number:,} {where}" for where, number in self.values().items())

    def trained_on(self, samples: str, splits: Sequence[str] = ("val", "test")) -> str | None:
        """Return how many samples of some splits are trained on, in words; None if none is.

        Args:
            samples: What several of them are called.
            splits: The splits.
        """
        found = []
        for split in splits:
            for counts, what in ((self.between, "copies"), (self.near_between, "near copies")):
                if number := counts.get((split, "train"), 0):
                    found.append(f"{number} of {self.sizes[split]} {split} {samples} are {what}")
        return f"{', '.join(found)} of {samples} that are trained on" if found else None


def _counts(
    contents: Mapping[str, Keys],
) -> tuple[dict[str, int], dict[tuple[str, str], int]]:
    """Return how many samples repeat an earlier one of their split, and stand in another one."""
    within = {split: int((times_before(own) > 0).sum()) for split, own in contents.items()}
    splits = [*contents]
    between = {
        (one, other): int(np.isin(contents[one], contents[other]).sum())
        for number, one in enumerate(splits)
        for other in splits[:number]
    }
    return within, between


def _originals(contents: Sequence[Keys]) -> Rows:
    """Return, for each sample of all splits, the number of the first that holds the same."""
    _, first, same = np.unique(np.concatenate(contents), return_index=True, return_inverse=True)
    originals: Rows = first[same]
    return originals


def near_groups(hashes: Hashes, bits: int) -> Rows:
    """Return a number for each hash, equal for those that differ in few bits, (N,).

    What is near to something near is near, too. Of ``bits`` + 1 pieces of two such hashes one at
    least is equal, so that only those with an equal piece are compared.

    Args:
        hashes: 64 bits each, (N,).
        bits: In how many they may differ.

    >>> near_groups(np.array([0b1111, 0b1110, 2**60], dtype=np.uint64), 1).tolist()
    [0, 0, 1]
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    different, which = np.unique(hashes, return_inverse=True)
    pairs = [np.zeros((0, 2), dtype=np.int64)]
    edges = np.linspace(0, 64, bits + 2).astype(int).tolist()
    for low, high in pairwise(edges):
        piece = (different >> np.uint64(low)) & np.uint64(2 ** (high - low) - 1)
        order = np.argsort(piece, kind="stable")
        starts = np.flatnonzero(np.diff(piece[order], prepend=piece[order[:1]] + 1))
        for run in np.split(order, starts[1:]):
            pairs += [_near_pairs(different, run, start, bits) for start in range(0, len(run), 256)]
    one, other = np.concatenate(pairs).T
    graph = coo_matrix((np.ones(len(one), bool), (one, other)), (len(different),) * 2)
    _, groups = connected_components(graph, directed=False)
    numbers: Rows = groups[which].astype(np.int64)
    return numbers


def _near_pairs(hashes: Hashes, run: Rows, start: int, bits: int) -> Rows:
    """Return the pairs (P, 2) of some of a run with later ones of it that differ in few bits."""
    some = run[start : start + 256]
    if len(run) - start < 2:
        return np.zeros((0, 2), dtype=np.int64)
    differ = np.bitwise_count(hashes[some, None] ^ hashes[None, run[start:]])
    here, there = np.nonzero(differ <= bits)
    return np.stack([some[here], run[start:][there]], axis=1)


def array_keys(
    arrays: Sequence[npt.NDArray[Any]] | npt.NDArray[Any], rows: Rows | None = None
) -> Keys:
    """Return a hash of each array's shape and values, (N,), or of some alone."""
    wanted = range(len(arrays)) if rows is None else rows.tolist()

    def some(start: int) -> bytes:
        return b"".join(_digest(arrays[row]) for row in wanted[start : start + _CHUNK])

    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as threads:
        digests = b"".join(threads.map(some, range(0, len(wanted), _CHUNK)))
    return np.frombuffer(digests, dtype="<i8").astype(np.int64)


def file_keys(paths: Sequence[Path]) -> Keys:
    """Return a hash of each file's bytes, (N,); of its name where it cannot be read."""

    def key(path: Path) -> bytes:
        try:
            held = path.read_bytes()
        except OSError:  # told, or left out, by who decodes it
            held = path.name.encode("utf-8", "surrogateescape")
        return hashlib.blake2b(held, digest_size=8).digest()

    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as threads:
        return np.frombuffer(b"".join(threads.map(key, paths)), dtype="<i8").astype(np.int64)


def _digest(array: npt.NDArray[Any]) -> bytes:
    head = f"{array.shape}".encode()
    # Its salt tells shapes apart without a copy of the values.
    salt = hashlib.blake2b(head, digest_size=16).digest() if len(head) > 16 else head
    return hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=8, salt=salt).digest()


def first_copies(digests: npt.NDArray[Any]) -> tuple[npt.NDArray[np.bool_], Rows]:
    """Return whether each sample is the first of its kind, and where that first one stands.

    Args:
        digests: A hash of each, (N,) or (N, 2).
    """
    columns = digests.reshape(len(digests), -1).T
    order = np.lexsort(columns[::-1])  # stable: equal ones keep their order
    ordered = columns[:, order]
    new = np.ones(len(order), dtype=np.bool_)
    new[1:] = (ordered[:, 1:] != ordered[:, :-1]).any(axis=0)
    leader = np.empty(len(order), dtype=np.int64)
    leader[order] = order[new][np.cumsum(new) - 1]
    return leader == np.arange(len(order)), leader
