"""How far a test's figures may lie from those of all samples that could have been drawn.

* A share of samples, such as an accuracy, has Wilson's interval (J. Am. Stat. Assoc. 22, 1927): of
  ``k`` hits among ``n``, with ``z`` the normal quantile, it holds the shares ``p`` for which
  ``|k / n - p| <= z sqrt(p (1 - p) / n)``.
* Any other figure has the bootstrap's percentiles (Efron, 1979): it is counted again on samples
  that are drawn from the test's with replacement, as many as there are.
* The calibration error grows with noise, and so with every resampling; its percentiles are moved
  by as much as the resamples' mean lies above the figure.

What is drawn anew is a sample; of a language model's test a row of its batches: a window of a
corpus, which do not overlap, a chat, or several that are packed into one. So tokens that hang
together stay together (a block bootstrap; Carlstein, Ann. Stat. 14, 1986).

A figure that is the same in all resamples has no interval: they say nothing of it (an F1 of 1 say).
All are about the samples alone: neither another training nor another split is in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

LEVEL = 0.95

#: Resamples: so many, fewer where there are so many samples that it would take long, never less.
_MOST, _LEAST = 1000, 200
_DRAWS, _NUMBERS = 20_000_000, 200_000_000
#: Numbers that are held at once.
_AT_ONCE = 1_000_000

Method = Literal["Wilson", "bootstrap", "bootstrap, centred"]
Floats = npt.NDArray[np.float64]
#: Figures of resamples, each ``(R,)``, from how often each has each sample, ``(R, N)``.
Figures = Callable[[Floats], Mapping[str, Floats]]

#: What grows with noise.
_CENTRED = ("ece", "ece_scaled")


class Interval(NamedTuple):
    """Where a figure lies, at :data:`LEVEL`."""

    low: float
    high: float
    method: Method


@dataclass(frozen=True)
class Intervals:
    """The intervals of a test's figures, by the figures' names.

    Attributes:
        samples: How many there were.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
        of: The intervals.
    """

    samples: int
    resamples: int = 0
    seed: int = 0
    of: dict[str, Interval] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Return plain data for ``summary.json``."""
        return {
            "level": LEVEL,
            "samples": self.samples,
            "resamples": self.resamples,
            "seed": self.seed,
            "figures": {name: each._asdict() for name, each in self.of.items()},
        }


def wilson(share: float, count: int) -> Interval:
    """Return Wilson's interval of a share.

    Args:
        share: Of the samples, from 0 to 1.
        count: How many samples.

    >>> low, high, _ = wilson(1.0, 25)
    >>> round(low, 4), high
    (0.8668, 1.0)
    """
    from scipy.stats import binomtest

    found = binomtest(round(share * count), count).proportion_ci(LEVEL, method="wilson")
    return Interval(float(found.low), float(found.high), "Wilson")


def intervals(
    figures_of: Figures,
    figures: Mapping[str, float],
    count: int,
    *,
    shares: tuple[str, ...] = (),
    columns: int = 1,
) -> Intervals:
    """Return the intervals of figures of independent samples.

    Args:
        figures_of: Gives the figures of resamples.
        figures: The figures themselves, by the same names; others have no interval.
        count: How many samples there were, N.
        shares: The names of those that are shares of the samples.
        columns: How many numbers of a sample the slowest figure goes through.
    """
    seed, total = 0, resamples(count, columns)
    of = {name: wilson(figures[name], count) for name in shares if name in figures}
    found: dict[str, list[Floats]] = {}
    for weights in weights_of(count, total, seed) if count > 1 else ():
        for name, values in figures_of(weights).items():
            found.setdefault(name, []).append(values)
    for name, parts in found.items():
        if name not in figures or name in of:
            continue
        bounds = _bounds(np.concatenate(parts), figures[name], centred=name in _CENTRED)
        if bounds is not None:
            of[name] = bounds
    return Intervals(count, total, seed, {name: of[name] for name in figures if name in of})


def resamples(count: int, columns: int = 1) -> int:
    """Return how often so many samples, of so many numbers each, are drawn anew.

    >>> resamples(25), resamples(40_000), resamples(10_000_000)
    (1000, 500, 200)
    """
    return max(_LEAST, min(_MOST, _DRAWS // count, _NUMBERS // (count * columns)))


def weights_of(count: int, total: int, seed: int) -> Iterator[Floats]:
    """Yield how often each resample has each sample, some resamples ``(R, N)`` at a time."""
    draw = np.random.default_rng(seed)
    step = max(1, _AT_ONCE // count)
    for first in range(0, total, step):
        rows = min(step, total - first)
        numbers = draw.integers(0, count, (rows, count)) + count * np.arange(rows)[:, None]
        yield (
            np.bincount(numbers.ravel(), minlength=rows * count).reshape(rows, count).astype(float)
        )


def _bounds(values: Floats, figure: float, *, centred: bool) -> Interval | None:
    values = values[np.isfinite(values)]  # a resample may lack what a figure needs
    if len(values) < 2 or np.ptp(values) <= 1e-12 * np.abs(values).max():
        return None
    outside = (1 - LEVEL) / 2
    low, high = np.quantile(values, [outside, 1 - outside]).tolist()
    if not centred:
        return Interval(low, high, "bootstrap")
    excess = float(values.mean()) - figure
    return Interval(max(0.0, low - excess), high - excess, "bootstrap, centred")
