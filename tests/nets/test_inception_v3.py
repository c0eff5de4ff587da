"""Inception v3 against torchvision's, and what it says when it is asked for the impossible."""

from typing import get_args

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models import Inception_V3_Weights

from zoo.nets import InceptionV3, inception_v3
from zoo.nets.inception_v3 import (
    InceptionA,
    InceptionAux,
    InceptionB,
    InceptionC,
    InceptionD,
    InceptionE,
    InceptionV3Outputs,
)
from zoo.nets.layers.conv import ConvBlock
from zoo.nets.pretrained import torchvision_weights as pretrained

WEIGHTS = Inception_V3_Weights.IMAGENET1K_V1
PRETRAINED = {"image_size": 299, "weights": "IMAGENET1K_V1"}


def images(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def reference() -> nn.Module:
    """torchvision's net, with running averages of real maps: else logits hardly see the image."""
    torch.manual_seed(0)
    net = torchvision.models.Inception3(init_weights=False)
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        net.train()(images(2, 3, 299, 299))
    for norm in norms:
        norm.momentum = 0.1
    return net.eval()


# --- torchvision's net ---------------------------------------------------------------------------


def test_gives_torchvisions_logits(reference):
    net = InceptionV3(image_size=299).eval()
    net.load_state_dict(reference.state_dict())
    assert list(net.state_dict()) == list(reference.state_dict())
    sizes = {}
    for name in net._trunk:
        getattr(net, name).register_forward_hook(
            lambda module, given, x, name=name: sizes.update({name: tuple(x.shape[1:])})
        )
    x = images(2, 3, 299, 299)
    with torch.no_grad():
        expected = reference(x)
        torch.testing.assert_close(net(x), expected, rtol=0, atol=1e-5)
    assert (expected[0] - expected[1]).abs().max() > 0.1  # the comparison is not of constants

    # The sizes of the maps in the paper's table 1.
    assert sizes["Conv2d_1a_3x3"] == (32, 149, 149)
    assert sizes["Conv2d_2a_3x3"] == (32, 147, 147)
    assert sizes["Conv2d_2b_3x3"] == (64, 147, 147)
    assert sizes["maxpool1"] == (64, 73, 73)
    assert sizes["maxpool2"] == (192, 35, 35)
    assert sizes["Mixed_5d"] == (288, 35, 35)
    assert sizes["Mixed_6a"] == sizes["Mixed_6e"] == (768, 17, 17)
    assert sizes["Mixed_7a"] == (1280, 8, 8)
    assert sizes["Mixed_7b"] == sizes["Mixed_7c"] == (2048, 8, 8)


def test_trains_as_torchvisions_does(reference):
    theirs = torchvision.models.Inception3(init_weights=False)
    theirs.load_state_dict(reference.state_dict())
    ours = InceptionV3(image_size=299)
    ours.load_state_dict(reference.state_dict())
    x = images(2, 3, 299, 299)
    outputs = []
    for net in (ours.train(), theirs.train()):
        torch.manual_seed(7)  # for dropout
        output = net(x)
        (output.logits + 0.4 * output.aux_logits).square().mean().backward()
        outputs.append(output)

    assert isinstance(outputs[0], InceptionV3Outputs)
    assert outputs[0]._fields == outputs[1]._fields
    for mine, their in zip(*outputs, strict=True):
        torch.testing.assert_close(mine, their, rtol=0, atol=1e-5)
    for (name, mine), their in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(mine, their, msg=name)
    gradients = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name].grad, rtol=1e-3, atol=1e-5)


def test_start_values_spread_as_torchvisions():
    torch.manual_seed(0)
    net, unnormalised = InceptionV3(3, 500), InceptionV3(norm="none")
    convolution = unnormalised.Mixed_6b.branch1x1.conv
    expected = {
        net.fc.weight: 0.1,
        net.Mixed_6b.branch1x1.conv.weight: 0.1,
        net.AuxLogits.conv1.conv.weight: 0.1,
        net.AuxLogits.fc.weight: 0.001,
        convolution.weight: (2 / 768) ** 0.5,  # He et al.'s
    }
    for weight, deviation in expected.items():
        assert weight.std().item() == pytest.approx(deviation, rel=0.02)
    assert convolution.bias is not None
    assert net.Mixed_6b.branch1x1.conv.bias is None


