"""Losses of masks."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from zoo.losses.base import (
    Loss,
    Reduction,
    _check_gamma,
    _checked_weights,
    _class_probabilities,
    _counted,
    _fitting_classes,
    _known,
)
from zoo.losses.classification import cross_entropy, focal

SegmentationLoss = Literal["cross_entropy", "focal", "dice", "dice_cross_entropy"]


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
    """Return the sum of :func:`dice` and :func:`cross_entropy`, as in nnU-Net (arXiv 1809.10486).

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


def segmentation_loss(
    name: SegmentationLoss,
    *,
    class_weights: Tensor | None = None,
    ignore_index: int | None = None,
    focal_gamma: float = 2.0,
    dice_smooth: float = 1.0,
) -> Loss:
    """Build the segmentation loss of that name.

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
