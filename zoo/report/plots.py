"""The pictures of a run, as matplotlib figures that need no display."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from datamodules.core.plot import new_figure, set_margins, shown, text_width

#: Tokens of a text that are drawn at most.
_MOST_TOKENS = 200
#: Labels that have a bar, and classes whose curves have a colour.
_MOST_LABELS, _MOST_CURVES = 40, 8


def _tick_width(axes: Axes) -> float:
    """Return the length in inches of the longest number beside the vertical axis."""
    axis = axes.yaxis
    return text_width(axis.get_major_formatter().format_ticks(list(axis.get_majorticklocs())), 10)


def draw_curves(
    rows: Sequence[dict[str, str]], chosen_step: int | None = None, differs_by: Sequence[str] = ()
) -> Figure:
    """Loss and metric curves over optimiser steps, from the rows of ``metrics.csv``.

    A panel for every figure; training and validation share one. A point on each curve of validation
    marks the epoch that was chosen.

    Args:
        rows: The rows.
        chosen_step: The step of the best checkpoint.
        differs_by: Options by which the training loss is another one than validation's.
    """
    curves: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for row in rows:
        for name, text in row.items():
            stage, _, figure_name = name.partition("/")
            if stage not in ("train", "val") or not text or figure_name.endswith("_epoch"):
                continue
            panel = curves.setdefault(figure_name, {})
            panel.setdefault(stage, []).append((int(row["step"]), float(text)))
    columns = min(3, max(1, len(curves)))
    lines = max(1, math.ceil(len(curves) / columns))
    figure = new_figure(4.2 * columns, 3.2 * lines)
    beside = 0.0
    for place, (name, stages) in enumerate(curves.items(), start=1):
        axes = figure.add_subplot(lines, columns, place)
        for stage, points in stages.items():
            steps, values = zip(*points, strict=True)
            colour = "C0" if stage == "train" else "C1"
            label, style = stage, "-"
            if differs_by and (stage, name) == ("train", "loss"):
                label, style = textwrap.fill(f"train, with {', '.join(differs_by)}", 24), "--"
            axes.plot(steps, values, style, color=colour, label=label, linewidth=1.2)
            if stage == "val" and chosen_step is not None and chosen_step in steps:
                value = values[steps.index(chosen_step)]
                label = f"chosen {value:.4g}"
                axes.plot([chosen_step], [value], "o", color="C3", markersize=5, label=label)
        axes.set_title(shown(name))
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
        axes.locator_params(axis="x", nbins=5)
        beside = max(beside, _tick_width(axes) + 0.25)
    set_margins(
        figure,
        lines,
        columns,
        left=beside,
        right=0.3,
        bottom=0.5,
        top=0.35,
        between_columns=beside + 0.2,
        between_rows=0.85,
    )
    return figure


def draw_confusion(counts: NDArray[Any], class_names: Sequence[str]) -> Figure:
    """Return the confusion matrix twice: counts, and shares of each true class.

    Args:
        counts: ``(C, C)``; rows are the true classes, columns the predicted ones.
        class_names: The ``C`` names.
    """
    classes = len(counts)
    shows_names = classes <= 30  # names and numbers of more would not be readable
    names = [shown(name) for name in class_names] if shows_names else [str(classes)]
    side, label = min(12.0, max(3.0, 0.55 * classes)), text_width(names, 10) + 0.4
    figure = new_figure(2 * (side + label) + 0.5, side + label + 0.4)
    margins = {"left": label, "right": 0.15, "bottom": label, "top": 0.35}
    set_margins(figure, 1, 2, **margins, between_columns=label + 0.2)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for place, (title, values) in enumerate(
        (("counts", counts), ("share of the true class", shares))
    ):
        axes = figure.add_subplot(1, 2, place + 1)
        top = values.max() if place == 0 else 1.0
        axes.imshow(values, cmap="Blues", vmin=0, vmax=max(top, 1e-9))
        axes.set_title(title)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        if not shows_names:
            continue
        axes.set_xticks(range(classes), names, rotation=90)
        axes.set_yticks(range(classes), names)
        for row in range(classes):
            for column in range(classes):
                value = values[row, column]
                if value > 0:
                    text = f"{int(value)}" if place == 0 else f"{value:.2f}"
                    colour = "white" if value > top / 2 else "black"
                    axes.text(
                        column, row, text, ha="center", va="center", color=colour, fontsize="small"
                    )
    return figure


def draw_labels(counts: NDArray[Any], names: Sequence[str]) -> Figure:
    """How often each label was found, missed, or found where it is not; the worst F1 first.

    Args:
        counts: ``(3, C)``: how often each label was rightly found, was found, and is there.
        names: The ``C`` names.
    """
    hits, predicted, true = counts
    with np.errstate(invalid="ignore"):
        f1 = 2 * hits / (predicted + true)  # NaN, which is last, of one that is nowhere
    worst = np.argsort(f1, kind="stable")[:_MOST_LABELS]
    figures = ["no F1" if np.isnan(f1[number]) else f"F1 {f1[number]:.2f}" for number in worst]
    titles = [
        f"{shown(names[number], 24)}  {figure}"
        for number, figure in zip(worst, figures, strict=True)
    ]
    beside = text_width(titles, 10) + 0.2
    figure = new_figure(beside + 5.5, 0.28 * len(worst) + 1.1)
    axes = figure.add_subplot()
    left = np.zeros(len(worst))
    parts = {"found": hits, "missed": true - hits, "found, though not there": predicted - hits}
    for (name, values), colour in zip(parts.items(), ("C0", "C1", "C3"), strict=True):
        axes.barh(range(len(worst)), values[worst], left=left, color=colour, label=name)
        left = left + values[worst]
    axes.set_yticks(range(len(worst)), titles)
    axes.invert_yaxis()
    axes.set_xlabel("samples")
    axes.legend(fontsize="small", loc="lower right", bbox_to_anchor=(1, 1), ncols=3)
    set_margins(figure, left=beside, right=0.2, bottom=0.5, top=0.4)
    return figure


def worst_curves(
    scores: NDArray[Any], found: NDArray[np.bool_]
) -> tuple[list[int], dict[int, float], list[int]]:
    """Return the classes that have a curve, the areas under their ROC curves, and the worst 8.

    Args:
        scores: ``(N, C)``.
        found: Whether each sample is of each class, ``(N, C)``.
    """
    from sklearn.metrics import roc_auc_score

    some = [c for c in range(found.shape[1]) if 0 < found[:, c].sum() < len(found)]
    areas = {c: float(roc_auc_score(found[:, c], scores[:, c])) for c in some}
    return some, areas, sorted(some, key=areas.__getitem__)[:_MOST_CURVES]


def draw_roc(scores: NDArray[Any], found: NDArray[np.bool_], names: Sequence[str]) -> Figure | None:
    """Return curves of ROC and of precision over recall, of each class against the rest.

    Of more than 8 classes those with the smallest area under the ROC curve have a colour and a
    name. A class that all samples or none belong to has no curve.

    Args:
        scores: ``(N, C)``.
        found: Whether each sample is of each class, ``(N, C)``.
        names: The ``C`` names.

    Returns:
        The figure; None where there is no curve.
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_curve

    some, areas, worst = worst_curves(scores, found)
    if not some:
        return None
    figure = new_figure(10, 4.8)
    roc, pr = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    for c in [*[c for c in some if c not in worst][:_MOST_LABELS], *sorted(worst)]:
        false, true, _ = roc_curve(found[:, c], scores[:, c])
        precision, recall, _ = precision_recall_curve(
            found[:, c], scores[:, c], drop_intermediate=True
        )
        style: dict[str, Any] = {"color": "lightgrey", "linewidth": 0.8}
        ap = average_precision_score(found[:, c], scores[:, c])
        labels: tuple[str | None, str | None] = (None, None)
        if c in worst:
            style = {"color": f"C{worst.index(c)}", "linewidth": 1.4}
            name = shown(names[c], 20)
            labels = f"{name}: {areas[c]:.3f}", f"{name}: {ap:.3f}"
        roc.plot(false, true, label=labels[0], **style)
        pr.step(recall, precision, where="post", label=labels[1], **style)
    roc.plot([0, 1], [0, 1], "--", color="grey", linewidth=1)
    more = f" of the {len(worst)} worst of {len(some)} classes" if len(some) > len(worst) else ""
    panels: list[Any] = [
        (roc, "ROC", "false positive rate", "true positive rate", "lower right"),
        (pr, "precision and recall", "recall", "precision", "lower left"),
    ]
    for axes, title, x, y, corner in panels:
        axes.set_title(f"{title}{more if axes is roc else ''}", fontsize=10)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.set_xlim(-0.01, 1.01)
        axes.set_ylim(-0.01, 1.03)
        axes.grid(alpha=0.3)
        legend = "area" if axes is roc else "average precision"
        axes.legend(fontsize="small", loc=corner, title=legend, title_fontsize="small")
    set_margins(figure, 1, 2, left=0.7, right=0.2, bottom=0.55, top=0.35, between_columns=0.8)
    return figure


