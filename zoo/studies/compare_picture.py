"""The curves of several runs in one picture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from datamodules.core.plot import new_figure, set_margins, shown, text_width
from zoo.catalog.options import as_yaml
from zoo.studies.compare_beside import Comparison
from zoo.studies.compare_runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LABELS = {"step": "step", "epoch": "epoch", "time": "seconds"}
#: Runs that are named beside the curves, and those that have colours of their own.
_MOST_NAMES, _COLOURS = 30, 10
_LONGEST_LABEL = 44
_PANEL = (4.4, 3.4)


def draw_curves(compared: Comparison, x: str = "step") -> Figure:
    """Draw the figures that chose the epochs, and the losses; a panel each, a colour for each run.

    A point marks the epoch that was chosen.

    Args:
        compared: The runs.
        x: What they are drawn against: ``step``, ``epoch`` or ``time``.
    """
    from matplotlib import colormaps

    names = dict.fromkeys([*compared.monitors, "val/loss", "train/loss"])
    curves = {name: [_points(run, name, x) for run in compared.runs] for name in names}
    curves = {name: each for name, each in curves.items() if any(each)}
    count = len(compared.runs)
    ramp = colormaps["viridis"]
    colours: list[Any] = [f"C{n}" if count <= _COLOURS else ramp(n / count) for n in range(count)]
    recipes = {run.folder.parent.name for run in compared.runs}
    labels = [
        _label(n, run, compared.options, named=len(recipes) > 1)
        for n, run in enumerate(compared.runs, start=1)
    ]
    if count > _MOST_NAMES:
        labels = [*labels[:_MOST_NAMES], f"and {count - _MOST_NAMES} more"]
    beside = text_width(labels, 9) + 0.7
    columns = max(1, min(3, len(curves)))
    lines = max(1, math.ceil(len(curves) / columns))
    height = max(_PANEL[1] * lines, 0.2 * len(labels) + 0.4)
    figure = new_figure(_PANEL[0] * columns + beside, height)
    handles: dict[int, Any] = {}
    for place, (name, of_runs) in enumerate(curves.items(), start=1):
        axes = figure.add_subplot(lines, columns, place)
        for number, points in enumerate(of_runs):
            if not points:
                continue
            at, values, steps = zip(*points, strict=True)
            marker = "o" if len(points) == 1 else ""
            (handles[number],) = axes.plot(
                at, values, color=colours[number], marker=marker, markersize=3, linewidth=1.3
            )
            chosen = compared.runs[number].chosen_step
            if name.startswith("val/") and chosen in steps:
                where = steps.index(chosen)
                axes.plot([at[where]], [values[where]], "o", color=colours[number], markersize=5)
        axes.set_title(name)
        axes.set_xlabel(_LABELS[x])
        axes.grid(alpha=0.3)
        axes.locator_params(axis="x", nbins=5)
    if not curves:
        figure.text(0.5, 0.5, "nothing was logged that could be drawn", ha="center")
    named = [number for number in sorted(handles) if number < _MOST_NAMES]
    if named:
        keys = [handles[number] for number in named]
        texts = [labels[number] for number in named]
        if count > _MOST_NAMES:
            keys.append(figure.axes[0].plot([], [], color="none")[0])
            texts.append(labels[-1])
        corner = (1 - (beside - 0.1) / float(figure.get_figwidth()), 0.5)
        figure.legend(keys, texts, loc="center left", bbox_to_anchor=corner, fontsize=9)
    set_margins(
        figure,
        lines,
        columns,
        left=0.75,
        right=beside + 0.1,
        bottom=0.55,
        top=0.4,
        between_columns=0.75,
        between_rows=0.95,
    )
    return figure


def _label(number: int, run: Run, options: list[str], *, named: bool) -> str:
    """Return a run's number and as much of what differs as there is room for.

    Args:
        number: Its place.
        run: The run.
        options: The options that differ.
        named: Whether its recipe's name tells it from others.
    """
    label = f"{number} {shown(run.folder.parent.name, 24)}" if named else str(number)
    for name in sorted(options, key=lambda each: not each.startswith("model")):
        if name in run.options:
            part = f" {name.rpartition('.')[2]}={shown(as_yaml(run.options[name]), 24)}"
            label += part if len(label + part) <= _LONGEST_LABEL else ""
    return label


def _points(run: Run, name: str, x: str) -> list[tuple[float, float, int]]:
    """Return where each value stands, the value, and its step."""
    if name == "train/loss" and sum(name in row for row in run.rows) < 2:
        name = "train/loss_epoch"  # too short a run for log points
    found = []
    for row in run.rows:
        value = run.number(row, name)
        at = _place(run, row, x)
        if at is not None and value is not None:
            found.append((at, value, int(row["step"])))
    return found


def _place(run: Run, row: dict[str, str], x: str) -> float | None:
    if x == "step":
        return int(row["step"])
    if x == "time":
        return run.number(row, "time/elapsed_s")
    return int(row["step"]) / run.steps_per_epoch if run.steps_per_epoch else None
