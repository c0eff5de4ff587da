"""GoogLeNet against torchvision's, and what it says when it is asked for the impossible."""

import itertools
from pathlib import Path
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models import GoogLeNet_Weights

from zoo.nets import GoogLeNet, googlenet
from zoo.nets.googlenet import AuxHead, GoogLeNetOutputs, InceptionBlock, Layout
from zoo.nets.layers.activations import ActivationName, activation_gain
from zoo.nets.layers.conv import ConvBlock
from zoo.nets.pretrained import torchvision_weights as pretrained

WEIGHTS = GoogLeNet_Weights.IMAGENET1K_V1
PRETRAINED = {"layout": "torchvision", "stem": "large", "weights": "IMAGENET1K_V1"}


def images(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def reference() -> nn.Module:
    """torchvision's net, with running averages of real maps: else logits hardly see the image."""
    torch.manual_seed(0)
    net = torchvision.models.GoogLeNet(num_classes=1000, init_weights=False)
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        net.train()(images(4, 3, 64, 64))
    for norm in norms:
        norm.momentum = 0.1
    return net.eval()


# --- torchvision's net ---------------------------------------------------------------------------


@pytest.mark.parametrize("transform_input", [False, True])
def test_gives_torchvisions_logits(reference, transform_input, monkeypatch):
    monkeypatch.setattr(reference, "transform_input", transform_input)
    net = GoogLeNet(layout="torchvision", stem="large", transform_input=transform_input)
    net.load_state_dict(reference.state_dict())
    x = images(2, 3, 80, 64)
    with torch.no_grad():
        expected = reference(x)
        torch.testing.assert_close(net.eval()(x), expected, rtol=0, atol=1e-5)
    assert (expected[0] - expected[1]).abs().max() > 0.1  # the comparison is not of constants


def test_trains_as_torchvisions_does(reference):
    theirs = torchvision.models.GoogLeNet(num_classes=1000, init_weights=False)
    theirs.load_state_dict(reference.state_dict())
    ours = GoogLeNet(layout="torchvision", stem="large")
    ours.load_state_dict(reference.state_dict())
    x = images(4, 3, 64, 64)
    outputs = []
    for net in (ours.train(), theirs.train()):
        torch.manual_seed(7)  # for dropout
        output = net(x)
        (output.logits + 0.3 * (output.aux_logits1 + output.aux_logits2)).square().mean().backward()
        outputs.append(output)

    assert isinstance(outputs[0], GoogLeNetOutputs)
    assert outputs[0]._fields == outputs[1]._fields
    for mine, their in zip(*outputs, strict=True):
        torch.testing.assert_close(mine, their, rtol=0, atol=1e-5)
    for (name, mine), their in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(mine, their, msg=name)
    gradients = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name].grad, rtol=1e-3, atol=1e-5)


# --- layouts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "stem", "norm"),
    list(itertools.product(get_args(Layout), ("small", "large"), ("batch", "group", "none"))),
)
def test_every_combination_trains(layout, stem, norm):
    torch.manual_seed(0)
    side = 64 if stem == "large" else 16
    net = GoogLeNet(2, 3, layout=layout, stem=stem, image_size=side, norm=norm)
    output = net(images(2, 2, side, side))
    assert isinstance(output, Tensor) == (layout == "cifar")
    heads = [output] if layout == "cifar" else output
    assert all(logits.shape == (2, 3) for logits in heads)
    sum(logits.square().mean() for logits in heads).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.dim() == 1 or parameter.grad.any(), name


@pytest.mark.parametrize(
    ("layout", "steps"),
    [
        ("cifar", 15),
        pytest.param("paper", 25, marks=pytest.mark.slow),
        pytest.param("torchvision", 15, marks=pytest.mark.slow),
    ],
)
def test_learns_a_handful_of_images(layout, steps):
    torch.manual_seed(0)
    net = GoogLeNet(1, 2, layout=layout, dropout=0.0, aux_heads=False)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    x, y = images(8, 1, 8, 8), torch.tensor([0, 1] * 4)
    for _ in range(steps):
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.2  # 0.69 is chance


