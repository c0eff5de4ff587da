import itertools

import numpy as np
import pytest

from datamodules.core.errors import OptionError, UserError
from datamodules.text.buckets import BucketBatches, buckets

RNG = np.random.default_rng(3)
REAL = np.clip(np.exp(RNG.normal(5.3, 0.65, 20_000)), 4, 1024).astype(np.int64)  # as IMDB's
SHORT = RNG.integers(1, 60, 203)


def training(lengths=SHORT, batch_size=16, **kwargs) -> BucketBatches:
    return BucketBatches(lengths, batch_size, training=True, **kwargs)


def padding(lengths: np.ndarray, batches: list[list[int]]) -> float:
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    return 1 - lengths[list(itertools.chain(*batches))].sum() / padded


def test_buckets_are_narrow() -> None:
    upper = buckets(REAL)
    assert (upper >= REAL).all()
    assert (upper <= np.maximum(REAL * 1.06, REAL)).all()
    assert upper.max() == REAL.max()
    assert buckets(np.array([1, 2, 3, 19, 20])).tolist() == [1, 2, 3, 19, 20]


def test_order_is_a_function_of_seed_and_epoch() -> None:
    def epoch(seed: int, number: int) -> list[list[int]]:
        return list(training(seed=seed, position=lambda: (number, 0)))

    assert epoch(0, 0) == epoch(0, 0)
    assert epoch(0, 0) != epoch(0, 1)
    assert epoch(0, 0) != epoch(1, 0)
    assert sorted(itertools.chain(*epoch(0, 3))) == list(range(203))


def test_every_epoch_has_batches_of_the_same_sizes_in_another_order() -> None:
    epochs = [list(training(max_tokens=500, position=lambda e=e: (e, 0))) for e in range(3)]
    sizes = [[len(batch) for batch in epoch] for epoch in epochs]
    assert sorted(sizes[0]) == sorted(sizes[1]) == sorted(sizes[2])
    assert sizes[0] != sizes[1]
    assert {len(epoch) for epoch in epochs} == {len(training(max_tokens=500))}
    assert {frozenset(b) for b in epochs[0]} != {frozenset(b) for b in epochs[1]}


def test_batches_are_not_in_the_order_of_their_lengths() -> None:
    widths = [SHORT[batch].max() for batch in training()]
    assert widths != sorted(widths)
    assert widths != sorted(widths, reverse=True)


def test_position_is_read_at_the_first_next() -> None:
    where = [(0, 0)]
    batches = training(position=lambda: where[0])
    iterator = iter(batches)
    where[0] = (2, 3)
    whole = list(training(position=lambda: (2, 0)))
    assert list(iterator) == whole[3:]
    assert len(batches) == len(whole)


