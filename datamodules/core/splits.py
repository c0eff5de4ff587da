"""Which split a sample belongs to: a function of its own name or content, and of a seed.

Every sample has a place from 0 to below 1, a hash of what it is and of the seed; samples of one
group share it. From the lowest place up come the test, the validation and the training split. Where
exactly they end is chosen so that sizes and classes come out as wanted; it is kept as the stretches
of places that each split takes, a ``Partition``. By it a set that has changed since is divided just
as before: what was there stays where it was, and what is new falls to the split around its place.

Samples that are copies of each other share a split. Which of them do so against their own places is
kept as well, so that none moves when its copies come or go.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NotRequired, TypedDict

import numpy as np
import numpy.typing as npt

from datamodules.core.errors import refuse
from datamodules.core.randomness import mix, scramble

Rows = npt.NDArray[np.int64]
#: A hash of each sample's name or content, int64 (N,).
Keys = npt.NDArray[np.int64]
Places = npt.NDArray[np.float64]


class Share(TypedDict):
    """What a checkpoint keeps of a split that was drawn; one of an earlier version keeps less.

    Attributes:
        drawn_by: The options that it was drawn by, with their values.
        ends: Where each stretch of places that it takes ends.
        count: How many samples it had.
        mark: A number that nearly every other set of samples would change.
        moved: Which samples, or groups, are in it for their copies' sake, by their hashes.
        sketch: Of the training split the lowest hashes of what its samples hold, by which they are
            known again.
        source: The file or folder that was divided, as the user named it.
        held_as: The options that the hashes of what samples hold depend on, with their values.
        divided: Whether copies were divided like all samples, as there was little else.
    """

    drawn_by: str
    ends: list[float]
    count: int
    mark: int
    moved: NotRequired[list[int]]
    sketch: NotRequired[list[int]]
    source: NotRequired[str]
    held_as: NotRequired[str]
    divided: NotRequired[bool]


#: How many hashes a sketch has at most: the shares that it tells are right to a few hundredths.
SKETCH = 512


#: The splits that were drawn, the training split among them.
Partition = dict[str, Share]


def composed(name: str) -> str:
    """Return a name in Unicode's composed form, in which names of two sources can be compared.

    >>> len("é"), len(composed("é"))
    (2, 1)
    """
    return unicodedata.normalize("NFC", name)


def name_keys(names: Iterable[str]) -> Keys:
    """Return a hash of each name, the same in whatever form of Unicode it is written."""
    written = (composed(name).encode("utf-8", "surrogatepass") for name in names)
    digests = b"".join(hashlib.blake2b(name, digest_size=8).digest() for name in written)
    return np.frombuffer(digests, dtype="<i8").astype(np.int64)


def row_keys(columns: Mapping[str, npt.NDArray[np.float64] | Keys]) -> Keys:
    """Return a hash of each row of a table, whatever the order of its columns.

    Args:
        columns: Numbers, or hashes of texts, by the columns' names.
    """
    rows: Keys = np.zeros(len(next(iter(columns.values()))), dtype=np.int64)
    for name in sorted(columns):
        # + 0.0, since -0.0 has other bits
        rows ^= (columns[name] + columns[name].dtype.type(0)).view(np.int64)
        rows += name_keys([name])
        scramble(rows)
    return rows


def distinct(keys: Keys) -> Keys:
    """Return the hashes so that samples which are equal have different ones, each its own."""
    copies: Keys = times_before(keys)
    scramble(copies)  # 0 stays 0
    return keys ^ copies


def times_before(values: Rows) -> Rows:
    """Return how often each value has come before."""
    order = np.argsort(values, kind="stable")
    _, firsts, times = np.unique(values[order], return_index=True, return_counts=True)
    before = np.empty_like(values)
    before[order] = np.arange(len(values)) - np.repeat(firsts, times)
    return before


def divide(
    keys: Keys,
    labels: Rows,
    sizes: Mapping[str, int],
    seed: int,
    *,
    groups: Keys | None = None,
    contents: Keys | None = None,
    source: str = "",
    held_as: str = "",
    drawn_by: Mapping[str, str] | None = None,
    kept: Partition | None = None,
) -> tuple[dict[str, Rows], Partition]:
    """Divide samples into disjoint splits.

    Args:
        keys: A hash of each sample's name or content, (N,); equal samples are told apart by their
            number alone.
        labels: Each sample's class, (N,).
        sizes: How many samples each split gets, from the lowest places up; the rest are "train". A
            split gets more where it would lack a class that has a sample for each split.
        seed: Chooses the places.
        groups: A hash of each sample's group, (N,), where a group shares a split.
        contents: A hash of what each sample holds, (N,), where copies share a split.
        source: What ``Share.source`` keeps.
        held_as: What ``Share.held_as`` keeps.
        drawn_by: What ``Share.drawn_by`` keeps.
        kept: The partition to go by, in place of the sizes.

    Returns:
        Ascending rows of each split, and what to keep.

    >>> rows, kept = divide(np.arange(20), np.arange(20) % 2, {"test": 4, "val": 2}, seed=0)
    >>> {split: len(own) for split, own in rows.items()}
    {'test': 4, 'val': 2, 'train': 14}
    >>> more, _ = divide(np.arange(30), np.arange(30) % 3, {"test": 9, "val": 9}, 0, kept=kept)
    >>> all(set(rows[split]) <= set(more[split]) for split in rows)
    True
    """
    held = keys if contents is None else contents
    keys = distinct(keys)
    units = keys if groups is None else groups
    joined = _joined(units, contents)
    divided = False
    ends: dict[str, list[float]] = {split: [] for split in (*sizes, "train")}
    if kept is None:
        place = _places(joined, seed)
        free = np.ones(len(keys), dtype=np.bool_)
        if groups is None:
            free = ~_is_large(joined, [*sizes.values()])
            if free.sum() <= sum(sizes.values()):
                # Nearly all are copies: better that some stand in two splits, which is told.
                divided, place, free = True, _places(units, seed), free | True
        drawn = (_draw if groups is None else _draw_groups)(
            place[free], labels[free], [*sizes.values()]
        )
        for number, end in _stretches(place[free], drawn):
            [*ends.values()][number].append(end)
        homes = np.where(free, _homes(place, ends), len(sizes))
    else:
        for split, share in kept.items():
            ends[split if split in ends else "train"] += share["ends"]
        bounds = sorted(end for own in ends.values() for end in own)
        if not bounds or bounds[-1] != 1:
            raise refuse("partition", kept, "leave it out: only what a checkpoint keeps is one")
        homes = _homes(_places(units, seed), ends)
        for split, share in kept.items():
            home = [*ends].index(split if split in ends else "train")
            homes[np.isin(units, np.array(share.get("moved", []), dtype=np.int64))] = home
        # Before it was kept which of them move, copies were always divided.
        divided = any(share.get("divided", "moved" not in share) for share in kept.values())
        if not divided:
            homes = _with_copies(homes, joined)
    moved = homes != _homes(_places(units, seed), ends)
    rows = {split: np.flatnonzero(homes == number) for number, split in enumerate(ends)}
    return rows, {
        split: {
            "drawn_by": (drawn_by or {}).get(split, ""),
            "ends": ends[split],
            "count": len(own),
            "mark": int(keys[own].sum()),
            "moved": np.unique(units[own][moved[own]]).tolist(),
            "sketch": np.unique(held[own])[:SKETCH].tolist() if split == "train" else [],
            "source": source,
            "held_as": held_as,
            "divided": divided,
        }
        for split, own in rows.items()
    }


def known_share(kept: Partition, contents: Keys) -> float:
    """Return about which share of what was trained on is among some samples.

    Args:
        kept: What was kept of the samples that were divided.
        contents: A hash of what each sample holds, (N,).
    """
    sketch = kept["train"].get("sketch")
    return float(np.isin(sketch, contents).mean()) if sketch else 0.0


def changes(before: Partition, now: Partition, samples: str) -> str | None:
    """Say how a set differs from the one whose partition was kept; None if it does not.

    Args:
        before: What was kept.
        now: What is there.
        samples: What the sentence calls them.
    """
    counts = []
    for split, what in (("train", "to train on"), ("val", "for validation"), ("test", "to test")):
        if split in before and split in now:
            then, own = before[split], now[split]
            differ = then["count"] == own["count"] and then["mark"] != own["mark"]
            others = ", others" if differ else ""
            counts.append(f"{own['count']} {what} (then {then['count']}{others})")
    if all(before[split]["mark"] == now[split]["mark"] for split in now if split in before):
        return None
    return (
        f"the {samples} have changed since the checkpoint was made: {', '.join(counts)}; those "
        "that were there stay in their splits, and new ones are shared out"
    )


def _places(keys: Keys, seed: int) -> Places:
    """Return the place of each hash, from 0 to below 1; equal ones share one."""
    mixed = keys ^ np.int64(mix(seed) >> 1)
    scramble(mixed)
    top = mixed.view(np.uint64) >> np.uint64(11)
    return top.astype(np.float64) * 2.0**-53


def _homes(place: Places, ends: Mapping[str, Sequence[float]]) -> Rows:
    """Return the number of the split that takes each place."""
    bounds = sorted((end, number) for number, own in enumerate(ends.values()) for end in own)
    upper, takers = map(np.array, zip(*bounds, strict=True))
    homes: Rows = takers[np.searchsorted(upper, place, side="right")]
    return homes


def _joined(units: Keys, contents: Keys | None) -> Keys:
    """Return a hash of those that each sample shares a split with, the lowest of their units'.

    Args:
        units: A hash of each sample, or of its group, (N,).
        contents: A hash of what it holds, (N,).
    """
    if contents is None:
        return units
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    own, unit = np.unique(units, return_inverse=True)
    held, content = np.unique(contents, return_inverse=True)
    if len(held) == len(contents):
        return units
    size = len(own) + len(held)
    edges = coo_matrix((np.ones(len(unit), bool), (unit, len(own) + content)), (size, size))
    _, part = connected_components(edges, directed=False)
    lowest = np.full(size, np.iinfo(np.int64).max)
    np.minimum.at(lowest, part[: len(own)], own)
    joined: Keys = lowest[part[unit]]
    return joined


def _is_large(joined: Keys, sizes: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Return whether each sample has copies that would fill a drawn split, as blank images may.

    They are all trained on.

    Args:
        joined: A hash of those that it shares a split with, (N,).
        sizes: How many samples each drawn split is to get.
    """
    _, part, counts = np.unique(joined, return_inverse=True, return_counts=True)
    most = max(min((size for size in sizes if size), default=0) // 2, 2)
    large: npt.NDArray[np.bool_] = counts[part] > most
    return large


def _with_copies(homes: Rows, joined: Keys) -> Rows:
    """Return the splits where copies share one: the training split where one of them has it.

    So nothing that was trained on is ever tested.
    """
    _, part = np.unique(joined, return_inverse=True)
    last = np.zeros(part.max(initial=0) + 1, dtype=np.int64)
    np.maximum.at(last, part, homes)
    shared: Rows = last[part]
    return shared


def _stretches(place: Places, homes: Rows) -> Iterator[tuple[int, float]]:
    """Yield each stretch of places that one split takes: the split's number, and where it ends."""
    found, first = np.unique(place, return_index=True)
    home = homes[first]
    last = np.flatnonzero(home[1:] != home[:-1])
    yield from zip(home[[*last, -1]].tolist(), [*found[last + 1].tolist(), 1.0], strict=True)


def _draw(place: Places, labels: Rows, sizes: Sequence[int]) -> Rows:
    """Return the number of each sample's split, so that classes are shared out evenly.

    The j-th of a class's m samples, by their places, stands at (j + 1/2) / m in a common order,
    which is cut at the sizes: every stretch of it holds the classes in proportion, and of each
    class a split takes neighbours. A class of one sample stands in the middle and so falls to
    whoever takes the rest. One sample more or less moves few others.

    Args:
        place: Each sample's place, (N,).
        labels: Its class, (N,).
        sizes: How many samples each split gets, but for the last, which gets the rest.
    """
    by_class = np.lexsort((place, labels))
    _, firsts, counts = np.unique(labels[by_class], return_index=True, return_counts=True)
    rank = np.arange(len(labels)) - np.repeat(firsts, counts)
    order = by_class[np.lexsort((place[by_class], (rank + 0.5) / np.repeat(counts, counts)))]
    homes = np.empty(len(labels), dtype=np.int64)
    homes[order] = np.repeat(np.arange(len(sizes) + 1), [*sizes, len(labels) - sum(sizes)])
    # Along a class's places the splits' numbers rise, so that how many each takes says it all.
    table = np.zeros((len(counts), len(sizes) + 1), dtype=np.int64)
    np.add.at(table, (np.repeat(np.arange(len(counts)), counts), homes[by_class]), 1)
    wanted = np.flatnonzero([*sizes, 1])
    for own, count in zip(table, counts, strict=True):
        _share_with_all(own, wanted if count >= len(wanted) else wanted[-1:])
    homes[by_class] = np.repeat(np.tile(np.arange(len(sizes) + 1), len(counts)), table.ravel())
    return homes


def _share_with_all(counts: Rows, wanted: Rows) -> None:
    """Give each wanted split one of a class's samples at least, by their counts a split."""
    for split in wanted:
        if counts[split] == 0:
            counts[counts.argmax()] -= 1
            counts[split] = 1


def _draw_groups(place: Places, labels: Rows, sizes: Sequence[int]) -> Rows:
    """Return the number of each sample's split, where samples of one place stay together.

    Groups are cut by their places first. Then, one after the other, the group moves whose move
    best brings sizes and classes nearer to what is wanted, as long as there is one: the sum of
    (n - w)^2 / w goes down, over the splits' counts n of each class, and of all samples, with w
    wanted. So only few depend on which others there are. (scikit-learn's StratifiedGroupKFold
    stratifies as well, but into parts of one size, and one group more shuffles them all.)

    Args:
        place: Each sample's place, (N,).
        labels: Its class, (N,).
        sizes: About how many samples each split gets, but for the last, which gets the rest.
            Where one is wanted it gets a group at least, if there are enough.
    """
    _, group = np.unique(place, return_inverse=True)
    _, classes = np.unique(labels, return_inverse=True)
    size = np.bincount(group)
    shares = np.array([*sizes, len(labels) - sum(sizes)], dtype=np.float64) / len(labels)
    middle = (np.cumsum(size) - size / 2) / len(labels)
    home: Rows = np.searchsorted(np.cumsum(shares)[:-1], middle, side="right")
    # A column for each class, and one for all samples.
    table = np.zeros((len(size), int(classes.max()) + 2))
    np.add.at(table, (group, classes), 1)
    table[:, -1] = size
    wanted = shares[:, None] * table.sum(axis=0)
    weight = 1 / np.maximum(wanted, 1e-9)
    over = -wanted
    np.add.at(over, home, table)
    while True:
        leave = ((table - 2 * over[home]) * table * weight[home]).sum(axis=1)
        join = table**2 @ weight.T + 2 * table @ (over * weight).T
        change = leave[:, None] + join
        change[np.arange(len(home)), home] = 0
        change[:, shares == 0] = np.inf
        moved, target = np.unravel_index(int(change.argmin()), change.shape)
        if change[moved, target] > -1e-9:
            break
        over[home[moved]] -= table[moved]
        over[target] += table[moved]
        home[moved] = target
    for split in np.flatnonzero(shares > 0):
        alone = np.bincount(home, minlength=len(shares))[home] == 1
        if not (home == split).any() and not alone.all():
            home[np.where(alone, np.inf, size).argmin()] = split
    return home[group]
