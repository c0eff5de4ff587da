"""Rows of json: an object a line, or a list of objects."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.core.errors import DataError
from datamodules.core.text_file import kind, lines, read_text


def json_rows(path: Path, encoding: str | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place, such as "line 3", and the object of each row.

    Args:
        path: A .json or .jsonl file; both may hold either a list or an object a line.
        encoding: What it is in, if that is known.

    Raises:
        DataError: If it holds neither, or a row is no object.
    """
    first = next(filter(str.strip, lines(path, encoding)), "").strip()
    is_list = first.startswith("[")
    if not is_list and (kind(path) == ".jsonl" or _is_object(first)):
        yield from _json_lines(path, encoding)
        return
    try:
        content = json.loads(read_text(path, encoding))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{str(path)!r} cannot be read as json in line {error.lineno} ({error.msg}); give a "
            "list of objects, or one object a line in a .jsonl file"
        ) from None
    if not isinstance(content, list):
        raise DataError(f"{str(path)!r} holds no list; give a list of objects")
    for number, row in enumerate(content, 1):
        if not isinstance(row, dict):
            raise DataError(f"{str(path)!r} has no object in row {number}; give one per row")
        yield f"row {number}", row


def _is_object(line: str) -> bool:
    try:
        content = json.loads(line)
    except json.JSONDecodeError:
        return False
    return isinstance(content, dict) and bool(content)


def _json_lines(path: Path, encoding: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(lines(path, encoding), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{str(path)!r} cannot be read as json in line {number} ({error.msg}); give one "
                "object per line"
            ) from None
        if not isinstance(row, dict):
            raise DataError(f"{str(path)!r} has no object in line {number}; give one per line")
        yield f"line {number}", row
