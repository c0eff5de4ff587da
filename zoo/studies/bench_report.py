"""What ``zoo bench`` says, writes and draws of the steps that it has timed."""

from __future__ import annotations

import json
import statistics
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from datamodules.core.files import replaced
from datamodules.core.plot import new_figure, set_margins, shown
from zoo.run.folder import provenance
from zoo.studies.bench_clock import PARTS
from zoo.studies.bench_run import Measured
from zoo.studies.drawing import save_picture, set_log
from zoo.studies.tables import Value, cell, text_table, write_table

#: How far the sum of a step's parts may be from the step without a word.
_MOST_OFF = 0.05

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: By how much throughput may lie below its most where a step's time grows in proportion.
_BELOW = 0.1


class Ratio(NamedTuple):
    """The time of a sample, or token, of one recipe over that of another."""

    batch_size: int | None
    contender: str
    against: str
    median: float
    low: float
    high: float


def row_of(result: Measured) -> dict[str, Value]:
    """Return all that is known of a recipe at a batch size, in milliseconds, MB and GFLOP."""
    row: dict[str, Value] = {
        "recipe": result.contender,
        "batch_size": result.batch_size,
        "status": result.status,
    }
    if not result.windows:
        return row
    windows, rates = result.windows, result.rates()
    unit = windows[0].unit
    times = [1e3 * window.seconds for window in windows]
    row |= {
        "precision": result.precision,
        "repeats": len(windows),
        "steps": sum(window.steps for window in windows),
        "step_ms": statistics.median(times),
        "low_ms": min(times),
        "high_ms": max(times),
        f"{unit}_per_s": statistics.median(rates),
        "low_per_s": min(rates),
        "high_per_s": max(rates),
    }
    row |= {f"{part}_ms": 1e3 * result.part(part) for part in PARTS}
    row["sum_of_parts"] = statistics.median(window.sum_of_parts for window in windows)
    row["memory_mb"] = None if result.memory is None else result.memory / 1e6
    if result.flops is not None:
        row |= {
            f"gflop_per_{unit[:-1]}": result.flops / 1e9,
            "gflop_per_s": result.flops * statistics.median(rates) / 1e9,
            "product_gflop_per_s": statistics.median(result.products) / 1e9,
            "share_of_product": statistics.median(result.shares()),
        }
    return row


def line_of(result: Measured) -> str:
    """Return in a line what a recipe's step takes at a batch size."""
    head = f"{result.contender}, batch {result.batch_size or 'as it comes'}: "
    if not result.windows:
        return head + (result.why or result.status)
    row = row_of(result)
    unit = result.windows[0].unit
    return (
        f"{head}{cell(row['step_ms'], 3)} ms a step ({cell(row['low_ms'], 3)} to "
        f"{cell(row['high_ms'], 3)}), {cell(row[f'{unit}_per_s'], 3)} {unit}/s"
    )


def summary_of(result: Measured) -> dict[str, Value]:
    """Return what matters first of a recipe at a batch size, under names for a table's head."""
    row = row_of(result)
    unit = result.windows[0].unit if result.windows else "samples"
    share = row.get("share_of_product")
    return {
        "batch": result.batch_size,
        "ms a step": row.get("step_ms"),
        "low": row.get("low_ms"),
        "high": row.get("high_ms"),
        f"{unit}/s": row.get(f"{unit}_per_s"),
        "memory MB": row.get("memory_mb"),
        "GFLOP/s": row.get("gflop_per_s"),
        "of product %": 100 * share if isinstance(share, float) else None,
    }


def parts_of(result: Measured) -> dict[str, Value]:
    """Return where a step's time goes, in milliseconds, and what that adds up to."""
    row = row_of(result)
    names: dict[str, Value] = {part: row[f"{part}_ms"] for part in PARTS}
    return {"batch": result.batch_size, **names, "sum %": 100 * float(row["sum_of_parts"] or 0)}


