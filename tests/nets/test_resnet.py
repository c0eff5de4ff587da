"""ResNet against torchvision's, and each of its options against what it promises."""

import itertools
from pathlib import Path
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights

from zoo.nets import ResNet
from zoo.nets.layers.activations import ActivationName, activation_gain
from zoo.nets.layers.conv import ScaledWSConv2d, WSConv2d
from zoo.nets.layers.norms import NormName
from zoo.nets.resnet import Layers, PaddedShortcut, ResidualBlock

IMAGENET = {"num_classes": 1000, "stem": "large", "image_size": 224}


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def open_branches(net: nn.Module) -> None:
    """Give SkipInit's zeros, which let no gradient into a branch, another value."""
    for module in net.modules():
        if isinstance(module, ResidualBlock) and module.skip_gain is not None:
            nn.init.constant_(module.skip_gain, 0.5)


def fit(net: nn.Module, x: Tensor, y: Tensor, steps: int, lr: float) -> list[float]:
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# --- torchvision's nets --------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_gives_torchvisions_logits(depth):
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, f"resnet{depth}")()
    torch.manual_seed(0)
    ours = ResNet(depth=depth, **IMAGENET)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for (name, mine), their in zip(
        ours.state_dict().items(), theirs.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, their), f"{name} starts from another value"

    # Running averages of real maps, and norms' weights and biases that are not 1 and 0.
    generator = torch.Generator().manual_seed(1)
    norms = [module for module in theirs.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 0.7
            norm.weight.add_(0.2 * torch.randn(norm.weight.shape, generator=generator))
            norm.bias.add_(0.2 * torch.randn(norm.bias.shape, generator=generator))
        theirs.train()(images(2, 3, 64, 64, seed=1))
    for norm in norms:
        norm.momentum = 0.1
    ours.load_state_dict(theirs.state_dict())

    x = images(2, 3, 64, 48)
    for training in (False, True):
        ours.train(training)
        theirs.train(training)
        with torch.no_grad():
            expected = theirs(x)
            torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-5)
        assert (expected[0] - expected[1]).abs().max() > 0.1  # the comparison is not of constants
    for (name, mine), their in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(mine, their, msg=name)