# --- blocks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "channels", "side"),
    [
        (InceptionA(5, 7), 64 + 64 + 96 + 7, (9, 8)),
        (InceptionB(5), 384 + 96 + 5, (4, 3)),
        (InceptionC(5, 3), 768, (9, 8)),
        (InceptionD(5), 320 + 192 + 5, (4, 3)),
        (InceptionE(5), 2048, (9, 8)),
    ],
)
def test_a_block_lays_its_branches_side_by_side(block, channels, side):
    outputs = {}
    for name, module in block.named_children():
        module.register_forward_hook(lambda m, given, x, name=name: outputs.update({name: x}))
    x = images(2, 5, 9, 8)
    y = block(x)
    assert y.shape == (2, channels, *side)
    assert block.out_channels == channels
    # What no other convolution takes in ends a branch; the reductions' last branch is a pool.
    inputs = {module.conv.in_channels for module in block.children()}
    ends = [out for out in outputs.values() if out.shape[1] not in inputs or len(outputs) == 1]
    for out in ends:
        assert any(
            torch.equal(out, y[:, i : i + out.shape[1]]) for i in range(channels - out.shape[1] + 1)
        )
    if isinstance(block, InceptionB | InceptionD):
        assert torch.equal(y[:, -5:], F.max_pool2d(x, 3, 2))


def test_the_auxiliary_head_pools_as_the_paper_does_where_there_is_room():
    head = InceptionAux(6, 3).eval()
    x = images(2, 6, 17, 17)
    pooled = F.avg_pool2d(x, 5, 3)
    assert pooled.shape[2:] == (5, 5)
    torch.testing.assert_close(head(x), head(pooled))
    assert not torch.allclose(head(x), head(F.adaptive_avg_pool2d(x, 5)))
    small = images(2, 6, 1, 1)
    torch.testing.assert_close(head(small), head(small.expand(2, 6, 5, 5)))


def test_the_auxiliary_heads_single_pixel_has_a_norm_that_works():
    kinds = {
        norm: [type(m.bn) for m in InceptionAux(6, 3, norm=norm).children() if hasattr(m, "bn")]
        for norm in ("batch", "instance")
    }
    assert kinds["batch"] == [nn.BatchNorm2d, nn.BatchNorm2d]
    assert kinds["instance"] == [nn.InstanceNorm2d, nn.GroupNorm]


# --- options -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_learns_a_handful_of_images():
    torch.manual_seed(0)
    net = InceptionV3(1, 2, image_size=8, dropout=0.0)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    x, y = images(8, 1, 8, 8), torch.tensor([0, 1] * 4)
    for _ in range(6):
        output = net(x)
        loss = F.cross_entropy(output.logits, y)
        optimizer.zero_grad()
        (loss + 0.4 * F.cross_entropy(output.aux_logits, y)).backward()
        optimizer.step()
    assert loss < 0.2  # 0.69 is chance


def test_all_convolutions_are_of_the_kind_that_is_asked_for():
    with torch.device("meta"):
        net = InceptionV3(
            image_size=75, conv="ws", norm="group", num_groups=16, activation="silu", dropout=0.3
        )
    blocks = [module for module in net.modules() if isinstance(module, ConvBlock)]
    assert len(blocks) == 5 + 3 * 7 + 4 + 4 * 10 + 6 + 2 * 9 + 2
    for block in blocks:
        assert type(block.conv).__name__ == "WSConv2d"
        assert block.bn.num_groups == 16
        assert type(block.activation) is nn.SiLU
    assert net.dropout.p == 0.3


def test_batch_norm_adds_what_torchvisions_does_and_others_their_own():
    with torch.device("meta"):
        for norm, eps in (("batch", 1e-3), ("group", 1e-5)):
            assert InceptionV3(norm=norm).Mixed_5b.branch1x1.bn.eps == eps


