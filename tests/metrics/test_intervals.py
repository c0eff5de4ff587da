"""Intervals are Wilson's, and those of a plain bootstrap that counts everything again."""

import time
from collections.abc import Callable
from math import nan
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm, pearsonr
from sklearn.metrics import (
    balanced_accuracy_score,
    f1_score,
    jaccard_score,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
)

from zoo.losses.classification import classification_loss
from zoo.metrics.calibration import scores
from zoo.metrics.intervals import Intervals, intervals, weights_of, wilson
from zoo.metrics.regression import regression_figures
from zoo.metrics.resampled import classification, language, masks, preferences, regression

RESAMPLES = 12
Rows = np.ndarray[Any, Any]


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (23, 25), (25, 25), (9_123, 10_000)])
def test_wilson_is_its_formula(hits: int, count: int) -> None:
    z, p = norm.ppf(0.975), hits / count
    middle = (p + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(p * (1 - p) / count + z**2 / (4 * count**2))
    low, high, method = wilson(p, count)
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=1e-12)
    assert method == "Wilson"


def drawn(count: int) -> list[Rows]:
    """The numbers of the samples of each resample, one by one."""
    (weights,) = weights_of(count, RESAMPLES, seed=0)
    assert (weights.sum(1) == count).all()
    return [np.repeat(np.arange(count), row.astype(int)) for row in weights]


def same(figures_of: Any, plain: Callable[[Rows], dict[str, float]], count: int) -> None:
    (weights,) = weights_of(count, RESAMPLES, seed=0)
    fast = figures_of(weights)
    slow = [plain(rows) for rows in drawn(count)]
    for name in slow[0]:
        expected = [each[name] for each in slow]
        np.testing.assert_allclose(fast[name], expected, rtol=1e-5, atol=1e-7, err_msg=name)


def made(count: int, classes: int, *, ties: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    labels = torch.randint(classes, (count,), generator=generator)
    logits = 2 * torch.randn(count, classes, generator=generator)
    logits[torch.arange(count), labels] += 2
    return logits.round() if ties else logits, labels


@pytest.mark.parametrize(("classes", "ties"), [(2, False), (4, True)])
def test_figures_of_classes_are_those_of_a_plain_bootstrap(classes: int, ties: bool) -> None:
    count, temperature = 60, 1.7
    logits, labels = made(count, classes, ties=ties)
    kind: Any = "binary" if classes == 2 else "multiclass"
    loss = classification_loss("cross_entropy", label_kind=kind)(logits, labels, "none")

    def plain(rows: Rows) -> dict[str, float]:
        z, y = logits[rows], labels[rows]
        guess, p = z.argmax(1), z.double().softmax(1).numpy()
        there = np.eye(classes)[y]
        chosen = [1] if classes == 2 else range(classes)
        figures, scaled = (scores(z, y, t, label_kind=kind) for t in (1.0, temperature))
        return {
            "loss": float(loss[rows].mean()),
            "acc": float((guess == y).double().mean()),
            "balanced_acc": balanced_accuracy_score(y, guess),
            "f1": f1_score(y, guess, average="macro"),
            "auroc": float(np.mean([roc_auc_score(there[:, c], p[:, c]) for c in chosen])),
            "ece": figures["ece"],
            "entropy": figures["entropy"],
            **{f"{name}_scaled": value for name, value in scaled.items()},
        }

    same(classification(logits, labels, temperature, kind, loss), plain, count)


def test_figures_of_several_labels_are_those_of_a_plain_bootstrap() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (50, 3), generator=generator)
    logits = torch.randn(50, 3, generator=generator) + labels - 0.5
    loss = classification_loss("binary_cross_entropy", label_kind="multilabel")
    losses = loss(logits, labels, "none")

    def plain(rows: Rows) -> dict[str, float]:
        z, y = logits[rows], labels[rows].numpy()
        found, p = (z > 0).numpy(), z.double().sigmoid().numpy()
        return {
            "acc": float((found == y).mean()),
            "f1": f1_score(y, found, average="macro"),
            "auroc": roc_auc_score(y, p, average="macro"),
            **scores(z, labels[rows], label_kind="multilabel"),
        }

    figures_of = classification(logits, labels, 1.0, "multilabel", losses)
    same(lambda weights: {"nll": (of := figures_of(weights))["nll_scaled"], **of}, plain, 50)


def test_figures_of_numbers_are_those_of_a_plain_bootstrap() -> None:
    generator = torch.Generator().manual_seed(0)
    target = 3 * torch.randn(40, generator=generator, dtype=torch.float64)
    predicted = target + torch.randn(40, generator=generator, dtype=torch.float64)
    losses = (predicted - target) ** 2
    figures_of = regression(predicted, target, losses)
    same(figures_of, lambda rows: regression_figures(predicted[rows], target[rows]), 40)
    same(
        figures_of,
        lambda rows: {
            "r2": r2_score(target[rows], predicted[rows]),
            "mae": mean_absolute_error(target[rows], predicted[rows]),
        },
        40,
    )