@pytest.mark.parametrize("options", [{"batch_size": 64}, {"max_tokens": 2**14}])
@pytest.mark.parametrize("train", [True, False])
def test_padding_is_at_most_5_percent(options: dict, train: bool) -> None:
    batches = list(BucketBatches(REAL, **{"batch_size": 1, **options}, training=train))
    assert padding(REAL, batches) <= 0.05
    at_random = np.array_split(RNG.permutation(len(REAL)), len(REAL) // 64)
    assert padding(REAL, at_random) > 0.5


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("train", [True, False])
def test_budget_is_never_exceeded(world: int, train: bool) -> None:
    for rank in range(world):
        batches = BucketBatches(
            REAL, 1, max_tokens=2**13, training=train, rank=rank, world_size=world
        )
        tokens = [len(batch) * REAL[batch].max() for batch in batches]
        assert max(tokens) <= 2**13 // world
        assert np.mean(tokens) > 0.8 * 2**13 / world


@pytest.mark.parametrize("max_tokens", [None, 600])
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("size", [60, 61, 63, 64, 67, 71, 72, 73])
def test_training_shards(size: int, world: int, max_tokens: int | None) -> None:
    lengths = SHORT[:size]
    ranks = [
        training(lengths, 12, max_tokens=max_tokens, rank=rank, world_size=world)
        for rank in range(world)
    ]
    shards = [list(batches) for batches in ranks]
    sizes = [[len(batch) for batch in shard] for shard in shards]
    assert all(own == sizes[0] for own in sizes)
    assert min(sizes[0]) == ranks[0].smallest_batch >= 2
    seen = sorted(itertools.chain(*itertools.chain(*shards)))
    assert len(seen) == len(set(seen)) == size - size % world
    for parts in zip(*shards, strict=True):  # what runs at once is of about the same length
        widths = [lengths[part].max() for part in parts]
        assert max(widths) - min(widths) <= 8


def test_those_that_sit_out_are_others_each_time() -> None:
    lengths = np.full(31, 9)
    out = []
    for epoch in range(4):
        ranks = [
            training(lengths, 8, rank=r, world_size=2, position=lambda e=epoch: (e, 0))
            for r in range(2)
        ]
        out += set(range(31)) - set(itertools.chain(*itertools.chain(*ranks)))
    assert len(out) == 4
    assert len(set(out)) > 1


@pytest.mark.parametrize("max_tokens", [None, 600])
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("size", [3, 60, 61, 64])
def test_evaluation_is_complete_and_sorted(size: int, world: int, max_tokens: int | None) -> None:
    lengths = SHORT[:size]
    shards = [
        list(
            BucketBatches(
                lengths, 12, max_tokens=max_tokens, training=False, rank=rank, world_size=world
            )
        )
        for rank in range(world)
    ]
    assert sorted(itertools.chain(*itertools.chain(*shards))) == list(range(size))
    for shard in shards:
        order = lengths[list(itertools.chain(*shard))]
        assert (np.diff(order) <= 0).all()


@pytest.mark.parametrize(
    ("size", "batch", "sizes"),
    [(20, 8, [4, 8, 8]), (17, 8, [4, 5, 8]), (3, 8, [3]), (1, 8, [1]), (3, 1, [1, 1, 1])],
)
def test_the_rest_is_a_batch_of_the_shortest(size: int, batch: int, sizes: list[int]) -> None:
    batches = sorted(training(np.arange(1, size + 1), batch), key=max)
    assert [len(b) for b in batches] == sizes


def test_what_cannot_be_shared() -> None:
    with pytest.raises(
        UserError,
        match=r"max_tokens is 90; give 118 or more.*longest .* 59 tokens, and 2 processes",
    ):
        training(np.array([59, 3, 4]), max_tokens=90, world_size=2)
    with pytest.raises(UserError, match="max_tokens is 58; give 59 or more"):
        training(np.array([59, 3, 4]), max_tokens=58)
    with pytest.raises(OptionError, match="option batch_size is 9"):
        training(batch_size=9, world_size=2)
    with pytest.raises(UserError, match="cannot be shared by 4 processes"):
        training(np.array([3, 4]), max_tokens=100, world_size=4)


@pytest.mark.parametrize("options", [{"batch_size": 64}, {"max_tokens": 2**14}])
@pytest.mark.parametrize("taken", [4, 8, 20])
def test_the_first_batches_of_an_evaluation_are_spread(options: dict, taken: int) -> None:
    """Over the lengths, and where many texts are of one length, over these."""
    lengths = np.minimum(REAL, 300)  # a fifth of them are cut
    given = {"batch_size": 1, **options}
    batches = list(BucketBatches(lengths, **given, training=False, spread=True))
    assert sorted(itertools.chain(*batches)) == list(range(len(lengths)))
    of_batches = np.array([lengths[batch].mean() for batch in batches])
    for share in (0.25, 0.5, 0.75):  # as many of the first as of all lie below each quarter
        below = (of_batches < np.quantile(of_batches, share)).mean()
        assert abs((of_batches[:taken] < np.quantile(of_batches, share)).mean() - below) <= 0.25
    cut = next(np.array(batch) for batch in batches if lengths[batch].min() == 300)
    places = np.flatnonzero(lengths == 300)
    assert abs(np.searchsorted(places, cut).mean() / len(places) - 0.5) < 0.2