def test_the_stem_follows_the_image_size():
    with torch.device("meta"):
        small, large = InceptionV3(image_size=64), InceptionV3(image_size=75)
        assert InceptionV3(image_size=75, stem="small")._trunk == small._trunk
    assert small._trunk[:2] == ["Conv2d_1a_3x3", "Mixed_5b"]
    assert small.Conv2d_1a_3x3.conv.stride == (1, 1)
    assert large.Conv2d_1a_3x3.conv.stride == (2, 2)


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("stem", inception_v3._SMALLEST_IMAGE)
def test_the_smallest_image_is_the_smallest(stem, norm):
    smallest = inception_v3._SMALLEST_IMAGE[stem][norm == "instance"]
    net = InceptionV3(1, 2, stem=stem, norm=norm, image_size=smallest).eval()
    with torch.no_grad():
        assert net(images(1, 1, smallest, smallest)).shape == (1, 2)
    with pytest.raises(ValueError, match=f"image_size is {smallest - 1}; .* at least {smallest} "):
        InceptionV3(1, 2, stem=stem, norm=norm, image_size=smallest - 1)
    with pytest.raises((RuntimeError, ValueError)), torch.no_grad():
        net(images(1, 1, smallest - 1, smallest - 1))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_classes": 0}, "option num_classes is 0; "),
        ({"in_channels": 0}, "option in_channels is 0; "),
        ({"dropout": 1.0}, "option dropout is 1.0; "),
        ({"stem": "big"}, f"option stem is 'big'; .*{', '.join(get_args(inception_v3.Stem))}"),
        ({"norm": "bath"}, "option norm is 'bath'.*did you mean 'batch'"),
        ({"conv": "wss"}, "option conv is 'wss'.*did you mean 'ws'"),
        ({"activation": "rulu"}, "option activation is 'rulu'.*did you mean 'relu'"),
        ({"norm": "group", "num_groups": 7}, "num_groups is 7; it does not divide 192 channels"),
        ({"norm": "none", "conv": "ws"}, "conv is 'ws'; it needs a norm"),
        (
            {"in_channels": 1, "transform_input": True},
            "transform_input is true; .* in_channels is 1",
        ),
        ({"weights": "V9"}, "option weights is 'V9'.*IMAGENET1K_V1, DEFAULT"),
        ({"weights": "IMAGENET1K_V1"}, r"set stem=large \(now small\)$"),
        ({**PRETRAINED, "norm": "group", "in_channels": 1}, "norm=batch .*, in_channels=3"),
        ({**PRETRAINED, "conv": "ws", "activation": "silu"}, "conv=plain .*, activation=relu"),
    ],
)
def test_refuses_options_that_do_not_fit(options, said):
    with torch.device("meta"), pytest.raises(ValueError, match=said) as error:
        InceptionV3(**options)
    assert "\n" not in str(error.value)


# --- pretrained weights, without a network -------------------------------------------------------


@pytest.fixture
def cached(reference, tmp_path, monkeypatch) -> None:
    """A file of weights, where torch looks for it; without it, there is no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(pretrained, "unreachable", lambda url, seconds: "no network")
    path = pretrained.weights_path(WEIGHTS)
    path.parent.mkdir(parents=True)
    torch.save(reference.state_dict(), path)


def test_pretrained_weights_give_torchvisions_logits(cached, reference, monkeypatch):
    net = InceptionV3(aux_heads=False, **PRETRAINED).eval()
    assert net.AuxLogits is None
    assert net._hub_mixin_config["weights"] is None
    assert net._hub_mixin_config["transform_input"] is True
    monkeypatch.setattr(reference, "transform_input", True)
    x = images(1, 3, 107, 90)
    with torch.no_grad():
        torch.testing.assert_close(net(x), reference(x), rtol=0, atol=1e-5)


def test_another_number_of_classes_gets_fresh_heads(cached, reference):
    net = InceptionV3(3, 7, transform_input=False, **PRETRAINED)
    assert net._hub_mixin_config["transform_input"] is False
    state, theirs = net.state_dict(), reference.state_dict()
    fresh = {key for key in theirs if state[key].shape != theirs[key].shape}
    assert fresh == {f"{h}.{kind}" for h in ("fc", "AuxLogits.fc") for kind in ("weight", "bias")}
    assert all(torch.equal(state[key], theirs[key]) for key in theirs.keys() - fresh)
