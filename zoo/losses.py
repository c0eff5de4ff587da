"""Losses, chosen by name.

Shapes: ``B`` samples, ``C`` classes; ``...`` stands for nothing (classification) or for further
axes such as ``H, W`` (segmentation). Every loss takes ``reduction``: ``mean`` gives one number for
the batch, ``none`` one number a sample, ``(B,)``: the mean over the sample's own elements (labels
of a multi-label target, columns of a regression, pixels that count).

**Classification** takes logits ``z``, never probabilities; :func:`check_logits` says why. With
``p = softmax(z)``, ``s = sigmoid(z)``, targets ``t`` and class weights ``w`` (1 where left out),
the loss of one sample is, for labels of one class out of several (multiclass, binary, ordinal):

* cross_entropy: ``-sum_c w_c t_c log p_c``
* focal: ``-sum_c w_c t_c (1 - p_c)^gamma log p_c``
* generalized_cross_entropy: ``sum_c w_c t_c (1 - p_c^q) / q``

and for multi-label ones:

* binary_cross_entropy: ``-mean_c (w_c t_c log s_c + (1 - t_c) log(1 - s_c))``
* focal: ``-mean_c (w_c t_c (1 - s_c)^gamma log s_c + (1 - t_c) s_c^gamma log(1 - s_c))``

**Regression** works on the residual ``r = prediction - target``; ``d`` is ``huber_delta``:

============ ============================ ========================== ======================
name         small ``|r|``                large ``|r|``              first derivative
============ ============================ ========================== ======================
mse          ``r^2``                      ``r^2``                    ``2 r``
mae          ``|r|``                      ``|r|``                    ``sign r``
huber        ``r^2 / 2`` up to ``d``      ``d |r| - d^2 / 2``        ``clamp(r, -d, d)``
pseudo_huber near ``r^2 / 2``             near ``d |r| - d^2``       ``r / sqrt(1 + (r/d)^2)``
log_cosh     near ``r^2 / 2``             near ``|r| - log 2``       ``tanh r``
quantile     ``-q r`` or ``(1 - q) r``    ``-q r`` or ``(1 - q) r``  ``-q`` or ``1 - q``
============ ============================ ========================== ======================

Huber's loss against the smoother ones: all three are a parabola for small residuals and a straight
line for large ones, so an outlier pulls with a bounded force (``d``, or 1 for log_cosh), unlike
mse, and the gradient goes to 0 with the residual, unlike mae, whose steps of constant length make
a net hover around the minimum. They differ in the second derivative. Huber's jumps from 1 to 0 at
``|r| = d``: beyond it the curvature is exactly 0, by which Newton's method and gradient boosting
divide. Pseudo-Huber's, ``(1 + (r / d)^2)^(-3/2)``, and log-cosh's, ``1 / cosh^2 r``, are continuous
and positive everywhere. The price: they bend well before ``d``, so that residuals below it are no
longer weighted as by mse (at ``r = d`` the curvature of pseudo-Huber is 0.35, of log-cosh 0.42).
Log-cosh has no ``d``: its bend sits at residuals of about 1, so that targets should be
standardised. ``mse`` estimates the mean of the target, ``mae`` its median, ``quantile`` its
``q``-quantile; the other three lie between mean and median.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ClassificationLoss = Literal[
    "cross_entropy", "binary_cross_entropy", "focal", "generalized_cross_entropy"
]
SegmentationLoss = Literal["cross_entropy", "focal", "dice", "dice_cross_entropy"]
RegressionLoss = Literal["mse", "mae", "huber", "pseudo_huber", "log_cosh", "quantile"]
#: One class of several, one of two, any number of several, one of several that have an order.
LabelKind = Literal["multiclass", "binary", "multilabel", "ordinal"]
#: What a data module may say of its labels: also a number, or a mask.
TargetKind = Literal["multiclass", "binary", "multilabel", "ordinal", "continuous", "mask"]
Reduction = Literal["mean", "none"]

_ONE_CLASS: tuple[ClassificationLoss, ...] = (
    "cross_entropy",
    "focal",
    "generalized_cross_entropy",
)
_ANY_CLASSES: tuple[ClassificationLoss, ...] = ("binary_cross_entropy", "focal")


# --- classification ------------------------------------------------------------------------------


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross-entropy ``-sum_c w_c t_c log softmax(z)_c``, torch's.

    Class indices stand for ``t_c = 1`` at the label. Label smoothing (Szegedy et al.,
    arXiv 1512.00567) replaces ``t`` by ``(1 - e) t + e / C``. The mean over class indices divides
    by the sum of the labels' weights, the mean over class probabilities by the count, as in torch.

    Deviation from torch: where every element is ignored the loss is 0, not NaN.

    Args:
        logits: ``(B, C, ...)``.
        targets: Class indices ``(B, ...)``, or class probabilities ``(B, C, ...)`` as MixUp makes.
        class_weights: ``w``, ``(C,)``.
        label_smoothing: ``e``, the share of the target that is spread evenly over all classes.
        ignore_index: Class index whose elements do not count.
        reduction: ``mean`` or ``none``, see the module.

    Returns:
        A scalar, or ``(B,)``.

    Raises:
        ValueError: The shapes do not fit, or there is only one class.
    """
    targets = _fitting_classes(logits, targets, class_weights)
    if ignore_index is None and reduction == "mean":
        return F.cross_entropy(
            logits, targets, weight=class_weights, label_smoothing=label_smoothing
        )
    by_index = targets.shape != logits.shape
    losses = F.cross_entropy(
        logits,
        targets,
        weight=class_weights,
        label_smoothing=label_smoothing,
        ignore_index=ignore_index if ignore_index is not None and by_index else -100,
        reduction="none",
    )
    counted = _counted(logits, targets, ignore_index)
    return _over_classes(losses, targets if by_index else None, counted, class_weights, reduction)


