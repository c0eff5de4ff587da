"""The figures of a test, counted again on many resamples of its samples at once.

``weights`` ``(R, N)`` say how often each of R resamples has each of N samples.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zoo.losses.base import LabelKind
from zoo.metrics.calibration import BINS, bin_of, entropy
from zoo.metrics.classes import dice_of_images
from zoo.metrics.intervals import Figures, Floats

Rows = npt.NDArray[np.int64]

#: More numbers than these have no mean area under their curves: it would take many seconds.
_MOST_SCORES = 5_000_000


class OneHot:
    """Which of C classes each sample is in, to be counted in resamples.

    Args:
        numbers: The samples' classes ``(N,)``.
        classes: How many there are.
        values: What each sample counts, ``(N,)``; 1 by default.
    """

    def __init__(
        self, numbers: npt.NDArray[Any], classes: int, values: npt.NDArray[Any] | None = None
    ) -> None:
        from scipy.sparse import csr_array

        count = len(numbers)
        values = np.ones(count) if values is None else np.asarray(values, dtype=np.float64)
        self._columns = csr_array((values, (numbers, np.arange(count))), shape=(classes, count))

    def sums(self, weights: Floats) -> Floats:
        """Return each class's sum in each resample, ``(R, C)``."""
        return np.asarray(self._columns @ np.ascontiguousarray(weights.T)).T


def mean_of_classes(numerator: Floats, denominator: Floats) -> Floats:
    """Return the mean over the classes of fractions ``(R, C)``, without those that are 0 / 0.

    1 where all are, as :func:`zoo.metrics.classes.mean_over_classes` has it.
    """
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of means of nothing
        means = np.nanmean(numerator / denominator, axis=1)
    return np.asarray(np.nan_to_num(means, nan=1.0))


class Areas:
    """The mean area under the ROC curves of several classes, each against the rest.

    Args:
        scores: ``(N, C)``.
        found: Whether each sample is of each class, ``(N, C)``.
    """

    def __init__(self, scores: npt.NDArray[Any], found: npt.NDArray[np.bool_]) -> None:
        self._classes = []
        for score, is_there in zip(scores.T, found.T, strict=True):
            if 0 < is_there.sum() < len(is_there):
                order = np.argsort(score, kind="stable")
                rising, mine = score[order], np.flatnonzero(is_there[order])
                # Between which places those of the same score stand: they count a half.
                first = np.searchsorted(rising, rising[mine], "left")
                end = np.searchsorted(rising, rising[mine], "right")
                self._classes.append((order, mine, first, end))

    def means(self, weights: Floats) -> Floats:
        """Return the mean area in each resample, ``(R,)``, over the classes that have one."""
        if not self._classes:
            return np.full(len(weights), np.nan)
        # A sample's weights side by side, whole numbers that float32 holds, are quick to reorder.
        by_sample = np.ascontiguousarray(weights.T, dtype=np.float32)
        areas = [self._areas(by_sample, *each) for each in self._classes]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of means of nothing
            return np.asarray(np.nanmean(areas, axis=0))

    @staticmethod
    def _areas(
        weights: npt.NDArray[np.float32],
        order: Rows,
        mine: Rows,
        first: Rows,
        end: Rows,
    ) -> Floats:
        rising = weights[order]
        own = rising[mine].astype(np.float64)
        rising[mine] = 0
        below = np.zeros((len(order) + 1, weights.shape[1]), dtype=np.float32)
        np.cumsum(rising, axis=0, out=below[1:])
        pairs = own.sum(axis=0) * below[-1]
        ahead = 0.5 * (below[first] + below[end])
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.einsum("nr,nr->r", own, ahead) / pairs)


# ---------------------------------------------------------------- of each kind of task


