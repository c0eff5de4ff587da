"""Metrics that torchmetrics does not have: what the pictures of a test need."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from zoo.losses.base import LabelKind


def auc_and_accuracy(
    probabilities: Tensor, labels: Tensor, label_kind: LabelKind
) -> dict[str, float]:
    """Return area under the ROC curve and accuracy, in float64, as MedMNIST's evaluator has them.

    * ``multiclass`` and ``ordinal``: the area is the mean over the classes, each against the rest;
      a sample is right if its label has the highest probability.
    * ``binary``: the area of the second class; a sample belongs to it above 0.5.
    * ``multilabel``: the area is the mean over the labels; accuracy counts every label of every
      sample, there above 0.5.

    Deviation from the evaluator: a class that all samples or none belong to has no curve, and is
    left out of the mean.

    Args:
        probabilities: ``(N, C)``.
        labels: ``(N,)``, for ``multilabel`` zeros and ones ``(N, C)``.
        label_kind: What the labels are.

    Returns:
        ``auroc``, unless no class has a curve, and ``acc``.

    >>> probabilities = torch.tensor([[0.75, 0.25], [0.5, 0.5], [0.25, 0.75]])
    >>> auc_and_accuracy(probabilities, torch.tensor([0, 1, 1]), "binary")
    {'acc': 0.6666666666666666, 'auroc': 1.0}
    """
    from sklearn.metrics import roc_auc_score

    scores, truth = probabilities.double().cpu().numpy(), labels.cpu().numpy()
    if label_kind == "multilabel":
        found, right = truth > 0, (scores > 0.5) == (truth > 0)
    elif label_kind == "binary":
        scores, found = scores[:, 1:], truth[:, None] == 1
        right = (scores[:, 0] > 0.5) == found[:, 0]
    else:
        found = truth[:, None] == np.arange(scores.shape[1])
        right = scores.argmax(axis=1) == truth
    areas = [
        roc_auc_score(is_there, score)
        for is_there, score in zip(found.T, scores.T, strict=True)
        if 0 < is_there.sum() < len(is_there)
    ]
    area = {"auroc": float(np.mean(areas))} if areas else {}
    return {"acc": float(right.mean()), **area}


class MostWrong(Metric):
    """The wrongly classified images of which the model was surest.

    Update: probabilities ``(B, C)``, labels ``(B,)`` and images ``(B, ...)``. Compute: a dictionary
    of ``probability``, ``prediction``, ``label`` (each ``(K,)``, surest first) and ``image``.

    Of labels ``(B, C)``, of which a sample may have several, each sample has its surest mistake:
    ``prediction`` is which label it is about, ``label`` whether that is there, and ``probability``
    how likely the contrary was taken to be.

    Args:
        keep: The most to keep.

    >>> metric = MostWrong()
    >>> metric.update(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([1, 0]), torch.arange(2))
    >>> metric.compute()["image"]
    tensor([0, 1])
    """

    full_state_update = False
    probability: Tensor | list[Tensor]
    prediction: Tensor | list[Tensor]
    label: Tensor | list[Tensor]
    image: Tensor | list[Tensor]

    def __init__(self, keep: int = 24) -> None:
        super().__init__()
        self.keep = keep
        for name in ("probability", "prediction", "label", "image"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, probabilities: Tensor, labels: Tensor, images: Tensor) -> None:
        """Keep the worst of what was kept and of a batch."""
        # A correct sample gets -1, so that the choice needs no boolean mask, hence no device sync.
        if labels.ndim == 2:
            there = labels > 0
            sure = torch.where(there, 1 - probabilities, probabilities)
            wrong = (probabilities > 0.5) != there
            score, prediction = torch.where(wrong, sure, -1.0).max(dim=1)
            labels = there.gather(1, prediction[:, None])[:, 0].long()
        else:
            probability, prediction = probabilities.max(dim=1)
            score = torch.where(prediction == labels, -1.0, probability)
        new = {"probability": score, "prediction": prediction, "label": labels, "image": images}
        kept = self.metric_state
        joined = {name: torch.cat([*kept[name], values]) for name, values in new.items()}
        top = joined["probability"].topk(min(self.keep, len(joined["probability"]))).indices
        for name, values in joined.items():
            setattr(self, name, [values[top]])

    def compute(self) -> dict[str, Tensor]:
        """Return the worst of all processes."""
        states = {name: _joined(state) for name, state in self.metric_state.items()}
        order = states["probability"].argsort(descending=True, stable=True)[: self.keep]
        order = order[states["probability"][order] >= 0]
        return {name: values[order] for name, values in states.items()}


class Collected(Metric):
    """Keeps all that it is given: tensors of the same length, such as logits and labels.

    Args:
        columns: How many tensors.

    >>> metric = Collected(2)
    >>> metric.update(torch.tensor([1.0]), torch.tensor([2.0]))
    >>> metric.update(torch.tensor([3.0]), torch.tensor([4.0]))
    >>> metric.compute()
    (tensor([1., 3.]), tensor([2., 4.]))
    """

    full_state_update = False

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.columns = [f"column{number}" for number in range(columns)]
        for name in self.columns:
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, *values: Tensor) -> None:
        """Add a batch."""
        for name, value in zip(self.columns, values, strict=True):
            getattr(self, name).append(value)

    def compute(self) -> tuple[Tensor, ...]:
        """Return everything, of all processes."""
        return tuple(_joined(getattr(self, name)) for name in self.columns)


def in_order(numbers: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
    """Return samples' numbers and what is known of each sample, in the order of the numbers.

    On the host, as one process would have them all. Samples without numbers, which are negative,
    are numbered as they come.

    >>> in_order(torch.tensor([2, 0]), torch.tensor([0.5, 0.25]))
    (tensor([0, 2]), tensor([0.2500, 0.5000]))
    """
    numbers = numbers.reshape(-1).cpu()  # torchmetrics takes the dimension of a single value away
    if bool((numbers < 0).any()):
        numbers = torch.arange(len(numbers))
    order = numbers.argsort(stable=True)
    # of one sample, its values too have lost that dimension
    whole = [each if each.ndim else each.reshape(1) for each in values]
    return (numbers[order], *(each.cpu()[order] for each in whole))


def _joined(state: Tensor | list[Tensor]) -> Tensor:
    return torch.cat(state) if isinstance(state, list) else state