def proportional_from(results: Iterable[Measured]) -> int | None:
    """Return from which batch size on a step's time grows in proportion to the batch.

    That is the smallest from which on, up to the largest, throughput is within 10 % of its most.

    Args:
        results: Of one recipe, with rising sizes.

    Returns:
        The size; the largest where that is not reached; None where throughput has fallen by more
        than that at the largest, or there is one size.
    """
    timed = _timed(results)
    if len(timed) < 2:
        return None
    rates = [statistics.median(each.rates()) for each in timed]
    found = None
    for each, rate in zip(reversed(timed), reversed(rates), strict=True):
        if rate < (1 - _BELOW) * max(rates):
            break
        found = each.batch_size
    return found


def ratios(results: Sequence[Measured]) -> list[Ratio]:
    """Return the time of each second recipe over that of the first, where both were timed."""
    found = []
    by_size: dict[int | None, list[Measured]] = {}
    for result in results:
        by_size.setdefault(result.batch_size, []).append(result)
    names = list(dict.fromkeys(result.contender for result in results))
    firsts = [result for result in results if result.contender == names[0]]
    for name in names[1:]:
        others = [result for result in results if result.contender == name]
        for first, other in zip(firsts, others, strict=True):
            both = zip(first.times(), other.times(), strict=False)
            if each := [theirs / ours for ours, theirs in both]:
                found.append(
                    Ratio(
                        first.batch_size,
                        name,
                        names[0],
                        statistics.median(each),
                        min(each),
                        max(each),
                    )
                )
    return found


def sentences(results: Sequence[Measured]) -> list[str]:
    """Return what the figures say, recipe by recipe and of all."""
    found = []
    for name, own in _by_contender(results).items():
        found += [line_of(result) for result in own if not result.windows]
        if len(timed := _timed(own)) > 1:
            found.append(f"{name}: {_growth(timed)}")
    for ratio in ratios(results):
        size = "" if ratio.batch_size is None else f"batch {ratio.batch_size}: "
        found.append(
            f"{size}{ratio.contender} takes {ratio.median:.3g} times the time of {ratio.against} "
            f"({ratio.low:.3g} to {ratio.high:.3g})"
        )
    return found


def _growth(timed: list[Measured]) -> str:
    """Say from which batch size on time grows in proportion."""
    unit, largest = timed[0].windows[0].unit, timed[-1].batch_size
    start = proportional_from(timed)
    if start is None:
        return f"{unit}/s fall at the largest batches, by more than 10 % of their most"
    if start == largest:
        return f"time grows less than the batch up to {largest}, the largest: try larger ones"
    return (
        f"time grows in proportion to the batch from {start} on, where {unit}/s are within 10 % "
        "of their most"
    )


def draw(results: Sequence[Measured]) -> Figure:
    """Draw step time and throughput against batch size, with the size where both bend.

    Args:
        results: Of some recipes at several sizes.
    """
    figure = new_figure(9.6, 4.2)
    times, rates = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    sizes: set[int] = set()
    for number, (name, own) in enumerate(_by_contender(results).items()):
        timed = _timed(own)
        if not timed:
            continue
        at = [each.batch_size or 0 for each in timed]
        sizes |= set(at)
        colour, start = f"C{number}", proportional_from(timed)
        label = shown(name, 30)
        if start not in (None, at[-1]):
            label += f": in proportion from {start} on"
            for axes in (times, rates):
                axes.axvline(float(start or 0), color=colour, linestyle=":", linewidth=1.2)
        _band(times, at, [[1e3 * w.seconds for w in each.windows] for each in timed], colour, label)
        _band(rates, at, [each.rates() for each in timed], colour, label)
        last = 1e3 * statistics.median(window.seconds for window in timed[-1].windows)
        least = min(1e3 * window.seconds for each in timed for window in each.windows)
        straight = [(size, last * size / at[-1]) for size in at]
        near = [point for point in straight if point[1] > least / 2]
        times.plot(*zip(*near, strict=True), "--", color=colour, alpha=0.5, linewidth=1)
    units = dict.fromkeys(window.unit for each in results for window in each.windows)
    for axes, title in ((times, "ms a step"), (rates, f"{' or '.join(units)} a second")):
        set_log(axes, "x")
        set_log(axes, "y")
        axes.set_title(title)
        axes.set_xlabel("batch size")
        axes.set_xticks(sorted(sizes), [str(size) for size in sorted(sizes)])
        axes.set_xticks([], minor=True)
        axes.grid(alpha=0.3, which="both")
    rates.plot([], [], "--", color="grey", linewidth=1, label="time in proportion to the batch")
    rates.legend(fontsize="small", loc="lower right")
    set_margins(figure, 1, 2, left=0.7, right=0.2, bottom=0.6, top=0.4, between_columns=0.8)
    return figure


