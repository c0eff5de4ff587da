"""Batches of texts of about the same length."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from datamodules.core.errors import refuse
from datamodules.core.randomness import mix, permutation
from datamodules.core.sampling import EpochBatches

Lengths = npt.NDArray[np.int64]

#: By how much the longest text of a bucket may exceed the shortest.
_WIDTH = 1.05


class BucketBatches(EpochBatches):
    """Batches of sample numbers for one process, little of which is padding.

    Training: texts fall into buckets whose lengths differ by at most 5 % (up to 20 tokens, not at
    all). In each epoch the texts of a bucket are put into an order that is a function of
    (seed, epoch) alone; the buckets, one after the other, are cut into batches, and the batches are
    put into such an order, too. Where the cuts lie depends on the lengths alone, so that all epochs
    have the same number of batches of the same sizes. The rest of the division is a short batch of
    short texts, which shares with the next one where it would leave a process fewer than 2.
    Shards are even: process r takes every ``world_size``-th text of a batch from the r-th on, and
    up to ``world_size - 1`` texts sit out an epoch, others of the same lengths each time.

    Evaluation: from the longest to the shortest, every text exactly once; shards may differ by one.
    Spread, the first batches lie evenly over all lengths, for a Trainer that stops after them.

    Args:
        lengths: Tokens in each text as the net gets it, int64 (N,).
        batch_size: Texts in a batch, over all processes together; unused with ``max_tokens``.
        max_tokens: Tokens in a batch with its padding, over all processes together; never exceeded.
        training: Shuffled and even, or in order of length and complete.
        seed: Chooses the orders.
        rank: This process, from 0.
        world_size: How many processes share the texts.
        position: Gives (epoch, first batch); asked at the first ``next()``, when a Trainer knows
            it.
        spread: In evaluation: spread, not from the longest to the shortest.

    Raises:
        DataError: If the batch or the texts cannot be shared among the processes, or a text does
            not fit into ``max_tokens``.
    """

    def __init__(
        self,
        lengths: Lengths,
        batch_size: int,
        *,
        max_tokens: int | None = None,
        training: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        position: Callable[[], tuple[int, int]] | None = None,
        spread: bool = False,
    ) -> None:
        self.lengths = lengths
        self.max_tokens = max_tokens
        longest = int(lengths.max(initial=0))
        if max_tokens is not None and max_tokens // world_size < longest:
            shared = f", and {world_size} processes share a batch" if world_size > 1 else ""
            remedy = f"give {longest * world_size} or more, or a smaller max_length"
            why = f"the longest text has {longest} tokens{shared}"
            raise refuse("max_tokens", max_tokens, f"{remedy}: {why}")
        super().__init__(
            len(lengths),
            batch_size if max_tokens is None else world_size,
            training=training,
            seed=seed,
            rank=rank,
            world_size=world_size,
            position=position,
            spread=spread,
        )

    def _find_bounds(self) -> list[tuple[int, int]]:
        """Return (start, stop) of each batch in the texts by bucket, or in this shard by length."""
        if not self.training:
            order = self._evaluation_order()  # of texts of one length
            by_length = order[np.argsort(-self.lengths[order], kind="stable")]
            self._sorted = by_length[self.rank :: self.world_size]
            return self._cut_shard(self.lengths[self._sorted])
        self._bucket = buckets(self.lengths)
        absent = self.size % self.world_size
        sits_out = (np.arange(absent) * self.size + self.size // 2) // max(absent, 1)
        self._places = np.delete(np.arange(self.size), sits_out)
        widths = np.sort(self._bucket)[self._places]
        return self._cut_even(widths)

    def _capacity(self, width: int, shares: int) -> int:
        """Return how many texts of that length a batch shared by ``shares`` processes has."""
        if self.max_tokens is None:
            each = self.batch_size // self.world_size
        else:
            each = self.max_tokens // self.world_size // width
        return max(each, 1) * shares

    def _cut_shard(self, widths: Lengths) -> list[tuple[int, int]]:
        bounds, start = [], 0
        while start < len(widths):
            stop = min(start + self._capacity(int(widths[start]), 1), len(widths))
            bounds.append((start, stop))
            start = stop
        return bounds

    def _cut_even(self, widths: Lengths) -> list[tuple[int, int]]:
        bounds, stop = [], len(widths)
        while stop > 0:  # from the longest texts down
            start = max(stop - self._capacity(int(widths[stop - 1]), self.world_size), 0)
            bounds.append((start, stop))
            stop = start
        bounds.reverse()
        least = 2 * self.world_size
        if len(bounds) > 1 and bounds[0][1] < least:
            stop = bounds[1][1]
            middle = stop // 2 // self.world_size * self.world_size
            if middle >= least:
                bounds[:2] = [(0, middle), (middle, stop)]
            elif stop <= self._capacity(int(widths[stop - 1]), self.world_size):
                bounds[:2] = [(0, stop)]
        return bounds

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the rest of the epoch."""
        if not self.training:
            numbers = np.arange(len(self._bounds))
            if self.spread:  # in steps of the golden ratio, any first ones lie evenly over all
                numbers = np.argsort(np.argsort((0.5 + 0.618034 * numbers) % 1))
            for number in numbers:
                start, stop = self._bounds[number]
                yield self._sorted[start:stop].tolist()
            return
        epoch, first = self.position() if self.position is not None else (0, 0)
        shuffled = permutation(self.size, self.seed, epoch).numpy()
        by_bucket = shuffled[np.argsort(self._bucket[shuffled], kind="stable")][self._places]
        # another seed: the order of the batches must not follow that of the texts
        batches = permutation(len(self._bounds), mix(self.seed), epoch).tolist()
        for number in batches[first:]:
            start, stop = self._bounds[number]
            yield by_bucket[start:stop][self.rank :: self.world_size].tolist()


def buckets(lengths: Lengths) -> Lengths:
    """Return the longest length, (N,), that falls into the same bucket as each of some lengths."""
    longest = int(lengths.max(initial=1))
    edges = [1]
    while edges[-1] < longest:
        edges.append(min(max(edges[-1] + 1, int(edges[-1] * _WIDTH)), longest))
    edge = np.array(edges, dtype=np.int64)
    upper: Lengths = edge[np.searchsorted(edge, lengths)]
    return upper
