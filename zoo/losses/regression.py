"""Losses of numbers."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.losses.base import Loss, Reduction, _fitting, _known, _over_samples

RegressionLoss = Literal["mse", "mae", "huber", "pseudo_huber", "log_cosh", "quantile"]


def mse(predictions: Tensor, targets: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Squared error ``r^2``, without the half that the others have.

    Args:
        predictions: ``(B, ...)``.
        targets: Of the same shape.
        reduction: ``mean`` or ``none``, see the module.

    Raises:
        ValueError: The shapes differ.
    """
    targets = _fitting(predictions, targets)
    return _over_samples(F.mse_loss(predictions, targets, reduction="none"), reduction)


def mae(predictions: Tensor, targets: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Absolute error ``|r|``; arguments as in :func:`mse`."""
    targets = _fitting(predictions, targets)
    return _over_samples(F.l1_loss(predictions, targets, reduction="none"), reduction)


def huber(
    predictions: Tensor, targets: Tensor, *, delta: float = 1.0, reduction: Reduction = "mean"
) -> Tensor:
    """``r^2 / 2`` up to ``|r| = delta``, then ``delta (|r| - delta / 2)``.

    Huber, 1964 (doi 10.1214/aoms/1177703732), on the scale of torch's ``huber_loss``: the parabola
    is the same for every ``delta``. (torch's ``smooth_l1_loss`` is this divided by ``delta``.)

    Args:
        predictions: ``(B, ...)``.
        targets: Of the same shape.
        delta: The residual, in units of the target, from which on the loss is a straight line.
        reduction: ``mean`` or ``none``, see the module.

    Raises:
        ValueError: The shapes differ.
    """
    targets = _fitting(predictions, targets)
    losses = F.huber_loss(predictions, targets, delta=delta, reduction="none")
    return _over_samples(losses, reduction)


def pseudo_huber(
    predictions: Tensor, targets: Tensor, *, delta: float = 1.0, reduction: Reduction = "mean"
) -> Tensor:
    """``delta^2 (sqrt(1 + (r / delta)^2) - 1)``, smooth everywhere.

    Charbonnier et al., 1997 (doi 10.1109/83.551699); the same scale as :func:`huber`: ``r^2 / 2``
    for small residuals, slope ``delta`` for large ones, where it lies ``delta^2 / 2`` lower.

    Args:
        predictions: ``(B, ...)``.
        targets: Of the same shape.
        delta: The residual, in units of the target, around which the parabola becomes a line.
        reduction: ``mean`` or ``none``, see the module.

    Raises:
        ValueError: The shapes differ.
    """
    r = predictions - _fitting(predictions, targets)
    # The formula times (sqrt + 1) / (sqrt + 1): no difference of near numbers, no large square.
    length = torch.hypot(r, r.new_full((), delta))
    return _over_samples(delta * r * (r / (length + delta)), reduction)


def log_cosh(predictions: Tensor, targets: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """``log cosh r``, as ``|r| + softplus(-2 |r|) - log 2``, which cannot overflow.

    Arguments as in :func:`mse`. Absolute rounding errors are those of numbers around 1, hence the
    loss of a float32 residual below about 0.001 is noise; its derivative is not.
    """
    size = (predictions - _fitting(predictions, targets)).abs()
    return _over_samples(size + F.softplus(-2 * size) - math.log(2), reduction)


def pinball(
    predictions: Tensor, targets: Tensor, *, q: float = 0.5, reduction: Reduction = "mean"
) -> Tensor:
    """Pinball loss ``max(-q r, (1 - q) r)``; its minimum is the target's ``q``-quantile.

    Koenker & Bassett, 1978 (doi 10.2307/1913643). A prediction that is too low costs ``q`` a unit,
    one that is too high ``1 - q``; ``q=0.5`` is half of :func:`mae`.

    Args:
        predictions: ``(B, ...)``.
        targets: Of the same shape.
        q: Between 0 and 1.
        reduction: ``mean`` or ``none``, see the module.

    Raises:
        ValueError: The shapes differ.
    """
    r = predictions - _fitting(predictions, targets)
    return _over_samples(torch.maximum(-q * r, (1 - q) * r), reduction)


def regression_loss(
    name: RegressionLoss, *, huber_delta: float = 1.0, quantile: float = 0.5
) -> Loss:
    """Build the regression loss of that name; the module's table compares them.

    It takes predictions and targets of one shape, ``(B,)`` or ``(B, K)``.

    Args:
        name: See the module's table.
        huber_delta: Residual at which the parabola becomes a line (huber and pseudo_huber only), in
            units of the target as the loss sees it; above 0.
        quantile: Which quantile is predicted (quantile only); between 0 and 1.

    Raises:
        ValueError: The name is unknown, or an option lies outside what it may be.
    """
    _known("loss", name, get_args(RegressionLoss))
    if not 0 < huber_delta < math.inf:
        raise ValueError(f"huber_delta={huber_delta} is not possible; give a number above 0")
    if not 0 < quantile < 1:
        raise ValueError(f"quantile={quantile} is not possible; give a number between 0 and 1")
    match name:
        case "mse":
            return Loss(mse)
        case "mae":
            return Loss(mae)
        case "huber":
            return Loss(huber, delta=huber_delta)
        case "pseudo_huber":
            return Loss(pseudo_huber, delta=huber_delta)
        case "log_cosh":
            return Loss(log_cosh)
        case "quantile":
            return Loss(pinball, q=quantile)
