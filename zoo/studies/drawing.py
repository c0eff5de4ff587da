"""What a study draws: a figure against what was varied, as lines, points or a heat map."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from datamodules.core.plot import new_figure, set_margins, shown, text_width
from zoo.report.fonts import Fonts
from zoo.studies.tables import Rows, Value, cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Values that have a tick of their own.
_MOST_TICKS = 12
#: Of all pictures, so that a letter that is in no font is told once.
_fonts = Fonts()


def save_picture(draw: Callable[[], Figure], path: Path) -> None:
    """Draw a figure into a PNG file, texts as they are, in a font that has their letters.

    Args:
        draw: Makes the figure, also of Matplotlib's own parts; see :func:`lines`.
        path: The file.
    """
    _fonts.save(draw, path)


def is_geometric(values: Sequence[float]) -> bool:
    """Tell whether values are spread by factors, as powers are, rather than by differences.

    >>> is_geometric([1, 2, 4, 16, 64]), is_geometric([0.1, 0.01]), is_geometric([1, 2, 3, 4])
    (True, True, False)
    >>> is_geometric([32, 64, 128]), is_geometric([32, 64]), is_geometric([2, 3, 4])
    (True, False, False)
    """
    ordered = sorted(set(values))
    if len(ordered) < 2 or ordered[0] <= 0:
        return False
    steps = np.diff(ordered)
    factors = np.diff(np.log(ordered))
    are_powers = len(ordered) > 2 and bool(np.allclose(np.exp(factors), np.exp(factors).round()))
    if are_powers and np.ptp(factors) < 1e-9:
        return True
    if ordered[-1] < 8 * ordered[0]:
        return False
    return len(ordered) == 2 or bool(factors.std() / factors.mean() < steps.std() / steps.mean())


def set_log(axes: Axes, which: Literal["x", "y"]) -> None:
    """Make an axis logarithmic, with its numbers written out.

    Matplotlib writes powers of ten as formulas, and pictures show texts as they are.

    Args:
        axes: What has the axis.
        which: Which of the two.
    """
    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}scale": "log"})

    def label(value: float, place: float) -> str:
        low, high = sorted(axis.get_view_interval())
        first_digit = f"{value:.0e}"[0]
        return f"{value:g}" if first_digit in ("1235" if high < 50 * low else "1") else ""

    axis.set_major_formatter(label)
    axis.set_minor_formatter(label)


def lines(
    rows: Rows,
    x: str,
    y: str,
    group: str | None = None,
    *,
    title: str = "",
    log_x: bool | None = None,
    log_y: bool = False,
    points: bool = False,
) -> Figure:
    """Draw a figure against what was varied: a line for each group, a band over its seeds.

    The line is the mean of the rows that share x and group, the band their standard deviation.
    Where x are numbers spread by factors the axis is logarithmic; words stand in the rows' order.

    Args:
        rows: As :func:`~zoo.studies.tables.write_table` takes them, one for each run; those
            without x or y are left out.
        x: The column that was varied.
        y: The column of the figure.
        group: The column that has a line for each of its values.
        title: Above the picture.
        log_x: Whether x is on a logarithmic axis; None where its values say so.
        log_y: Whether y is on a logarithmic axis.
        points: Draws each row as a point, without a line: of values that were drawn at random.
    """
    known = [row for row in rows if row.get(x) is not None and isinstance(row.get(y), int | float)]
    figure = new_figure(7.0, 4.6)
    axes = figure.add_subplot()
    places = _axis(axes, [row[x] for row in known], log_x, ticks=not points)
    groups = list(dict.fromkeys(row.get(group) if group else None for row in known))
    for number, name in enumerate(groups):
        own = [row for row in known if not group or row.get(group) == name]
        at = sorted({row[x] for row in own}, key=places)
        seeds = [[float(row[y]) for row in own if row[x] == value] for value in at]  # type: ignore[arg-type]
        label = None if group is None else shown(cell(name, 4))
        where, colour = [places(value) for value in at], f"C{number % 10}"
        if points:
            xs = [place for place, values in zip(where, seeds, strict=True) for _ in values]
            axes.plot(
                xs, list(chain.from_iterable(seeds)), "o", color=colour, label=label, alpha=0.7
            )
            continue
        mean = [statistics.fmean(values) for values in seeds]
        spread = [statistics.stdev(values) if len(values) > 1 else 0.0 for values in seeds]
        axes.plot(where, mean, "o-", color=colour, label=label, markersize=4)
        low, high = np.subtract(mean, spread), np.add(mean, spread)
        axes.fill_between(where, low, high, color=colour, alpha=0.2, linewidth=0)
    if log_y:
        set_log(axes, "y")
    axes.set_xlabel(shown(x))
    axes.set_ylabel(shown(y))
    axes.set_title(shown(title, 70), fontsize=11)
    axes.grid(alpha=0.3)
    if group is not None and groups:
        axes.legend(fontsize="small", title=shown(group), title_fontsize="small")
    _fit(figure, axes)
    return figure


def _axis(
    axes: Axes, values: Sequence[Value], log: bool | None, *, ticks: bool
) -> Callable[[Value], float]:
    """Set the axis of what was varied; return where a value stands on it.

    Args:
        axes: The axes.
        values: All that stand there.
        log: Whether the axis is logarithmic; None where numbers say so themselves.
        ticks: Whether each number has a tick of its own, if there are not too many.
    """
    different = list(dict.fromkeys(values))
    numbers = [float(v) for v in different if isinstance(v, int | float)]
    if len(numbers) < len(different):  # words
        names = [shown(cell(value, 4), 24) for value in different]
        axes.set_xticks(range(len(names)), names)
        if text_width(names, 10) * len(names) > 5:
            axes.tick_params(axis="x", labelrotation=90)
        return lambda value: different.index(value)
    if is_geometric(numbers) if log is None else log:
        set_log(axes, "x")
    if ticks and len(numbers) <= _MOST_TICKS:
        axes.set_xticks(numbers, [cell(value, 3) for value in different])
        axes.set_xticks([], minor=True)
    return lambda value: float(value)  # type: ignore[arg-type]


def _fit(figure: Figure, axes: Axes) -> None:
    """Give the texts beside and below the axes the room that they take."""
    set_margins(figure, left=0.8, right=0.2, bottom=0.6, top=0.4)
    box = figure.get_tightbbox()  # in inches
    height = float(figure.get_figheight())
    left, below = 0.8 + max(0.0, 0.1 - box.x0), 0.6 + max(0.0, 0.1 - box.y0)
    figure.set_figheight(height + below - 0.6)
    right = 0.2 + max(0.0, box.x1 - float(figure.get_figwidth()) + 0.1)
    set_margins(figure, left=left, right=right, bottom=below, top=0.4)


def heat_map(rows: Rows, x: str, y: str, value: str, *, title: str = "") -> Figure:
    """Draw a figure over two things that were varied, as a colour and a number in each cell.

    Args:
        rows: One for each run; a cell shows the mean of those that share x and y.
        x: The column along the picture.
        y: The column down the picture.
        value: The column of the figure.
        title: Above the picture.
    """
    known = [r for r in rows if isinstance(r.get(value), int | float)]
    columns = _ordered([row.get(x) for row in known])
    lines_down = _ordered([row.get(y) for row in known])
    cells = np.full((len(lines_down), len(columns)), np.nan)
    for at in np.ndindex(*cells.shape):
        found: list[Any] = [
            row[value]
            for row in known
            if (row.get(y), row.get(x)) == (lines_down[at[0]], columns[at[1]])
        ]
        if found:
            cells[at] = statistics.fmean(found)
    figure = new_figure(max(4.0, 1.6 + 0.8 * len(columns)), max(2.6, 1.4 + 0.5 * len(lines_down)))
    axes = figure.add_subplot()
    axes.imshow(cells, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(columns)), [shown(cell(each, 3), 16) for each in columns])
    axes.set_yticks(range(len(lines_down)), [shown(cell(each, 3), 24) for each in lines_down])
    middle = (np.nanmin(cells) + np.nanmax(cells)) / 2 if np.isfinite(cells).any() else 0.0
    for row, column in np.ndindex(*cells.shape):
        number = float(cells[row, column])
        if math.isfinite(number):
            colour = "black" if number > middle else "white"
            axes.text(column, row, cell(number, 3), ha="center", va="center", color=colour)
    axes.set_xlabel(shown(x))
    axes.set_ylabel(shown(y))
    axes.set_title(shown(title or value, 60), fontsize=11)
    _fit(figure, axes)
    return figure


def _ordered(values: Sequence[Value]) -> list[Value]:
    """Return the different values, numbers by size, else in their order."""
    different = list(dict.fromkeys(values))
    if all(isinstance(value, int | float) for value in different):
        return sorted(different)  # type: ignore[type-var]
    return different
