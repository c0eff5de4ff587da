"""Spreadsheets of Excel's newer kind, as rows of texts; openpyxl reads them."""

import datetime
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datamodules.core.errors import DataError
from datamodules.core.text_file import SPREADSHEETS, kind, reading


def is_spreadsheet(path: Path) -> bool:
    """Return whether a file is a spreadsheet that can be read, by its name."""
    return kind(path) in SPREADSHEETS


def sheet_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield each row of the first sheet that is not blank, and its number, from 1.

    Values are as a csv file would have them: empty ones are "", whole numbers have no point, dates
    are ISO's, and of a formula it is what Excel last found. Rows are as long as the header at
    least, and no longer than their last value.

    Raises:
        DataError: If the file cannot be read.
    """
    width = 0
    with _book(path) as book:
        sheet = book.worksheets[0]
        sheet.reset_dimensions()  # what the file says of its size may be wrong
        for number, row in enumerate(sheet.iter_rows(values_only=True), 1):
            values = [*map(_written, row)]
            while values and not values[-1]:
                values.pop()
            if values:
                width = width or len(values)
                yield number, values + [""] * (width - len(values))


def sheet_words(path: Path) -> str:
    """Say how a spreadsheet is read.

    Raises:
        DataError: If the file cannot be read.
    """
    with _book(path) as book:
        names = [sheet.title for sheet in book.worksheets]
    others = f", the first of {len(names)}" if len(names) > 1 else ""
    return f"{kind(path).strip('.')}, sheet {names[0]!r}{others}"


@contextmanager
def _book(path: Path) -> Iterator[Any]:
    """Open a spreadsheet.

    Raises:
        DataError: If it cannot be read as one.
    """
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    with reading(path):
        try:
            book = load_workbook(path, read_only=True, data_only=True)
            if not book.worksheets:
                raise ValueError("it has no sheets")
        except (zipfile.BadZipFile, InvalidFileException, KeyError, ValueError) as error:
            reason = " ".join(str(error).split())[:120]
            raise DataError(
                f"{str(path)!r} cannot be read as a spreadsheet ({reason}); save it again, or as "
                "csv"
            ) from None
        try:
            yield book
        finally:
            book.close()


def _written(value: Any) -> str:
    """Return a value as a csv file would have it."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat(" ") if isinstance(value, datetime.datetime) else value.isoformat()
    return str(value)