def classification(
    logits: Tensor, labels: Tensor, temperature: float, kind: LabelKind, losses: Tensor
) -> Figures:
    """Return what gives the figures of :class:`zoo.tasks.classifier.Classifier` of resamples.

    Args:
        logits: ``(N, C)``.
        labels: ``(N,)``, for ``multilabel`` zeros and ones ``(N, C)``.
        temperature: The fitted one.
        kind: What the labels are.
        losses: Of each sample, ``(N,)``.
    """
    several, (count, classes) = kind == "multilabel", logits.shape
    hits: OneHot | _Columns
    predicted: OneHot | _Columns
    true: OneHot | _Columns
    scaled = logits / temperature
    errors = [_Calibration(_probabilities(each, kind), labels, kind) for each in (logits, scaled)]
    if several:
        found, there = (logits > 0).numpy(), (labels > 0).numpy()
        right = (found == there).mean(axis=1)
        nll = torch.nn.functional.binary_cross_entropy_with_logits(
            scaled, labels.to(scaled.dtype), reduction="none"
        ).mean(1)
        hits, predicted, true = (
            _Columns(each.astype(np.float64)) for each in (found & there, found, there)
        )
    else:
        guess, there = logits.argmax(1).numpy(), labels.numpy()[:, None] == np.arange(classes)
        right = guess == labels.numpy()
        nll = torch.nn.functional.cross_entropy(scaled, labels, reduction="none")
        hits = OneHot(labels.numpy(), classes, right)
        predicted, true = OneHot(guess, classes), OneHot(labels.numpy(), classes)
    of_class = slice(1, 2) if kind == "binary" else slice(None)
    scores = _probabilities(logits.double(), kind).numpy()[:, of_class]
    areas = Areas(scores, there[:, of_class]) if scores.size <= _MOST_SCORES else None
    means = {
        "loss": losses,
        "entropy": entropy(logits, label_kind=kind),
        "entropy_scaled": entropy(logits, temperature, label_kind=kind),
        "nll_scaled": nll,
        "acc": torch.from_numpy(right.astype(np.float64)),
    }
    table = np.stack([each.double().numpy() for each in means.values()], axis=1)

    def figures_of(weights: Floats) -> dict[str, Floats]:
        found_means = zip(means, (weights @ table / count).T, strict=True)
        of = {
            name: sums.sums(weights)
            for name, sums in (("hits", hits), ("predicted", predicted), ("true", true))
        }
        figures = dict(found_means)
        figures["f1"] = mean_of_classes(2 * of["hits"], of["predicted"] + of["true"])
        if not several:
            figures["balanced_acc"] = mean_of_classes(of["hits"], of["true"])
        figures["ece"], figures["ece_scaled"] = (each.errors(weights) for each in errors)
        if areas is not None:
            figures["auroc"] = areas.means(weights)
        return figures

    return figures_of


