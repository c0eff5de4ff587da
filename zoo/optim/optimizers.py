"""Optimisers, chosen by name and set by plain numbers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from operator import itemgetter
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from zoo.optim.muon import MuonAdamW

OptimizerName = Literal["adamw", "adam", "sgd", "rmsprop", "muon"]
"""Optimisers.

Names:
    adamw: Adam with a weight decay of its own (arXiv 1711.05101); the first choice.
    adam: Adam as first published (arXiv 1412.6980): weight decay, if any, is part of the gradient.
    sgd: Gradient descent with Nesterov momentum.
    rmsprop: Gradients over the root of their mean square, remembered by ``beta2`` (Hinton, 2012).
    muon: Orthogonalised momentum for matrices and filters, AdamW for the rest.
"""

#: What an optimiser uses where the recipe leaves the option out.
DEFAULTS: dict[str, dict[str, float]] = {
    "adamw": {"lr": 1e-3, "weight_decay": 0.01, "momentum": 0.9, "beta2": 0.999},
    "adam": {"lr": 1e-3, "weight_decay": 0.0, "momentum": 0.9, "beta2": 0.999},
    "sgd": {"lr": 0.1, "weight_decay": 5e-4, "momentum": 0.9},
    "rmsprop": {"lr": 1e-3, "weight_decay": 0.0, "momentum": 0.0, "beta2": 0.99},
    "muon": {"lr": 2e-3, "weight_decay": 0.01, "momentum": 0.95, "beta2": 0.999},
}


def parameter_groups(
    module: nn.Module,
    weight_decay: float,
    lr_factors: Mapping[str, float] | None = None,
    exclude_from_muon: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Split the trainable parameters into those that decay and those that do not.

    Matrices, filters and embeddings (two dimensions or more) decay; norms' scales and shifts and
    biases (one dimension) do not: pulling those to zero changes the function without limiting it.

    Args:
        module: The module to train.
        weight_decay: Of those that decay.
        lr_factors: Factors on the learning rate by parameters' names, 1 where left out; each has
            groups of its own, marked with this ``lr_factor``.
        exclude_from_muon: Names of parameters that go into groups of their own, marked so.
    """
    groups: dict[tuple[bool, bool, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            factor = (lr_factors or {}).get(name, 1.0)
            kind = parameter.ndim >= 2, name not in exclude_from_muon, factor
            groups.setdefault(kind, []).append(parameter)
    return [
        {
            "params": params,
            "weight_decay": weight_decay if decays else 0.0,
            "lr_factor": factor,
            "exclude_from_muon": not takes_part,
        }
        for (decays, takes_part, factor), params in sorted(groups.items(), key=itemgetter(0))[::-1]
    ]


def clip_adaptively(parameters: Iterable[nn.Parameter], clip: float, eps: float = 1e-3) -> None:
    """Scale gradients down, unit by unit, where they are large beside the weights.

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


def build_optimizer(
    module: nn.Module,
    name: OptimizerName,
    *,
    lr: float | None = None,
    weight_decay: float | None = None,
    momentum: float | None = None,
    beta2: float | None = None,
    lr_factors: Mapping[str, float] | None = None,
    exclude_from_muon: Collection[str] = (),
) -> Optimizer:
    """Build the optimiser; what is None takes the optimiser's own value of :data:`DEFAULTS`.

    ``lr_factors`` are those of :func:`parameter_groups`, and ``exclude_from_muon`` the names of
    matrices that Muon leaves to AdamW.

    Raises:
        ValueError: If the module has nothing to train.
    """
    own = DEFAULTS[name]
    lr = own["lr"] if lr is None else lr
    weight_decay = own["weight_decay"] if weight_decay is None else weight_decay
    momentum = own["momentum"] if momentum is None else momentum
    beta2 = own.get("beta2", 0.0) if beta2 is None else beta2
    groups = parameter_groups(module, weight_decay, lr_factors, exclude_from_muon)
    for group in groups:
        group["lr"] = lr * group.pop("lr_factor")
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0)
    if name == "muon":
        return MuonAdamW(groups, lr=lr, momentum=momentum, betas=(0.9, beta2))
    if name == "rmsprop":
        return torch.optim.RMSprop(groups, lr=lr, momentum=momentum, alpha=beta2)
    kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
    return kind(groups, lr=lr, betas=(momentum, beta2))
