"""Exports beside the net itself: difference, size, speed, and what 8 bits cost.

Each checkpoint goes through ONNX, torch.export and ONNX of 8 bits. The differences are those on the
first 100 samples or a few more of the test split, times those of 32 of them at once, the
median of rounds in which eager torch and the three files take turns in this process. The figure is
that of the test split, of 2,000 samples at most.

    python tests/benchmarks/exports.py NAME|FILE ... [--data.OPTION=VALUE ...]

Without names, all weights that come with the package and whose data need no download.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

import torch

from zoo.cli.export import load_source, real_inputs
from zoo.errors import UserError
from zoo.export.capture import capture, save_onnx, save_torch
from zoo.export.check import (
    Runner,
    count,
    first,
    largest_difference,
    milliseconds,
    open_onnx,
    open_torch,
)
from zoo.export.quantize import figure, is_static, quantize
from zoo.export.whole import Feed, Whole, whole
from zoo.model.find import find_weights
from zoo.run.folder import provenance

HEAD = ("weights", "form", "difference", "MB", "inputs", "ms", "of eager", "figure")


def eager(made: Whole) -> Runner:
    """The module itself, which computes as the task does."""

    def run(feed: Feed) -> list:
        with torch.inference_mode():
            outputs = made.module(*feed)
        return [each.numpy() for each in (outputs if isinstance(outputs, tuple) else (outputs,))]

    return run


def rows_of(name: str, flags: list[str], folder: Path) -> list[tuple[str, ...]]:
    """The rows of one checkpoint."""
    source = load_source(str(find_weights(name)), [], [])
    real = real_inputs(source, [], flags, quantizes=True)
    made = whole(source.task, source.spec["init_args"], real.data)
    program = capture(made)
    paths = {
        form: folder / file
        for form, file in (("torch.export", "m.pt2"), ("ONNX", "m.onnx"), ("ONNX int8", "m8.onnx"))
    }
    save_torch(program, paths["torch.export"], made.facts)
    save_onnx(made, program, paths["ONNX"], made.facts)
    quantize(made, paths["ONNX"], paths["ONNX int8"], [made.feed(b) for b in real.calibration])
    runs: dict[str, Runner] = {"eager": eager(made)}
    runs |= {
        form: (open_torch if form == "torch.export" else open_onnx)(path)
        for form, path in paths.items()
    }
    some = real.samples._replace(batches=real.samples.batches[:100])
    while count(some) - len(some.batches[-1][0]) >= 100:
        some.batches.pop()
    batch = made.feed(some.batches[0])
    timed = min(32, len(some.batches[0][0]))
    times = milliseconds([partial(run, first(made, batch, timed)) for run in runs.values()])
    rows = []
    for (form, run), ms in zip(runs.items(), times, strict=True):
        exact = form in ("torch.export", "ONNX")
        difference = f"{largest_difference(made, run, some):.1e}" if exact else "-"
        size = f"{paths[form].stat().st_size / 1e6:.2f}" if form in paths else "-"
        what, value = figure(made, run, real.samples.batches)
        form += f" ({'static' if is_static(made) else 'dynamic'})" if form == "ONNX int8" else ""
        speed = f"{ms / times[0]:.2f}"
        row = (name, form, difference, size, str(timed), f"{ms:.2f}", speed, f"{what} {value:.4f}")
        rows.append(row)
    return rows


def main() -> None:
    """Print the table."""
    from zoo.catalog.weights import weights_names

    flags = [word for word in sys.argv[1:] if word.startswith("--data.")]
    names = [word for word in sys.argv[1:] if word not in flags] or weights_names()
    print("| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|", sep="\n", flush=True)
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            try:
                for row in rows_of(name, flags, Path(folder)):
                    print("| " + " | ".join(row) + " |", flush=True)
            except UserError as error:
                print(f"{name}: {error}", file=sys.stderr)
    made = provenance()
    print(f"\n{made['device']}, {made['threads']} threads, commit {made['commit']}")


if __name__ == "__main__":
    main()
