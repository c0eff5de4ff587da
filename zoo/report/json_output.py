"""``--json``: one document on the standard output, everything else on the other."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any


@contextmanager
def output_aside() -> Iterator[None]:
    """Send what is written to the standard output to the other, other processes' words too."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 1)
        os.close(kept)


def print_document(document: Any) -> None:
    """Print a document; what JSON has no number for is null."""
    print(json.dumps(_finite(document), ensure_ascii=False, indent=1), flush=True)


def _finite(node: Any) -> Any:
    if isinstance(node, dict):
        return {str(key): _finite(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_finite(value) for value in node]
    if isinstance(node, float) and (node != node or node in (float("inf"), float("-inf"))):
        return None
    return node


def document_of(verb: str, run: Path, checkpoint: str | None) -> dict[str, Any]:
    """Return what a verb has left in its run folder: the summary, or the predictions.

    Args:
        verb: ``fit``, ``validate``, ``test`` or ``predict``.
        run: The run folder.
        checkpoint: The file that was predicted with.
    """
    if verb != "predict":
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
        return {"folder": str(run), **summary}
    with (run / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = [_nested(row) for row in csv.DictReader(file)]
    return {"folder": str(run), "checkpoint": checkpoint, "predictions": rows}


def _nested(row: dict[str, str]) -> dict[str, Any]:
    """Return a row of ``predictions.csv`` with numbers as such, those of classes together."""
    found: dict[str, Any] = {}
    of_classes = any(name.startswith("p(") for name in row)
    for name, text in row.items():
        kind, bracket, rest = name.partition("(")
        if bracket and kind in ("p", "share"):
            together = found.setdefault({"p": "probabilities", "share": "shares"}[kind], {})
            together[rest.removesuffix(")")] = float(text)
        else:
            found[name] = text
            of_class = of_classes and name != "probability"  # a name, "3" too
            if not of_class and name not in ("input", "prompt", "text", "mask"):
                with suppress(ValueError):
                    found[name] = float(text)
    return found