@pytest.mark.parametrize(
    ("layout", "kernel", "head", "aux", "norm", "bias"),
    [
        ("paper", 5, 0.4, True, nn.Identity, True),
        ("torchvision", 3, 0.2, True, nn.BatchNorm2d, False),
        ("cifar", 5, 0.0, False, nn.BatchNorm2d, True),
    ],
)
def test_is_what_the_layout_publishes(layout, kernel, head, aux, norm, bias):
    net = GoogLeNet(layout=layout)
    wide = net.inception3a.branch3[1]
    assert wide.conv.kernel_size == (kernel, kernel)
    assert type(wide.bn) is norm
    assert (wide.conv.bias is not None) == bias
    assert net.dropout.p == head
    assert (net.aux1 is not None) == aux
    if aux:
        assert net.aux1.dropout.p == net.aux2.dropout.p == 0.7
    assert GoogLeNet(layout=layout, dropout=0.9).dropout.p == 0.9


def test_local_response_norm_is_the_papers_alone():
    def count(**options: str) -> int:
        return sum(isinstance(m, nn.LocalResponseNorm) for m in GoogLeNet(**options).modules())

    assert count(layout="paper", stem="large") == 2
    assert count(layout="paper", stem="small") == 1
    assert count(layout="paper", stem="large", norm="batch") == 0
    assert count(layout="torchvision", stem="large", norm="none") == 0


def test_maps_have_the_sizes_of_the_papers_table():
    net = GoogLeNet(layout="paper", image_size=224).eval()
    sizes = {}
    for name in net._trunk:
        getattr(net, name).register_forward_hook(
            lambda module, given, x, name=name: sizes.update({name: tuple(x.shape[1:])})
        )
    with torch.no_grad():
        net(images(1, 3, 224, 224))
    assert sizes["conv1"] == (64, 112, 112)
    assert sizes["maxpool1"] == (64, 56, 56)
    assert sizes["conv3"] == (192, 56, 56)
    assert sizes["maxpool2"] == (192, 28, 28)
    assert sizes["inception3a"] == (256, 28, 28)
    assert sizes["inception3b"] == (480, 28, 28)
    assert sizes["maxpool3"] == (480, 14, 14)
    for name, channels in zip("abcde", (512, 512, 512, 528, 832), strict=True):
        assert sizes[f"inception4{name}"] == (channels, 14, 14)
    assert sizes["maxpool4"] == (832, 7, 7)
    assert sizes["inception5a"] == (832, 7, 7)
    assert sizes["inception5b"] == (1024, 7, 7)


def test_the_papers_auxiliary_head_pools_as_the_paper_does():
    head = AuxHead(6, 3, fixed_pool=True).eval()
    x = images(2, 6, 14, 14)
    pooled = F.avg_pool2d(x, 5, 3)
    assert pooled.shape[2:] == (4, 4)
    torch.testing.assert_close(head(x), head(pooled))
    assert not torch.allclose(head(x), head(F.adaptive_avg_pool2d(x, 4)))


