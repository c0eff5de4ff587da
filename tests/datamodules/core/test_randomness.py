import numpy as np
import pytest
import torch
from scipy import stats

from datamodules.core.randomness import (
    bits,
    key,
    mix,
    permutation,
    scramble,
    uniform_floats,
    uniform_ints,
)

MASK = (1 << 64) - 1


def test_bits_are_splitmix64() -> None:
    # The first outputs of the reference generator for state 0, as published with it.
    step = 0x9E3779B97F4A7C15
    assert [mix(step * k) for k in (1, 2, 3)] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]
    index = torch.tensor([0, 1, 49_999, 2**40])
    got = bits(3, 5, index, 4)
    for row, i in enumerate(index.tolist()):
        for draw in range(4):
            assert got[row, draw].item() & MASK == mix(key(3, 5) + (i * 64 + draw) * step)


def test_numpy_and_torch_agree() -> None:
    z = torch.randint(-(2**63), 2**63 - 1, (100, 3))
    there, here = z.clone(), z.clone()
    scramble(there)
    scramble(here.numpy())
    assert torch.equal(there, here)


def test_each_argument_matters() -> None:
    index = torch.arange(50)
    drawn = [bits(s, e, index, 3) for s, e in [(0, 0), (1, 0), (0, 1), (1, 1), (-1, 0)]]
    values = torch.cat(drawn).flatten()
    assert len(values.unique()) == len(values)
    assert torch.equal(bits(0, 0, index, 3), bits(0, 0, index, 5)[:, :3])


def test_uniform() -> None:
    drawn = bits(0, 0, torch.arange(90_000), 3)
    for n in (2, 9, 32):
        for draw in range(3):
            counts = uniform_ints(drawn[:, draw], n).bincount(minlength=n)
            assert len(counts) == n
            assert stats.chisquare(counts.numpy()).pvalue > 0.001
    floats = uniform_floats(drawn)
    assert floats.min() >= 0
    assert floats.max() < 1
    assert stats.kstest(floats.flatten().numpy(), "uniform").pvalue > 0.001


def test_draws_are_independent() -> None:
    drawn = uniform_ints(bits(1, 2, torch.arange(60_000), 2), 5)
    table = np.zeros((5, 5))
    np.add.at(table, (drawn[:, 0].numpy(), drawn[:, 1].numpy()), 1)
    assert stats.chi2_contingency(table).pvalue > 0.001
    neighbours = uniform_ints(bits(1, 2, torch.arange(60_000), 1)[:, 0], 5).numpy()
    table = np.zeros((5, 5))
    np.add.at(table, (neighbours[:-1], neighbours[1:]), 1)
    assert stats.chi2_contingency(table).pvalue > 0.001


def test_ints_take_one_bound_per_draw() -> None:
    drawn = uniform_ints(bits(0, 0, torch.arange(5_000), 3), torch.tensor([9, 2, 1]))
    assert drawn.max(dim=0).values.tolist() == [8, 1, 0]


def test_permutation() -> None:
    one = permutation(1_000, 0, 0)
    assert torch.equal(one.sort().values, torch.arange(1_000))
    assert torch.equal(one, permutation(1_000, 0, 0))
    for other in (permutation(1_000, 0, 1), permutation(1_000, 1, 0)):
        assert (one == other).sum() < 20


def test_too_many_draws() -> None:
    with pytest.raises(ValueError, match="count"):
        bits(0, 0, torch.arange(3), 65)
