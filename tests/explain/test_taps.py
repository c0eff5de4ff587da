"""What is shown of a net on its way is what torch computes there."""

import numpy as np
import pytest
import torch
from torch import nn

import zoo
from zoo.explain.taps import Tapped, tapped
from zoo.export.capture import capture, save_onnx
from zoo.export.check import open_onnx
from zoo.export.whole import Whole, whole

IMAGES = {
    "class_names": list("abc"),
    "image_size": 16,
    "in_channels": 1,
    "mean": [0.4],
    "std": [0.3],
}


class _Holder(nn.Module):
    """A net as an export holds it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Ask the net."""
        return self.net(*inputs)


def _seen(net: nn.Module, *inputs: torch.Tensor):
    """Return what a net gives, and its taps by kind and module with their tensors."""
    module = Tapped(_Holder(net.eval()))
    with torch.no_grad():
        answer, *rest = module(*inputs)
    found = {}
    for tap in module.taps:
        count = len(tap.channels) or (2 if tap.kind == "recurrent" and tap.parts else 1)
        found[tap.kind, tap.module] = (tap, [rest.pop(0) for _ in range(count)])
    assert rest == []
    return answer, found


def test_branches_of_an_inception_block_and_what_they_are_joined_to():
    net = zoo.GoogLeNet(1, 3, layout="cifar")
    x = torch.randn(2, 1, 16, 16)
    maps = []
    net.inception3b.register_forward_pre_hook(lambda _, args: maps.append(args[0].clone()))
    answer, found = _seen(net, x)
    assert torch.equal(answer, net(x))
    tap, (one, three, five, pool, joined) = found["concat", "inception3b"]
    block = net.inception3b
    with torch.no_grad():
        for branch, expected in zip(
            (one, three, five, pool),
            (block.branch1, block.branch2, block.branch3, block.branch4),
            strict=True,
        ):
            assert torch.equal(branch, expected(maps[0]))
    assert torch.equal(joined, torch.cat([one, three, five, pool], dim=1)[:, :64])
    assert tap.parts == ["branch1 (1x1)", "branch2 (3x3)", "branch3 (5x5)", "branch4 (pool)"]
    assert tap.channels[-1] == sum(tap.channels[:-1]) == block.out_channels
    assert ("map", "inception3b.branch1") not in found


def test_branch_and_shortcut_of_a_residual_block_before_the_sum():
    net = zoo.ResNet(1, 3, depth=20, norm="group")
    _, found = _seen(net, torch.randn(2, 1, 16, 16))
    blocks = [name for kind, name in found if kind == "sum"]
    assert blocks == [f"layer{stage}.{each}" for stage in (1, 2, 3) for each in range(3)]
    for name in blocks:
        tap, (branch, shortcut, total) = found["sum", name]
        assert torch.equal(branch + shortcut, total)  # before the activation, which works in place
        assert len(tap.parts) == 2
        assert sum("shortcut" in part or "downsample" in part for part in tap.parts) == 1


def test_statistics_of_a_norm_are_those_of_its_maps():
    net = zoo.ResNet(1, 3, depth=20, norm="batch")
    before, behind = [], []
    net.bn1.register_forward_pre_hook(lambda _, args: before.append(args[0].clone()))
    net.bn1.register_forward_hook(lambda _m, _a, output: behind.append(output.clone()))
    _, found = _seen(net, 5 + torch.randn(2, 1, 16, 16))
    _, (statistics,) = found["norm", "bn1"]
    for place, each in ((0, before[0]), (2, behind[0])):
        assert torch.allclose(statistics[:, place], each.mean(dim=(2, 3)), atol=1e-6)
        deviation = each.std(dim=(2, 3), correction=0)
        assert torch.allclose(statistics[:, place + 1], deviation, atol=1e-6)


def test_attention_of_a_foreign_encoder_too():
    torch.manual_seed(1)
    ours = zoo.TransformerClassifier(30, 2, embedding_dim=8, num_heads=2, num_layers=2)
    _, found = _seen(ours, torch.randint(1, 30, (2, 5)), torch.tensor([5, 3]))
    weights = [rest[0] for (kind, _), (_, rest) in found.items() if kind == "attention"]
    assert [each.shape for each in weights] == [(2, 2, 5, 5)] * 2
    for each in weights:
        assert torch.allclose(each.sum(dim=-1), torch.ones(2, 2, 5))
        assert each[1, :, :, 3:].abs().max() == 0  # padding


