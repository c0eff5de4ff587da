"""Reading ``metrics.csv``, for which nothing of torch is needed."""

from __future__ import annotations

import csv
import io
from contextlib import suppress
from pathlib import Path


def read_metrics(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return columns and rows of a ``metrics.csv``; a row has the values that were logged.

    Whatever a kill or a failing disk left of the file can be read: a last line that was cut short
    and lines that are no rows are left out.
    """
    text = path.read_text(encoding="utf-8", errors="replace").replace("\0", "")
    reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
    columns: list[str] = []
    rows: list[dict[str, str]] = []
    with suppress(csv.Error):  # from here on nothing can be told apart
        columns.extend(reader.fieldnames or ())
        rows.extend(
            {name: value for name, value in row.items() if name and value} | {"epoch": row["epoch"]}
            for row in reader
            if {"epoch", "step"} <= row.keys() and (row["step"] or "").isdecimal()
        )
    return columns, rows
