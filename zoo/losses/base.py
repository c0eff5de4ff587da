"""What the losses share: kinds of labels, weights and reductions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from datamodules.core.errors import refuse

#: One class of several, one of two, any number of several, one of several that have an order.
LabelKind = Literal["multiclass", "binary", "multilabel", "ordinal"]

#: What a data module may say of its labels: also a number, or a mask.
TargetKind = Literal["multiclass", "binary", "multilabel", "ordinal", "continuous", "mask"]

Reduction = Literal["mean", "none"]


class Loss(nn.Module):
    """A loss with its options, called with outputs and targets.

    Class weights follow the module to its
    device and are no part of a checkpoint.

    Args:
        function: One of this package's functions.
        class_weights: Handed to it where they are given.
        options: Its further options.
    """

    class_weights: Tensor | None
    #: Whether its mean is that of samples also where their elements, such as pixels, have labels.
    mean_of_samples = False

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
        """Return the mean loss, or with ``reduction="none"`` the loss of each sample, ``(B,)``."""
        options: dict[str, Tensor | float | None] = dict(self.options)
        if self.class_weights is not None:
            options["class_weights"] = self.class_weights
        return self.function(outputs, targets, reduction=reduction, **options)

    def weight(self, outputs: Tensor, targets: Tensor) -> Tensor | int:
        """Return what the mean loss of a batch is over, by which the means of batches are joined.

        That is how many labels count, or the sum of their classes' weights.
        """
        if self.mean_of_samples or targets.shape == outputs.shape:
            return len(targets)
        ignored = self.options.get("ignore_index")
        if self.class_weights is None and ignored is None:
            return targets.numel()
        counted = counted_elements(outputs, targets, None if ignored is None else int(ignored))
        return element_weights(targets, counted, self.class_weights).sum()

    def extra_repr(self) -> str:
        """Return the function's name and options."""
        options = [f"{name}={value}" for name, value in self.options.items()]
        if self.class_weights is not None:
            options.append(f"class_weights={self.class_weights.tolist()}")
        return ", ".join([self.function.__name__, *options])


def check_gamma(focal_gamma: float) -> None:
    """Refuse what is no exponent of the focal loss."""
    if not 0 <= focal_gamma < math.inf:
        raise refuse("focal_gamma", focal_gamma, "give a number of 0 or more")


def checked_weights(class_weights: Tensor | None) -> Tensor | None:
    """Return the weights as floats, if each is 0 or more and not all are 0."""
    if class_weights is None:
        return None
    weights = class_weights if class_weights.is_floating_point() else class_weights.float()
    if weights.ndim != 1 or not bool(((weights >= 0) & weights.isfinite()).all()):
        remedy = "give one number of 0 or more for each class"
    elif not bool(weights.any()):
        remedy = "give one class a number above 0"
    else:
        return weights
    raise refuse("class_weights", class_weights.tolist(), remedy)


