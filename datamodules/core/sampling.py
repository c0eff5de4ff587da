"""Which samples make up which batch: order, shards and the position to go on from."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Sampler

from datamodules.core.errors import DataError, refuse
from datamodules.core.randomness import permutation

if TYPE_CHECKING:  # which takes as long to import as torch
    from lightning.pytorch import Trainer


def training_position(trainer: "Trainer | None") -> tuple[int, int]:
    """Return the epoch and the batch in it that training goes on from, by the Trainer's counters.

    The batches that are processed, not those that are ready: until Lightning has tidied up after a
    restart, a batch on which the last run died still counts as ready.
    """
    if trainer is None:
        return 0, 0
    # Lightning declares a base class of the trackers that it uses.
    epoch: Any = trainer.fit_loop.epoch_progress.current
    batch: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    return epoch.processed, batch.processed


class EpochBatches(Sampler[list[int]]):
    """Batches of sample numbers for one process.

    Training: batch k of an epoch is ``order[k * B : (k + 1) * B]``, where the order is a function
    of (seed, epoch) alone and B counts the samples of all processes together; process r takes
    every ``world_size``-th of them from the r-th on. The short last batch is kept. Where it would
    leave a process fewer than 2 samples, too few for batch normalisation, it joins the batch before
    it. Shards are even, so with several processes up to ``world_size - 1`` samples sit out an
    epoch, others each time.

    Another order of an epoch's draws may be given; draws may then repeat a sample.

    Evaluation: in order, or spread, every sample exactly once, never padded; shards may differ by
    one sample. Spread, the first batches are a random sample of all, always the same one, for a
    Trainer that stops after them: files often lie class by class.

    Args:
        size: How many samples there are.
        batch_size: Samples in a batch, over all processes together.
        training: Shuffled and even, or in order and complete.
        seed: Chooses the orders.
        rank: This process, from 0.
        world_size: How many processes share the samples.
        position: Gives (epoch, first batch); asked at the first ``next()``, when a Trainer knows
            it.
        order: Gives an epoch's ``size`` sample numbers, in training; by default a random order of
            all samples.
        spread: In evaluation: spread, not in order.

    Raises:
        UserError: If the batch or the samples cannot be shared among the processes.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        *,
        training: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        position: Callable[[], tuple[int, int]] | None = None,
        order: Callable[[int], npt.NDArray[np.int64]] | None = None,
        spread: bool = False,
    ) -> None:
        if size < world_size:
            raise DataError(
                f"{size} samples cannot be shared by {world_size} processes; "
                f"set trainer.devices so that at most {max(size, 1)} run"
            )
        if training and batch_size % world_size:
            lower = max(batch_size - batch_size % world_size, world_size)
            remedy = f"give {lower}, say, which {world_size} processes can share evenly"
            raise refuse("batch_size", batch_size, remedy)
        self.size = size
        self.batch_size = batch_size
        self.training = training
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.position = position
        self.order = order
        self.spread = spread
        self._bounds = self._find_bounds()

    def _find_bounds(self) -> list[tuple[int, int]]:
        """Return (start, stop) of each batch: of all processes in training, else of this shard."""
        if self.training:
            size = self.size - self.size % self.world_size
            step = self.batch_size
        else:
            size = len(range(self.rank, self.size, self.world_size))
            step = max(1, self.batch_size // self.world_size)
        starts = list(range(0, size, step))
        if self.training and len(starts) > 1 and step >= 2 * self.world_size:
            rest = size - starts[-1]
            if rest < 2 * self.world_size:
                starts.pop()
        return list(zip(starts, [*starts[1:], size], strict=True))

    @property
    def smallest_batch(self) -> int:
        """Samples in the smallest batch that one process gets."""
        share = self.world_size if self.training else 1
        return min(stop - start for start, stop in self._bounds) // share

    def __len__(self) -> int:
        """Return how many batches a whole epoch has, wherever the position is."""
        return len(self._bounds)

    def _evaluation_order(self) -> npt.NDArray[np.int64]:
        return permutation(self.size, 0, 0).numpy() if self.spread else np.arange(self.size)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the rest of the epoch."""
        if not self.training:
            shard = self._evaluation_order()[self.rank :: self.world_size]
            for start, stop in self._bounds:
                yield shard[start:stop].tolist()
            return
        epoch, first = self.position() if self.position is not None else (0, 0)
        order: npt.NDArray[np.int64]
        if self.order is not None:
            order = self.order(epoch)
        else:
            order = permutation(self.size, self.seed, epoch).numpy()
        for start, stop in self._bounds[first:]:
            yield order[start:stop][self.rank :: self.world_size].tolist()


class PositionedLoader(DataLoader[Any]):
    """A DataLoader whose batch sampler finds its own position when a run is resumed.

    The empty state tells Lightning that it is resumable; without it every resume in mid-epoch would
    warn of unreliable results.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Start the workers at the first ``next()``, not before.

        Lightning asks for an iterator when it counts the steps of a run, before it has restored its
        counters; workers that began to gather then would gather from the wrong position.
        """
        yield from super().__iter__()

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the position is in the Trainer's counters."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore nothing."""


def as_is(batch: Any) -> Any:
    """Return the batch as it is: datasets of ours give whole ones."""
    return batch


def torch_generator() -> torch.Generator:
    """Return a generator for a DataLoader's own needs.

    Without one it draws from the global generator each epoch, and a resumed run would find that
    generator elsewhere than the uninterrupted run does.
    """
    return torch.Generator()
