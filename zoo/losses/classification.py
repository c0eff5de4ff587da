"""Losses of classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.core.errors import between, one_of, refuse
from zoo.losses.base import (
    LabelKind,
    Loss,
    Reduction,
    check_classes,
    check_gamma,
    check_numbers,
    checked_weights,
    counted_elements,
    expected_loss,
    presence_and_absence,
    reduce_elements,
    reduce_samples,
)

ClassificationLoss = Literal[
    "cross_entropy", "binary_cross_entropy", "focal", "generalized_cross_entropy"
]
"""Losses of classes.

Names:
    cross_entropy: Of one class out of several: ``-log p`` of the right one.
    binary_cross_entropy: Of labels one by one, each there or not: for multi-label data.
    focal: Cross-entropy that counts what is easy less, by ``focal_gamma`` (arXiv 1708.02002).
    generalized_cross_entropy: Bounded, for wrong labels in the data; ``gce_q`` (arXiv 1805.07836).
"""

_SEVERAL_LABELS = ("binary_cross_entropy", "focal")
_ONE_LABEL = tuple(n for n in get_args(ClassificationLoss) if n != "binary_cross_entropy")


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross-entropy ``-sum_c u_c log softmax(z)_c``, torch's but for smoothed weights.

    Class indices stand for ``t_c = 1`` at the label. Label smoothing is that of Szegedy et al.,
    arXiv 1512.00567. The mean over class indices divides by the sum of the labels' weights, the
    mean over class probabilities by the count, as in torch.

    Deviations from torch: class weights weigh a sample by its own label, and leave the smoothing
    even; torch weighs the smoothing's classes too, so that of weights 1, 1, 50 and a smoothing of
    0.1 the loss of a sample of the first class is least at the probabilities 0.35, 0.01 and 0.63,
    here at 0.93, 0.03 and 0.03. And where every element is ignored the loss is 0, not NaN.

    >>> logits, labels = torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1])
    >>> cross_entropy(logits, labels, reduction="none")
    tensor([0.1269, 0.6931])
    """
    logits, targets = check_classes(logits, targets, class_weights)
    if targets.shape == logits.shape:
        losses = -logits.log_softmax(1)
        return expected_loss(losses, targets, class_weights, label_smoothing, None, reduction)
    if class_weights is None and ignore_index is None and reduction == "mean":
        return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
    losses = F.cross_entropy(
        logits,
        targets,
        label_smoothing=label_smoothing,
        ignore_index=-100 if ignore_index is None else ignore_index,
        reduction="none",
    )
    counted = counted_elements(logits, targets, ignore_index)
    if class_weights is not None:
        losses = losses * class_weights[targets.where(counted > 0, 0)]
    return reduce_elements(losses, targets, counted, class_weights, reduction)


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
    """Focal loss ``-sum_c u_c (1 - p_c)^gamma log p_c`` with ``p = softmax(z)``.

    Lin et al., arXiv 1708.02002: the factor makes light of samples that are already right;
    ``gamma=0`` is :func:`cross_entropy`. Deviations: the paper has a sigmoid per class
    (:func:`sigmoid_focal`), this is its form for one class of several; class weights stand for its
    ``alpha``; and the mean is that of :func:`cross_entropy`, not over the boxes with an object.

    ``gamma``, 0 or more, says how fast the weight falls with the probability.

    >>> logits, labels = torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1])
    >>> focal(logits, labels, reduction="none")
    tensor([0.0018, 0.1733])
    """
    logits, targets = check_classes(logits, targets, class_weights)
    log_p = logits.log_softmax(1)
    # At 1 - p = 0 the power's derivative is infinite for gamma < 1, and times log p = 0 it is NaN.
    rest = (-log_p.expm1()).clamp(min=torch.finfo(log_p.dtype).tiny)
    return expected_loss(
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
    """Generalised cross-entropy ``sum_c u_c (1 - p_c^q) / q`` with ``p = softmax(z)``.

    Zhang & Sabuncu, arXiv 1805.07836, for labels of which some are wrong: the loss of one sample is
    at most ``1 / q``, so that a wrong label pulls less. ``q -> 0`` is :func:`cross_entropy`;
    ``q = 1`` is ``1 - p_y``, half the mean absolute error between ``p`` and the one-hot label (the
    unhinged loss). Deviation: the paper's truncated variant, which prunes samples in turns with
    training, is left out.

    ``q`` lies above 0, up to 1; the paper has 0.7.

    >>> sure_and_wrong = torch.tensor([[9.0, 0.0]])
    >>> generalized_cross_entropy(sure_and_wrong, torch.tensor([1]))
    tensor(1.4259)
    """
    logits, targets = check_classes(logits, targets, class_weights)
    losses = -torch.expm1(q * logits.log_softmax(1)) / q
    return expected_loss(losses, targets, class_weights, label_smoothing, None, reduction)


def binary_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross-entropy of each label by itself, torch's ``binary_cross_entropy_with_logits``.

    ``-mean_c (u_c log s_c + v_c log(1 - s_c))`` with ``s = sigmoid(z)``. Class weights are torch's
    ``pos_weight``, but for smoothed labels, as in :func:`cross_entropy`: an absent label's share of
    presence is not weighted.

    >>> binary_cross_entropy(torch.tensor([[2.0, 0.0]]), torch.tensor([[1, 0]]))
    tensor(0.4100)
    """
    logits, targets = check_numbers(logits, targets, class_weights)
    present, absent = presence_and_absence(targets, class_weights, label_smoothing)
    losses = -present * F.logsigmoid(logits) - absent * F.logsigmoid(-logits)
    return reduce_samples(losses, reduction)


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

    ``-mean_c (u_c (1 - s_c)^gamma log s_c + v_c s_c^gamma log(1 - s_c))`` with
    ``s = sigmoid(z)``; ``gamma=0`` is :func:`binary_cross_entropy`. Deviations: class weights on a
    label's presence stand for the paper's ``alpha``, and the mean is over all labels, not over the
    boxes with an object. Targets between 0 and 1 weigh the two terms; torchvision's
    ``sigmoid_focal_loss``, the same for 0 and 1, mixes the probabilities there instead.

    >>> sigmoid_focal(torch.tensor([[2.0, 0.0]]), torch.tensor([[1, 0]]))
    tensor(0.0875)
    """
    logits, targets = check_numbers(logits, targets, class_weights)
    present, absent = presence_and_absence(targets, class_weights, label_smoothing)
    log_s, log_rest = F.logsigmoid(logits), F.logsigmoid(-logits)
    # The powers as exponentials: their derivatives stay finite where s or 1 - s is 0.
    losses = -present * (gamma * log_rest).exp() * log_s
    losses = losses - absent * (gamma * log_s).exp() * log_rest
    return reduce_samples(losses, reduction)


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
        name: See :mod:`zoo.losses`.
        label_kind: What the labels are. Multi-label ones are 0 or 1, ``(B, C)``; the others are
            class indices ``(B,)`` or, after MixUp, class probabilities ``(B, C)``.
        label_smoothing: Share of the target that is spread evenly over all classes (over presence
            and absence of each label in the case of multi-label ones); from 0 to below 1. Class
            weights do not act on it.
        class_weights: One factor a class, ``(C,)``, 0 or more.
        focal_gamma: Exponent (focal only); 0 or more.
        gce_q: ``q`` (generalized_cross_entropy only); above 0, up to 1.

    Raises:
        OptionError: If the name is unknown, the loss does not fit the labels, or an option lies
            outside what it may be.
    """
    one_of("loss", name, get_args(ClassificationLoss))
    one_of("label_kind", label_kind, get_args(LabelKind))
    several = label_kind == "multilabel"
    if name not in (fitting := _SEVERAL_LABELS if several else _ONE_LABEL):
        remedy = f"give one of {', '.join(fitting)}, as the data's labels are {label_kind}"
        raise refuse("loss", name, remedy)
    between("label_smoothing", label_smoothing, inclusive=False)
    if not 0 < gce_q <= 1:
        raise refuse("gce_q", gce_q, "give a number above 0, up to 1")
    check_gamma(focal_gamma)
    functions: dict[str, tuple[Callable[..., Tensor], dict[str, float]]] = {
        "cross_entropy": (cross_entropy, {}),
        "binary_cross_entropy": (binary_cross_entropy, {}),
        "focal": (sigmoid_focal if several else focal, {"gamma": focal_gamma}),
        "generalized_cross_entropy": (generalized_cross_entropy, {"q": gce_q}),
    }
    function, own = functions[name]
    weights = checked_weights(class_weights)
    return Loss(function, class_weights=weights, label_smoothing=label_smoothing, **own)