def _band(axes: Axes, at: list[int], repeats: list[list[float]], colour: str, label: str) -> None:
    """Draw the medians as a line, and a band from the least to the most."""
    axes.plot(at, [statistics.median(each) for each in repeats], "o-", color=colour, label=label)
    low, high = [min(each) for each in repeats], [max(each) for each in repeats]
    axes.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)


def document(results: Sequence[Measured]) -> dict[str, Any]:
    """Return all that was found as plain data, with what such figures have to stand with."""
    starts = {name: proportional_from(own) for name, own in _by_contender(results).items()}
    return {
        "rows": [row_of(result) | {"why": result.why} for result in results],
        "proportional_from": starts,
        "ratios": [ratio._asdict() for ratio in ratios(results)],
        **provenance(),
    }


def save(results: Sequence[Measured], folder: Path) -> None:
    """Write ``bench.csv``, ``table.md`` and ``bench.json``, and of several sizes ``bench.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder, [row_of(result) for result in results], csv_name="bench.csv")
    with replaced(folder / "bench.json") as path:
        path.write_text(json.dumps(document(results), indent=1) + "\n", encoding="utf-8")
    if any(len(_timed(own)) > 1 for own in _by_contender(results).values()):
        save_picture(lambda: draw(results), folder / "bench.png")


def legend(results: Sequence[Measured]) -> str:
    """Say what the columns of the tables are."""
    timed = _timed(results)
    if not timed:
        return ""
    on_cpu = timed[0].device == "cpu"
    memory = "the process's resident set" if on_cpu else "what torch has allocated on the device"
    memory += " at its peak" + ", with all recipes built" * (len(_by_contender(results)) > 1)
    by_precision: dict[str, list[float]] = {}
    for each in timed:
        by_precision.setdefault(each.precision, []).extend(each.products)
    products = " and ".join(
        f"{cell(statistics.median(rates) / 1e9, 3)} GFLOP/s in {precision}"
        for precision, rates in by_precision.items()
    )
    repeats = len(timed[0].windows)
    return (
        f"{'medians' if repeats > 1 else 'figures'} of {repeats} "
        f"repeat{'s' if repeats > 1 else ''}; memory: {memory}; product: of two large "
        f"matrices, {products}"
    )


def told(results: Sequence[Measured]) -> str:
    """Return tables and sentences, as a terminal shows them."""
    by_contender = _by_contender(results)
    parts = []
    for name, own in by_contender.items():
        title = f"{name}\n" if len(by_contender) > 1 else ""
        tables = [map(summary_of, own), map(parts_of, _timed(own))]
        texts = [text_table(rows, digits=3) for rows in map(list, tables) if rows]
        parts.append(title + "\n\n".join(texts))
    said = [*sentences(results), *_unsteady(results), *textwrap.wrap(legend(results), 100)]
    return "\n\n".join([*parts, "\n".join(said)]).rstrip()


def _unsteady(results: Sequence[Measured]) -> list[str]:
    """Say where the parts of a step do not add up to it, as on a machine that others use."""
    off = [
        each
        for each in _timed(results)
        if abs(statistics.median(w.sum_of_parts for w in each.windows) - 1) > _MOST_OFF
    ]
    if not off:
        return []
    sizes = ", ".join(dict.fromkeys(str(each.batch_size) for each in off))
    return textwrap.wrap(
        f"at batch {sizes} the sum of the parts is more than {_MOST_OFF:.0%} off the step: give "
        "more --repeats, or time it while nothing else runs",
        100,
    )


def _by_contender(results: Iterable[Measured]) -> dict[str, list[Measured]]:
    found: dict[str, list[Measured]] = {}
    for result in results:
        found.setdefault(result.contender, []).append(result)
    return found


def _timed(results: Iterable[Measured]) -> list[Measured]:
    return [result for result in results if result.windows]