def test_attention_looks_back_alone_in_a_language_model():
    net = zoo.GPT(30, 16, embedding_dim=8, num_heads=2, num_layers=1)
    _, found = _seen(net, torch.randint(0, 30, (1, 6)))
    ((_, (weights,)),) = [each for (kind, _), each in found.items() if kind == "attention"]
    assert torch.equal(weights, weights.tril())
    assert torch.allclose(weights.sum(dim=-1), torch.ones(1, 2, 6))


@pytest.mark.parametrize(
    ("cell", "of_cell", "gates"),
    [
        ("lstm", nn.LSTMCell, ["input", "forget", "cell", "output"]),
        ("gru", nn.GRUCell, ["reset", "update", "new"]),
    ],
)
def test_gates_give_the_next_state(cell, of_cell, gates):
    net = zoo.RNNClassifier(30, 2, cell=cell, embedding_dim=4, hidden_size=6)
    tokens = torch.randint(1, 30, (1, 5))
    _, found = _seen(net, tokens)
    tap, (hidden, opened) = found["recurrent", "forward_layers.0"]
    assert tap.parts == gates
    assert opened.shape == (1, 5, len(gates), 6)
    layer = net.forward_layers[0]
    step = of_cell(4, 6)
    step.load_state_dict({k.removesuffix("_l0"): v for k, v in layer.state_dict().items()})
    with torch.no_grad():
        x, state, memory = net.embedding(tokens), torch.zeros(1, 6), torch.zeros(1, 6)
        for place in range(5):
            each = dict(zip(gates, opened[:, place].unbind(1), strict=True))
            if cell == "lstm":
                state, kept = step(x[:, place], (state, memory))
                memory = each["forget"] * memory + each["input"] * each["cell"]
                assert torch.allclose(memory, kept, atol=1e-6)
                assert torch.allclose(each["output"] * memory.tanh(), state, atol=1e-6)
            else:
                before, state = state, step(x[:, place], state)
                made = (1 - each["update"]) * each["new"] + each["update"] * before
                assert torch.allclose(made, state, atol=1e-6)
            assert torch.allclose(hidden[:, place], state, atol=1e-6)


def test_large_maps_are_left_out_and_the_answer_stays():
    net = nn.Sequential(nn.Sequential(nn.Conv2d(1, 64, 1), nn.Conv2d(64, 4, 1)), nn.Flatten())
    _, found = _seen(net, torch.zeros(1, 1, 256, 256))
    assert ("map", "0.0") not in found  # 64 x 256 x 256 are more numbers than all may have
    assert ("map", "0.1") in found


@pytest.fixture
def made(request) -> Whole:
    """A task of the zoo as an export holds it."""
    net = request.param()
    segments = isinstance(net, zoo.UNet)
    task = (zoo.ImageSegmenter if segments else zoo.ImageClassifier)(net)
    return whole(task, IMAGES, None)


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(lambda: zoo.GoogLeNet(1, 3, layout="cifar"), marks=pytest.mark.slow),
        pytest.param(lambda: zoo.ResNet(1, 3, depth=20, norm="group"), marks=pytest.mark.slow),
        lambda: zoo.UNet(1, 3, depth=1, width=4),
    ],
    indirect=True,
    ids=["googlenet", "resnet", "unet"],
)
def test_onnxruntime_gives_what_torch_gives_at_every_tap(made, tmp_path):
    every = tapped(made)
    save_onnx(every, capture(every), tmp_path / "page.onnx", every.facts)
    side = 24 if isinstance(made.module.net, zoo.UNet) else 16
    for batch in (1, 3):
        images = torch.randint(0, 256, (batch, 1, side, side), dtype=torch.uint8)
        with torch.no_grad():
            expected = every.module(images)
        found = open_onnx(tmp_path / "page.onnx")((images,))
        assert len(found) == len(expected) == len(every.outputs)
        for name, ours, theirs in zip(every.outputs, found, expected, strict=True):
            assert np.abs(ours.astype(float) - theirs.numpy()).max() < 1e-4, name
