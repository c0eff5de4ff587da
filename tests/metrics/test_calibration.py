"""Temperature scaling against scipy, and what the docstring says of temperature and entropy."""

import ast
import inspect
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import entropy as scipy_entropy
from torch import Tensor
from torchmetrics.functional.classification import binary_calibration_error

from zoo.losses import classification as losses
from zoo.metrics import calibration
from zoo.metrics.calibration import (
    HIGHEST_TEMPERATURE,
    LOWEST_TEMPERATURE,
    calibration_error,
    entropy,
    fit_temperature,
    reliability_bins,
    scores,
)

CLASSES = 5


def calibrated(count: int = 2000, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits whose softmax the labels are drawn from: the best temperature is about 1."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, CLASSES, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
    return logits, labels


def many_labels(count: int = 1000) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(count, CLASSES, generator=generator)
    return logits, torch.bernoulli(logits.sigmoid(), generator=generator).long()


@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0, 3.0, 15.0])
def test_the_temperature_is_scipys(scale):
    logits, labels = calibrated()
    z, y = (scale * logits).double().numpy(), labels.numpy()

    def nll(log_t: float) -> float:
        log_p = log_softmax(z / math.exp(log_t), axis=1)
        # Platt's doubt: each class counts 1 / N beside the label's 1.
        return -(log_p[np.arange(len(y)), y] + log_p.sum(1) / len(y)).mean()

    found = minimize_scalar(nll, bounds=(-3, 3), method="bounded", options={"xatol": 1e-9})
    assert fit_temperature(scale * logits, labels) == pytest.approx(math.exp(found.x), rel=1e-5)
    assert math.exp(found.x) == pytest.approx(scale, rel=0.1)


@pytest.mark.parametrize("scale", [0.2, 4.0])
def test_the_multilabel_temperature_is_scipys(scale):
    logits, labels = many_labels()
    z, y = (scale * logits).double().numpy(), labels.numpy()

    def nll(log_t: float) -> float:
        scaled = z / math.exp(log_t)
        doubtful = (y + 1 / len(y)) / (1 + 2 / len(y))
        return (np.logaddexp(0, scaled) - doubtful * scaled).mean()

    found = minimize_scalar(nll, bounds=(-3, 3), method="bounded", options={"xatol": 1e-9})
    fitted = fit_temperature(scale * logits, labels, label_kind="multilabel")
    assert fitted == pytest.approx(math.exp(found.x), rel=1e-5)
    assert fitted == pytest.approx(scale, rel=0.1)


def test_an_overconfident_net_is_calibrated_on_other_samples():
    logits, labels = calibrated()
    temperature = fit_temperature(4 * logits, labels)
    logits, labels = calibrated(seed=1)
    logits = 4 * logits
    before, after = scores(logits, labels), scores(logits, labels, temperature)
    assert after["nll"] < 0.7 * before["nll"]
    assert after["ece"] < 0.3 * before["ece"]
    assert after["entropy"] > before["entropy"]
    assert torch.equal((logits / temperature).argmax(1), logits.argmax(1))


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_at_the_fitted_temperature_likelihood_and_entropy_are_one(kind):
    logits, labels = calibrated() if kind == "multiclass" else many_labels()
    logits = 3 * logits.double()
    temperature = fit_temperature(logits, labels, label_kind=kind)
    result = scores(logits, labels, temperature, label_kind=kind)
    assert result["nll"] == pytest.approx(result["entropy"], rel=2e-2)  # but for the doubt
    before = scores(logits, labels, label_kind=kind)
    assert before["nll"] > 1.2 * before["entropy"]


RIGHT = torch.eye(4)
LABELS = torch.arange(4)


@pytest.mark.parametrize(
    ("logits", "labels", "kind", "expected"),
    [
        (RIGHT, LABELS, "multiclass", 1 / math.log(5)),
        (5 * RIGHT, LABELS, "multiclass", 5 / math.log(5)),
        (RIGHT, LABELS.flip(0), "multiclass", HIGHEST_TEMPERATURE),
        (1e4 * RIGHT, LABELS.flip(0), "multiclass", HIGHEST_TEMPERATURE),
        (1e4 * RIGHT, LABELS, "multiclass", HIGHEST_TEMPERATURE),
        (torch.zeros(4, 3), torch.zeros(4).long(), "multiclass", 1.0),
        (torch.full((4, 3), 7.0), torch.tensor([0, 1, 2, 0]), "multiclass", 1.0),
        (2 * RIGHT - 1, RIGHT.long(), "multilabel", 1 / math.log(5)),
        (1 - 2 * RIGHT, RIGHT.long(), "multilabel", HIGHEST_TEMPERATURE),
        (torch.zeros(4, 3), torch.ones(4, 3), "multilabel", 1.0),
        (torch.tensor([[0.3, 0.1]]), torch.tensor([0]), "multiclass", 0.2 / math.log(2)),
    ],
)
def test_a_set_without_mistakes_leaves_doubt_and_a_bad_net_the_bound(
    logits, labels, kind, expected
):
    assert fit_temperature(logits, labels, label_kind=kind) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1e3, 1e6, 1e30])
