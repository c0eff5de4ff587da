"""The trained nets that come with the package: where they are, and what their cards say.

A card stands in its file's head, which is read without torch or safetensors.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from datamodules.core.errors import many

#: The folder of the files, one a net: ``NAME.safetensors``.
FOLDER = Path(__file__).parents[1] / "weights"
_WIDTH = 100


def weights_names() -> list[str]:
    """Return the names of all weights that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def weights_path(name: str) -> Path:
    """Return the file of weights that come with the package."""
    return FOLDER / f"{name}.safetensors"


@cache
def card_of(name: str) -> dict[str, Any]:
    """Return the card of weights that come with the package: how they came to be, how good."""
    return read_card(weights_path(name))


def read_card(path: Path) -> dict[str, Any]:
    """Return the card in the head of a weights file; empty where it has none."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        head = json.loads(file.read(length))
    card: dict[str, Any] = json.loads(head["__metadata__"]["zoo"]).get("card", {})
    return card


def line_of(card: dict[str, Any]) -> str:
    """Return what weights are, in a line."""
    figure = f"test {card['figure']} {card['test'][card['figure']]:.4g}"
    return f"{card['net']}, {card['parameters']:,} parameters, trained on {card['data']}: {figure}."


def text_of_card(card: dict[str, Any], size: int) -> str:
    """Return a card as a text.

    Args:
        card: What the file's head says.
        size: Bytes of the file.
    """
    figures = ", ".join(f"{name} {value:.4g}" for name, value in card["test"].items())
    versions = ", ".join(f"{name} {value}" for name, value in card["versions"].items() if value)
    rows = {
        "recipe": f"{card['recipe']}, seed {card['seed']}, {card['seconds']:.0f} s on "
        f"{card['device']} with {many(card['threads'], 'thread')}",
        "data": f"{card['data']}; {card['licence']}",
        "test": figures,
        "chosen": card["chosen"],
        "versions": f"{versions}; commit {card['commit']}",
        "file": f"{size / 1e6:.2f} MB",
    }
    return "\n".join([line_of(card), "", *_lines(rows)])


def _lines(rows: dict[str, str]) -> Iterator[str]:
    width = max(map(len, rows))
    for name, text in rows.items():
        yield textwrap.fill(
            text,
            _WIDTH,
            initial_indent=f"  {name:<{width}}  ",
            subsequent_indent=" " * (width + 4),
            break_long_words=False,
            break_on_hyphens=False,
        )
