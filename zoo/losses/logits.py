"""Whether a net gives logits, as losses want, or probabilities."""

from __future__ import annotations

from torch import Tensor

from zoo.losses.base import LabelKind

#: Nodes of the autograd graph that only move values, and those of layers that end in logits.
_MOVES = (
    *("Alias", "Clone", "Expand", "Permute", "ReshapeAlias", "Select", "Slice", "Split", "Squeeze"),
    *("T", "ToCopy", "Transpose", "Unbind", "UnsafeView", "Unsqueeze", "View"),
)
_LINEAR = ("Addmm", "Mm", "Bmm", "Baddbmm", "Convolution", "Linear", "MkldnnLinear")


def check_logits(outputs: Tensor, label_kind: LabelKind) -> None:
    """Refuse a net whose outputs look like probabilities; for the first batch.

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
        ValueError: If the outputs look like probabilities.
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
            raise ValueError(
                _squashed_twice("softmax", "lie within 0 and 1 and sum to one in every row")
            )
    last = _last_operation(outputs)
    if last == "Sigmoid":
        raise ValueError(_squashed_twice("sigmoid", "come from a sigmoid"))
    undecided = last not in _LINEAR and values.numel() >= 8
    if within and undecided and (single or label_kind == "multilabel"):
        around_half = bool((values.min() <= 0.5) & (values.max() >= 0.5))
        if around_half:
            raise ValueError(_squashed_twice("sigmoid", "all lie within 0 and 1"))


def _squashed_twice(squash: str, sign: str) -> str:
    return (
        f"the net's outputs look like probabilities, not logits (they {sign}): the loss applies "
        f"softmax or sigmoid itself, and squashed twice the net trains, only badly; remove the "
        f"{squash} at the net's end"
    )


def _last_operation(outputs: Tensor) -> str:
    """Return autograd's name for what made these values, without its suffix, or ''."""
    node = outputs.grad_fn
    while node is not None:
        name = node.name().split("Backward")[0]
        if name not in _MOVES:
            return name
        node = node.next_functions[0][0]
    return ""
