import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from datamodules.core.errors import DataError, OptionError
from datamodules.core.sampling import EpochBatches, training_position


def training(size: int, batch: int, **kwargs) -> EpochBatches:
    return EpochBatches(size, batch, training=True, **kwargs)


def test_order_is_a_function_of_seed_and_epoch() -> None:
    def epoch(seed: int, number: int) -> list[list[int]]:
        return list(training(50, 8, seed=seed, position=lambda: (number, 0)))

    assert epoch(0, 0) == epoch(0, 0)
    assert epoch(0, 0) != epoch(0, 1)
    assert epoch(0, 0) != epoch(1, 0)
    assert sorted(itertools.chain(*epoch(0, 3))) == list(range(50))


def test_position_is_read_at_the_first_next() -> None:
    where = [(0, 0)]
    batches = training(50, 8, position=lambda: where[0])
    iterator = iter(batches)
    where[0] = (2, 3)
    whole = list(training(50, 8, position=lambda: (2, 0)))
    assert list(iterator) == whole[3:]
    assert len(batches) == len(whole)


@pytest.mark.parametrize(
    ("size", "batch", "sizes"),
    [
        (20, 8, [8, 8, 4]),
        (16, 8, [8, 8]),
        (17, 8, [8, 9]),
        (18, 8, [8, 8, 2]),
        (3, 8, [3]),
        (1, 8, [1]),
        (3, 1, [1, 1, 1]),
        (5, 2, [2, 3]),
    ],
)
def test_last_batch(size: int, batch: int, sizes: list[int]) -> None:
    batches = training(size, batch)
    assert [len(b) for b in batches] == sizes
    assert len(batches) == len(sizes)
    assert batches.smallest_batch == min(sizes)


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("size", [60, 61, 63, 64, 67, 71, 72, 73])
def test_training_shards(size: int, world: int) -> None:
    ranks = [training(size, 12, rank=r, world_size=world) for r in range(world)]
    shards = [list(batches) for batches in ranks]
    lengths = [[len(batch) for batch in shard] for shard in shards]
    assert all(length == lengths[0] for length in lengths)
    assert all(len(batches) == len(lengths[0]) for batches in ranks)
    assert ranks[0].smallest_batch == min(lengths[0]) >= 2
    seen = [i for shard in shards for batch in shard for i in batch]
    assert len(seen) == len(set(seen))
    assert size - len(seen) < world
    # Global batch k does not depend on how many processes share it.
    order = [i for batch in training(size, 12) for i in batch]
    assert sorted(i for shard in shards for i in shard[1]) == sorted(order[12:24])
    for r in range(world):
        assert shards[r][0] == order[:12][r::world]


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("size", [3, 12, 41, 48])
def test_evaluation_shards(size: int, world: int) -> None:
    ranks = [EpochBatches(size, 12, training=False, rank=r, world_size=world) for r in range(world)]
    shards = [[i for batch in batches for i in batch] for batches in ranks]
    assert sorted(itertools.chain(*shards)) == list(range(size))
    assert all(shard == sorted(shard) for shard in shards)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert all(len(list(batches)) == len(batches) for batches in ranks)
    assert all(len(batch) <= 12 // world for batches in ranks for batch in batches)


def test_what_cannot_be_shared() -> None:
    with pytest.raises(OptionError, match=r"batch_size is 10; give 9, .* 3 processes"):
        training(100, 10, world_size=3)
    with pytest.raises(DataError, match="2 samples cannot be shared by 3"):
        EpochBatches(2, 12, training=False, world_size=3)


def test_training_position() -> None:
    batch = SimpleNamespace(current=SimpleNamespace(ready=7, started=7, processed=6, completed=6))
    epoch = SimpleNamespace(current=SimpleNamespace(ready=3, started=3, processed=2, completed=2))
    loop = SimpleNamespace(epoch_progress=epoch, epoch_loop=SimpleNamespace(batch_progress=batch))
    assert training_position(SimpleNamespace(fit_loop=loop)) == (2, 6)
    assert training_position(None) == (0, 0)


@pytest.mark.parametrize("world", [1, 2])
def test_spread_batches_are_a_sample_of_all(world: int) -> None:
    """Of samples that lie class by class, the first batches hold every class in proportion."""
    labels = np.repeat(np.arange(4), 250)
    ranks = [
        EpochBatches(1000, 100, training=False, rank=rank, world_size=world, spread=True)
        for rank in range(world)
    ]
    shards = [list(batches) for batches in ranks]
    assert shards == [list(batches) for batches in ranks]
    assert sorted(itertools.chain(*itertools.chain(*shards))) == list(range(1000))
    first = np.concatenate([np.concatenate(shard[:2]) for shard in shards])
    counts = np.bincount(labels[first])
    assert abs(counts - 50).max() < 4 * np.sqrt(200 / 4 * 3 / 4)  # four standard deviations
