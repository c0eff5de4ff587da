"""Muon for matrices and filters, with AdamW for the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

#: What Muon's iterations are computed in where it is not bfloat16: most CPUs do that in software,
#: at many times the cost.
ITERATION_TYPE: dict[str, torch.dtype] = {"cpu": torch.float32, "mps": torch.float32}


class MuonAdamW(AdamW):
    """Muon for matrices and filters, AdamW for everything else, as one optimiser.

    Muon replaces the momentum of a matrix by the nearest orthogonal matrix (Newton-Schulz
    iterations); a filter ``(out, in, h, w)`` counts as the matrix ``(out, in * h * w)``. The update
    is scaled so that its root mean square is AdamW's (arXiv 2502.16982), so one learning rate and
    one weight decay serve both parts. ``torch.optim.Muon`` iterates one matrix at a time, and in
    bfloat16 on every device; here all matrices of a shape are iterated at once, and on a CPU, where
    bfloat16 may be an order of magnitude slower, in float32.

    Args:
        groups: Parameter groups, each with ``params`` and ``weight_decay``; one that is
            ``exclude_from_muon`` is left to AdamW whole.
        lr: Learning rate of both parts.
        momentum: Momentum of the Muon part.
        betas: AdamW's coefficients.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        split: list[dict[str, Any]] = []
        for group in groups:
            for by_muon in (True, False):
                takes_part = not group.get("exclude_from_muon", False)
                params = [p for p in group["params"] if (p.ndim >= 2 and takes_part) is by_muon]
                if params:
                    split.append({**group, "params": params, "muon": by_muon})
        super().__init__(split, lr=lr, betas=betas)
        for group in self.param_groups:
            group["momentum"] = momentum

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; a closure is evaluated once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        for group in groups:
            if group["muon"]:
                self._muon_step(group)
        self.param_groups = [group for group in groups if not group["muon"]]
        try:
            super().step()
        finally:
            self.param_groups = groups
        return loss

    def _muon_step(self, group: dict[str, Any]) -> None:
        lr, momentum = group["lr"], group["momentum"]
        by_shape: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = {}
        for p in group["params"]:
            if p.grad is None:
                continue
            grad = p.grad.flatten(1)
            state = self.state[p]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(grad)
                state["step"] = torch.tensor(0.0)  # which AdamW's load_state_dict looks for
            buffer = state["momentum_buffer"]
            buffer.lerp_(grad, 1 - momentum)
            by_shape.setdefault(grad.shape, []).append((p, grad.lerp(buffer, momentum)))
        for (rows, columns), pairs in by_shape.items():
            updates = orthogonalise(torch.stack([update for _, update in pairs]))
            scale = 0.2 * math.sqrt(max(rows, columns))  # as large as AdamW's steps are
            for (p, _), update in zip(pairs, updates, strict=True):
                p.mul_(1 - lr * group["weight_decay"])
                p.add_(update.view(p.shape), alpha=-lr * scale)


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Return nearly the nearest matrices whose rows (or columns) are orthonormal.

    With the singular value decomposition ``U S V^T`` of a matrix it is ``U S' V^T`` with ``S'``
    between about 0.7 and 1.2: Newton-Schulz iterations with the coefficients of K. Jordan's Muon
    (https://kellerjordan.github.io/posts/muon/), which do not converge, but are there at once.

    Args:
        matrices: ``(N, rows, columns)``.
        steps: Iterations.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.to(ITERATION_TYPE.get(matrices.device.type, torch.bfloat16))
    is_tall = x.shape[1] > x.shape[2]
    x = x.mT if is_tall else x
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if is_tall else x).to(matrices.dtype)
