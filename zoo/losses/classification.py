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

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.losses.base import (
    LabelKind,
    Loss,
    Reduction,
    _check_gamma,
    _checked_weights,
    _counted,
    _expected,
    _fitting,
    _fitting_classes,
    _known,
    _over_classes,
    _over_samples,
    _smoothed,
)

ClassificationLoss = Literal[
    "cross_entropy", "binary_cross_entropy", "focal", "generalized_cross_entropy"
]

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


# --- regression ----------------------------------------------------------------------------------


# --- by name -------------------------------------------------------------------------------------


def classification_loss(
    name: ClassificationLoss,
    *,
    label_kind: LabelKind,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
    focal_gamma: float = 2.0,
    gce_q: float = 0.7,
) -> Loss:
    """Build the classification loss of that name.

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


# --- a net that ends in probabilities ------------------------------------------------------------


# --- shared parts --------------------------------------------------------------------------------
