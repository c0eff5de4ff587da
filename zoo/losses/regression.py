"""Losses of numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.core.errors import above, one_of, refuse
from zoo.losses.base import Loss, Reduction, check_numbers, reduce_samples

RegressionLoss = Literal["mse", "mae", "huber", "pseudo_huber", "log_cosh", "quantile"]
"""Losses of numbers.

Names:
    mse: Squared error; estimates the mean.
    mae: Absolute error; estimates the median, and outliers pull no more than others.
    huber: Squared up to ``huber_delta``, straight beyond.
    pseudo_huber: As huber, smooth everywhere.
    log_cosh: As huber with a bend at about 1, smooth everywhere.
    quantile: Pinball loss; estimates the share ``quantile`` of the targets.
"""


def mse(predictions: Tensor, targets: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Squared error ``r^2``, without the half that the others have.

    >>> mse(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 0.0]))
    tensor(5.)
    """
    predictions, targets = check_numbers(predictions, targets)
    return reduce_samples(F.mse_loss(predictions, targets, reduction="none"), reduction)


def mae(predictions: Tensor, targets: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Absolute error ``|r|``.

    >>> mae(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 0.0]))
    tensor(2.)
    """
    predictions, targets = check_numbers(predictions, targets)
    return reduce_samples(F.l1_loss(predictions, targets, reduction="none"), reduction)


def huber(
    predictions: Tensor, targets: Tensor, *, delta: float = 1.0, reduction: Reduction = "mean"
) -> Tensor:
    """``r^2 / 2`` up to ``|r| = delta``, then ``delta (|r| - delta / 2)``.

    Huber, 1964 (doi 10.1214/aoms/1177703732), on the scale of torch's ``huber_loss``: the parabola
    is the same for every ``delta``. (torch's ``smooth_l1_loss`` is this divided by ``delta``.)

    ``delta`` is the residual, in units of the target, from which on the loss is a straight line.

    >>> huber(torch.tensor([0.5, 3.0]), torch.tensor([0.0, 0.0]), reduction="none")
    tensor([0.1250, 2.5000])
    """
    predictions, targets = check_numbers(predictions, targets)
    losses = F.huber_loss(predictions, targets, delta=delta, reduction="none")
    return reduce_samples(losses, reduction)


def pseudo_huber(
    predictions: Tensor, targets: Tensor, *, delta: float = 1.0, reduction: Reduction = "mean"
) -> Tensor:
    """``delta^2 (sqrt(1 + (r / delta)^2) - 1)``, smooth everywhere.

    Charbonnier et al., 1997 (doi 10.1109/83.551699); the same scale as :func:`huber`: ``r^2 / 2``
    for small residuals, slope ``delta`` for large ones, where it lies ``delta^2 / 2`` lower.

    ``delta`` is the residual around which the parabola becomes a line.

    >>> pseudo_huber(torch.tensor([0.5, 3.0]), torch.tensor([0.0, 0.0]), reduction="none")
    tensor([0.1180, 2.1623])
    """
    predictions, targets = check_numbers(predictions, targets)
    r = predictions - targets
    # The formula times (sqrt + 1) / (sqrt + 1): no difference of near numbers, no large square.
    length = torch.hypot(r, r.new_full((), delta))
    return reduce_samples(delta * r * (r / (length + delta)), reduction)


def log_cosh(predictions: Tensor, targets: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """``log cosh r``, as ``|r| + softplus(-2 |r|) - log 2``, which cannot overflow.

    Absolute rounding errors are those of numbers around 1, hence the loss of a float32 residual
    below about 0.001 is noise; its derivative is not.

    >>> log_cosh(torch.tensor([0.5, 3.0]), torch.tensor([0.0, 0.0]), reduction="none")
    tensor([0.1201, 2.3093])
    """
    predictions, targets = check_numbers(predictions, targets)
    size = (predictions - targets).abs()
    return reduce_samples(size + F.softplus(-2 * size) - math.log(2), reduction)


def pinball(
    predictions: Tensor, targets: Tensor, *, q: float = 0.5, reduction: Reduction = "mean"
) -> Tensor:
    """Pinball loss ``max(-q r, (1 - q) r)``; its minimum is the target's ``q``-quantile.

    Koenker & Bassett, 1978 (doi 10.2307/1913643). A prediction that is too low costs ``q`` a unit,
    one that is too high ``1 - q``; ``q=0.5`` is half of :func:`mae`.

    >>> pinball(torch.tensor([-1.0, 1.0]), torch.tensor([0.0, 0.0]), q=0.9, reduction="none")
    tensor([0.9000, 0.1000])
    """
    predictions, targets = check_numbers(predictions, targets)
    r = predictions - targets
    return reduce_samples(torch.maximum(-q * r, (1 - q) * r), reduction)


def regression_loss(
    name: RegressionLoss, *, huber_delta: float = 1.0, quantile: float = 0.5
) -> Loss:
    """Build the regression loss of that name; :mod:`zoo.losses` compares them.

    It takes predictions and targets of one shape, ``(B,)`` or ``(B, K)``.

    Args:
        name: See there.
        huber_delta: Residual at which the parabola becomes a line (huber and pseudo_huber only), in
            units of the target as the loss sees it; above 0.
        quantile: Which quantile is predicted (quantile only); between 0 and 1.

    Raises:
        OptionError: If the name is unknown, or an option lies outside what it may be.
    """
    one_of("loss", name, get_args(RegressionLoss))
    above("huber_delta", huber_delta)
    if not 0 < quantile < 1:
        raise refuse("quantile", quantile, "give a number between 0 and 1")
    functions: dict[str, tuple[Callable[..., Tensor], dict[str, float]]] = {
        "mse": (mse, {}),
        "mae": (mae, {}),
        "huber": (huber, {"delta": huber_delta}),
        "pseudo_huber": (pseudo_huber, {"delta": huber_delta}),
        "log_cosh": (log_cosh, {}),
        "quantile": (pinball, {"q": quantile}),
    }
    function, own = functions[name]
    return Loss(function, class_weights=None, **own)
