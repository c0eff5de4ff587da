"""The cross entropy of next tokens, without all logits in memory at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from datamodules.core.protocols import IGNORE_INDEX

#: Logits that are in memory at once; in float32 they take 64 MiB, and so do their gradients.
MOST_LOGITS = 2**24


def logits_loss(
    logits: Tensor, labels: Tensor, *, label_smoothing: float = 0.0, z_loss: float = 0.0
) -> Tensor:
    """Return the summed loss of some places.

    ``sum_n -log softmax(z_n)[y_n] + z_loss * log(sum_c exp z_nc)^2``, where the second term keeps
    the logits from drifting (PaLM, arXiv 2204.02311, where it is 1e-4), and label smoothing is
    torch's.

    Args:
        logits: ``(N, V)``.
        labels: ``(N,)``; places of :data:`IGNORE_INDEX` do not count.
        label_smoothing: Share of the target that all tokens have in common.
        z_loss: Weight of the second term.
    """
    logits = logits.float()
    loss = F.cross_entropy(
        logits, labels, ignore_index=IGNORE_INDEX, reduction="sum", label_smoothing=label_smoothing
    )
    if z_loss > 0:
        squares = logits.logsumexp(dim=1).square()
        loss = loss + z_loss * squares.masked_fill(labels == IGNORE_INDEX, 0.0).sum()
    return loss


def token_loss(
    features: Tensor,
    layer: nn.Linear,
    labels: Tensor,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> Tensor:
    """Return the :func:`logits_loss` of ``layer(features)``.

    Where these logits would be many, they are made, and made use of on the way back, a piece at a
    time: by torch's ``F.linear_cross_entropy`` (from 2.15 on), or by recomputing each piece
    where that does not know an option.

    Args:
        features: ``(N, D)``.
        layer: The output layer, ``D`` to ``V``.
        labels: ``(N,)``; places of :data:`IGNORE_INDEX` do not count.
        label_smoothing: As there.
        z_loss: As there.
    """
    if len(labels) * len(layer.weight) <= MOST_LOGITS:
        return logits_loss(layer(features), labels, label_smoothing=label_smoothing, z_loss=z_loss)
    if z_loss == label_smoothing == 0 and hasattr(F, "linear_cross_entropy"):
        device = features.device.type
        if torch.is_autocast_enabled(device):  # which does not reach into this function
            features = features.to(torch.get_autocast_dtype(device))
        bias = layer.bias
        loss: Tensor = F.linear_cross_entropy(
            features,
            layer.weight.to(features.dtype),
            labels,
            linear_bias=None if bias is None else bias.to(features.dtype),
            ignore_index=IGNORE_INDEX,
            reduction="sum",
            options=torch.nn.LinearCrossEntropyOptions(),
        )
        return loss

    def piece(some: Tensor, its: Tensor) -> Tensor:
        return logits_loss(layer(some), its, label_smoothing=label_smoothing, z_loss=z_loss)

    return torch.stack(_in_pieces(piece, features, layer, labels)).sum()


def token_losses(features: Tensor, layer: nn.Module, labels: Tensor) -> Tensor:
    """Return the loss ``-log softmax(layer(x_n))[y_n]`` of each place by itself, in pieces as well.

    Args:
        features: ``(N, D)``.
        layer: The output layer, ``D`` to ``V``; what gives logits back where they are made already.
        labels: ``(N,)``; places of :data:`IGNORE_INDEX` have a loss of 0.

    Returns:
        ``(N,)``.
    """

    def piece(some: Tensor, its: Tensor) -> Tensor:
        logits = layer(some).float()
        return F.cross_entropy(logits, its, ignore_index=IGNORE_INDEX, reduction="none")

    return torch.cat(_in_pieces(piece, features, layer, labels))


def _in_pieces(
    piece: Callable[[Tensor, Tensor], Tensor], features: Tensor, layer: nn.Module, labels: Tensor
) -> list[Tensor]:
    """Return what a function makes of some places at a time, anew on the way back."""
    weight = getattr(layer, "weight", None)
    rows = max(1, MOST_LOGITS // (features.shape[1] if weight is None else len(weight)))
    return [
        checkpoint(piece, some, its, use_reentrant=False)
        for some, its in zip(torch.split(features, rows), torch.split(labels, rows), strict=True)
    ]
