"""Runs beside each other, the best first."""

from __future__ import annotations

import math
from typing import NamedTuple

from datamodules.core.errors import known, refuse
from zoo.studies.compare_runs import Run, differing

#: Figures of which less is better, in whatever stage; of all others more is.
LESS_IS_BETTER = frozenset(
    {
        *("loss", "ece", "entropy", "ece_scaled", "nll_scaled", "entropy_scaled"),
        *("mse", "mae", "perplexity", "bits_per_byte", "bits_per_char", "time", "parameters"),
    }
)


class Comparison(NamedTuple):
    """Runs beside each other.

    Args:
        runs: The runs, in the order of ``sort``.
        sort: The figure by which they are in their order; None for the order they were named in.
        most_first: Whether more of it is better.
        options: The options that differ.
        notes: What else has to be known.
    """

    runs: list[Run]
    sort: str | None
    most_first: bool
    options: list[str]
    notes: list[str]

    @property
    def monitors(self) -> list[str]:
        """The figures of validation that chose the epochs."""
        return list(dict.fromkeys(run.monitor for run in self.runs))

    @property
    def headline(self) -> str:
        """What is compared, in a sentence."""
        count = f"{len(self.runs)} run{'s' * (len(self.runs) != 1)}"
        if self.sort is None:
            return f"{count}, in the order in which they were named"
        return f"{count} by {self.sort}, the {'highest' if self.most_first else 'lowest'} first"


def beside(runs: list[Run], sort: str | None = None) -> Comparison:
    """Return runs beside each other, the best first.

    Args:
        runs: The runs.
        sort: The figure to sort by; by default what chose the epochs, where that is the same in
            all runs.

    Raises:
        OptionError: If no run has the figure.
    """
    notes = []
    names = dict.fromkeys(name for run in runs for name in _all_of(run))
    monitors = list(dict.fromkeys(run.monitor for run in runs))
    if len(runs) > 1 and not set.intersection(*(set(run.figures) for run in runs)):
        notes.append("the runs have no figure in common")
    by = _whole(sort, list(names)) if sort is not None else None
    if sort is None and len(monitors) == 1 and monitors[0] in names:
        by = monitors[0]
    elif sort is None and len(monitors) > 1:
        notes.append(
            "not sorted, as their epochs were chosen by different figures "
            f"({', '.join(monitors)}); --sort NAME sorts them"
        )
    most_first = _more_is_better(by, runs) if by else False
    if by is not None:
        values = [_all_of(run).get(by, math.nan) for run in runs]
        lacking = sum(map(math.isnan, values))
        if lacking:
            notes.append(f"{lacking} without {by} stand{'s' * (lacking == 1)} last")
        order = sorted(
            range(len(runs)),
            key=lambda n: (
                math.isnan(values[n]),
                0.0 if math.isnan(values[n]) else -values[n] if most_first else values[n],
            ),
        )
        runs = [runs[number] for number in order]
    return Comparison(runs, by, most_first, differing(runs), notes)


def _all_of(run: Run) -> dict[str, float]:
    """Return all that runs may be sorted by."""
    beside = {"time": run.seconds, "parameters": run.parameters}
    return run.figures | {name: value for name, value in beside.items() if value is not None}


def _whole(name: str, names: list[str]) -> str:
    """Return a figure's whole name; of one without a stage that of validation, else of the test.

    Raises:
        OptionError: If there is no such figure.
    """
    for whole in (name, f"val/{name}", f"test/{name}"):
        if whole in names:
            return whole
    short = {each.rpartition("/")[2]: None for each in names}
    raise refuse("sort", name, known(name, list(dict.fromkeys([*names, *short]))))


def _more_is_better(name: str, runs: list[Run]) -> bool:
    modes = [run.mode for run in runs if run.monitor == name and run.mode]
    return modes[0] == "max" if modes else name.rpartition("/")[2] not in LESS_IS_BETTER
