"""What W&B is given of a test beside figures and pictures: its own charts, and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from datamodules.core.protocols import HasNames, HasTargetName, data_of
from zoo.report.charts import class_rows, confusion_chart, curve_charts
from zoo.report.pictures import DrawnTask, costs_a_line
from zoo.report.predictions import class_names_of
from zoo.run.wandb_logger import active_wandb
from zoo.run.wandb_media import Chart

#: Rows of a table of what a regressor got most wrong.
_MOST_WRONG = 24


def log_test(trainer: Trainer, module: LightningModule) -> None:
    """Log charts and tables of the test that ended last; without a W&B run nothing is made.

    ``charts/confusion``, ``charts/roc`` and ``charts/pr`` of a classifier, the table ``classes`` of
    a classifier and a segmenter, and ``wrong_numbers`` of a regressor.

    Args:
        trainer: It has tested.
        module: Its task.
    """
    loggers = active_wandb(trainer)
    artifacts = module.test_artifacts if isinstance(module, DrawnTask) else {}
    if not loggers or not artifacts:
        return
    with costs_a_line("W&B's charts"):
        charts = _charts(artifacts, data_of(trainer))
        tables = _tables(artifacts, data_of(trainer))
        for logger in loggers:
            for name, chart in charts.items():
                logger.log_chart(f"charts/{name}", chart, trainer.global_step)
            for name, (columns, rows) in tables.items():
                logger.log_rows(name, columns, rows, trainer.global_step)


def _charts(artifacts: Mapping[str, Any], data: object) -> dict[str, Chart]:
    charts: dict[str, Chart] = {}
    if "classes" not in artifacts:
        return charts
    if "confusion" in artifacts:
        counts = artifacts["confusion"].cpu().numpy()
        if chart := confusion_chart(counts, class_names_of(data, len(counts))):
            charts["confusion"] = chart
    scores, labels = (each.detach().cpu() for each in artifacts["roc"])
    names = class_names_of(data, scores.shape[1])
    found = labels > 0 if labels.ndim == 2 else labels[:, None] == torch.arange(len(names))
    if labels.ndim == 1 and len(names) == 2:  # the other one's curve is its mirror image
        scores, found, names = scores[:, 1:], found[:, 1:], names[1:]
    return charts | curve_charts(scores.double().numpy(), found.numpy(), names)


_Table = tuple[list[str], list[Any]]


def _tables(artifacts: Mapping[str, Any], data: object) -> dict[str, _Table]:
    if "numbers" in artifacts:
        return {"wrong_numbers": _wrong_numbers(artifacts["numbers"], data)}
    if "labels" in artifacts:
        counts = artifacts["labels"]
    elif "confusion" in artifacts:
        matrix = artifacts["confusion"]
        counts = torch.stack([matrix.diagonal(), matrix.sum(0), matrix.sum(1)])
    else:
        return {}
    counted = "pixels" if "masks" in artifacts else "samples"
    return {"classes": class_rows(counts, class_names_of(data, counts.shape[1]), counted)}


def _wrong_numbers(of_samples: Mapping[str, Tensor], data: object) -> _Table:
    """Return the samples of a test whose predicted number is farthest from the true one."""
    numbers, truth, guess = (of_samples[n].cpu() for n in ("index", "target", "prediction"))
    worst = (guess - truth).abs().argsort(descending=True, stable=True)[:_MOST_WRONG].tolist()
    given = data.names if isinstance(data, HasNames) else None
    target = data.target_name if isinstance(data, HasTargetName) else "target"
    rows = [
        [
            given[int(numbers[place])] if given else str(int(numbers[place])),
            float(truth[place]),
            float(guess[place]),
            float((guess[place] - truth[place]).abs()),
        ]
        for place in worst
    ]
    return ["input", target, "prediction", "error"], rows