def test_any_scale_gives_a_temperature_within_bounds(scale):
    logits, labels = calibrated(100)
    fitted = fit_temperature(scale * logits, labels)
    assert LOWEST_TEMPERATURE <= fitted <= HIGHEST_TEMPERATURE
    expected = HIGHEST_TEMPERATURE if scale > 1 else LOWEST_TEMPERATURE
    assert fitted == expected


@pytest.mark.parametrize("target", [0.055, 0.2, 5.0, 18.0])
def test_a_minimum_near_a_bound_is_found(target):
    logits, labels = calibrated(500)
    logits = logits / fit_temperature(logits, labels)
    assert fit_temperature(target * logits, labels) == pytest.approx(target, rel=1e-5)


def test_the_fit_is_deterministic_and_leaves_its_arguments_alone():
    logits, labels = calibrated(200)
    logits.requires_grad_()
    kept = logits.detach().clone()
    assert len({fit_temperature(logits, labels) for _ in range(3)}) == 1
    assert torch.equal(logits, kept)
    assert logits.grad is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_works_where_lightning_calls_it(dtype, guard):
    logits, labels = calibrated(200)
    expected = fit_temperature(logits, labels)
    with guard():
        given = logits.to(dtype) * 1
        fitted = fit_temperature(given, labels.clone())
        assert math.isfinite(scores(given, labels, fitted)["nll"])
    assert fitted == pytest.approx(expected, rel=1e-2 if dtype == torch.bfloat16 else 1e-9)


# --- temperature and entropy ---------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.3, 1.0, 7.0])
def test_entropy_is_scipys(temperature):
    logits = calibrated(50)[0].double()
    expected = scipy_entropy((logits / temperature).softmax(1).numpy(), axis=1)
    torch.testing.assert_close(entropy(logits, temperature), torch.as_tensor(expected))
    s = (logits / temperature).sigmoid().numpy()
    expected = scipy_entropy(np.stack([s, 1 - s]), axis=0).mean(1)
    ours = entropy(logits, temperature, label_kind="multilabel")
    torch.testing.assert_close(ours, torch.as_tensor(expected))


