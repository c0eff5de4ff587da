"""A test as charts and tables that W&B draws itself, beside the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.metrics.classes import f1, iou, recall
from zoo.report.plots import worst_curves
from zoo.run.wandb_media import Chart

#: Points of a curve, and classes of a confusion: W&B shows 10,000 rows of a chart's table.
_MOST_POINTS, _MOST_CLASSES = 100, 100


def _curve(title: str, x: str, y: str) -> Chart:
    fields, strings = {"class": "class", "x": x, "y": y}, {"x-axis-title": x, "y-axis-title": y}
    return Chart("wandb/area-under-curve/v0", title, fields, strings=strings)


#: The charts without their rows, by name.
FORMS = {
    "confusion": Chart(
        "wandb/confusion_matrix/v1",
        "confusion",
        {name: name for name in ("Actual", "Predicted", "nPredictions")},
    ),
    "roc": _curve("ROC", "false positive rate", "true positive rate"),
    "pr": _curve("precision and recall", "recall", "precision"),
}


def confusion_chart(counts: NDArray[Any], names: Sequence[str]) -> Chart | None:
    """Return the confusion of classes; None of more than 100.

    Args:
        counts: ``(C, C)``; rows are the true classes, columns the predicted ones.
        names: The ``C`` names.
    """
    if len(counts) > _MOST_CLASSES:
        return None
    rows = [
        [names[true], names[predicted], int(counts[true, predicted])]
        for true in range(len(counts))
        for predicted in range(len(counts))
    ]
    return replace(FORMS["confusion"], rows=rows)


def curve_charts(
    scores: NDArray[Any], found: NDArray[np.bool_], names: Sequence[str]
) -> dict[str, Chart]:
    """Return the curves of ROC and of precision over recall, ``roc`` and ``pr``.

    Of more than 8 classes those with the smallest area under the ROC curve; none where no class
    has a curve.

    Args:
        scores: ``(N, C)``.
        found: Whether each sample is of each class, ``(N, C)``.
        names: The ``C`` names.
    """
    from sklearn.metrics import precision_recall_curve, roc_curve

    _, _, worst = worst_curves(scores, found)
    roc: list[list[Any]] = []
    pr: list[list[Any]] = []
    for c in sorted(worst):
        false, true, _ = roc_curve(found[:, c], scores[:, c])
        roc += [[names[c], *point] for point in _thinned(false, true)]
        precision, sensitivity, _ = precision_recall_curve(
            found[:, c], scores[:, c], drop_intermediate=True
        )
        pr += [[names[c], *point] for point in _thinned(sensitivity, precision)]
    if not worst:
        return {}
    return {"roc": replace(FORMS["roc"], rows=roc), "pr": replace(FORMS["pr"], rows=pr)}


def _thinned(x: NDArray[Any], y: NDArray[Any]) -> list[list[float]]:
    """Return the points of a curve, of many an even choice with both ends."""
    places = np.linspace(0, len(x) - 1, min(len(x), _MOST_POINTS)).round().astype(int)
    return [[float(x[place]), float(y[place])] for place in places]


def class_rows(counts: Tensor, names: Sequence[str], counted: str) -> tuple[list[str], list[Any]]:
    """Return a table of classes: how many there are of each, and how well they are found.

    Args:
        counts: How often each class was rightly found, was found, and is there, ``(3, C)``.
        names: The ``C`` names.
        counted: What is counted: samples, pixels.

    Returns:
        Columns and rows; a figure that would be 0 / 0 is None.

    >>> class_rows(torch.tensor([[1, 0], [2, 0], [1, 1]]), ["cat", "dog"], "samples")[1]
    [['cat', 1, 0.5, 1.0, 0.6666666666666666, 0.5], ['dog', 1, None, 0.0, 0.0, 0.0]]
    """
    hits, predicted, true = counts.cpu()
    figures = (
        recall(hits, predicted),  # precision: the same with the predicted in place of the true
        recall(hits, true),
        f1(hits, predicted, true),
        iou(hits, predicted, true),
    )
    rows = [
        [name, int(count), *(None if value != value else value for value in values)]
        for name, count, values in zip(
            names, true, torch.stack(figures, dim=1).tolist(), strict=True
        )
    ]
    return ["class", counted, "precision", "recall", "f1", "iou"], rows