def focal(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma: float = 2.0,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Focal loss ``-sum_c w_c t_c (1 - p_c)^gamma log p_c`` with ``p = softmax(z)``.

    Lin et al., arXiv 1708.02002: the factor makes light of samples that are already right;
    ``gamma=0`` is :func:`cross_entropy`. Deviations: the paper has a sigmoid per class
    (:func:`sigmoid_focal`), this is its form for one class of several; class weights stand for its
    ``alpha``; and the mean is that of :func:`cross_entropy`, not over the boxes with an object.

    Args:
        logits: ``(B, C, ...)``.
        targets: Class indices ``(B, ...)`` or class probabilities ``(B, C, ...)``.
        gamma: How fast the weight falls with the probability; 0 or more.
        class_weights: ``w``, ``(C,)``.
        label_smoothing: As in :func:`cross_entropy`.
        ignore_index: Class index whose elements do not count.
        reduction: ``mean`` or ``none``, see the module.

    Returns:
        A scalar, or ``(B,)``.

    Raises:
        ValueError: The shapes do not fit, or there is only one class.
    """
    targets = _fitting_classes(logits, targets, class_weights)
    log_p = logits.log_softmax(1)
    # At 1 - p = 0 the power's derivative is infinite for gamma < 1, and times log p = 0 it is NaN.
    rest = (-log_p.expm1()).clamp(min=torch.finfo(log_p.dtype).tiny)
    return _expected(
        rest**gamma * -log_p, targets, class_weights, label_smoothing, ignore_index, reduction
    )


def generalized_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    q: float = 0.7,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Generalised cross-entropy ``sum_c w_c t_c (1 - p_c^q) / q`` with ``p = softmax(z)``.

    Zhang & Sabuncu, arXiv 1805.07836, for labels of which some are wrong: the loss of one sample is
    at most ``1 / q``, so that a wrong label pulls less. ``q -> 0`` is :func:`cross_entropy`;
    ``q = 1`` is ``1 - p_y``, half the mean absolute error between ``p`` and the one-hot label (the
    unhinged loss). Deviation: the paper's truncated variant, which prunes samples in turns with
    training, is left out.

    Args:
        logits: ``(B, C, ...)``.
        targets: Class indices ``(B, ...)`` or class probabilities ``(B, C, ...)``.
        q: Above 0, up to 1; 0.7 in the paper.
        class_weights: ``w``, ``(C,)``.
        label_smoothing: As in :func:`cross_entropy`.
        reduction: ``mean`` or ``none``, see the module.

    Returns:
        A scalar, or ``(B,)``.

    Raises:
        ValueError: The shapes do not fit, or there is only one class.
    """
    targets = _fitting_classes(logits, targets, class_weights)
    losses = -torch.expm1(q * logits.log_softmax(1)) / q
    return _expected(losses, targets, class_weights, label_smoothing, None, reduction)


def binary_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross-entropy of each label by itself, torch's ``binary_cross_entropy_with_logits``.

    ``-mean_c (w_c t_c log s_c + (1 - t_c) log(1 - s_c))`` with ``s = sigmoid(z)``; label smoothing
    replaces ``t`` by ``(1 - e) t + e / 2``.

    Args:
        logits: ``(B, C)``.
        targets: 0 or 1 (or between), ``(B, C)``.
        class_weights: ``w``, ``(C,)``: torch's ``pos_weight``, a factor on a label's presence.
        label_smoothing: ``e``.
        reduction: ``mean`` or ``none``, see the module.

    Returns:
        A scalar, or ``(B,)``.

    Raises:
        ValueError: The shapes do not fit.
    """
    targets = _smoothed(_fitting(logits, targets, class_weights), label_smoothing, 2)
    losses = F.binary_cross_entropy_with_logits(
        logits, targets, pos_weight=class_weights, reduction="none"
    )
    return _over_samples(losses, reduction)


def sigmoid_focal(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma: float = 2.0,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Focal loss of each label by itself, the form of Lin et al., arXiv 1708.02002.

    ``-mean_c (w_c t_c (1 - s_c)^gamma log s_c + (1 - t_c) s_c^gamma log(1 - s_c))`` with
    ``s = sigmoid(z)``; ``gamma=0`` is :func:`binary_cross_entropy`. Deviations: class weights on a
    label's presence stand for the paper's ``alpha``, and the mean is over all labels, not over the
    boxes with an object. Targets between 0 and 1 weigh the two terms; torchvision's
    ``sigmoid_focal_loss``, the same for 0 and 1, mixes the probabilities there instead.

    Args:
        logits: ``(B, C)``.
        targets: 0 or 1 (or between), ``(B, C)``.
        gamma: How fast the weight falls with the probability; 0 or more.
        class_weights: ``w``, ``(C,)``.
        label_smoothing: As in :func:`binary_cross_entropy`.
        reduction: ``mean`` or ``none``, see the module.

    Returns:
        A scalar, or ``(B,)``.

    Raises:
        ValueError: The shapes do not fit.
    """
    targets = _smoothed(_fitting(logits, targets, class_weights), label_smoothing, 2)
    log_s, log_rest = F.logsigmoid(logits), F.logsigmoid(-logits)
    present = targets if class_weights is None else targets * class_weights
    # The powers as exponentials: their derivatives stay finite where s or 1 - s is 0.
    losses = -present * (gamma * log_rest).exp() * log_s
    losses = losses - (1 - targets) * (gamma * log_s).exp() * log_rest
    return _over_samples(losses, reduction)


# --- segmentation --------------------------------------------------------------------------------


def dice(
    logits: Tensor,
    targets: Tensor,
    *,
    class_weights: Tensor | None = None,
    ignore_index: int | None = None,
    smooth: float = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Soft Dice loss ``1 - (2 sum p t + smooth) / (sum p^2 + sum t^2 + smooth)``.

    Milletari et al. (V-Net), arXiv 1606.04797, with ``p = softmax(z)`` and the sums over an image's
    pixels, for each image and class; then the mean over classes (weighted by ``w``) and images.
    Deviations: the paper has foreground alone, here all classes count, the background too; and
    ``smooth``, without which a class that is in neither picture nor prediction would be 0 / 0: with
    it, its loss is 0.

    Args:
        logits: ``(B, C, H, W)``.
        targets: Class indices ``(B, H, W)`` or class probabilities ``(B, C, H, W)``.
        class_weights: ``w``, ``(C,)``.
        ignore_index: Class index whose pixels do not count.
        smooth: Above 0, in pixels.
        reduction: ``mean`` or ``none``, see the module.

    Returns:
        A scalar, or ``(B,)``.

    Raises:
        ValueError: The shapes do not fit, or there is only one class.
    """
    targets = _fitting_classes(logits, targets, class_weights)
    counted = _counted(logits, targets, ignore_index).unsqueeze(1)
    truth = _class_probabilities(logits, targets, counted) * counted
    p = logits.softmax(1) * counted
    overlap = (p * truth).flatten(2).sum(2)
    size = (p.square() + truth.square()).flatten(2).sum(2)
    losses = 1 - (2 * overlap + smooth) / (size + smooth)  # (B, C)
    weights = torch.ones_like(losses[0]) if class_weights is None else class_weights
    losses = losses @ (weights / weights.sum())
    return losses.mean() if reduction == "mean" else losses


def dice_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    class_weights: Tensor | None = None,
    ignore_index: int | None = None,
    smooth: float = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The sum of :func:`dice` and :func:`cross_entropy`, as in nnU-Net (arXiv 1809.10486).

    Dice makes up for rare classes, cross-entropy gives every pixel a gradient. Deviation: nnU-Net
    takes Dice over the whole batch with a linear denominator; here it is :func:`dice`.

    Args:
        logits: ``(B, C, H, W)``.
        targets: Class indices ``(B, H, W)`` or class probabilities ``(B, C, H, W)``.
        class_weights: ``w``, ``(C,)``, in both parts.
        ignore_index: Class index whose pixels do not count.
        smooth: As in :func:`dice`.
        reduction: ``mean`` or ``none``, see the module.

    Returns:
        A scalar, or ``(B,)``.

    Raises:
        ValueError: The shapes do not fit, or there is only one class.
    """
    overlap = dice(
        logits,
        targets,
        class_weights=class_weights,
        ignore_index=ignore_index,
        smooth=smooth,
        reduction=reduction,
    )
    return overlap + cross_entropy(
        logits,
        targets,
        class_weights=class_weights,
        ignore_index=ignore_index,
        reduction=reduction,
    )


# --- regression ----------------------------------------------------------------------------------


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


# --- by name -------------------------------------------------------------------------------------


class Loss(nn.Module):
    """A loss with its options, called with outputs and targets.

    Outputs in half precision are raised to float32 first. Class weights follow the module to its
    device and are no part of a checkpoint.

    Args:
        function: One of this module's functions.
        class_weights: Handed to it where they are given.
        options: Its further options.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        function: Callable[..., Tensor],
        *,
        class_weights: Tensor | None = None,
        **options: float | None,
    ) -> None:
        super().__init__()
        self.function = function
        self.options = options
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, outputs: Tensor, targets: Tensor, reduction: Reduction = "mean") -> Tensor:
        """The mean loss, or with ``reduction="none"`` the loss of each sample, ``(B,)``."""
        if outputs.dtype.itemsize < 4:
            outputs = outputs.float()
        options: dict[str, Tensor | float | None] = dict(self.options)
        if self.class_weights is not None:
            options["class_weights"] = self.class_weights.to(outputs.dtype)
        return self.function(outputs, targets, reduction=reduction, **options)

    def extra_repr(self) -> str:
        """The function's name and options."""
        options = [f"{name}={value}" for name, value in self.options.items()]
        if self.class_weights is not None:
            options.append(f"class_weights={self.class_weights.tolist()}")
        return ", ".join([self.function.__name__, *options])


def classification_loss(
    name: ClassificationLoss,
    *,
    label_kind: LabelKind,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
    focal_gamma: float = 2.0,
    gce_q: float = 0.7,
) -> Loss:
    """Builds the classification loss of that name.

    Args:
        name: See the module's table.
        label_kind: What the labels are. Multi-label ones are 0 or 1, ``(B, C)``; the others are
            class indices ``(B,)`` or, after MixUp, class probabilities ``(B, C)``.
        label_smoothing: Share of the target that is spread evenly over all classes (over presence
            and absence of each label in the case of multi-label ones); from 0 to below 1.
        class_weights: One factor a class, ``(C,)``, 0 or more.
        focal_gamma: Exponent (focal only); 0 or more.
        gce_q: ``q`` (generalized_cross_entropy only); above 0, up to 1.

    Raises:
        ValueError: The name is unknown, the loss does not fit the labels, or an option lies outside
            what it may be.
    """
    _known("loss", name, get_args(ClassificationLoss))
    _known("label_kind", label_kind, get_args(LabelKind))
    fitting = _ANY_CLASSES if label_kind == "multilabel" else _ONE_CLASS
    if name not in fitting:
        takes = "multilabel" if name in _ANY_CLASSES else "multiclass, binary or ordinal"
        raise ValueError(
            f"loss={name!r} takes {takes} labels, but the data's are {label_kind}; "
            f"choose one of {', '.join(fitting)}"
        )
    if not 0 <= label_smoothing < 1:
        raise ValueError(
            f"label_smoothing={label_smoothing} is not possible; give a number from 0 to below 1"
        )
    if not 0 < gce_q <= 1:
        raise ValueError(f"gce_q={gce_q} is not possible; give a number above 0, up to 1")
    _check_gamma(focal_gamma)
    weights = _checked_weights(class_weights)
    match name:
        case "cross_entropy":
            return Loss(cross_entropy, class_weights=weights, label_smoothing=label_smoothing)
        case "binary_cross_entropy":
            return Loss(
                binary_cross_entropy, class_weights=weights, label_smoothing=label_smoothing
            )
        case "focal":
            return Loss(
                sigmoid_focal if label_kind == "multilabel" else focal,
                class_weights=weights,
                label_smoothing=label_smoothing,
                gamma=focal_gamma,
            )
        case "generalized_cross_entropy":
            return Loss(
                generalized_cross_entropy,
                class_weights=weights,
                label_smoothing=label_smoothing,
                q=gce_q,
            )


def segmentation_loss(
    name: SegmentationLoss,
    *,
    class_weights: Tensor | None = None,
    ignore_index: int | None = None,
    focal_gamma: float = 2.0,
    dice_smooth: float = 1.0,
) -> Loss:
    """Builds the segmentation loss of that name.

    It takes logits ``(B, C, H, W)`` and class indices ``(B, H, W)`` or probabilities
    ``(B, C, H, W)``.

    Args:
        name: ``cross_entropy``, ``focal``, ``dice`` or ``dice_cross_entropy``, their sum.
        class_weights: One factor a class, ``(C,)``, 0 or more.
        ignore_index: Class index whose pixels do not count.
        focal_gamma: Exponent (focal only); 0 or more.
        dice_smooth: Added to both sides of Dice's fraction (dice only), in pixels; above 0.

    Raises:
        ValueError: The name is unknown, or an option lies outside what it may be.
    """
    _known("loss", name, get_args(SegmentationLoss))
    if not 0 < dice_smooth < math.inf:
        raise ValueError(f"dice_smooth={dice_smooth} is not possible; give a number above 0")
    _check_gamma(focal_gamma)
    weights = _checked_weights(class_weights)
    match name:
        case "cross_entropy":
            return Loss(cross_entropy, class_weights=weights, ignore_index=ignore_index)
        case "focal":
            return Loss(focal, class_weights=weights, ignore_index=ignore_index, gamma=focal_gamma)
        case "dice":
            return Loss(dice, class_weights=weights, ignore_index=ignore_index, smooth=dice_smooth)
        case "dice_cross_entropy":
            return Loss(
                dice_cross_entropy,
                class_weights=weights,
                ignore_index=ignore_index,
                smooth=dice_smooth,
            )


def regression_loss(
    name: RegressionLoss, *, huber_delta: float = 1.0, quantile: float = 0.5
) -> Loss:
    """Builds the regression loss of that name; the module's table compares them.

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


# --- a net that ends in probabilities ------------------------------------------------------------

#: Nodes of the autograd graph that only move values, and those of layers that end in logits.
_MOVES = (
    *("Alias", "Clone", "Expand", "Permute", "ReshapeAlias", "Select", "Slice", "Split", "Squeeze"),
    *("T", "ToCopy", "Transpose", "Unbind", "UnsafeView", "Unsqueeze", "View"),
)
_LINEAR = ("Addmm", "Mm", "Bmm", "Baddbmm", "Convolution", "Linear", "MkldnnLinear")


def check_logits(outputs: Tensor, label_kind: LabelKind) -> None:
    """Refuses a net whose outputs look like probabilities; for the first batch.

    The loss applies softmax itself. Fed with probabilities ``p`` instead of logits it squashes them
    a second time, and trains, only badly: ``p`` lies within 0 and 1, so the best that a net can say
    (1 for the label, 0 for the rest) still costs ``log(1 + (C - 1) / e)``, 1.46 for ten classes;
    the gradient by ``p`` is between ``1 - e / (e + C - 1)`` and 1 at the label however right the
    net is, and by what comes before its softmax it is multiplied by ``p (1 - p)``, so that a net
    that is sure and wrong learns next to nothing. Sigmoid twice does the same to each label: one
    that is there costs at least ``log(1 + 1 / e)``, one that is not at least ``log 2``.

    Softmax is recognised by its values: every row lies within 0 and 1 and sums to one (1e-4, or
    1e-2 in half precision), a constant row of ``1 / C`` too. Sigmoid leaves no such mark. Where the
    outputs carry an autograd graph, its last operation tells: a sigmoid is refused, a linear layer
    or a convolution passes whatever its values. Otherwise (no gradient, a compiled net), and for
    multi-label targets or a single output alone, eight values or more that all lie within 0 and 1
    and on both sides of 0.5 (or at it) are refused: a fresh sigmoid's lie around 0.5, fresh logits
    around 0. So a last layer that starts at zero passes, and so may a sigmoid that is far from 0.5
    for every sample.

    Args:
        outputs: What the net gave, ``(B, C)``, ``(B, C, ...)`` or ``(B,)``.
        label_kind: What the labels are.

    Raises:
        ValueError: The outputs look like probabilities.
    """
    values = outputs.detach()
    if values.numel() == 0 or not values.is_floating_point():
        return
    within = bool(((values >= 0) & (values <= 1)).all())
    single = values.ndim < 2 or values.shape[1] == 1
    if within and not single:
        tolerance = 1e-4 if values.dtype.itemsize >= 4 else 1e-2
        sums = values.double().sum(1) if values.device.type != "mps" else values.float().sum(1)
        if bool(((sums - 1).abs() <= tolerance).all()):
            raise ValueError(_twice("softmax", "lie within 0 and 1 and sum to one in every row"))
    last = _last_operation(outputs)
    if last == "Sigmoid":
        raise ValueError(_twice("sigmoid", "come from a sigmoid"))
    undecided = last not in _LINEAR and values.numel() >= 8
    if within and undecided and (single or label_kind == "multilabel"):
        around_half = bool((values.min() <= 0.5) & (values.max() >= 0.5))
        if around_half:
            raise ValueError(_twice("sigmoid", "all lie within 0 and 1"))


def _twice(squash: str, sign: str) -> str:
    return (
        f"the net's outputs look like probabilities, not logits (they {sign}): the loss applies "
        f"softmax or sigmoid itself, and squashed twice the net trains, only badly; remove the "
        f"{squash} at the net's end"
    )


def _last_operation(outputs: Tensor) -> str:
    """The operation that made these values, as autograd calls it without its suffix, or ''."""
    node = outputs.grad_fn
    while node is not None:
        name = node.name().split("Backward")[0]
        if name not in _MOVES:
            return name
        node = node.next_functions[0][0]
    return ""


# --- shared parts --------------------------------------------------------------------------------


def _known(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        near = difflib.get_close_matches(str(value), known, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(f"{option}={value!r} is unknown{hint}; choose one of {', '.join(known)}")


def _check_gamma(focal_gamma: float) -> None:
    if not 0 <= focal_gamma < math.inf:
        raise ValueError(f"focal_gamma={focal_gamma} is not possible; give a number of 0 or more")


def _checked_weights(class_weights: Tensor | None) -> Tensor | None:
    if class_weights is None:
        return None
    weights = class_weights if class_weights.is_floating_point() else class_weights.float()
    if weights.ndim != 1 or not bool(((weights >= 0) & weights.isfinite()).all()):
        raise ValueError(
            f"class_weights={class_weights.tolist()} is not possible; "
            "give one number of 0 or more for each class"
        )
    if not bool(weights.any()):
        raise ValueError(
            f"class_weights={class_weights.tolist()} leaves no class; give one a number above 0"
        )
    return weights


def _fitting_classes(logits: Tensor, targets: Tensor, class_weights: Tensor | None) -> Tensor:
    """The targets: class indices as int64, class probabilities as numbers of the logits' kind."""
    by_index = (*logits.shape[:1], *logits.shape[2:])
    if logits.ndim < 2 or logits.shape[1] < 2:
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} have one class, whose softmax is always 1; "
            "give the net one output a class, two at least"
        )
    if targets.shape not in (logits.shape, by_index):
        raise ValueError(
            f"targets of shape {tuple(targets.shape)} do not fit logits of shape "
            f"{tuple(logits.shape)}; give class indices {by_index} or class probabilities "
            f"{tuple(logits.shape)}"
        )
    _check_weight_count(logits, class_weights)
    return targets.to(logits.dtype) if targets.shape == logits.shape else targets.long()