def regression(predicted: Tensor, target: Tensor, losses: Tensor) -> Figures:
    """Return what gives the figures of :class:`zoo.tasks.regressor.Regressor` of resamples.

    Args:
        predicted: ``(N,)``.
        target: ``(N,)``.
        losses: Of each sample, ``(N,)``.
    """
    truth, guess = target.double().numpy(), predicted.double().numpy()
    origin = truth.mean()
    y, p = truth - origin, guess - origin
    error = p - y
    table = np.stack([losses.double().numpy(), error**2, np.abs(error), y, p])

    def figures_of(weights: Floats) -> dict[str, Floats]:
        loss, mse, mae, mean_y, mean_p = (weights @ table.T / len(truth)).T
        # From each resample's own mean: one target that is far from all others is not in each.
        dy, dp = y - mean_y[:, None], p - mean_p[:, None]
        spread_y, spread_p, common = (
            np.einsum("rn,rn,rn->r", weights, *pair) / len(truth)
            for pair in ((dy, dy), (dp, dp), (dy, dp))
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            r2 = 1 - mse / spread_y
            pearson = common / np.sqrt(spread_y) / np.sqrt(spread_p)
        return {"loss": loss, "mse": mse, "mae": mae, "r2": r2, "pearson": pearson}

    return figures_of


def masks(counts: Tensor, losses: Tensor, class_names: list[str]) -> Figures:
    """Return what gives the figures of :class:`zoo.tasks.image_segmenter.ImageSegmenter`.

    Args:
        counts: Pixels of each image and class, ``(N, 3, C)``: rightly predicted, predicted, true.
        losses: Of each image, ``(N,)``.
        class_names: The C names.
    """
    count, _, classes = counts.shape
    table = counts.double().reshape(count, -1).numpy()
    of_images = losses.double().numpy()
    dice = dice_of_images(counts.cpu()).numpy()
    has_dice = np.isfinite(dice)

    def figures_of(weights: Floats) -> dict[str, Floats]:
        hits, predicted, true = (weights @ table).reshape(-1, 3, classes).transpose(1, 0, 2)
        fractions = {
            "dice": (2 * hits, predicted + true),
            "iou": (hits, predicted + true - hits),
        }
        own = weights[:, has_dice]
        figures = {"loss": weights @ of_images / count}
        with np.errstate(divide="ignore", invalid="ignore"):
            figures["dice_of_images"] = own @ dice[has_dice] / own.sum(axis=1)
            figures["acc"] = hits.sum(axis=1) / true.sum(axis=1)
            for name, (above, below) in fractions.items():
                figures[name] = mean_of_classes(above[:, 1:], below[:, 1:])
                for number, of in enumerate(class_names):
                    figures[f"{name}_{of}"] = above[:, number] / below[:, number]
        return figures

    return figures_of


def language(sums: Tensor) -> Figures:
    """Return what gives the figures of :class:`zoo.tasks.language_model.LanguageModel`.

    Args:
        sums: Of each row of tokens ``(N, 2)`` or ``(N, 4)``: its loss, how many tokens are
            predicted and, where that is known, their bytes and characters.
    """
    table = sums.double().numpy()

    def figures_of(weights: Floats) -> dict[str, Floats]:
        losses, tokens, *sizes = (weights @ table).T
        with np.errstate(divide="ignore", invalid="ignore"):
            loss = losses / tokens
            bits = [losses / np.log(2) / each for each in sizes]
        figures = {"loss": loss, "perplexity": np.exp(np.minimum(loss, 700.0))}
        return figures | dict(zip(("bits_per_byte", "bits_per_char"), bits, strict=False))

    return figures_of


def preferences(losses: Tensor, margins: Tensor) -> Figures:
    """Return what gives the figures of :class:`zoo.tasks.preference.PreferenceTuning`.

    Args:
        losses: Of each pair, ``(N,)``.
        margins: How much more reward the chosen answer has, ``(N,)``.
    """
    table = torch.stack([losses, margins], dim=1).double().numpy()

    def figures_of(weights: Floats) -> dict[str, Floats]:
        loss, margin = (weights @ table / len(table)).T
        return {"loss": loss, "reward_margin": margin}

    return figures_of


class _Columns:
    """Numbers of each sample, ``(N, C)``, to be summed over resamples."""

    def __init__(self, values: Floats) -> None:
        self._values = values

    def sums(self, weights: Floats) -> Floats:
        return weights @ self._values


class _Calibration:
    """The calibration error of resamples; see :func:`zoo.metrics.calibration.calibration_error`."""

    def __init__(self, probabilities: Tensor, labels: Tensor, kind: LabelKind) -> None:
        if kind == "multilabel":
            sure, right = probabilities.double(), labels.double()
        else:
            sure, guess = probabilities.double().max(dim=1, keepdim=True)
            right = (guess == labels[:, None]).double()
        self._answers = sure.numel()
        bins = bin_of(sure)
        gaps = sure.new_zeros(len(sure), BINS).scatter_add_(1, bins, sure - right)
        self._gaps = _Columns(gaps.numpy())

    def errors(self, weights: Floats) -> Floats:
        return np.asarray(np.abs(self._gaps.sums(weights)).sum(axis=1) / self._answers)


def _probabilities(logits: Tensor, kind: LabelKind) -> Tensor:
    return logits.sigmoid() if kind == "multilabel" else logits.softmax(1)
