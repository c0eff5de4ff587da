"""Activations, chosen by name."""

import functools
import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import nn

from datamodules.core.errors import one_of

ActivationName = Literal[
    "relu",
    "leaky_relu",
    "gelu",
    "silu",
    "mish",
    "tanh",
    "sigmoid",
    "softplus",
    "elu",
    "hardswish",
]
"""Activations.

Names:
    relu: ``max(0, x)``.
    leaky_relu: ``max(0.01 x, x)``.
    gelu: ``x P(Z < x)`` for a standard normal ``Z``, the exact form (arXiv 1606.08415).
    silu: ``x sigmoid(x)``, also named swish (arXiv 1710.05941).
    mish: ``x tanh(softplus(x))`` (arXiv 1908.08681).
    tanh: The hyperbolic tangent, from -1 to 1.
    sigmoid: ``1 / (1 + exp(-x))``, from 0 to 1.
    softplus: ``log(1 + exp(x))``, a smooth relu.
    elu: ``x`` above zero and ``exp(x) - 1`` below (arXiv 1511.07289).
    hardswish: ``x min(max(x + 3, 0), 6) / 6``, a cheap silu (arXiv 1905.02244).
"""

_WITH_INPLACE: dict[ActivationName, Callable[..., nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "elu": nn.ELU,
    "hardswish": nn.Hardswish,
}
_WITHOUT_INPLACE: dict[ActivationName, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
}


def make_activation(name: ActivationName, *, inplace: bool = False) -> nn.Module:
    """Build the activation of that name, torch's own with torch's defaults.

    Args:
        name: Which activation. In formulas: relu ``max(0, x)``; leaky_relu ``max(0.01 x, x)``; gelu
            ``x P(Z < x)`` for a standard normal ``Z`` (arXiv 1606.08415, the exact form); silu
            ``x sigmoid(x)`` (also named swish, arXiv 1710.05941); mish ``x tanh(softplus(x))``
            (arXiv 1908.08681); softplus ``log(1 + exp(x))``; elu ``x`` above zero and
            ``exp(x) - 1`` below (arXiv 1511.07289); hardswish ``x min(max(x + 3, 0), 6) / 6``
            (arXiv 1905.02244).
        inplace: Whether it may overwrite its input, which saves memory. gelu, tanh, sigmoid and
            softplus have no such form and never do.

    Returns:
        A module without parameters, for tensors of any shape.

    Raises:
        ValueError: If ``name`` is unknown.
    """
    one_of("activation", name, get_args(ActivationName))
    if name in _WITH_INPLACE:
        return _WITH_INPLACE[name](inplace=inplace)
    return _WITHOUT_INPLACE[name]()


@functools.cache
def activation_gain(name: ActivationName) -> float:
    """Return the factor that gives the activation of a standard normal number a variance of one.

    ``gain = 1 / sqrt(Var f(z))`` with ``z ~ N(0, 1)``; for relu ``sqrt(2 / (1 - 1 / pi))``. A net
    without norms multiplies by it to keep the scale of its signal (arXiv 2101.08692, section 4).
    The integrals are sums over a fine grid, which agree with the exact values to eight digits.

    Args:
        name: Which activation.

    Returns:
        The gain.

    Raises:
        ValueError: If ``name`` is unknown.

    >>> round(activation_gain("relu"), 4) == round((2 / (1 - 1 / math.pi)) ** 0.5, 4)
    True
    """
    # On the CPU whatever the default device: a net may be built on the meta device.
    z = torch.linspace(-12, 12, 2**18 + 1, dtype=torch.float64, device="cpu")
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    y = make_activation(name)(z)
    mean = torch.trapezoid(density * y, z)
    variance = torch.trapezoid(density * (y - mean).square(), z)
    return float(variance.rsqrt())
