"""The table that a study leaves: ``table.csv``, ``table.md``, and the same on the terminal."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from datamodules.core.files import replaced
from zoo.report.tables import in_columns, markdown

#: What a cell holds; None is an empty one.
Value = str | float | int | None
Rows = Sequence[Mapping[str, Value]]

#: Behind the name of a figure: its standard deviation. Tables that are read show both in one cell.
_DEVIATION = " ± sd"


def header_of(rows: Rows) -> list[str]:
    """Return the names of all columns, in the order in which the rows bring them."""
    return list(dict.fromkeys(name for row in rows for name in row))


def over_seeds(rows: Rows, by: Sequence[str]) -> list[dict[str, Value]]:
    """Return a row for each setting: the mean of each of its figures over the seeds.

    Beside a figure stands its standard deviation, where there are several seeds.

    Args:
        rows: One for each run.
        by: The columns that make a setting; of the others those with numbers are figures, but for
            ``seed``.

    >>> runs = [{"lr": 0.1, "seed": seed, "acc": acc} for seed, acc in ((0, 0.5), (1, 0.75))]
    >>> over_seeds(runs, ["lr"])
    [{'lr': 0.1, 'seeds': 2, 'acc': 0.625, 'acc ± sd': 0.1767766952966369}]
    """
    settings: dict[tuple[Value, ...], list[Mapping[str, Value]]] = {}
    for row in rows:
        settings.setdefault(tuple(row.get(name) for name in by), []).append(row)
    figures = [name for name in header_of(rows) if name not in (*by, "seed")]
    summary = []
    for setting, runs in settings.items():
        line: dict[str, Value] = {**dict(zip(by, setting, strict=True)), "seeds": len(runs)}
        for name in figures:
            values = [v for run in runs if isinstance(v := run.get(name), int | float)]
            if values:
                line[name] = statistics.fmean(values)
            if len(values) > 1:
                line[name + _DEVIATION] = statistics.stdev(values)
        summary.append(line)
    return summary


def cell(value: Value, digits: int) -> str:
    """Return a value as a table shows it: of a fraction so many significant digits.

    >>> [cell(value, 4) for value in ("group", 3, 0.98765432, 1e-05, 123456.7, None)]
    ['group', '3', '0.9877', '1e-05', '123457', '']
    """
    if value is None:
        return ""
    if isinstance(value, float):
        large = math.isfinite(value) and abs(value) >= 10**digits
        return f"{value:.0f}" if large and abs(value) < 1e15 else f"{value:.{digits}g}"
    return str(value)


def text_table(rows: Rows, *, digits: int = 4) -> str:
    """Return the rows in columns, as a terminal shows them.

    Args:
        rows: A mapping from column to value for each; what a row lacks is empty.
        digits: Significant digits of fractions.
    """
    header, names, cells = _shown(rows, digits)
    numbers = [
        place
        for place, name in enumerate(names)
        if all(isinstance(row.get(name), int | float | None) for row in rows)
    ]
    return "\n".join(line.rstrip() for line in in_columns([header, *cells], numbers))


def _shown(rows: Rows, digits: int) -> tuple[list[str], list[str], list[list[str]]]:
    """Return a table's header, the columns that it shows, and its cells."""
    every = header_of(rows)
    spread = {name for name in every if name + _DEVIATION in every}
    names = [name for name in every if name.removesuffix(_DEVIATION) not in spread - {name}]

    def text(row: Mapping[str, Value], name: str) -> str:
        mean = cell(row.get(name), digits)
        deviation = row.get(name + _DEVIATION) if name in spread else None
        return mean if deviation is None else f"{mean} ± {cell(deviation, 2)}"

    header = [name + _DEVIATION if name in spread else name for name in names]
    return header, names, [[text(row, name) for name in names] for row in rows]


def write_table(
    folder: Path, rows: Rows, *, digits: int = 4, csv_name: str = "table.csv", trials: Rows = ()
) -> None:
    """Write ``table.csv``, with all digits, and ``table.md``.

    Args:
        folder: Where to.
        rows: A mapping from column to value for each; what a row lacks is empty.
        digits: Significant digits of fractions in ``table.md``.
        csv_name: What ``table.csv`` is called instead.
        trials: The runs that the rows are means of: written to ``trials.csv``, and below the table
            in ``table.md``.
    """
    text = _written(folder / csv_name, rows, digits)
    if trials:
        text += "\nEvery run:\n\n" + _written(folder / "trials.csv", trials, digits)
    with replaced(folder / "table.md") as path:
        path.write_text(text, encoding="utf-8")


def _written(file: Path, rows: Rows, digits: int) -> str:
    """Write a csv file; return the same in Markdown."""
    with replaced(file) as path, path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, header_of(rows), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    header, _, cells = _shown(rows, digits)
    return markdown(header, cells)


def read_table(path: Path) -> list[dict[str, Value]]:
    """Return the rows of a ``table.csv``, numbers as such."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: _read(text) for name, text in row.items()} for row in csv.DictReader(file)]


def _read(text: str) -> Value:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text or None
