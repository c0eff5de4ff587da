"""Windows of one long stream of tokens, and in which order they come."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from datamodules.core.protocols import IGNORE_INDEX
from datamodules.core.randomness import bits
from datamodules.core.sampling import EpochBatches
from datamodules.language.batch import TokenBatch
from datamodules.text.survey import Rows
from datamodules.text.token_store import TokenStore


class TokenWindows(Dataset[TokenBatch]):
    """Windows of a stream of tokens, each of which is to be predicted from those before it.

    Args:
        store: The tokens, and where documents begin.
        length: Tokens in a window.
        stride: By how many tokens a window begins behind the one before it; with 1 every whole
            window of the stream has a number, with ``length`` none overlap and the last may be
            short.
        pad_id: Stands behind the stream's end.
        mark: The token that stands before each document, if one does.
        by_document: Whether positions and segments begin anew with each document.
    """

    def __init__(
        self,
        store: TokenStore,
        length: int,
        stride: int,
        *,
        pad_id: int,
        mark: int | None,
        by_document: bool,
    ) -> None:
        self.store, self.length, self.stride = store, length, stride
        self.pad_id, self.mark, self.by_document = pad_id, mark, by_document
        # the first token of all has none before it
        predicted = max(len(store.tokens) - 1, 0)
        self._count = max(predicted - length + 1, 0) if stride == 1 else -(-predicted // stride)

    @property
    def tokens(self) -> int:
        """Return how many tokens the stream has."""
        return len(self.store.tokens)

    def __len__(self) -> int:
        """Return how many windows there are."""
        return self._count

    def __getitems__(self, numbers: list[int]) -> TokenBatch:
        """Return the whole batch in one gather."""
        index = np.asarray(numbers, dtype=np.int64)
        starts = index * self.stride
        both = self.store.windows(starts, self.length + 1, IGNORE_INDEX)
        tokens, labels = both[:, :-1].copy(), both[:, 1:].copy()
        absent = tokens == IGNORE_INDEX
        tokens[absent] = self.pad_id
        batch = TokenBatch(
            torch.from_numpy(tokens), torch.from_numpy(labels), torch.from_numpy(index)
        )
        if not self.by_document:
            return batch
        position_ids, segment_ids = self._documents(starts, labels)
        position_ids[absent], segment_ids[absent] = 0, -1
        return batch._replace(
            position_ids=torch.from_numpy(position_ids), segment_ids=torch.from_numpy(segment_ids)
        )

    def _documents(self, starts: Rows, labels: Rows) -> tuple[Rows, Rows]:
        """Return positions and segments; drop labels that nothing of their document foretells."""
        places = starts[:, None] + np.arange(self.length + 1)
        document = np.searchsorted(self.store.offsets[1:-1], places, side="right")
        if self.mark is None:
            labels[document[:, 1:] != document[:, :-1]] = IGNORE_INDEX
        document = document[:, :-1]
        begin = np.maximum(self.store.offsets[document], starts[:, None])
        segment_ids: Rows = document - document[:, :1]
        return places[:, :-1] - begin, segment_ids

    def __getitem__(self, number: int) -> TokenBatch:
        """Return one window, without the batch dimension."""
        return self.__getitems__([number]).first_row()


Order = Callable[[int], npt.NDArray[np.int64]]


def random_starts(count: int, places: int, seed: int) -> Order:
    """Return where an epoch's windows begin: a function of (seed, epoch, window's number).

    Args:
        count: How many windows an epoch has.
        places: Where they may begin: at 0 to ``places`` - 1.
        seed: Chooses them.
    """
    return partial(_random_starts, count, places, seed)


def _random_starts(count: int, places: int, seed: int, epoch: int) -> Rows:
    drawn = bits(seed, epoch, torch.arange(count), 1).squeeze(1)
    # 63 bits: the remainder favours no place that could be noticed
    starts: Rows = ((drawn & (2**63 - 1)) % places).numpy()
    return starts


def lane_starts(lanes: int, length: int, tokens: int, seed: int) -> Order:
    """Return where an epoch's windows begin if row b of a batch goes on where it ended before.

    The stream is cut into as many lanes as a batch has rows; window k of each is in batch k. What
    is too short for one more window is left out, another part of the stream in each epoch.

    Args:
        lanes: Rows in a batch, over all processes together.
        length: Tokens in a window.
        tokens: Tokens in the stream.
        seed: Chooses what is left out.
    """
    return partial(_lane_starts, lanes, length, tokens, seed)


def lane_windows(lanes: int, length: int, tokens: int) -> int:
    """Return how many whole windows each lane has."""
    return (tokens - 1) // (lanes * length)


def _lane_starts(lanes: int, length: int, tokens: int, seed: int, epoch: int) -> Rows:
    each = lane_windows(lanes, length, tokens)
    spare = tokens - 1 - lanes * each * length
    first = _random_starts(1, spare + 1, seed, epoch)
    starts: Rows = first + (np.arange(each)[:, None] + np.arange(lanes) * each) * length
    return starts.ravel()


class ContiguousBatches(EpochBatches):
    """Every window exactly once, and row b of a batch goes on where it ended in the one before.

    The windows are cut into as many lanes as a batch has rows, of which process r has every
    ``world_size``-th from the r-th on. Lanes differ by one window at most, the longer ones first,
    so that the last batch may be short but no row changes its place.

    Args:
        size: How many windows there are.
        batch_size: Rows in a batch, over all processes together.
        rank: This process, from 0.
        world_size: How many processes share the windows.

    Raises:
        DataError: If the windows cannot be shared among the processes.
    """

    def __init__(self, size: int, batch_size: int, *, rank: int = 0, world_size: int = 1) -> None:
        super().__init__(size, batch_size, training=False, rank=rank, world_size=world_size)

    def _find_bounds(self) -> list[tuple[int, int]]:
        lanes = min(max(self.batch_size // self.world_size, 1) * self.world_size, self.size)
        each, longer = divmod(self.size, lanes)
        lane = np.arange(self.rank, lanes, self.world_size)
        self._first = lane * each + np.minimum(lane, longer)
        self._each = each + (lane < longer)
        rows = [int((self._each > number).sum()) for number in range(int(self._each.max()))]
        stops = np.cumsum(rows).tolist()
        return list(zip([0, *stops[:-1]], stops, strict=True))

    def __iter__(self) -> Iterator[list[int]]:
        """Yield all batches."""
        for number in range(len(self)):
            yield (self._first[self._each > number] + number).tolist()