def test_the_stem_follows_the_image_size():
    assert GoogLeNet(image_size=64).conv1.conv.stride == (1, 1)
    assert GoogLeNet(image_size=65).conv1.conv.stride == (2, 2)
    assert GoogLeNet(image_size=32, stem="large").conv1.conv.stride == (2, 2)
    assert GoogLeNet(image_size=224, stem="small").conv1.conv.stride == (1, 1)


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize(("layout", "stem"), googlenet._SMALLEST_IMAGE)
def test_the_smallest_image_is_the_smallest(layout, stem, norm):
    smallest = googlenet._SMALLEST_IMAGE[layout, stem][norm == "instance"]
    options = {"layout": layout, "stem": stem, "norm": norm}
    net = GoogLeNet(3, 2, image_size=smallest, **options).eval()
    assert net(images(1, 3, smallest, smallest)).shape == (1, 2)
    with pytest.raises(ValueError, match=f"image_size is {smallest - 1}; .* at least {smallest} "):
        GoogLeNet(3, 2, image_size=smallest - 1, **options)
    with pytest.raises((RuntimeError, ValueError)):
        net(images(1, 3, smallest - 1, smallest - 1))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_classes": 0}, "option num_classes is 0; "),
        ({"in_channels": 0}, "option in_channels is 0; "),
        ({"dropout": 1.0}, "option dropout is 1.0; "),
        ({"dropout": -0.1}, "option dropout is -0.1; "),
        ({"layout": "resnet"}, "option layout is 'resnet'.*paper, torchvision, cifar"),
        ({"stem": "tiny"}, "option stem is 'tiny'.*auto, small, large"),
        (
            {"norm": "bath"},
            "option norm is 'bath'; .*give one of auto, batch, layer, instance, group, rms, frn, n",
        ),
        ({"conv": "scaled"}, "option conv is 'scaled'.*did you mean 'scaled_ws'"),
        ({"activation": "rulu"}, "option activation is 'rulu'.*did you mean 'relu'"),
        ({"norm": "group", "num_groups": 5}, "num_groups is 5; it does not divide 64 channels"),
        ({"norm": "none", "conv": "ws"}, "conv is 'ws'; it needs a norm.*'scaled_ws'.*'group'"),
        ({"aux_heads": True}, "aux_heads is true; .*choose layout 'paper' or 'torchvision'"),
        (
            {"in_channels": 1, "transform_input": True},
            "transform_input is true; .* in_channels is 1",
        ),
        (
            {"layout": "torchvision", "weights": "V9"},
            "option weights is 'V9'.*IMAGENET1K_V1, DEFAULT",
        ),
        ({"weights": "IMAGENET1K_V1"}, r"set layout=torchvision \(now cifar\), stem=large"),
        ({**PRETRAINED, "norm": "group", "in_channels": 1}, "norm=batch .*, in_channels=3"),
        ({**PRETRAINED, "conv": "ws", "activation": "silu"}, "conv=plain .*, activation=relu"),
    ],
)
def test_refuses_options_that_do_not_fit(options, said):
    with pytest.raises(ValueError, match=said) as error:
        GoogLeNet(**options)
    assert "\n" not in str(error.value)


# --- the blocks ----------------------------------------------------------------------------------


def test_a_conv_block_is_convolution_norm_activation():
    options = {"norm": "group", "num_groups": 3, "conv": "ws", "activation": "tanh", "eps": 0.1}
    block = ConvBlock(2, 6, (1, 5), bias=True, **options)
    x = images(2, 2, 5, 7)
    mapped = F.conv2d(x, block.conv.standardised_weight(), block.conv.bias, padding=(0, 2))
    expected = F.group_norm(mapped, 3, eps=0.1).tanh()
    assert expected.shape == (2, 6, 5, 7)
    torch.testing.assert_close(block(x), expected)
    narrower = ConvBlock(2, 6, 3, stride=2, padding=0)(images(2, 2, 9, 8))
    assert narrower.shape == (2, 6, 4, 3)


@pytest.mark.parametrize("activation", get_args(ActivationName))
def test_scaled_convolutions_make_up_for_the_activation(activation):
    torch.manual_seed(0)
    block = ConvBlock(64, 64, 1, norm="none", conv="scaled_ws", activation=activation)
    x = images(8, 64, 16, 16)
    gain = activation_gain(activation)
    torch.testing.assert_close(block.conv(x).var() / gain**2, torch.tensor(1.0), rtol=0.1, atol=0)


def test_all_convolutions_are_of_the_kind_that_is_asked_for():
    net = GoogLeNet(layout="torchvision", conv="scaled_ws", norm="frn", activation="silu")
    blocks = [module for module in net.modules() if isinstance(module, ConvBlock)]
    assert len(blocks) == 1 + 9 * 6 + 2
    for block in blocks:
        assert type(block.conv).__name__ == "ScaledWSConv2d"
        assert type(block.bn).__name__ == "FilterResponseNorm2d"
        assert type(block.activation) is nn.SiLU
        assert block.conv.bias is None
    assert type(net.aux1.activation) is type(net.aux2.activation) is nn.SiLU


