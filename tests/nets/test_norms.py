"""Norms against their formula, in float64."""

from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from zoo.nets.norms import NormName, make_norm

CHANNELS, GROUPS, EPS = 6, 3, 1e-3


def by_formula(kind: str, x: Tensor) -> Tensor:
    """The table of zoo.nets.norms, written out: which values share a mean and a variance."""
    b, c, h, w = x.shape
    if kind == "none":
        return x
    split = x.view(b, GROUPS, c // GROUPS, h, w) if kind == "group" else x.view(b, 1, c, h, w)
    axes = {"batch": (0, 3, 4), "layer": (2, 3, 4), "group": (2, 3, 4)}[kind]
    mean = split.mean(axes, keepdim=True)
    variance = (split - mean).square().mean(axes, keepdim=True)
    return ((split - mean) / (variance + EPS).sqrt()).view_as(x)


@pytest.mark.parametrize("kind", get_args(NormName))
def test_follows_its_formula(kind):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, CHANNELS, 5, 3, generator=generator, dtype=torch.float64) * 3 + 1
    norm = make_norm(kind, CHANNELS, eps=EPS, num_groups=GROUPS).double()
    expected = by_formula(kind, x)
    if kind != "none":
        weight, bias = torch.randn(2, CHANNELS, generator=generator, dtype=torch.float64)
        norm.load_state_dict({"weight": weight, "bias": bias}, strict=False)
        expected = expected * weight.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)
    torch.testing.assert_close(norm(x), expected, rtol=1e-12, atol=1e-12)


def test_the_formulas_differ():
    x = torch.randn(4, CHANNELS, 5, 3, dtype=torch.float64)
    kinds = [by_formula(kind, x) for kind in get_args(NormName)]
    for i, one in enumerate(kinds):
        assert not any(torch.allclose(one, other, atol=1e-3) for other in kinds[i + 1 :])


def test_batch_norm_averages_with_its_momentum():
    norm = make_norm("batch", 2, momentum=0.25)
    norm(torch.full((3, 2, 4, 4), 8.0))
    torch.testing.assert_close(norm.running_mean, torch.full((2,), 2.0))  # 0.75 * 0 + 0.25 * 8


@pytest.mark.parametrize("channels", range(1, 200))
def test_group_count_divides_any_width(channels):
    norm = make_norm("group", channels)
    assert isinstance(norm, nn.GroupNorm)
    assert channels % norm.num_groups == 0
    larger = range(norm.num_groups + 1, min(channels, 32) + 1)
    assert norm.num_groups <= 32
    assert not any(channels % count == 0 for count in larger)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"kind": "bath", "num_channels": 8}, "'bath'.*batch.*layer.*group.*none"),
        ({"kind": "batch", "num_channels": 0}, "num_channels=0"),
        ({"kind": "group", "num_channels": 8, "num_groups": 3}, "num_groups=3.*8 channels"),
        ({"kind": "group", "num_channels": 8, "num_groups": 0}, "num_groups=0"),
    ],
)
def test_refuses_what_does_not_fit(arguments, said):
    with pytest.raises(ValueError, match=said):
        make_norm(**arguments)
