"""Tables of text: for Markdown, and in columns for a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence


def columns_of(text: str) -> int:
    """Return how many columns of a terminal a text takes; Hangul and the like take two each."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))


def in_columns(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """Return a line for each row, its cells below each other.

    Args:
        rows: Of equal length.
        right: The numbers of the columns that end below each other, as numbers do.
    """
    at_right = set(right)
    widths = [max(map(columns_of, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
            blanks = " " * (width - columns_of(cell))
            cells.append(blanks + cell if place in at_right else cell + blanks)
        lines.append("  ".join(cells))
    return lines


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""Return a Markdown table.

    >>> print(markdown(["norm", "acc"], [["batch", "0.9"], ["a|b", ""]]), end="")
    | norm | acc |
    | --- | --- |
    | batch | 0.9 |
    | a\|b | |
    """
    cells = [header, ["---"] * len(header), *rows]
    lines = (" | ".join(cell.replace("|", r"\|") for cell in line) for line in cells)
    return "".join(f"| {line} |\n".replace("|  |", "| |") for line in lines)