def test_a_block_lays_its_branches_side_by_side():
    block = InceptionBlock(5, 2, 3, 4, 3, 6, 1)
    x = images(2, 5, 7, 9)
    y = block(x)
    assert y.shape == (2, 13, 7, 9)
    assert block.out_channels == 13
    parts = y.split((2, 4, 6, 1), dim=1)
    branches = (block.branch1, block.branch2, block.branch3, block.branch4)
    for part, branch in zip(parts, branches, strict=True):
        torch.testing.assert_close(part, branch(x))


@pytest.mark.parametrize("position", range(7))
@pytest.mark.parametrize("count", [0, -4])
def test_a_block_refuses_a_branch_without_channels(position, count):
    widths = [8, 2, 3, 4, 3, 6, 1]
    widths[position] = count
    with pytest.raises(ValueError, match=f" is {count}; give 1 or more"):
        InceptionBlock(*widths)


def test_a_block_says_which_branch_does_not_fit():
    with pytest.raises(ValueError, match=r"option kernel_sizes is \(3, 0\)"):
        InceptionBlock(8, 2, 3, 4, 3, 6, 1, kernel_sizes=(3, 0))
    block = InceptionBlock(8, 2, 3, 4, 3, 6, 1, kernel_sizes=(3, 4))
    with pytest.raises(ValueError, match="concatenated") as error:
        block(images(2, 8, 7, 9))
    said = str(error.value)
    assert "a map of 7x9" in said
    assert "the 4x4 branch 8x10" in said
    assert "the 3x3 branch 7x9" in said
    assert "kernels of odd size" in said
    assert "kernel_sizes=(3, 4)" in said
    assert "\n" not in said


# --- pretrained weights, without a network -------------------------------------------------------


@pytest.fixture
def cached(reference, tmp_path, monkeypatch) -> Path:
    """The file of weights, where torch looks for it; without it, there is no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(pretrained, "unreachable", lambda url, seconds: "no network")
    path = pretrained.weights_path(WEIGHTS)
    path.parent.mkdir(parents=True)
    torch.save(reference.state_dict(), path)
    return path


def test_a_cached_file_needs_no_network(cached, reference, monkeypatch, tmp_path):
    net = GoogLeNet(**PRETRAINED).eval()
    x = images(1, 3, 64, 64)
    monkeypatch.setattr(reference, "transform_input", True)
    with torch.no_grad():
        torch.testing.assert_close(net(x), reference(x), rtol=0, atol=1e-5)
    assert net.aux1 is not None

    # The record rebuilds the net, input range included, when the file is long gone.
    cached.unlink()
    net.save_pretrained(tmp_path / "saved")
    again = GoogLeNet.from_pretrained(tmp_path / "saved")
    twin = GoogLeNet(**net._hub_mixin_config).eval()
    twin.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert torch.equal(again(x), net(x))
        assert torch.equal(twin(x), net(x))


def test_another_number_of_classes_gets_fresh_heads(cached, reference):
    torch.manual_seed(0)
    net = GoogLeNet(3, 7, **PRETRAINED)
    assert net.transform_input
    state, theirs = net.state_dict(), reference.state_dict()
    fresh = {key for key in theirs if state[key].shape != theirs[key].shape}
    assert fresh == {f"{head}.{kind}" for head in ("fc", "aux1.fc2", "aux2.fc2")
                     for kind in ("weight", "bias")}  # fmt: skip
    assert all(torch.equal(state[key], theirs[key]) for key in theirs.keys() - fresh)
    assert all(output.shape == (2, 7) for output in net(images(2, 3, 64, 64)))


def test_auxiliary_heads_and_input_range_are_optional(cached, reference):
    net = GoogLeNet(aux_heads=False, transform_input=False, **PRETRAINED).eval()
    assert net.aux1 is None
    assert net.aux2 is None
    x = images(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(net(x), reference(x), rtol=0, atol=1e-5)


def test_a_file_of_another_net_is_named(cached):
    torch.save(nn.Linear(2, 2).state_dict(), cached)
    with pytest.raises(ValueError, match="holds other weights than GoogLeNet's") as error:
        GoogLeNet(**PRETRAINED)
    said = str(error.value)
    assert str(cached) in said
    assert "it lacks conv1.conv.weight, " in said
    assert "the net has no weight, bias" in said
    assert "\n" not in said
