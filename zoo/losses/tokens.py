"""The cross entropy of next tokens, without all logits in memory at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
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
    layer: nn.Module,
    labels: Tensor,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> Tensor:
    """Return the :func:`logits_loss` of ``layer(features)``, in float32.

    Where these logits would be many, they are made a piece at a time, and their gradients with
    them, so that the way back makes none anew. torch's ``F.linear_cross_entropy`` does so too, but
    adds up, and scales the gradient, in the features' type: three digits in bfloat16.

    Args:
        features: ``(N, D)``.
        layer: The output layer, ``D`` to ``V``.
        labels: ``(N,)``; places of :data:`IGNORE_INDEX` do not count.
        label_smoothing: As there.
        z_loss: As there.
    """

    def piece(some: Tensor, its: Tensor) -> Tensor:
        return logits_loss(layer(some), its, label_smoothing=label_smoothing, z_loss=z_loss)

    rows = _rows(features, layer)
    if len(labels) <= rows:
        return piece(features, labels)
    weights = [p for p in layer.parameters() if p.requires_grad]
    if not torch.is_grad_enabled() or not (weights or features.requires_grad):
        return torch.stack([piece(*some) for some in _split(features, labels, rows)]).sum()
    loss: Tensor = _InPieces.apply(piece, rows, features, labels, *weights)
    return loss


class _InPieces(torch.autograd.Function):
    """The sum of a function of some places at a time, whose gradient is taken on the way there."""

    @staticmethod
    def forward(
        ctx: Any,
        piece: Callable[[Tensor, Tensor], Tensor],
        rows: int,
        features: Tensor,
        labels: Tensor,
        *weights: Tensor,
    ) -> Tensor:
        needs_features = ctx.needs_input_grad[2]
        of_features, of_weights = [], [torch.zeros_like(weight) for weight in weights]
        total = torch.zeros((), device=features.device)
        for some, its in _split(features, labels, rows):
            with torch.enable_grad():
                some = some.detach().requires_grad_(needs_features)
                loss = piece(some, its)
            total += loss.detach()
            found = torch.autograd.grad(loss, (some, *weights) if needs_features else weights)
            if needs_features:
                of_features.append(found[0])
            for summed, more in zip(of_weights, found[needs_features:], strict=True):
                summed += more
        ctx.gradients = torch.cat(of_features) if needs_features else None, of_weights
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        of_features, of_weights = ctx.gradients
        if of_features is not None:
            of_features = of_features * gradient
        return None, None, of_features, None, *(weight * gradient for weight in of_weights)


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

    pieces = _split(features, labels, _rows(features, layer))
    return torch.cat([checkpoint(piece, some, its, use_reentrant=False) for some, its in pieces])


def _rows(features: Tensor, layer: nn.Module) -> int:
    """Return of how many places there may be logits at once."""
    weight = getattr(layer, "weight", None)
    return max(1, MOST_LOGITS // (features.shape[1] if weight is None else len(weight)))


def _split(features: Tensor, labels: Tensor, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Return so many places at a time."""
    return zip(torch.split(features, rows), torch.split(labels, rows), strict=True)