def draw_reliability(
    stages: Mapping[str, tuple[NDArray[Any], float]], of: str = "accuracy"
) -> Figure:
    """Accuracy against confidence, and how many samples lie in each bin of confidence.

    Args:
        stages: For each column of the picture its name, the bins ``(N, 3)`` (samples, mean
            confidence and accuracy of each of ``N`` equal bins) and the calibration error.
        of: What the accuracy is, in words.
    """
    figure = new_figure(4.4 * len(stages), 5.2)
    grid = figure.add_gridspec(2, len(stages), height_ratios=[3, 1])
    beside = 0.0
    for place, (name, (bins, error)) in enumerate(stages.items()):
        count, width = len(bins), 1 / len(bins)
        centres = (np.arange(count) + 0.5) * width
        filled = bins[:, 0] > 0
        axes = figure.add_subplot(grid[0, place])
        axes.bar(centres[filled], bins[filled, 2], width=0.9 * width, label=of)
        axes.plot(bins[filled, 1], bins[filled, 2], "k.", markersize=4)
        axes.plot([0, 1], [0, 1], "--", color="grey", linewidth=1, label="perfectly calibrated")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_ylabel(of)
        axes.set_title(f"{name}: calibration error {error:.3f}", fontsize=10)
        axes.legend(fontsize="small", loc="upper left")
        below = figure.add_subplot(grid[1, place])
        below.bar(centres, bins[:, 0], width=0.9 * width, color="grey")
        below.set_xlim(0, 1)
        below.set_xlabel("confidence")
        below.set_ylabel("samples")
        beside = max(beside, _tick_width(axes) + 0.4, _tick_width(below) + 0.4)
    margins = {"left": beside, "right": 0.2, "bottom": 0.5, "top": 0.35}
    set_margins(figure, 2, len(stages), **margins, between_columns=beside + 0.1, between_rows=0.35)
    return figure


