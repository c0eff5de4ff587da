"""Random numbers without a generator: each is a function of (seed, epoch, index, draw).

The hash is splitmix64 in int64 arithmetic (wrapping, hence equal on every device). Nothing is
stored, so nothing has to be saved: a resumed run draws what the uninterrupted one would have drawn.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB

#: How many numbers one index may draw before it would run into the next index's.
DRAWS_PER_INDEX = 64

#: What a sample's index grows by each time that the sample comes again within an epoch, so that
#: each of its draws differs. More than any index, and 2**26 repeats have streams of their own.
REPEAT = 1 << 32


def _signed(value: int) -> int:
    """Return the int64 with the same 64 bits."""
    value &= _MASK
    return value - (1 << 64) if value >> 63 else value


def mix(value: int) -> int:
    """Apply splitmix64's finaliser to a Python integer, as an unsigned 64-bit number."""
    value &= _MASK
    value = ((value ^ (value >> 30)) * _MIX_1) & _MASK
    value = ((value ^ (value >> 27)) * _MIX_2) & _MASK
    return value ^ (value >> 31)


def key(seed: int, epoch: int) -> int:
    """Return the 64 bits that stand for (seed, epoch)."""
    return mix(mix(seed + _STEP) + (epoch + 1) * _STEP)


# Kept because a batch would otherwise pay for building the same row, and on a GPU for its transfer.
@lru_cache(maxsize=32)
def _offsets(stream: int, count: int, device: torch.device) -> Tensor:
    values = [_signed(stream + draw * _STEP) for draw in range(count)]
    return torch.tensor(values, dtype=torch.int64, device=device)


def bits(seed: int, epoch: int, index: Tensor, count: int) -> Tensor:
    """Draw ``count`` times 64 random bits for each index.

    Args:
        seed: The run's seed.
        epoch: The epoch, from 0.
        index: Sample numbers, with or without repeats, int64 (B,); the result lies on their device.
        count: Draws per index, at most ``DRAWS_PER_INDEX``.

    Returns:
        int64 (B, count), every bit pattern equally likely.
    """
    if not 0 < count <= DRAWS_PER_INDEX:
        raise ValueError(f"count must be 1 to {DRAWS_PER_INDEX}, not {count}")
    offsets = _offsets(key(seed, epoch), count, index.device)
    z = index.unsqueeze(1) * _signed(DRAWS_PER_INDEX * _STEP) + offsets
    if z.device.type == "cpu":
        # The same memory as a numpy array, whose calls cost half as much: it is they that take the
        # time here.
        scramble(z.numpy())
    else:
        scramble(z)
    return z


def scramble(z: Tensor | npt.NDArray[np.int64]) -> None:
    """Apply splitmix64's finaliser in place."""
    # `>>` keeps the sign, so the bits that it drags in are masked away.
    z ^= (z >> 30) & ((1 << 34) - 1)
    z *= _signed(_MIX_1)
    z ^= (z >> 27) & ((1 << 37) - 1)
    z *= _signed(_MIX_2)
    z ^= (z >> 31) & ((1 << 33) - 1)


def uniform_ints(random_bits: Tensor, n: int | Tensor) -> Tensor:
    """Return integers in [0, n), int64, of the same shape as the bits.

    Args:
        random_bits: What ``bits`` returned.
        n: How many values, at most 2**31; a tensor is broadcast, one n per draw for instance.
    """
    return (((random_bits >> 33) & ((1 << 31) - 1)) * n) >> 31


def uniform_floats(random_bits: Tensor) -> Tensor:
    """Return numbers in [0, 1), float32 with 24 random bits each."""
    return ((random_bits >> 40) & ((1 << 24) - 1)).to(torch.float32) * 2.0**-24


def permutation(n: int, seed: int, epoch: int) -> Tensor:
    """Return an order of range(n), int64 (n,) on the CPU, as a function of (seed, epoch)."""
    generator = torch.Generator()
    # mixed once more: the order must not share its stream with the draws of `bits`.
    generator.manual_seed(mix(key(seed, epoch) + 1) >> 1)
    return torch.randperm(n, generator=generator)
