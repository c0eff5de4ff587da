"""Several samples in a row, with as little padding as can be."""

from bisect import bisect_left, insort

import numpy as np

from datamodules.text.survey import Rows


def best_fit(lengths: Rows, room: int) -> list[list[int]]:
    """Return rows that hold every sample once.

    Best-fit decreasing (arXiv 2404.10830): from the longest sample down, each goes into the row
    that it fills best, or into a new one.

    Args:
        lengths: How long each sample is, int64 (N,), at most ``room``.
        room: How long a row may be.

    Returns:
        The numbers of each row's samples.
    """
    packs: list[list[int]] = []
    waiting: dict[int, list[int]] = {}  # the rows that have so much room left
    rests: list[int] = []  # the keys of `waiting`, ascending
    for sample in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[sample])
        place = bisect_left(rests, length)
        if place == len(rests):
            packs.append([])
            number, rest = len(packs) - 1, room
        else:
            rest = rests[place]
            number = waiting[rest].pop()
            if not waiting[rest]:
                del waiting[rest]
                rests.pop(place)
        packs[number].append(sample)
        rest -= length
        if rest not in waiting:
            waiting[rest] = []
            insort(rests, rest)
        waiting[rest].append(number)
    return packs
