"""What a run says before and after: short tables, ``summary.json``, ``predictions.csv``."""

from __future__ import annotations

import csv
import os
from typing import Any

import lightning as L
import torch

from zoo.profile import Profile
from zoo.run import RunFolder, provenance


def describe(
    model: L.LightningModule, data: L.LightningDataModule | None, cost: Profile | None
) -> str:
    """One line about what is trained on what."""
    net = getattr(model, "net", model)
    words = [type(net).__name__]
    if cost is not None:
        words.append(f"{cost.parameters:,} parameters")
        if cost.flops is not None:
            words.append(f"{_readable(cost.flops)}FLOPs per sample")
    if data is not None:
        words.append(f"on {type(data).__name__}")
    return ", ".join(words)


def test_figures(trainer: L.Trainer) -> dict[str, float]:
    """The figures of the stage that just ended, without the stage's name."""
    figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
    for prefix in ("test/", "val/"):
        chosen = {k.removeprefix(prefix): v for k, v in figures.items() if k.startswith(prefix)}
        if chosen:
            return chosen
    return figures


def write_report(
    folder: RunFolder, report: dict[str, Any], cost: Profile | None, seed: int | bool
) -> None:
    """Prints the short table and writes ``summary.json``."""
    parameters = cost.parameters if cost else None
    flops = cost.flops if cost else None
    folder.write_summary(
        {
            **report,
            "parameters": parameters,
            "flops_per_sample": flops,
            "seed": seed,
            **provenance(),
        }
    )
    stage = next((name for name in ("test", "validate") if name in report), None)
    lines: list[tuple[str, str]] = []
    if stage is not None:
        lines += [(f"{stage} {name}", f"{value:.4f}") for name, value in report[stage].items()]
    if parameters is not None:
        lines.append(("parameters", f"{parameters:,}"))
    if flops is not None:
        lines.append(("FLOPs", f"{_readable(flops)}per sample"))
    seconds = report.get("fit_seconds", report.get("seconds"))
    lines.append(("time", f"{seconds} s"))
    lines.append(
        ("checkpoint", os.path.relpath(report["checkpoint"]) if report["checkpoint"] else "none")
    )
    lines.append(("run", os.path.relpath(folder.path)))
    width = max(len(name) for name, _ in lines)
    print("\n".join(f"{name:<{width}}  {value}" for name, value in lines), flush=True)


def write_predictions(folder: RunFolder, batches: list[dict[str, torch.Tensor]], data: Any) -> None:
    """Prints label and probability of each input and writes ``predictions.csv``.

    The file has a row for each input: its name, the label, its probability, and the probability of
    every class.
    """
    probabilities = torch.cat([batch["probabilities"] for batch in batches]).float().cpu()
    names = getattr(data, "names", None) or [str(number) for number in range(len(probabilities))]
    classes = list(data.class_names)
    path = folder.path / "predictions.csv"
    best, labels = probabilities.max(dim=1)
    width = max(map(len, names))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["input", "label", "probability", *(f"p({name})" for name in classes)])
        for name, label, top, row in zip(
            names, labels.tolist(), best.tolist(), probabilities.tolist(), strict=True
        ):
            writer.writerow([name, classes[label], f"{top:.6f}", *(f"{p:.6f}" for p in row)])
            print(f"{name:<{width}}  {classes[label]}  {top:.4f}")
    print(f"written to {os.path.relpath(path)}", flush=True)


def _readable(number: float) -> str:
    for unit in ("", "k ", "M ", "G ", "T "):
        if number < 1000:
            return f"{number:.3g} {unit}".replace("  ", " ")
        number /= 1000
    return f"{number:.3g} P"