@pytest.mark.parametrize("far", [1e9, 1e12])
def test_figures_of_resamples_with_and_without_a_target_far_from_all_others(far: float) -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(40, generator=generator, dtype=torch.float64)
    target[5] = far
    predicted = target.clamp(max=3) + torch.randn(40, generator=generator, dtype=torch.float64)
    (weights,) = weights_of(40, RESAMPLES, seed=0)
    found = regression(predicted, target, (predicted - target) ** 2)(weights)
    rows = drawn(40)
    expected = [pearsonr(target[each], predicted[each]).statistic for each in rows]
    np.testing.assert_allclose(found["pearson"], expected, rtol=1e-5)
    expected = [r2_score(target[each], predicted[each]) for each in rows]
    np.testing.assert_allclose(found["r2"], expected, rtol=1e-5)


def test_figures_of_masks_are_those_of_a_plain_bootstrap_over_images() -> None:
    draw = np.random.default_rng(0)
    truth, guess = draw.integers(0, 3, (20, 30)), draw.integers(0, 3, (20, 30))
    truth[:10], guess[:5] = 1, 1
    truth[10:13], guess[10:13] = 0, 0  # no foreground: they have no Dice of their own
    classes = np.arange(3)[:, None]
    counts = [
        [((t == c) & (g == c)).sum(1), (g == c).sum(1), (t == c).sum(1)]
        for t, g in zip(truth, guess, strict=True)
        for c in [classes]
    ]

    def own(row: int) -> float:
        there = np.union1d(truth[row], guess[row])
        labels = [label for label in (1, 2) if label in there]
        return f1_score(truth[row], guess[row], labels=labels, average="macro") if labels else nan

    def plain(rows: Rows) -> dict[str, float]:
        t, g = truth[rows].ravel(), guess[rows].ravel()
        return {
            "acc": (t == g).mean(),
            "dice": f1_score(t, g, labels=[1, 2], average="macro"),
            "iou": jaccard_score(t, g, labels=[1, 2], average="macro"),
            "dice_two": f1_score(t, g, labels=[2], average="macro"),
            "dice_of_images": np.nanmean([own(row) for row in rows]),
        }

    figures_of = masks(torch.tensor(np.array(counts)), torch.ones(20), ["zero", "one", "two"])
    same(figures_of, plain, 20)


def test_figures_of_tokens_are_those_of_a_plain_bootstrap_over_rows() -> None:
    draw = np.random.default_rng(0)
    tokens = draw.integers(0, 9, 30)  # a row may hold none that is predicted
    losses, sizes = 3 * tokens * draw.random(30), tokens[:, None] * draw.integers(1, 4, (30, 2))
    rows = torch.from_numpy(np.stack([losses, tokens, *sizes.T], axis=1))

    def plain(numbers: Rows) -> dict[str, float]:
        bits = losses[numbers].sum() / np.log(2)
        loss = losses[numbers].sum() / tokens[numbers].sum()
        return {
            "loss": loss,
            "perplexity": np.exp(loss),
            "bits_per_byte": bits / sizes[numbers, 0].sum(),
            "bits_per_char": bits / sizes[numbers, 1].sum(),
        }

    same(language(rows), plain, 30)
    assert set(language(rows[:, :2])(np.ones((1, 30)))) == {"loss", "perplexity"}


def test_figures_of_pairs_are_those_of_a_plain_bootstrap() -> None:
    draw = np.random.default_rng(0)
    losses, margins = draw.random(20), draw.normal(size=20)
    figures_of = preferences(torch.from_numpy(losses), torch.from_numpy(margins))
    same(
        figures_of,
        lambda rows: {"loss": losses[rows].mean(), "reward_margin": margins[rows].mean()},
        20,
    )


def found_of(count: int, classes: int = 3) -> Intervals:
    logits, labels = made(count, classes)
    losses = classification_loss("cross_entropy", label_kind="multiclass")(logits, labels, "none")
    right = float((logits.argmax(1) == labels).double().mean())
    figures = {"acc": right, "f1": right, "auroc": 0.9, "temperature": 1.0}
    figures["ece"] = scores(logits, labels)["ece"]
    figures_of = classification(logits, labels, 1.0, "multiclass", losses)
    return intervals(figures_of, figures, count, shares=("acc",), columns=classes)


def test_few_samples_look_like_few() -> None:
    few, many = found_of(25), found_of(2500)
    for name in ("acc", "f1", "auroc", "ece"):
        wide, narrow = (each.of[name].high - each.of[name].low for each in (few, many))
        assert wide > 5 * narrow, name
    assert few.of["acc"].method == "Wilson"
    assert few.of["f1"].method == "bootstrap"
    assert few == found_of(25)  # a seed
    assert "temperature" not in few.of


def test_the_calibration_errors_interval_holds_it() -> None:
    logits, labels = made(25, 3)
    found = found_of(25).of["ece"]
    assert found.method == "bootstrap, centred"
    assert found.low < scores(logits, labels)["ece"] < found.high


def test_what_no_resample_changes_has_no_interval() -> None:
    labels = torch.arange(25) % 2
    logits = torch.eye(2)[labels]
    figures_of = classification(logits, labels, 1.0, "binary", torch.ones(25))
    figures = {"acc": 1.0, "f1": 1.0, "auroc": 1.0, "loss": 1.0}
    found = intervals(figures_of, figures, 25, shares=("acc",))
    assert found.of.keys() == {"acc"}
    assert found.of["acc"].low == pytest.approx(0.8668, abs=1e-4)


@pytest.mark.slow
def test_ten_thousand_samples_take_seconds() -> None:
    started = time.monotonic()
    found_of(10_000, classes=10)
    assert time.monotonic() - started < 20