def draw_attention(texts: Sequence[tuple[Sequence[str], NDArray[Any]]]) -> Figure:
    """Return what attention pooling looks at: tokens of texts over the weight of each.

    Args:
        texts: Tokens and weights ``(T,)`` of each text, of which the first 200 are drawn.
    """
    texts = [([shown(t) for t in tokens[:_MOST_TOKENS]], w[:_MOST_TOKENS]) for tokens, w in texts]
    longest = max(len(tokens) for tokens, _ in texts)
    below = text_width((token for tokens, _ in texts for token in tokens), 7) + 0.2
    figure = new_figure(max(6.0, 0.26 * longest), (0.9 + below) * len(texts))
    set_margins(figure, len(texts), bottom=below, between_rows=below + 0.1)
    for row, (tokens, weights) in enumerate(texts):
        axes = figure.add_subplot(len(texts), 1, row + 1)
        axes.bar(range(len(tokens)), weights)
        axes.set_xlim(-0.6, longest - 0.4)
        axes.set_xticks(range(len(tokens)), tokens, rotation=90, fontsize=7)
        axes.set_yticks([])
    return figure


def draw_scatter(
    predicted: NDArray[Any], target: NDArray[Any], target_name: str, r2: float
) -> Figure:
    """Predictions over the true values, and their differences.

    Args:
        predicted: ``(N,)``.
        target: ``(N,)``.
        target_name: For the axes.
        r2: R², for the title.
    """
    target_name = shown(target_name)
    figure = new_figure(9, 4.4)
    ends = [min(predicted.min(), target.min()), max(predicted.max(), target.max())]
    axes = figure.add_subplot(1, 2, 1)
    axes.plot(target, predicted, ".", markersize=5, alpha=0.6)
    axes.plot(ends, ends, "--", color="grey", linewidth=1)
    axes.set_xlabel(f"true {target_name}")
    axes.set_ylabel(f"predicted {target_name}")
    axes.set_title(f"test, R² {r2:.3f}")
    axes.locator_params(axis="x", nbins=5)
    differences = figure.add_subplot(1, 2, 2)
    differences.hist(predicted - target, bins=30, color="grey")
    differences.axvline(0, color="C3", linewidth=1)
    differences.set_xlabel("prediction less true value")
    differences.set_ylabel("samples")
    differences.locator_params(axis="x", nbins=5)
    margins = {"left": _tick_width(axes) + 0.4, "right": 0.3, "bottom": 0.55, "top": 0.4}
    set_margins(figure, 1, 2, **margins, between_columns=_tick_width(differences) + 0.7)
    return figure
