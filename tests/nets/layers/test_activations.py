"""Activations by name, and the gains that keep a normal variable's variance."""

import math
from typing import get_args

import pytest
import torch
from torch import nn

from datamodules.core.errors import one_of
from zoo.nets.checks import check_counts, check_rate
from zoo.nets.layers.activations import ActivationName, activation_gain, make_activation

FORMULAS = {
    "relu": lambda x: x.clamp(min=0),
    "leaky_relu": lambda x: torch.where(x > 0, x, 0.01 * x),
    "gelu": lambda x: x * (1 + torch.erf(x / math.sqrt(2))) / 2,
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "mish": lambda x: x * torch.tanh(torch.log1p(torch.exp(x))),
    "tanh": lambda x: (torch.exp(x) - torch.exp(-x)) / (torch.exp(x) + torch.exp(-x)),
    "sigmoid": lambda x: 1 / (1 + torch.exp(-x)),
    "softplus": lambda x: torch.log(1 + torch.exp(x)),
    "elu": lambda x: torch.where(x > 0, x, torch.exp(x) - 1),
    "hardswish": lambda x: x * (x + 3).clamp(0, 6) / 6,
}


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("name", get_args(ActivationName))
def test_follows_its_formula(name, inplace):
    x = torch.linspace(-5, 5, 101, dtype=torch.float64)
    expected = FORMULAS[name](x)
    activation = make_activation(name, inplace=inplace)
    assert type(activation).__module__.startswith("torch.nn")
    given = x.clone()
    torch.testing.assert_close(activation(given), expected, rtol=1e-10, atol=1e-10)
    has_inplace = name not in ("gelu", "tanh", "sigmoid", "softplus")
    assert torch.equal(given, x) == (not (inplace and has_inplace))


@pytest.mark.parametrize("name", get_args(ActivationName))
def test_gain_gives_unit_variance(name):
    z = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0))
    assert (make_activation(name)(z) * activation_gain(name)).var().item() == pytest.approx(
        1, abs=0.01
    )


def test_gains_with_a_closed_form():
    assert activation_gain("relu") == pytest.approx(math.sqrt(2 / (1 - 1 / math.pi)), abs=1e-8)
    slope = 0.01
    variance = (1 + slope**2) / 2 - ((1 - slope) / math.sqrt(2 * math.pi)) ** 2
    assert activation_gain("leaky_relu") == pytest.approx(variance**-0.5, abs=1e-8)


def test_a_net_is_built_on_the_meta_device():
    activation_gain.cache_clear()
    with torch.device("meta"):
        assert activation_gain("silu") == pytest.approx(1.787, abs=1e-3)
        assert isinstance(make_activation("silu"), nn.SiLU)


@pytest.mark.parametrize(
    ("check", "arguments", "said"),
    [
        (make_activation, ["reul"], "option activation is 'reul'; "),
        (activation_gain, ["swish"], "option activation is 'swish'.*hardswish"),
        (one_of, ["depth", 19, (20, 32)], "option depth is 19; "),
        (one_of, ["norm", "xyz", ("batch",)], "option norm is 'xyz'; "),
        (check_counts, [0, 2], "option in_channels is 0; "),
        (check_counts, [1, -1], "option num_classes is -1; "),
        (check_rate, ["dropout", 1.0], "option dropout is 1.0; "),
        (check_rate, ["drop_path", -0.1], "option drop_path is -0.1; "),
    ],
)
def test_refuses_what_does_not_fit(check, arguments, said):
    with pytest.raises(ValueError, match=said):
        check(*arguments)


def test_accepts_the_limits():
    one_of("depth", 32, (20, 32))
    check_counts(1, 1)
    check_rate("dropout", 0.0)
    check_rate("dropout", 0.99)