def check_classes(
    logits: Tensor, targets: Tensor, class_weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return logits, in float32 at least, and targets.

    Class indices are int64, class probabilities numbers of the logits' kind.

    Raises:
        ValueError: If the shapes do not fit, or there is only one class.
    """
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
    check_weight_count(logits, class_weights)
    logits = _widened(logits)
    return logits, targets.to(logits.dtype) if targets.shape == logits.shape else targets.long()


def check_numbers(
    outputs: Tensor, targets: Tensor, class_weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return outputs, in float32 at least, and the targets as numbers of their kind.

    Raises:
        ValueError: If the shapes differ: another one would be broadcast silently.
    """
    if targets.shape != outputs.shape:
        raise ValueError(
            f"targets of shape {tuple(targets.shape)} do not fit outputs of shape "
            f"{tuple(outputs.shape)}; give both the same shape"
        )
    check_weight_count(outputs, class_weights)
    outputs = _widened(outputs)
    return outputs, targets.to(outputs.dtype)


def _widened(outputs: Tensor) -> Tensor:
    """Return numbers that can be summed: in float16 already 65,536 pixels are too many."""
    return outputs.float() if outputs.dtype.itemsize < 4 else outputs


def check_weight_count(logits: Tensor, class_weights: Tensor | None) -> None:
    """Refuse weights that are not as many as classes."""
    if class_weights is not None and class_weights.shape != logits.shape[1:2]:
        raise ValueError(
            f"class_weights has {class_weights.numel()} numbers, but there are "
            f"{logits.shape[1]} classes; give one number for each class"
        )


def smooth_labels(targets: Tensor, total: Tensor, label_smoothing: float, classes: int) -> Tensor:
    """Spread a share of each sample's total evenly over all classes.

    >>> weighted = torch.tensor([[5.0, 0.0]])
    >>> smooth_labels(weighted, weighted.sum(1, keepdim=True), 0.2, 2)
    tensor([[4.5000, 0.5000]])
    """
    return targets * (1 - label_smoothing) + total * (label_smoothing / classes)


def presence_and_absence(
    targets: Tensor, class_weights: Tensor | None, label_smoothing: float
) -> tuple[Tensor, Tensor]:
    """Return what each label's presence and its absence weigh, ``u`` and ``v``, smoothed."""
    present = targets if class_weights is None else targets * class_weights
    absent = 1 - targets
    total = present + absent
    return (
        smooth_labels(present, total, label_smoothing, 2),
        smooth_labels(absent, total, label_smoothing, 2),
    )


def counted_elements(logits: Tensor, targets: Tensor, ignore_index: int | None) -> Tensor:
    """Return 1 for the elements ``(B, ...)`` that count, 0 for those that are ignored."""
    if ignore_index is None or targets.shape == logits.shape:
        return torch.ones_like(logits[:, 0])
    return (targets != ignore_index).to(logits.dtype)


def element_weights(index: Tensor, counted: Tensor, class_weights: Tensor | None) -> Tensor:
    """Return what labels ``(B, ...)`` weigh in the mean: 0, or the weight of their class."""
    if class_weights is None:
        return counted
    return counted * class_weights[index.long().where(counted > 0, 0)]


def class_probabilities(logits: Tensor, targets: Tensor, counted: Tensor) -> Tensor:
    """Return the targets as class probabilities ``(B, C, ...)``; ``counted`` is ``(B, 1, ...)``."""
    if targets.shape == logits.shape:
        return targets
    index = targets.unsqueeze(1).where(counted > 0, 0)
    return torch.zeros_like(logits).scatter_(1, index, 1.0)


def expected_loss(
    losses: Tensor,
    targets: Tensor,
    class_weights: Tensor | None,
    label_smoothing: float,
    ignore_index: int | None,
    reduction: Reduction,
) -> Tensor:
    """Reduce ``sum_c u_c loss_c`` of losses ``(B, C, ...)``."""
    counted = counted_elements(losses, targets, ignore_index)
    truth = class_probabilities(losses, targets, counted.unsqueeze(1))
    if class_weights is not None:
        truth = truth * class_weights.view(-1, *[1] * (losses.ndim - 2))
    truth = smooth_labels(truth, truth.sum(1, keepdim=True), label_smoothing, losses.shape[1])
    by_index = targets if targets.shape != losses.shape else None
    return reduce_elements(
        (truth * losses).sum(1) * counted, by_index, counted, class_weights, reduction
    )


def reduce_elements(
    losses: Tensor,
    index: Tensor | None,
    counted: Tensor,
    class_weights: Tensor | None,
    reduction: Reduction,
) -> Tensor:
    """Reduce losses ``(B, ...)`` that are weighted and, where ignored, 0.

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
    if index is not None:
        counted = element_weights(index, counted, class_weights)
    return losses.sum() / counted.sum().clamp(min=torch.finfo(losses.dtype).tiny)


def reduce_samples(losses: Tensor, reduction: Reduction) -> Tensor:
    """Return the mean of losses ``(B, ...)``, or that of each sample."""
    return losses.mean() if reduction == "mean" else losses.reshape(len(losses), -1).mean(1)
