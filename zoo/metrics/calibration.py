"""Calibration by one temperature: how sure a net should say it is.

Logits ``z``, temperature ``T`` and predictive entropy ``H`` of a sample:

``p_c = exp(z_c / T) / sum_k exp(z_k / T)``, ``H = -sum_c p_c log p_c`` (in nats).

``T = 1`` is the net's own softmax; a higher one brings the probabilities nearer to each other, a
lower one drives them apart, and the order of the classes, hence the prediction, never changes.
Entropy grows with temperature. Write ``b = 1 / T`` and ``log Z = log sum_k exp(b z_k)``; means and
variances are over the classes, under ``p``:

* ``H = log Z - b mean(z)``, and as ``d log Z / db = mean(z)`` and ``d mean(z) / db = var(z)``,
  ``dH / db = -b var(z)``;
* ``db / dT = -1 / T^2``, hence ``dH / dT = var(z) / T^3 >= 0``: 0 only where all logits are equal.

The limits: for ``T -> 0`` all probability goes to the largest logit, ``H -> 0`` (``log k`` where
``k`` logits share the largest value); for ``T -> inf`` all classes become equal, ``H -> log C``.
The same temperature scale is what multiplying all logits by a constant does: a net that goes on
training after it is right raises its logits, which is to lower ``T``, and becomes too sure.

The fitted temperature minimises the mean negative log-likelihood ``log Z - b z_y``, which is convex
in ``b`` with the slope ``mean(z) - z_y``. At the minimum the slopes cancel over the samples, so
that the mean negative log-likelihood there equals the mean predictive entropy: the net is, on
average, as sure as it is right.

For multi-label targets every label has the two logits 0 and ``z_c``, whose softmax is the sigmoid;
all of the above holds label by label, and the figures are means over labels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.core.errors import above
from zoo.losses.base import LabelKind

#: Where the fitted temperature lies; a minimum beyond is put on the bound.
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0

#: Of confidence, between 0 and 1; as in Guo et al., arXiv 1706.04599.
BINS = 15


def fit_temperature(
    logits: Tensor, labels: Tensor, *, label_kind: LabelKind = "multiclass"
) -> float:
    """Return the temperature that minimises the negative log-likelihood of held-out samples.

    Guo et al., arXiv 1706.04599, section 4.2: one number for all classes, fitted on validation,
    here by L-BFGS on ``log T`` in float64. Deviations: every label keeps a little doubt, as Platt
    has it (1999): of ``N`` samples the label counts ``(N + 1) / (N + C)`` and every other class
    ``1 / (N + C)``. Without it a set on which the net makes no mistake would be most likely at
    ``T -> 0``, and the first mistake elsewhere would cost any amount. And ``T`` stays within 0.05
    and 20, for a net that is worse than chance. Where the temperature changes nothing (all logits
    equal) it is 1. The result is a function of its arguments alone.

    Args:
        logits: ``(N, C)``.
        labels: Class indices ``(N,)``; 0 or 1, ``(N, C)``, for multi-label.
        label_kind: What the labels are.

    Returns:
        The temperature by which to divide logits.

    Raises:
        ValueError: If there is no sample, or a logit is not finite.

    >>> logits = torch.tensor([[3.0, 0.0]] * 4)  # sure, and right three times of four
    >>> round(fit_temperature(logits, torch.tensor([0, 0, 0, 1])), 2)
    4.33
    """
    if logits.numel() == 0:
        raise ValueError("logits hold no sample; a temperature needs one or more to be fitted on")
    if not bool(logits.isfinite().all()):
        raise ValueError("logits are not all finite; no temperature can be fitted on them")
    # A caller's no_grad and inference_mode end here; a copy, as tensors of the latter stay its own.
    with torch.inference_mode(False), torch.enable_grad():
        device = "cpu" if logits.device.type == "mps" else logits.device  # which has no float64
        logits = logits.detach().to(device, torch.float64, copy=True)
        labels = labels.detach().to(device, copy=True)
        if label_kind != "multilabel":  # the same softmax; equal logits become 0, without rounding
            logits -= logits.amax(1, keepdim=True)
        low, high = math.log(LOWEST_TEMPERATURE), math.log(HIGHEST_TEMPERATURE)
        doubt = 1 / len(logits)
        log_t = torch.zeros((), dtype=torch.float64, device=device, requires_grad=True)

        def loss_at(log_t: Tensor) -> Tensor:
            return _nll(logits / log_t.exp(), labels, label_kind, doubt)

        def slope_at(value: float) -> float:
            point = torch.full_like(log_t, value, requires_grad=True)
            return float(torch.autograd.grad(loss_at(point), point)[0])

        # The loss has one valley, so that the slope at a point tells on which side it lies.
        if slope_at(0.0) == 0:
            return 1.0
        if slope_at(low) >= 0:
            return LOWEST_TEMPERATURE
        if slope_at(high) <= 0:
            return HIGHEST_TEMPERATURE

        optimizer = torch.optim.LBFGS(
            [log_t],
            max_iter=25,
            tolerance_grad=1e-10,
            tolerance_change=1e-12,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            inside = log_t.clamp(low, high)
            # A slope beyond the bounds, where the clamp alone would look like a minimum.
            loss = loss_at(inside) + (log_t - inside).abs()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]
        return math.exp(min(max(log_t.item(), low), high))


def entropy(
    logits: Tensor, temperature: float = 1.0, *, label_kind: LabelKind = "multiclass"
) -> Tensor:
    """Return the predictive entropy in nats, from 0 (sure) to ``log C`` (no idea); see the module.

    For multi-label targets it is the mean over the labels, from 0 to ``log 2``.

    Args:
        logits: ``(N, C)``.
        temperature: Above 0.
        label_kind: What the labels are.

    Returns:
        ``(N,)``.

    Raises:
        OptionError: If the temperature is not above 0.

    >>> entropy(torch.tensor([[0.0, 0.0], [9.0, 0.0]]))
    tensor([0.6931, 0.0012])
    """
    logits = _widened(logits)
    if label_kind == "multilabel":
        logits = torch.stack([torch.zeros_like(logits), logits], dim=-1)
    above("temperature", temperature)
    # Counted from the largest logit, a division by a small temperature overflows to -inf only.
    scaled = (logits - logits.amax(-1, keepdim=True)) / temperature
    log_p = scaled.log_softmax(-1)
    # 0 * -inf would be NaN; the entropy's term at p = 0 is 0.
    terms = log_p.exp() * log_p.clamp(min=torch.finfo(log_p.dtype).min)
    entropies = -terms.sum(-1)
    return entropies.mean(-1) if label_kind == "multilabel" else entropies


def reliability_bins(
    probabilities: Tensor,
    labels: Tensor,
    bins: int = BINS,
    *,
    label_kind: LabelKind = "multiclass",
) -> Tensor:
    """Return count, confidence and accuracy in equal bins of confidence.

    Confidence is the largest probability, and accuracy whether its class is the label. For
    multi-label targets all labels are taken together: the probability of a label, and whether it is
    there. A bin has its lower edge and lacks its upper one, but for the last, which has both: a
    probability of exactly 1, which float32 gives a net that is sure, lies there with those near 1.
    (torchmetrics puts it into a bin of its own.)

    Args:
        probabilities: ``(N, C)``.
        labels: Class indices ``(N,)``; 0 or 1, ``(N, C)``, for multi-label.
        bins: Number of bins between 0 and 1.
        label_kind: What the labels are.

    Returns:
        ``(bins, 3)``, float64: how many samples, their mean confidence and their accuracy; 0 in
        empty bins.

    >>> probabilities = torch.tensor([[0.75, 0.25], [0.5, 0.5]])
    >>> reliability_bins(probabilities, torch.tensor([0, 1]), bins=2)
    tensor([[0.0000, 0.0000, 0.0000],
            [2.0000, 0.6250, 0.5000]], dtype=torch.float64)
    """
    if label_kind == "multilabel":
        confidence, right = probabilities.double().flatten(), labels.flatten()
    else:
        confidence, predicted = probabilities.double().max(dim=1)
        right = predicted == labels
    index = bin_of(confidence, bins)
    rows = torch.stack([torch.ones_like(confidence), confidence, right.to(confidence)], dim=1)
    totals = rows.new_zeros(bins, 3).index_add_(0, index, rows)
    counts = totals[:, :1]
    return torch.cat([counts, totals[:, 1:] / counts.clamp(min=1)], dim=1)


def bin_of(confidence: Tensor, bins: int = BINS) -> Tensor:
    """Return the bin of each confidence; see :func:`reliability_bins`."""
    edges = torch.arange(1, bins).to(confidence) / bins
    return torch.bucketize(confidence, edges, right=True)


def calibration_error(bins: Tensor) -> float:
    """Return the expected calibration error of :func:`reliability_bins`.

    That is the mean distance between confidence and accuracy (Naeini et al., 2015).

    >>> probabilities = torch.tensor([[0.75, 0.25], [0.5, 0.5]])
    >>> calibration_error(reliability_bins(probabilities, torch.tensor([0, 1]), bins=2))
    0.125
    """
    counts, confidence, accuracy = bins.unbind(1)
    return float((counts * (confidence - accuracy).abs()).sum() / counts.sum())


def scores(
    logits: Tensor,
    labels: Tensor,
    temperature: float = 1.0,
    *,
    label_kind: LabelKind = "multiclass",
) -> dict[str, float]:
    """Return how well probabilities at a temperature are calibrated.

    ``ece`` is the :func:`calibration_error` in 15 bins, ``nll`` the mean negative log-likelihood,
    ``entropy`` the mean of :func:`entropy`.

    Args:
        logits: ``(N, C)``.
        labels: Class indices ``(N,)``; 0 or 1, ``(N, C)``, for multi-label.
        temperature: Above 0; 1 leaves the net as it is.
        label_kind: What the labels are.

    Raises:
        OptionError: If the temperature is not above 0.

    >>> round(scores(torch.tensor([[9.0, 0.0], [9.0, 0.0]]), torch.tensor([0, 1]))["nll"], 3)
    4.5
    """
    above("temperature", temperature)
    scaled = _widened(logits) / temperature
    probabilities = scaled.sigmoid() if label_kind == "multilabel" else scaled.softmax(1)
    bins = reliability_bins(probabilities, labels, label_kind=label_kind)
    return {
        "ece": calibration_error(bins),
        "nll": float(_nll(scaled, labels, label_kind)),
        "entropy": float(entropy(logits, temperature, label_kind=label_kind).mean()),
    }


def _nll(logits: Tensor, labels: Tensor, label_kind: LabelKind, doubt: float = 0.0) -> Tensor:
    """Mean negative log-likelihood; every class counts ``doubt`` beside the label's 1."""
    if label_kind == "multilabel":
        targets = (labels.to(logits.dtype) + doubt) / (1 + 2 * doubt)
        return F.binary_cross_entropy_with_logits(logits, targets)
    classes = logits.shape[1]
    return F.cross_entropy(logits, labels, label_smoothing=doubt * classes / (1 + doubt * classes))


def _widened(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype.itemsize < 4 else logits