def test_entropy_grows_with_temperature_at_the_rate_of_the_docstring():
    logits = calibrated(50)[0].double()
    grid = torch.logspace(-1.5, 3, 60)
    grown = torch.stack([entropy(logits, float(t)) for t in grid]).diff(dim=0)
    assert (grown > 0).all()
    step = 1e-5
    for t in (0.5, 1.0, 3.0):
        p = (logits / t).softmax(1)
        variance = (p * logits**2).sum(1) - (p * logits).sum(1) ** 2
        slope = (entropy(logits, t + step) - entropy(logits, t - step)) / (2 * step)
        torch.testing.assert_close(slope, variance / t**3, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_limits_of_entropy(dtype):
    logits = torch.tensor([[3.0, 1.0, 2.0, 0.0], [-50.0, 1e4, 0.0, 7.0]]).to(dtype)
    tied = torch.tensor([[3.0, 3.0, 2.0, 0.0]]).to(dtype)
    for cold in (1e-3, 1e-30, 1e-37):
        torch.testing.assert_close(entropy(logits, cold).double(), torch.zeros(2).double())
        assert entropy(tied, cold).item() == pytest.approx(math.log(2))
    hot = entropy(logits, 1e9).double()
    torch.testing.assert_close(hot, torch.full((2,), math.log(4)).double(), rtol=1e-6, atol=0)
    equal = torch.full((1, 4), 0.25).to(dtype)
    assert entropy(equal, 0.01).item() == pytest.approx(math.log(4))
    limits = [entropy(logits, t, label_kind="multilabel")[0].item() for t in (1e-3, 1e9)]
    # its last logit is 0, for which every temperature gives one half
    assert limits == pytest.approx([math.log(2) / 4, math.log(2)], rel=1e-6)


# --- scores --------------------------------------------------------------------------------------


def error_in_bins(confidence: torch.Tensor, right: torch.Tensor) -> float:
    """The calibration error by numpy's histograms, whose last bin is closed."""
    values, hits = confidence.double().numpy(), right.double().numpy()
    sums = [
        np.histogram(values, bins=15, range=(0, 1), weights=weights)[0]
        for weights in (values, hits)
    ]
    return float(np.abs(sums[0] - sums[1]).sum() / len(values))


@pytest.mark.parametrize("label_kind", ["multiclass", "multilabel"])
def test_a_probability_of_one_lies_in_the_last_bin(label_kind):
    """A sure net's are exactly 1 in float32, and belong with those near 1."""
    if label_kind == "multilabel":
        logits = torch.tensor([[40.0], [40.0], [3.5], [3.5], [-200.0], [0.0]])
        labels = torch.tensor([[1], [0], [1], [1], [0], [1]])
        right, confidence = labels.flatten(), logits.sigmoid().flatten()
    else:
        logits = torch.tensor([[40.0, 0.0], [40.0, 0.0], [3.5, 0.0], [3.5, 0.0], [0.1, 0.0]])
        labels = torch.tensor([0, 1, 0, 0, 1])
        confidence, predicted = logits.softmax(1).max(1)
        right = predicted == labels
    assert (confidence == 1).sum() == 2
    expected = error_in_bins(confidence, right)
    result = scores(logits, labels, label_kind=label_kind)["ece"]
    assert result == pytest.approx(expected, abs=1e-12)
    # torchmetrics has a bin of its own for them
    apart = binary_calibration_error(confidence, right.long(), n_bins=15).item()
    assert abs(apart - expected) > 0.01
    # and the picture's bars are those of the figure
    p = logits.sigmoid() if label_kind == "multilabel" else logits.softmax(1)
    bins = reliability_bins(p, labels, label_kind=label_kind)
    assert (
        bins[:, 0].tolist() == np.histogram(confidence.numpy(), bins=15, range=(0, 1))[0].tolist()
    )
    assert bins[-1, 0] == 4
    assert calibration_error(bins) == result


def test_scores_are_those_of_the_scaled_probabilities():
    logits, labels = calibrated(300)
    result = scores(logits, labels, 2.0)
    p = (logits / 2).softmax(1)
    assert list(result) == ["ece", "nll", "entropy"]
    confidence, predicted = p.max(1)
    expected = error_in_bins(confidence, predicted == labels)
    assert result["ece"] == pytest.approx(expected, abs=1e-12)
    assert result["nll"] == pytest.approx(-p[torch.arange(300), labels].log().mean().item())
    assert result["entropy"] == pytest.approx(-(p * p.log()).sum(1).mean().item(), rel=1e-5)


def test_multilabel_scores():
    logits, labels = many_labels(300)
    result = scores(logits, labels, 2.0, label_kind="multilabel")
    s = (logits / 2).sigmoid()
    expected = error_in_bins(s.flatten(), labels.flatten())
    assert result["ece"] == pytest.approx(expected, abs=1e-12)
    nll = -(labels * s.log() + (1 - labels) * (1 - s).log()).mean().item()
    assert result["nll"] == pytest.approx(nll, rel=1e-5)
    both = -(s * s.log() + (1 - s) * (1 - s).log()).mean().item()
    assert result["entropy"] == pytest.approx(both, rel=1e-5)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_refuses_a_temperature_that_is_none(temperature):
    with pytest.raises(ValueError, match=r"temperature is .*above 0"):
        entropy(torch.zeros(1, 2), temperature)
    with pytest.raises(ValueError, match=r"temperature is .*above 0"):
        scores(torch.zeros(1, 2), torch.zeros(1).long(), temperature)


def test_refuses_what_no_temperature_can_be_fitted_on():
    with pytest.raises(ValueError, match="no sample"):
        fit_temperature(torch.zeros(0, 3), torch.zeros(0).long())
    with pytest.raises(ValueError, match="not all finite"):
        fit_temperature(torch.tensor([[math.nan, 1.0]]), torch.tensor([0]))


def test_needs_no_task():
    """Import direction: tasks use calibration, not the other way round."""
    for module in (calibration, losses):
        nodes = list(ast.walk(ast.parse(inspect.getsource(module))))
        names = [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
        names += [a.name for node in nodes if isinstance(node, ast.Import) for a in node.names]
        assert {name for name in names if name.startswith("zoo")} <= {"zoo.losses.base"}
