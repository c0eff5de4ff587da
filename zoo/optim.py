"""Optimisers and learning rate schedules, chosen by name and set by plain numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from operator import itemgetter
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

OptimizerName = Literal["adamw", "sgd", "muon"]
ScheduleName = Literal["constant", "cosine", "linear", "one_cycle", "step"]

#: What an optimiser uses where the recipe leaves the option out.
DEFAULTS: dict[str, dict[str, float]] = {
    "adamw": {"lr": 1e-3, "weight_decay": 0.01, "momentum": 0.9},
    "sgd": {"lr": 0.1, "weight_decay": 5e-4, "momentum": 0.9},
    "muon": {"lr": 2e-3, "weight_decay": 0.01, "momentum": 0.95},
}


#: What Muon's iterations are computed in where it is not bfloat16: most CPUs do that in software,
#: at many times the cost.
ITERATION_TYPE: dict[str, torch.dtype] = {"cpu": torch.float32, "mps": torch.float32}


def parameter_groups(
    module: nn.Module,
    weight_decay: float,
    lr_factors: Mapping[str, float] | None = None,
    spared: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Splits the trainable parameters into those that decay and those that do not.

    Matrices, filters and embeddings (two dimensions or more) decay; norms' scales and shifts and
    biases (one dimension) do not: pulling those to zero changes the function without limiting it.

    Args:
        module: The module to train.
        weight_decay: Of those that decay.
        lr_factors: Factors on the learning rate by parameters' names, 1 where left out; each has
            groups of its own, marked with this ``lr_factor``.
        spared: Names of parameters that go into groups of their own, marked ``spared``.
    """
    groups: dict[tuple[bool, bool, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            factor = (lr_factors or {}).get(name, 1.0)
            kind = parameter.ndim >= 2, name not in spared, factor
            groups.setdefault(kind, []).append(parameter)
    return [
        {
            "params": params,
            "weight_decay": weight_decay if decays else 0.0,
            "lr_factor": factor,
            "spared": not takes_part,
        }
        for (decays, takes_part, factor), params in sorted(groups.items(), key=itemgetter(0))[::-1]
    ]


def clip_adaptively(parameters: Iterable[nn.Parameter], clip: float, eps: float = 1e-3) -> None:
    """Scales gradients down, unit by unit, where they are large beside the weights.

    For each output unit ``i`` (a row of a matrix, a filter, or a whole vector of one dimension)

    ``g_i <- g_i * min(1, clip * max(|w_i|, eps) / |g_i|)``

    with Frobenius norms. Source: adaptive gradient clipping, Brock et al., arXiv 2102.06171. The
    paper leaves the last layer out; so must the caller.

    Args:
        parameters: Those to clip; without a gradient they are skipped.
        clip: The largest share.
        eps: What the norm of a unit counts as at least, so that zero weights can grow.
    """
    for parameter in parameters:
        if parameter.grad is None:
            continue
        axes = tuple(range(1, parameter.ndim)) or None
        weight = torch.linalg.vector_norm(parameter.detach(), dim=axes, keepdim=True)
        grad = torch.linalg.vector_norm(parameter.grad, dim=axes, keepdim=True)
        share = clip * weight.clamp(min=eps) / grad.clamp(min=1e-6)
        parameter.grad.mul_(share.clamp(max=1.0))


class MuonAdamW(AdamW):
    """Muon for matrices and filters, AdamW for everything else, as one optimiser.

    Muon replaces the momentum of a matrix by the nearest orthogonal matrix (Newton-Schulz
    iterations); a filter ``(out, in, h, w)`` counts as the matrix ``(out, in * h * w)``. The update
    is scaled so that its root mean square is AdamW's (arXiv 2502.16982), so one learning rate and
    one weight decay serve both parts. ``torch.optim.Muon`` iterates one matrix at a time, and in
    bfloat16 on every device; here all matrices of a shape are iterated at once, and on a CPU, where
    bfloat16 may be an order of magnitude slower, in float32.

    Args:
        groups: Parameter groups, each with ``params`` and ``weight_decay``; one that is ``spared``
            is left to AdamW whole.
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
                takes_part = not group.get("spared", False)
                params = [p for p in group["params"] if (p.ndim >= 2 and takes_part) is by_muon]
                if params:
                    split.append({**group, "params": params, "muon": by_muon})
        super().__init__(split, lr=lr, betas=betas)
        for group in self.param_groups:
            group["momentum"] = momentum

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Takes one step; a closure is evaluated once."""
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
    """Nearly the nearest matrices whose rows (or columns) are orthonormal.

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


def build_optimizer(
    module: nn.Module,
    name: OptimizerName,
    *,
    lr: float | None = None,
    weight_decay: float | None = None,
    momentum: float | None = None,
    lr_factors: Mapping[str, float] | None = None,
    spared: Collection[str] = (),
) -> Optimizer:
    """Builds the optimiser; what is None takes the optimiser's own value of :data:`DEFAULTS`.

    ``lr_factors`` are those of :func:`parameter_groups`, and ``spared`` the names of matrices that
    Muon leaves to AdamW.

    Raises:
        ValueError: The module has nothing to train.
    """
    own = DEFAULTS[name]
    lr = own["lr"] if lr is None else lr
    weight_decay = own["weight_decay"] if weight_decay is None else weight_decay
    momentum = own["momentum"] if momentum is None else momentum
    groups = parameter_groups(module, weight_decay, lr_factors, spared)
    for group in groups:
        group["lr"] = lr * group.pop("lr_factor")
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0)
    if name == "muon":
        return MuonAdamW(groups, lr=lr, momentum=momentum)
    return AdamW(groups, lr=lr, betas=(momentum, 0.999))


def lr_factor(
    name: ScheduleName,
    step: int,
    *,
    total_steps: int,
    warmup_steps: int = 0,
    milestones: tuple[float, ...] = (0.5, 0.75),
    gamma: float = 0.1,
) -> float:
    """The factor on the learning rate at a step, counted from 0.

    A pure function of its arguments, so that a resumed run needs no state of the schedule.
    All schedules rise linearly for ``warmup_steps`` first; then

    * ``constant`` stays,
    * ``cosine`` and ``linear`` fall to zero at ``total_steps``,
    * ``step`` falls by ``gamma`` at each of the ``milestones`` (fractions of the run),
    * ``one_cycle`` (arXiv 1708.07120) rises along a cosine from 1/25 instead, for ``warmup_steps``
      or, where that is 0, for its customary 30 % of the run, and falls along a cosine to 4e-6: the
      curve of torch's ``OneCycleLR``. Deviation: the momentum does not cycle.
    """
    if name == "one_cycle":
        rise = (warmup_steps or 0.3 * total_steps) - 1
        if step <= rise:
            return _cosine_between(1 / 25, 1.0, step / rise if rise > 0 else 1.0)
        fall = max(1, total_steps - 1 - rise)
        return _cosine_between(1.0, 4e-6, min(1.0, (step - rise) / fall))
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    done = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    if name == "cosine":
        return _cosine_between(1.0, 0.0, done)
    if name == "linear":
        return 1.0 - done
    if name == "step":
        return gamma ** sum(step >= milestone * total_steps for milestone in milestones)
    return 1.0


def _cosine_between(start: float, end: float, done: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * done))


def restore_hyperparameters(
    optimizer: Optimizer, schedule: LambdaLR, configured: list[dict[str, Any]]
) -> None:
    """Puts this run's hyperparameters over those that came with a checkpoint's optimiser state.

    A checkpoint keeps each group's learning rate and decay beside the momenta. What the recipe or
    the command line says now has to win; where nothing changed, the result is the same number,
    because the schedule is a function of the step alone.

    Args:
        optimizer: The optimiser after its state was loaded.
        schedule: Its schedule, whose position was loaded.
        configured: Every group (without ``params``) as this run configured it.
    """
    schedule.base_lrs = [group["initial_lr"] for group in configured]
    for group, fresh in zip(optimizer.param_groups, configured, strict=True):
        factor = schedule.lr_lambdas[0](schedule.last_epoch)
        group.update({**fresh, "lr": fresh["initial_lr"] * factor})
    schedule._last_lr = [group["lr"] for group in optimizer.param_groups]