@pytest.mark.parametrize(
    ("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)]
)
def test_cifar_nets_have_the_papers_size(depth, millions):
    net = ResNet(depth=depth)
    count = sum(parameter.numel() for parameter in net.parameters())
    digits = 1 if millions > 1 else 2
    assert round(count / 1e6, digits) == millions
    with_weights = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(with_weights) == depth


@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_imagenet_nets_have_the_papers_layers(depth):
    net = ResNet(depth=depth)
    layers = [
        name
        for name, module in net.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and "downsample" not in name
    ]
    assert len(layers) == depth


# --- pretrained weights, without a network -------------------------------------------------------


@pytest.fixture(scope="module")
def weights_home(tmp_path_factory) -> tuple[Path, dict[str, Tensor]]:
    """A cache that holds ResNet-18's file, and what is in it."""
    home = tmp_path_factory.mktemp("torch")
    torch.manual_seed(1)
    state = torchvision.models.resnet18().state_dict()
    path = home / "hub" / "checkpoints" / Path(ResNet18_Weights.IMAGENET1K_V1.url).name
    path.parent.mkdir(parents=True)
    torch.save(state, path)
    return home, state


@pytest.mark.parametrize("num_classes", [1000, 7])
def test_pretrained_weights_fill_all_but_a_new_head(weights_home, num_classes, monkeypatch):
    home, state = weights_home
    monkeypatch.setenv("TORCH_HOME", str(home))
    net = ResNet(3, num_classes, depth=18, image_size=224, weights="IMAGENET1K_V1", drop_path=0.1)
    own = net.state_dict()
    fresh = {name for name in state if not torch.equal(own[name], state[name])}
    heads = {name for name in state if name.startswith(ResNet.head_names)}
    assert heads == {"fc.weight", "fc.bias"}
    assert fresh == (set() if num_classes == 1000 else heads)
    assert net(images(2, 3, 64, 64)).shape == (2, num_classes)
    assert net._hub_mixin_config["weights"] is None


# --- every option trains -------------------------------------------------------------------------


@pytest.mark.parametrize("pre_activation", [False, True])
@pytest.mark.parametrize(("stride", "bottleneck"), [(1, False), (2, False), (1, True), (2, True)])
@pytest.mark.parametrize("norm", get_args(NormName))
def test_every_parameter_of_a_block_gets_a_gradient(norm, stride, bottleneck, pre_activation):
    torch.manual_seed(0)
    conv = "scaled_ws" if norm == "none" else "plain"
    layers = Layers(norm, "auto", conv, "relu", pre_activation)
    block = ResidualBlock(8, 8, bottleneck=bottleneck, stride=stride, layers=layers)
    open_branches(block)
    x = images(2, 8, 7, 6)
    before = x.clone()
    y = block(x)
    assert torch.equal(x, before)  # nothing in place reaches the input
    assert y.shape == (2, block.out_channels, -(-7 // stride), -(-6 // stride))
    (y * images(*y.shape, seed=1)).sum().backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize(
    ("norm", "depth", "pre_activation"),
    [*itertools.product(get_args(NormName), [20], [False, True]), ("rms", 50, False)],
)
def test_every_parameter_of_a_net_gets_a_gradient(norm, depth, pre_activation):
    torch.manual_seed(0)
    net = ResNet(2, 3, depth=depth, norm=norm, pre_activation=pre_activation)
    open_branches(net)
    net(images(2, 2, 16, 16)).square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.dim() == 1 or parameter.grad.any(), name


@pytest.mark.parametrize("pre_activation", [False, True])
@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("activation", get_args(ActivationName))
def test_every_activation_works_in_place(activation, norm, pre_activation):
    """Its gradient is the one without overwriting."""
    gradients = []
    for inplace in (True, False):
        torch.manual_seed(0)
        layers = Layers(norm, activation=activation, pre_activation=pre_activation)
        block = ResidualBlock(4, 4, layers=layers).double()
        open_branches(block)
        if not inplace and hasattr(block.act, "inplace"):
            block.act.inplace = False
        x = images(2, 4, 5, 5).double().requires_grad_()
        (block(x * 1) * images(2, 4, 5, 5, seed=1)).sum().backward()
        gradients.append([x.grad, *(p.grad for p in block.parameters())])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("conv", ["plain", "scaled_ws"])
@pytest.mark.parametrize("pre_activation", [False, True])
def test_trains_without_a_norm(conv, pre_activation):
    torch.manual_seed(0)
    net = ResNet(1, 2, norm="none", conv=conv, pre_activation=pre_activation)
    losses = fit(net, images(8, 1, 8, 8), torch.tensor([0, 1] * 4), steps=20, lr=3e-3)
    assert losses[0] < 3
    assert losses[-1] < 0.2  # 0.69 is chance
    gains = [m.skip_gain for m in net.modules() if isinstance(m, ResidualBlock)]
    assert len(gains) == 9
    assert all(gain.abs() > 1e-3 for gain in gains)


def test_keeps_the_memory_format_of_its_input():
    net = ResNet().to(memory_format=torch.channels_last)
    seen = []
    for module in net.modules():
        if isinstance(module, ResidualBlock | PaddedShortcut):
            module.register_forward_hook(lambda m, i, output: seen.append(output))
    net(images(2, 3, 32, 32).contiguous(memory_format=torch.channels_last))
    assert len(seen) == 11
    assert all(y.is_contiguous(memory_format=torch.channels_last) for y in seen)


# --- blocks --------------------------------------------------------------------------------------


def test_a_block_adds_its_branch():
    torch.manual_seed(0)
    x = images(2, 4, 5, 5)
    after = ResidualBlock(4, 4).eval()
    branch = after.bn2(after.conv2(F.relu(after.bn1(after.conv1(x)))))
    torch.testing.assert_close(after(x), F.relu(x + branch))

    layers = Layers(pre_activation=True)
    before = ResidualBlock(4, 4, layers=layers).eval()
    branch = before.conv2(F.relu(before.bn2(before.conv1(F.relu(before.bn1(x))))))
    torch.testing.assert_close(before(x), x + branch)

    before = ResidualBlock(4, 8, layers=layers, stride=2).eval()
    activated = F.relu(before.bn1(x))
    branch = before.conv2(F.relu(before.bn2(before.conv1(activated))))
    torch.testing.assert_close(before(x), before.downsample(activated) + branch)


def test_a_plain_block_is_its_branch_alone():
    torch.manual_seed(0)
    x = images(2, 4, 5, 5)
    after = ResidualBlock(4, 8, stride=2, layers=Layers(residual=False)).eval()
    branch = after.bn2(after.conv2(F.relu(after.bn1(after.conv1(x)))))
    torch.testing.assert_close(after(x), F.relu(branch))

    before = ResidualBlock(4, 4, layers=Layers(pre_activation=True, residual=False)).eval()
    branch = before.conv2(F.relu(before.bn2(before.conv1(F.relu(before.bn1(x))))))
    torch.testing.assert_close(before(x), branch)


@pytest.mark.parametrize(("depth", "shortcuts"), [(20, 0), (18, 3)])
def test_a_plain_net_has_the_residual_nets_layers_but_for_projections(depth, shortcuts):
    """As the paper's plain nets have them, to which shortcuts without parameters are added."""
    plain, residual = (ResNet(depth=depth, residual=residual) for residual in (False, True))
    lacking = residual.state_dict().keys() - plain.state_dict().keys()
    assert plain.state_dict().keys() <= residual.state_dict().keys()
    assert len({name.rsplit(".", 2)[0] for name in lacking}) == shortcuts
    assert all("downsample" in name for name in lacking)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_a_plain_net_trains(norm):
    torch.manual_seed(0)
    net = ResNet(1, 2, norm=norm, residual=False)
    assert all(module.skip_gain is None for module in net.layer1)
    losses = fit(net, images(8, 1, 8, 8), torch.tensor([0, 1] * 4), steps=20, lr=3e-3)
    assert losses[-1] < losses[0]
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


def test_the_shortcut_without_parameters():
    x = images(1, 3, 5, 4)
    y = PaddedShortcut(3, 6, stride=2)(x)
    assert y.shape == (1, 6, 3, 2)
    torch.testing.assert_close(y[:, 1:4], x[:, :, ::2, ::2])
    assert not y[:, :1].any()
    assert not y[:, 4:].any()


def test_without_a_norm_a_block_starts_as_its_shortcut():
    x = images(2, 4, 5, 5)
    layers = Layers("none", conv="scaled_ws", pre_activation=True)
    assert torch.equal(ResidualBlock(4, 4, layers=layers)(x), x)


@pytest.mark.parametrize("norm", [norm for norm in get_args(NormName) if norm != "none"])
def test_zero_init_residual(norm):
    x = images(2, 3, 16, 16).relu()
    for zero in (False, True):
        net = ResNet(norm=norm, zero_init_residual=zero)
        block = net.layer1[0]
        start = net.act(net.bn1(net.conv1(x)))
        assert torch.equal(block(start), start) == zero
        assert block.bn1.weight.any()


def test_pre_activation_normalises_last():
    net = ResNet(pre_activation=True, norm="layer")
    assert isinstance(net.bn1, nn.Identity)
    seen = []
    net.avgpool.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
    net(images(2, 3, 16, 16))
    assert seen[0].min() == 0  # the activation
    assert seen[0].square().mean().item() == pytest.approx(0.5, abs=0.1)  # of unit variance


# --- stems ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [20, 18])
def test_the_stem_follows_the_image_size(depth):
    widths = {20: 16, 18: 64}
    for options, is_large in (
        ({"image_size": 64}, False),
        ({"image_size": 65}, True),
        ({"image_size": 32, "stem": "large"}, True),
        ({"image_size": 224, "stem": "small"}, False),
    ):
        net = ResNet(depth=depth, **options)
        assert net.conv1.stride == ((2, 2) if is_large else (1, 1))
        assert net.conv1.kernel_size == ((7, 7) if is_large else (3, 3))
        assert isinstance(net.maxpool, nn.MaxPool2d) == is_large
        assert net.conv1.out_channels == widths[depth]


def last_map(net: ResNet, side: int) -> torch.Size:
    shapes = []
    net.avgpool.register_forward_pre_hook(lambda m, inputs: shapes.append(inputs[0].shape))
    net.eval()(images(1, 3, side, side))
    return shapes[0]


@pytest.mark.parametrize(
    ("options", "side", "expected"),
    [
        ({}, 32, 8),
        ({"stem": "large"}, 32, 2),
        ({"depth": 18}, 32, 4),
        ({"depth": 18, "stem": "large"}, 64, 2),
        ({"whiten": True}, 32, 8),
        ({}, 1, 1),
        ({"stem": "large"}, 1, 1),
        ({"whiten": True}, 2, 1),
    ],
)
def test_the_last_map(options, side, expected):
    assert last_map(ResNet(image_size=side, **options), side)[2:] == (expected, expected)


@pytest.mark.parametrize(
    ("options", "smallest"),
    [({}, 5), ({"stem": "large"}, 17), ({"depth": 18}, 9), ({"whiten": True}, 6)],
)
def test_the_smallest_image_of_instance_norm(options, smallest):
    net = ResNet(norm="instance", image_size=smallest, **options)
    assert last_map(net, smallest)[2:] == (2, 2)
    said = (
        f"image_size is {smallest - 1}; it leaves a map of one pixel.* at least {smallest} pixels"
    )
    with pytest.raises(ValueError, match=said):
        ResNet(norm="instance", image_size=smallest - 1, **options)
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        net.train()(images(2, 3, smallest - 1, smallest - 1))


# --- convolutions, stochastic depth, dropout -----------------------------------------------------


def test_weight_standardisation_is_everywhere_and_gains_are_the_activations():
    net = ResNet(conv="ws", norm="group", depth=18)
    convs = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert len(convs) == 20
    assert all(isinstance(conv, WSConv2d) for conv in convs)

    net = ResNet(conv="scaled_ws", norm="none", activation="silu", depth=18)
    convs = [module for module in net.modules() if isinstance(module, ScaledWSConv2d)]
    assert len(convs) == 20
    expected = torch.full((20,), activation_gain("silu"))
    expected[0] = 1  # the stem sees images
    torch.testing.assert_close(torch.stack([conv.gain[0] for conv in convs]), expected)
    assert all(conv.bias is not None and not conv.bias.any() for conv in convs)


def test_num_groups_reaches_every_norm():
    net = ResNet(norm="group", num_groups=4)
    groups = [m.num_groups for m in net.modules() if isinstance(m, nn.GroupNorm)]
    assert groups == [4] * 19


def test_sync_batch_norm_replaces_the_batch_norms_and_nothing_else():
    def count(net: nn.Module, kind: type[nn.Module]) -> int:
        return sum(isinstance(module, kind) for module in net.modules())

    for norm in get_args(NormName):
        net = nn.SyncBatchNorm.convert_sync_batchnorm(ResNet(norm=norm))
        assert count(net, nn.SyncBatchNorm) == (19 if norm == "batch" else 0)
        assert count(net, nn.BatchNorm2d) == 0


def test_stochastic_depth_follows_the_linear_rule():
    net = ResNet(drop_path=0.9)
    blocks = [module for module in net.modules() if isinstance(module, ResidualBlock)]
    rates = [block.drop_path.p for block in blocks]
    assert rates == pytest.approx([0.9 * number / 9 for number in range(1, 10)])
    assert all(block.drop_path is None for block in ResNet().layer1)


def test_stochastic_depth_skips_branches_and_keeps_their_mean():
    torch.manual_seed(0)
    block = ResidualBlock(2, 2, drop_path=0.25, layers=Layers("layer", pre_activation=True))
    x = images(1, 2, 4, 4).expand(4000, -1, -1, -1)
    with torch.no_grad():
        branch = block(x) - x
        whole = block.eval()(x[:1]) - x[:1]
    kept = branch.flatten(1).any(dim=1)
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.03)
    torch.testing.assert_close(branch[kept][:1], whole / 0.75)
    torch.testing.assert_close(branch.mean(0), whole[0], rtol=0.05, atol=1e-3)


def test_dropout_comes_before_the_last_layer():
    net = ResNet(dropout=0.5)
    seen = []
    net.fc.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
    x = images(2, 3, 16, 16)
    net(x)
    assert (seen[0] == 0).float().mean().item() == pytest.approx(0.5, abs=0.2)
    net.eval()(x)
    assert (seen[1] == 0).float().mean() < 0.2


# --- whitening -----------------------------------------------------------------------------------


def correlated_images(count: int) -> Tensor:
    """Neighbouring pixels and the colours of a pixel go together, as in photographs."""
    x = F.avg_pool2d(images(count, 3, 18, 18), 3, stride=1)
    x = x + 0.5 * x.roll(1, dims=1)
    return x / x.std()


def test_whitening_whitens():
    torch.manual_seed(0)
    net = ResNet(whiten=True)
    x = correlated_images(400)
    before = net.whitening(x)
    net.init_whitening(x)
    outputs = net.whitening(x) - net.whitening.bias.view(-1, 1, 1)
    assert outputs.shape == (400, 24, 15, 15)
    positive, negative = outputs.chunk(2, dim=1)
    torch.testing.assert_close(negative, -positive)

    def covariance(maps: Tensor) -> Tensor:
        return torch.cov(maps.transpose(0, 1).flatten(1))

    error = (covariance(positive) - torch.eye(12)).abs()
    assert error.max() < 0.05
    assert (covariance(before.chunk(2, dim=1)[0]) - torch.eye(12)).abs().max() > 0.5


def test_whitening_is_not_a_matter_of_how_the_images_are_split():
    x = correlated_images(1100)
    together, apart = ResNet(whiten=True), ResNet(whiten=True)
    together.init_whitening(x)
    columns = F.unfold(x, 2).double().transpose(0, 1).flatten(1)
    moments = columns @ columns.T / columns.shape[1]
    filters = together.whitening.weight[:12].flatten(1).double()
    expected = torch.linalg.inv(moments + 5e-4 * torch.eye(12))
    torch.testing.assert_close(filters.T @ filters, expected, rtol=1e-3, atol=1e-3)
    apart.load_state_dict(together.state_dict())
    assert torch.equal(apart.whitening.weight, together.whitening.weight)


def test_whitening_filters_start_orthogonal_and_stay():
    torch.manual_seed(0)
    net = ResNet(1, 2, whiten=True, conv="scaled_ws", norm="none")
    start = net.whitening.weight.clone()
    filters, negative = start.flatten(1).chunk(2)
    torch.testing.assert_close(filters @ filters.T, torch.eye(4))
    assert torch.equal(negative, -filters)
    assert net.conv1.in_channels == 8
    assert net.conv1.gain[0].item() == pytest.approx(activation_gain("relu"))
    assert not net.whitening.weight.requires_grad
    fit(net, images(4, 1, 6, 6), torch.tensor([0, 1] * 2), steps=2, lr=0.01)
    assert torch.equal(net.whitening.weight, start)
    assert net.whitening.bias.any()
    assert net.whitening.weight.data_ptr() == net.state_dict()["whitening.weight"].data_ptr()


# --- bad input -----------------------------------------------------------------------------------

PRETRAINED = {"weights": "IMAGENET1K_V1", "depth": 18, "image_size": 224}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_classes": 0}, "option num_classes is 0; "),
        ({"in_channels": 0}, "option in_channels is 0; "),
        ({"depth": 19}, "option depth is 19; "),
        ({"stem": "smal"}, r"option stem is 'smal'.*did you mean 'small'\?"),
        ({"norm": "bath"}, r"option norm is 'bath'.*did you mean 'batch'\?"),
        ({"conv": "scaled"}, r"option conv is 'scaled'.*did you mean 'scaled_ws'\?"),
        (
            {"activation": "swish"},
            "option activation is 'swish'; give one of relu, leaky_relu, gelu, silu",
        ),
        ({"dropout": 1.0}, "option dropout is 1.0; "),
        ({"drop_path": 1.5}, "option drop_path is 1.5; "),
        ({"image_size": 0}, "option image_size is 0; "),
        ({"image_size": 1, "whiten": True}, "option image_size is 1; "),
        ({"norm": "group", "num_groups": 32}, "num_groups is 32; it does not divide 16 channels"),
        (
            {"norm": "none", "conv": "ws"},
            "option conv is 'ws'; it needs a norm, which takes the scale of its filters away; ",
        ),
        ({"whiten": True, "image_size": 224}, "whiten is true; it needs the small stem"),
        ({"pre_activation": True, "zero_init_residual": True}, "option zero_init_residual is true"),
        ({"residual": False, "zero_init_residual": True}, "option zero_init_residual is true; "),
        ({"residual": False, "drop_path": 0.1}, "option drop_path is 0.1; "),
        (
            {"weights": "IMAGENET1K_V1"},
            "option depth is 20; .*torchvision has no weights 'IMAGENET1K_V1' for it; give one ",
        ),
        ({**PRETRAINED, "weights": "IMAGENET1K_V9"}, r"did you mean 'IMAGENET1K_V1'\?"),
        ({**PRETRAINED, "image_size": 32}, r"set stem=large \(now small\)$"),
        (
            {**PRETRAINED, "norm": "group", "in_channels": 1},
            r"set in_channels=3 \(now 1\), norm=batch \(now group\)$",
        ),
        ({**PRETRAINED, "activation": "gelu"}, r"activation=relu \(now gelu\)$"),
        ({**PRETRAINED, "pre_activation": True}, r"pre_activation=False \(now True\)$"),
        ({**PRETRAINED, "residual": False}, r"residual=True \(now False\)$"),
        ({**PRETRAINED, "conv": "ws"}, r"conv=plain \(now ws\)$"),
        ({**PRETRAINED, "stem": "small", "whiten": True}, r"whiten=False \(now True\)"),
    ],
)
def test_refuses_options_that_do_not_fit(options, said):
    with pytest.raises(ValueError, match=said) as error:
        ResNet(**options)
    assert "\n" not in str(error.value)


def test_whitening_needs_its_layer():
    with pytest.raises(ValueError, match="whiten is false; init_whitening needs it true"):
        ResNet().init_whitening(images(2, 3, 8, 8))
