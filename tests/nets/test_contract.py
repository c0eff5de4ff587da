"""What every net of the zoo promises. A new net needs a line in CASES, and nothing else here."""

import copy
import json
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import zoo.nets
from zoo.nets import GoogLeNet


class Case(NamedTuple):
    net: type[nn.Module]
    kwargs: dict[str, Any]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    parameters: int


CASES = {
    # 260,650: published with the net, in the UvA tutorial.
    "googlenet-cifar": Case(GoogLeNet, {"num_classes": 10}, (2, 3, 32, 32), (2, 10), 260_650),
    # One channel and 8 pixels, as scikit-learn's digits: 2 * 9 * 64 weights fewer in the stem.
    "googlenet-digits": Case(
        GoogLeNet,
        {"in_channels": 1, "num_classes": 10, "image_size": 8},
        (2, 1, 8, 8),
        (2, 10),
        259_498,
    ),
    "googlenet-mnist": Case(
        GoogLeNet,
        {"in_channels": 1, "num_classes": 2, "image_size": 28, "norm": "group"},
        (2, 1, 28, 28),
        (2, 2),
        259_498 - 8 * 129,
    ),
    # 13,004,888: counted in torchvision's own net; 6,624,904 without the auxiliary heads.
    "googlenet-torchvision": Case(
        GoogLeNet,
        {"layout": "torchvision", "stem": "large"},
        (2, 3, 64, 64),
        (2, 1000),
        13_004_888,
    ),
    # 5.491 M: published by huyvnphan/PyTorch_CIFAR10.
    "googlenet-torchvision-small": Case(
        GoogLeNet,
        {"num_classes": 10, "layout": "torchvision", "aux_heads": False},
        (2, 3, 16, 16),
        (2, 10),
        5_490_986,
    ),
    # 6,998,552: the count of Caffe's reference net.
    "googlenet-paper": Case(
        GoogLeNet,
        {"layout": "paper", "stem": "large", "aux_heads": False},
        (2, 3, 64, 64),
        (2, 1000),
        6_998_552,
    ),
}
each_net = pytest.mark.parametrize("case", [pytest.param(CASES[k], id=k) for k in CASES])


def build(case: Case) -> nn.Module:
    torch.manual_seed(0)
    return case.net(**case.kwargs)


def draw_input(case: Case) -> Tensor:
    return torch.randn(case.input_shape, generator=torch.Generator().manual_seed(1))


def all_logits(output: Tensor | tuple[Tensor, ...]) -> list[Tensor]:
    """The logits of the main head, then those of auxiliary heads, if any."""
    return [output] if isinstance(output, Tensor) else list(output)


def test_every_exported_net_is_under_contract():
    exported = {getattr(zoo.nets, name) for name in zoo.nets.__all__}
    assert exported == {case.net for case in CASES.values()}


@each_net
def test_forward_returns_logits(case):
    net, x = build(case), draw_input(case)
    for logits in all_logits(net(x)):
        assert logits.shape == case.output_shape
    logits = net.eval()(x)
    assert isinstance(logits, Tensor)
    assert logits.shape == case.output_shape
    assert logits.isfinite().all()


@each_net
def test_every_parameter_gets_a_gradient(case):
    net = build(case).train()
    sum(logits.square().mean() for logits in all_logits(net(draw_input(case)))).backward()
    without = [
        name
        for name, parameter in net.named_parameters()
        if parameter.grad is None
        or not parameter.grad.isfinite().all()
        # A bias just before batch norm has no effect, hence a gradient of rounding errors or zero.
        or (parameter.dim() > 1 and not parameter.grad.any())
    ]
    assert without == []


@each_net
def test_parameter_count(case):
    assert sum(parameter.numel() for parameter in build(case).parameters()) == case.parameters


@each_net
def test_evaluation_is_deterministic_and_per_example(case):
    net, x = build(case).eval(), draw_input(case)
    with torch.no_grad():
        logits = net(x)
        assert torch.equal(net(x), logits)
        assert torch.equal(copy.deepcopy(net)(x), logits)
        torch.testing.assert_close(net(x[:1]), logits[:1], rtol=1e-4, atol=1e-5)


@each_net
def test_recorded_arguments_rebuild_the_net(case, tmp_path):
    net, x = build(case).eval(), draw_input(case)
    recorded = json.loads(json.dumps(net._hub_mixin_config))
    assert case.kwargs.items() <= recorded.items()

    twin = case.net(**recorded).eval()
    twin.load_state_dict(net.state_dict())
    net.save_pretrained(tmp_path)
    loaded = case.net.from_pretrained(tmp_path)
    assert loaded._hub_mixin_config == net._hub_mixin_config
    with torch.no_grad():
        assert torch.equal(twin(x), net(x))
        assert torch.equal(loaded(x), net(x))
