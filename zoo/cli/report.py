"""What a run says before and after: short tables, ``summary.json``, ``predictions.csv``."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import lightning as L
import torch

from datamodules.core.files import nearby
from datamodules.core.protocols import (
    HasLabelKind,
    HasNames,
    HasTargetName,
    SupportsMarks,
)
from zoo.callbacks.progress import digits
from zoo.errors import UserError
from zoo.nets.cost import Cost
from zoo.run.folder import RunFolder, provenance


def test_figures(trainer: L.Trainer) -> dict[str, float]:
    """Return the figures of the stage that just ended, without the stage's name."""
    figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
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
    folder: RunFolder, report: dict[str, Any], cost: Cost | None, seed: int | bool
) -> None:
    """Print the short table and write ``summary.json``."""
    folder.write_summary(
        {
            **report,
            "parameters": cost.parameters if cost else None,
            "trained_parameters": cost.trained if cost else None,
            "flops_per_sample": cost.flops if cost else None,
            "seed": seed,
            **provenance(),
        }
    )
    stage = next((name for name in ("test", "validate") if name in report), None)
    lines: list[tuple[str, str]] = []
    if stage is not None:
        lines += [(f"{stage} {name}", digits(value)) for name, value in report[stage].items()]
    if chosen := report.get("chosen"):
        lines.append(("chosen", _chosen(chosen)))
    seconds = report.get("fit_seconds", report.get("seconds"))
    lines.append(("time", f"{seconds} s"))
    lines.append(("checkpoint", nearby(report["checkpoint"]) if report["checkpoint"] else "none"))
    lines.append(("run", nearby(folder.path)))
    width = max(len(name) for name, _ in lines)
    print("\n".join(f"{name:<{width}}  {value}" for name, value in lines), flush=True)


def _chosen(chosen: dict[str, Any]) -> str:
    by, value = chosen["by"], chosen["value"]
    if value is None:
        return f"the last epoch, as there was no {by} to choose by"
    return f"epoch {chosen['epoch']}, step {chosen['step']}: {by} {digits(value)}"


def write_predictions(folder: RunFolder, batches: list[dict[str, Any]], data: Any) -> None:
    """Print what was predicted for each input and write ``predictions.csv``.

    The file has a row for each input: its name and, from a classifier, the label, its probability
    and the probability of every class (of several labels, those above one half); from a regressor
    the number; from a segmenter each class's share of the pixels and the mask's file in the folder
    ``masks``, whose pixels hold the classes' numbers.
    """
    if not batches:
        raise UserError("nothing was predicted; set trainer.limit_predict_batches to 1 or more")
    kind = next(name for name in batches[0] if name != "index")
    predicted = [value.cpu() for batch in batches for value in batch[kind]]
    numbers = [int(number) for batch in batches for number in batch.get("index", ())]
    numbers = numbers or list(range(len(predicted)))
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    predicted = [predicted[place] for place in order]
    given = data.names if isinstance(data, HasNames) else None
    names = [given[numbers[place]] if given else str(numbers[place]) for place in order]
    if kind == "masks":
        columns, rows, lines = _save_masks(folder, names, predicted, list(data.class_names))
    elif kind == "probabilities":
        several = isinstance(data, HasLabelKind) and data.label_kind == "multilabel"
        columns, rows, lines = _class_rows(predicted, list(data.class_names), several=several)
    else:
        columns = [data.target_name if isinstance(data, HasTargetName) else "prediction"]
        lines = [repr(float(value)) for value in predicted]
        rows = [[line] for line in lines]
    width = max(map(len, names))
    path = folder.path / "predictions.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["input", *columns])
        for name, row, line in zip(names, rows, lines, strict=True):
            writer.writerow([name, *row])
            print(f"{name:<{width}}  {line}")
    print(f"written to {nearby(path)}", flush=True)


#: The columns and rows of the file, and what is printed of each row.
_Table = tuple[list[str], list[list[str]], list[str]]


def _class_rows(probabilities: list[torch.Tensor], classes: list[str], *, several: bool) -> _Table:
    columns = ["label", "probability", *(f"p({name})" for name in classes)]
    rows, lines = [], []
    for values in (row.tolist() for row in probabilities):
        top = max(values)
        label, shown = classes[values.index(top)], f"{top:.6f}"
        if several:  # all labels that are more likely there than not
            there = [(name, p) for name, p in zip(classes, values, strict=True) if p > 0.5]
            label, shown = "; ".join(name for name, _ in there), ""
            lines.append("  ".join(f"{name} {p:.4f}" for name, p in there) or "none")
        else:
            lines.append(f"{label}  {top:.4f}")
        rows.append([label, shown, *(f"{value:.6f}" for value in values)])
    return columns, rows, lines


def _save_masks(
    folder: RunFolder, names: list[str], masks: list[torch.Tensor], classes: list[str]
) -> _Table:
    from datamodules.core.plot import write_mask

    rows, lines = [], []
    taken: set[str] = set()
    for name, mask in zip(names, masks, strict=True):
        stem, number = Path(name).stem, 1
        while (file := f"{stem}_{number}.png" if number > 1 else f"{stem}.png") in taken:
            number += 1
        taken.add(file)
        path = folder.path / "masks" / file
        path.parent.mkdir(exist_ok=True)
        write_mask(path, mask.to(torch.uint8).numpy())
        counts = torch.bincount(mask.flatten(), minlength=len(classes))
        shares = counts.double() / mask.numel()
        rows.append([f"masks/{file}", *(f"{share:.6f}" for share in shares.tolist())])
        shown = zip(classes, shares.tolist(), strict=True)
        lines.append("  ".join(f"{each} {share:.1%}" for each, share in shown))
    return ["mask", *(f"share({name})" for name in classes)], rows, lines
