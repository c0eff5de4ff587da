"""What a run says at its end: a short table and ``summary.json``."""

from __future__ import annotations

import csv
import hashlib
import json
from typing import Any

import lightning as L

from datamodules.core.copies import Copy
from datamodules.core.files import nearby
from datamodules.core.protocols import SupportsCopies, SupportsMarks
from zoo.metrics.intervals import LEVEL, Intervals
from zoo.nets.cost import Cost
from zoo.run.figures import digits
from zoo.run.folder import RunFolder, provenance
from zoo.tasks.base import Task


def test_figures(trainer: L.Trainer) -> dict[str, float]:
    """Return the figures of the stage that just ended, without the stage's name."""
    exact = task.figures if isinstance(task := trainer.lightning_module, Task) else {}
    logged = trainer.callback_metrics
    figures = {name: exact.get(name, float(value)) for name, value in logged.items()}
    for prefix in ("test/", "val/"):
        chosen = {k.removeprefix(prefix): v for k, v in figures.items() if k.startswith(prefix)}
        if chosen:
            return chosen
    return figures


def data_mark(data: L.LightningDataModule | None) -> str | None:
    """Return a short hash that tells the samples of all splits from others."""
    if not isinstance(data, SupportsMarks):
        return None
    text = json.dumps(data.marks(), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def write_report(
    folder: RunFolder,
    report: dict[str, Any],
    cost: Cost | None,
    seed: int | bool,
    intervals: Intervals | None = None,
    worst: str | None = None,
) -> None:
    """Print the short table and write ``summary.json``.

    Args:
        folder: The run's.
        report: What the run found.
        cost: Of its net.
        seed: Of the run.
        intervals: Of the test's figures.
        worst: The samples of the test that came out worst, where it tells them.
    """
    of_test = {"intervals": intervals.plain()} if intervals is not None else {}
    folder.write_summary(
        {
            **report,
            **of_test,
            "parameters": cost.parameters if cost else None,
            "trained_parameters": cost.trained if cost else None,
            "flops_per_sample": cost.flops if cost else None,
            "seed": seed,
            **provenance(folder.commit),
        }
    )
    stage = next((name for name in ("test", "validate") if name in report), None)
    lines: list[tuple[str, str]] = []
    if stage is not None:
        lines += [
            (f"{stage} {name}", _with_interval(name, value, intervals))
            for name, value in report[stage].items()
        ]
    if stage == "test" and report["test"]:
        lines.append(("intervals", _told(intervals)))
    if worst:
        lines.append(("worst images", worst))
    if chosen := report.get("chosen"):
        lines.append(("chosen", _chosen(chosen)))
    seconds = report.get("fit_seconds", report.get("seconds"))
    lines.append(("time", f"{seconds} s"))
    lines.append(("checkpoint", nearby(report["checkpoint"]) if report["checkpoint"] else "none"))
    lines.append(("run", nearby(folder.path)))
    width = max(len(name) for name, _ in lines)
    print("\n".join(f"{name:<{width}}  {value}" for name, value in lines), flush=True)


def _with_interval(name: str, value: float, intervals: Intervals | None) -> str:
    """Return a figure and, where it is known, where it lies with other samples."""
    found = intervals.of.get(name) if intervals is not None else None
    shown = digits(value)
    return f"{shown}  [{digits(found.low)}, {digits(found.high)}]" if found else shown


def _told(intervals: Intervals | None) -> str:
    """Return how the intervals came to be, or why there are none."""
    if intervals is None:
        return "none: the samples of such a test are not independent of each other"
    methods = {each.method.partition(",")[0] for each in intervals.of.values()}
    if not methods:
        return f"none: of {intervals.samples} samples nothing can be said"
    shares = [name for name, each in intervals.of.items() if each.method == "Wilson"]
    told = [f"Wilson's of {' and '.join(shares)}"] if shares else []
    if "bootstrap" in methods:
        told.append(f"{intervals.resamples:,} bootstrap resamples, seed {intervals.seed}")
    return f"[{LEVEL:.0%}] of n = {intervals.samples:,}: {', else '.join(told)}"


def _chosen(chosen: dict[str, Any]) -> str:
    by, value = chosen["by"], chosen["value"]
    if value is None:
        return f"the last epoch, as there was no {by} to choose by"
    return f"epoch {chosen['epoch']}, step {chosen['step']}: {by} {digits(value)}"


def write_copies(folder: RunFolder, data: object) -> None:
    """Write ``copies.csv``: the samples that are copies of others, if there are any."""
    copies = data.copies() if isinstance(data, SupportsCopies) else None
    if not copies:
        return
    with (folder.path / "copies.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Copy._fields)
        writer.writerows(copies)
