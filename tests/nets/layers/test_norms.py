"""Norms and convolutions against their formulas, in float64."""

from typing import get_args

import pytest
import timm.layers
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.nets.layers.conv import ConvName, ScaledWSConv2d, WSConv2d, make_conv
from zoo.nets.layers.norms import NormName, make_norm

CHANNELS, GROUPS, EPS = 6, 3, 1e-3
KINDS = get_args(NormName)
NOT_FOR_TABLES = ("instance", "frn")

# The axes of (B, groups, channels of a group, H, W) that share a statistic.
AXES = {
    "batch": (0, 3, 4),
    "layer": (2, 3, 4),
    "instance": (3, 4),
    "group": (2, 3, 4),
    "rms": (2, 3, 4),
    "frn": (3, 4),
}


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Numbers whose mean is not zero and whose scale differs from channel to channel."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    scale = torch.linspace(0.5, 3, shape[1], dtype=torch.float64)
    return x * scale.view(1, -1, *[1] * (len(shape) - 2)) + 1


def by_formula(kind: str, x: Tensor, eps: float = EPS) -> Tensor:
    """The table of zoo.nets.layers.norms, written out."""
    if kind == "none":
        return x
    b, c, h, w = x.shape
    split = x.view(b, GROUPS, c // GROUPS, h, w) if kind == "group" else x.view(b, 1, c, h, w)
    centred = kind not in ("rms", "frn")
    mean = split.mean(AXES[kind], keepdim=True) if centred else 0
    square = (split - mean).square().mean(AXES[kind], keepdim=True)
    return ((split - mean) / (square + eps).sqrt()).view_as(x)


def randomise(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Draw weight and bias, and return what they are (1 and 0 where the norm has none)."""
    weight, bias = draw(2, CHANNELS, seed=1)
    own = dict(norm.named_parameters())
    with torch.no_grad():
        for name, value in (("weight", weight), ("bias", bias)):
            if name in own:
                own[name].copy_(value)
    return (
        weight if "weight" in own else torch.ones_like(weight),
        bias if "bias" in own else torch.zeros_like(bias),
    )


# --- the formulas --------------------------------------------------------------------------------


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", KINDS)
def test_follows_its_formula(kind, memory_format):
    x = draw(4, CHANNELS, 5, 3).contiguous(memory_format=memory_format)
    norm = make_norm(kind, CHANNELS, eps=EPS, num_groups=GROUPS).double()
    weight, bias = randomise(norm)
    expected = by_formula(kind, x.contiguous()) * weight.view(-1, 1, 1) + bias.view(-1, 1, 1)
    torch.testing.assert_close(norm(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in NOT_FOR_TABLES])
def test_tables_are_maps_of_one_pixel(kind):
    x = draw(5, CHANNELS)
    norm = make_norm(kind, CHANNELS, eps=EPS, num_groups=GROUPS, ndim=2).double()
    weight, bias = randomise(norm)
    expected = by_formula(kind, x[:, :, None, None]).flatten(1) * weight + bias
    torch.testing.assert_close(norm(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_formula(kind):
    norm = make_norm(kind, CHANNELS, eps=EPS, num_groups=GROUPS).double()
    weight, _ = randomise(norm)
    out = draw(2, CHANNELS, 3, 2, seed=2)
    x, y = (draw(2, CHANNELS, 3, 2).requires_grad_() for _ in range(2))
    (norm(x) * out).sum().backward()
    (by_formula(kind, y) * weight.view(-1, 1, 1) * out).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_start_as_the_identity_and_affine_leaves_them_out(kind):
    parameters = dict(make_norm(kind, CHANNELS).named_parameters())
    names = {"none": set(), "rms": {"weight"}}.get(kind, {"weight", "bias"})
    assert parameters.keys() == names
    for name, value in parameters.items():
        assert torch.equal(value, torch.full((CHANNELS,), float(name == "weight")))
    plain = make_norm(kind, CHANNELS, eps=EPS, affine=False, num_groups=GROUPS).double()
    assert not list(plain.parameters())
    x = draw(2, CHANNELS, 3, 3)
    torch.testing.assert_close(plain(x), by_formula(kind, x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "none"])
def test_eps_by_default_is_the_published_one(kind):
    x = 1e-3 * draw(2, CHANNELS, 3, 3)  # small, so that eps shows
    eps = 1e-6 if kind in ("rms", "frn") else 1e-5
    norm = make_norm(kind, CHANNELS, num_groups=GROUPS).double()
    torch.testing.assert_close(norm(x), by_formula(kind, x, eps), rtol=1e-10, atol=1e-10)


def test_the_formulas_differ():
    x = draw(4, CHANNELS, 5, 3)
    results = [by_formula(kind, x) for kind in KINDS]
    for i, one in enumerate(results):
        assert not any(torch.allclose(one, other, atol=1e-3) for other in results[i + 1 :])


def test_batch_norm_averages_with_its_momentum():
    norm = make_norm("batch", 2, momentum=0.25)
    norm(torch.full((3, 2, 4, 4), 8.0))
    torch.testing.assert_close(norm.running_mean, torch.full((2,), 2.0))  # 0.75 * 0 + 0.25 * 8


@pytest.mark.parametrize("kind", ["rms", "frn"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_overflow_in_the_squares(kind, dtype):
    x = (300 * draw(2, CHANNELS, 16, 16)).to(dtype)  # a sum of squares far above 65,504
    norm = make_norm(kind, CHANNELS).to(dtype)
    y = norm(x)
    assert y.dtype == dtype
    expected = make_norm(kind, CHANNELS).double()(x.double())
    torch.testing.assert_close(y.double(), expected, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_map_has_finite_gradients(kind):
    x = torch.zeros(2, CHANNELS, 3, 3, requires_grad=True)
    norm = make_norm(kind, CHANNELS)
    norm(x).square().sum().backward()
    assert x.grad.isfinite().all()


# --- two facts that people ask about -------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_only_batch_norm_mixes_the_batch(kind):
    norm = make_norm(kind, CHANNELS).double()
    image, others = draw(1, CHANNELS, 4, 4), draw(3, CHANNELS, 4, 4, seed=3)

    def beside(rest: Tensor) -> Tensor:
        return norm(torch.cat([image, rest]))[0]

    apart = torch.allclose(beside(others), beside(5 * others), rtol=1e-12, atol=1e-12)
    assert apart == (kind != "batch")
    norm.eval()
    torch.testing.assert_close(beside(others), beside(5 * others), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_one_value_per_channel(kind):
    x = draw(1, CHANNELS, 1, 1)
    norm = make_norm(kind, CHANNELS, num_groups=GROUPS).double().train()
    if kind in ("batch", "instance"):
        with pytest.raises(ValueError, match=r"more than 1 (value|spatial element)"):
            norm(x)
    else:
        y = norm(x)
        assert y.isfinite().all()
        assert y.abs().max() > 0.1
    if kind == "batch":  # what a batch norm has to have is a second value, anywhere
        assert norm(draw(2, CHANNELS, 1, 1)).isfinite().all()
        assert norm(draw(1, CHANNELS, 1, 2)).isfinite().all()


# --- groups --------------------------------------------------------------------------------------


def test_group_count_divides_any_width():
    for channels in range(1, 300):
        counts = [n for n in range(1, 33) if channels % n == 0 and channels // n >= 8]
        assert make_norm("group", channels).num_groups == max(counts, default=1)


def test_group_count_is_the_one_that_was_asked_for():
    assert make_norm("group", 48, num_groups=12).num_groups == 12
    assert make_norm("group", 48, num_groups=12, ndim=2).num_groups == 12


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            {"kind": "bath", "num_channels": 8},
            "option norm is 'bath'; .*give one of batch, layer, instance, group, rms, frn, none .d",
        ),
        ({"kind": "batch", "num_channels": 0}, "option num_channels is 0"),
        (
            {"kind": "group", "num_channels": 48, "num_groups": 32},
            "option num_groups is 32.*48 channels",
        ),
        ({"kind": "group", "num_channels": 8, "num_groups": 0}, "option num_groups is 0"),
        ({"kind": "frn", "num_channels": 8, "ndim": 2}, "option norm is 'frn'.*pixels.*'layer'"),
        (
            {"kind": "instance", "num_channels": 8, "ndim": 2},
            "option norm is 'instance'.*pixels.*'layer'",
        ),
    ],
)
def test_refuses_what_does_not_fit(arguments, said):
    with pytest.raises(ValueError, match=said) as error:
        make_norm(**arguments)
    assert "\n" not in str(error.value)


# --- convolutions --------------------------------------------------------------------------------

CONV = {"stride": 2, "padding": (1, 0), "groups": 2, "bias": True}


@pytest.mark.parametrize("kind", get_args(ConvName))
def test_convolutions_follow_their_formula(kind):
    torch.manual_seed(0)
    conv = make_conv(kind, 4, 6, (3, 5), **CONV).double()
    assert isinstance(conv, nn.Conv2d)
    with torch.no_grad():
        conv.weight.mul_(5).add_(1)
        if kind == "scaled_ws":
            conv.gain.copy_(torch.linspace(0.5, 2, 6))
    weight = conv.weight
    if kind != "plain":
        mean = weight.mean((1, 2, 3), keepdim=True)
        variance = weight.var((1, 2, 3), correction=0, keepdim=True)
        weight = (weight - mean) / (variance + 1e-6).sqrt()
    if kind == "scaled_ws":
        fan_in = 2 * 3 * 5
        weight = weight * conv.gain.view(-1, 1, 1, 1) / fan_in**0.5
    x = draw(2, 4, 9, 8)
    expected = F.conv2d(x, weight, conv.bias, stride=2, padding=(1, 0), groups=2)
    torch.testing.assert_close(conv(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("kind", "theirs"),
    [("ws", timm.layers.StdConv2d), ("scaled_ws", timm.layers.ScaledStdConv2d)],
)
def test_convolutions_are_timms(kind, theirs, memory_format):
    torch.manual_seed(0)
    ours = make_conv(kind, 4, 6, 3, padding=1, bias=True).to(memory_format=memory_format)
    their = theirs(4, 6, 3, padding=1, bias=True)
    their.load_state_dict({"weight": ours.weight, "bias": ours.bias}, strict=False)
    x, out = draw(2, 4, 7, 7).float(), draw(2, 6, 7, 7, seed=1).float()
    y, z = ours(x), their(x)
    torch.testing.assert_close(y, z, rtol=1e-5, atol=1e-5)
    for each in (y, z):
        (each * out).sum().backward()
    torch.testing.assert_close(ours.weight.grad, their.weight.grad, rtol=1e-4, atol=1e-3)


def test_scaled_weight_standardisation_keeps_the_variance():
    torch.manual_seed(0)
    conv = make_conv("scaled_ws", 64, 128, 3)
    x = torch.randn(4, 64, 16, 16)
    assert conv(x).var().item() == pytest.approx(1, abs=0.05)
    shifted = conv(x + 3)  # a mean that all channels share has no effect
    torch.testing.assert_close(shifted, conv(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("plain", ["weight", "bias"]),
        ("ws", ["weight", "bias"]),
        ("scaled_ws", ["weight", "bias", "gain"]),
    ],
)
def test_convolutions_keep_the_names_of_torchs(kind, names):
    assert list(make_conv(kind, 2, 3, 3, bias=True).state_dict()) == names


def test_refuses_convolutions_that_do_not_fit():
    with pytest.raises(
        ValueError,
        match=r"option conv is 'wss'; .*give one of plain, ws, scaled_ws .did you mean 'ws'\?",
    ):
        make_conv("wss", 2, 2, 3)
    for conv in (WSConv2d, ScaledWSConv2d):
        with pytest.raises(ValueError, match="1x1 convolution of 4 channels in 4 groups"):
            conv(4, 4, 1, groups=4)
