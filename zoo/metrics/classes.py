"""Figures of classes, from counts, and their means.

One rule for absent classes: a class whose figure would be 0 / 0 is left out of the mean over
classes. So a class that no sample has counts neither for nor against the balanced accuracy, and of
F1 (Dice) and intersection over union it counts, as 0, only where it is predicted: scikit-learn's
``balanced_accuracy_score`` and, with ``zero_division=nan``, ``f1_score`` and ``jaccard_score``.
Where no class is left, nothing was there and nothing was predicted, and the mean is 1.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


def confusion_counts(
    predicted: Tensor, labels: Tensor, classes: int, ignore_index: int | None = None
) -> Tensor:
    """Return how often each class (row) is predicted as each (column), ``(C, C)``.

    >>> confusion_counts(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 2)
    tensor([[1, 1],
            [0, 1]])
    """
    places = labels.long() * classes + predicted
    if ignore_index is not None:
        places = places.where(labels != ignore_index, classes**2)  # one place more
    counts = torch.bincount(places.flatten(), minlength=classes**2 + 1)
    return counts[:-1].reshape(classes, classes)


class Confusion(Metric):
    """The :func:`confusion_counts` of all batches.

    torchmetrics' takes 9 bytes of memory for each element times the square of the classes where
    torch's algorithms are to be deterministic; counting whole numbers always is.

    Args:
        classes: How many there are.
        ignore_index: The label of what does not count.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, classes: int, ignore_index: int | None = None) -> None:
        super().__init__()
        self.classes, self.ignore_index = classes, ignore_index
        self.add_state("counts", torch.zeros(classes, classes).long(), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Add a batch."""
        self.counts += confusion_counts(predicted, labels, self.classes, self.ignore_index)

    def compute(self) -> Tensor:
        """Return the counts of all processes."""
        return self.counts


def recall(hits: Tensor, true: Tensor) -> Tensor:
    """Return ``TP / (TP + FN)`` of each class, NaN where that is 0 / 0.

    Args:
        hits: How often each class is rightly predicted, ``(C,)``.
        true: How often it is there.
    """
    return hits.double() / true


def f1(hits: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
    """Return ``2 TP / (2 TP + FP + FN)`` of each class, which is Dice; see :func:`recall`."""
    return 2 * hits.double() / (predicted + true)


def dice_of_images(counts: Tensor) -> Tensor:
    """Return each image's Dice, a mean over its classes but the first, ``(N,)``.

    NaN of an image in which none of them is there nor predicted.

    Args:
        counts: Pixels of each image and class, ``(N, 3, C)``: rightly predicted, predicted, true.

    >>> dice_of_images(torch.tensor([[[5, 1], [6, 2], [5, 3]], [[9, 0], [9, 0], [9, 0]]]))
    tensor([0.4000,    nan], dtype=torch.float64)
    """
    means: Tensor = f1(*counts.unbind(1))[:, 1:].nanmean(1)
    return means


def iou(hits: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
    """Return ``TP / (TP + FP + FN)`` of each class; see :func:`recall`."""
    return hits.double() / (predicted + true - hits)


def mean_over_classes(figures: Tensor) -> float:
    """Return the mean over the classes that have the figure.

    >>> mean_over_classes(recall(torch.tensor([1, 1, 0]), torch.tensor([2, 1, 0])))
    0.75
    """
    return figures.nanmean().nan_to_num(1.0).item()
