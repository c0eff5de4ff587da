"""Losses of masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from datamodules.core.errors import above, one_of
from zoo.losses.base import (
    Loss,
    Reduction,
    check_classes,
    check_gamma,
    checked_weights,
    class_probabilities,
    counted_elements,
    reduce_samples,
)
from zoo.losses.classification import cross_entropy, focal

SegmentationLoss = Literal["cross_entropy", "focal", "dice", "dice_cross_entropy"]
"""Losses of masks.

Names:
    cross_entropy: The mean over pixels of ``-log p`` of the right class.
    focal: Cross-entropy that counts easy pixels less, by ``focal_gamma`` (arXiv 1708.02002).
    dice: One minus the overlap of each class with its mask (V-Net, arXiv 1606.04797).
    dice_cross_entropy: The sum of dice and cross_entropy.
"""


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
    it (above 0, in pixels), its loss is 0.

    >>> mask = torch.tensor([[[0, 1], [1, 1]]])
    >>> sure = 99 * torch.nn.functional.one_hot(mask, 2).movedim(3, 1).float()
    >>> dice(sure, mask), dice(-sure, mask)
    (tensor(0.), tensor(0.8000))
    """
    logits, targets = check_classes(logits, targets, class_weights)
    counted = counted_elements(logits, targets, ignore_index).unsqueeze(1)
    truth = class_probabilities(logits, targets, counted) * counted
    p = logits.softmax(1) * counted
    overlap = (p * truth).flatten(2).sum(2)
    size = (p.square() + truth.square()).flatten(2).sum(2)
    losses = 1 - (2 * overlap + smooth) / (size + smooth)  # (B, C)
    weights = torch.ones_like(losses[0]) if class_weights is None else class_weights
    losses = (losses * weights).sum(1) / weights.sum()  # no product that autocast would round
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

    Dice makes up for rare classes, cross-entropy gives every pixel a gradient. Deviations: nnU-Net
    takes Dice over the whole batch with a linear denominator; here it is :func:`dice`. And the mean
    is that of the images, each its mean over the pixels that count, of both terms, so that batches
    can be joined.

    >>> logits, mask = torch.zeros(1, 2, 4, 4), torch.ones(1, 4, 4, dtype=torch.long)
    >>> dice_cross_entropy(logits, mask)
    tensor(1.1884)
    """
    shared: Any = {
        "class_weights": class_weights,
        "ignore_index": ignore_index,
        "reduction": "none",
    }
    overlap = dice(logits, targets, smooth=smooth, **shared)
    return reduce_samples(overlap + cross_entropy(logits, targets, **shared), reduction)


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
        OptionError: If the name is unknown, or an option lies outside what it may be.
    """
    one_of("loss", name, get_args(SegmentationLoss))
    above("dice_smooth", dice_smooth)
    check_gamma(focal_gamma)
    functions: dict[str, tuple[Callable[..., Tensor], dict[str, float]]] = {
        "cross_entropy": (cross_entropy, {}),
        "focal": (focal, {"gamma": focal_gamma}),
        "dice": (dice, {"smooth": dice_smooth}),
        "dice_cross_entropy": (dice_cross_entropy, {"smooth": dice_smooth}),
    }
    function, own = functions[name]
    weights = checked_weights(class_weights)
    loss = Loss(function, class_weights=weights, ignore_index=ignore_index, **own)
    loss.mean_of_samples = name in ("dice", "dice_cross_entropy")
    return loss