def _fitting(outputs: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """The targets as numbers of the outputs' kind; another shape would be broadcast silently."""
    if targets.shape != outputs.shape:
        raise ValueError(
            f"targets of shape {tuple(targets.shape)} do not fit outputs of shape "
            f"{tuple(outputs.shape)}; give both the same shape"
        )
    _check_weight_count(outputs, class_weights)
    return targets.to(outputs.dtype)


def _check_weight_count(logits: Tensor, class_weights: Tensor | None) -> None:
    if class_weights is not None and class_weights.shape != logits.shape[1:2]:
        raise ValueError(
            f"class_weights has {class_weights.numel()} numbers, but there are "
            f"{logits.shape[1]} classes; give one number for each class"
        )


def _smoothed(targets: Tensor, label_smoothing: float, classes: int) -> Tensor:
    return targets * (1 - label_smoothing) + label_smoothing / classes


def _counted(logits: Tensor, targets: Tensor, ignore_index: int | None) -> Tensor:
    """1 for the elements ``(B, ...)`` that count, 0 for those that are ignored."""
    if ignore_index is None or targets.shape == logits.shape:
        return torch.ones_like(logits[:, 0])
    return (targets != ignore_index).to(logits.dtype)


def _class_probabilities(logits: Tensor, targets: Tensor, counted: Tensor) -> Tensor:
    """The targets as class probabilities ``(B, C, ...)``; ``counted`` is ``(B, 1, ...)``."""
    if targets.shape == logits.shape:
        return targets
    index = targets.unsqueeze(1).where(counted > 0, 0)
    return torch.zeros_like(logits).scatter_(1, index, 1.0)


def _expected(
    losses: Tensor,
    targets: Tensor,
    class_weights: Tensor | None,
    label_smoothing: float,
    ignore_index: int | None,
    reduction: Reduction,
) -> Tensor:
    """Reduces ``sum_c w_c t_c loss_c`` of losses ``(B, C, ...)``."""
    counted = _counted(losses, targets, ignore_index)
    truth = _class_probabilities(losses, targets, counted.unsqueeze(1))
    truth = _smoothed(truth, label_smoothing, losses.shape[1])
    if class_weights is not None:
        truth = truth * class_weights.view(-1, *[1] * (losses.ndim - 2))
    by_index = targets if targets.shape != losses.shape else None
    return _over_classes(
        (truth * losses).sum(1) * counted, by_index, counted, class_weights, reduction
    )


def _over_classes(
    losses: Tensor,
    index: Tensor | None,
    counted: Tensor,
    class_weights: Tensor | None,
    reduction: Reduction,
) -> Tensor:
    """Reduces losses ``(B, ...)`` that are weighted and, where ignored, 0.

    Args:
        losses: ``(B, ...)``.
        index: The labels ``(B, ...)``, if they are class indices.
        counted: 1 or 0, ``(B, ...)``.
        class_weights: ``(C,)``.
        reduction: ``mean`` or ``none``.
    """
    if reduction == "none":
        count = counted.reshape(len(losses), -1).sum(1)
        return losses.reshape(len(losses), -1).sum(1) / count.clamp(min=1)
    if class_weights is not None and index is not None:
        counted = counted * class_weights[index.where(counted > 0, 0)]
    return losses.sum() / counted.sum().clamp(min=torch.finfo(losses.dtype).tiny)


def _over_samples(losses: Tensor, reduction: Reduction) -> Tensor:
    return losses.mean() if reduction == "mean" else losses.reshape(len(losses), -1).mean(1)
