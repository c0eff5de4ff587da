"""UNet and the tiling of images that are too large for it."""

import json
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.inference.tiling import predict_tiled
from zoo.nets.layers.conv import ConvName
from zoo.nets.layers.norms import NormName
from zoo.nets.unet import UNet, Upsampling

UPS = get_args(Upsampling)


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def small(**options) -> UNet:
    torch.manual_seed(0)
    return UNet(**{"depth": 2, "width": 4, **options})


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def test_parameters_of_the_classical_nets():
    # 31,037,633: published with milesial/Pytorch-UNet, which has batch norm.
    assert count(UNet(3, 1, width=64)) == 31_037_633
    # The paper's net has 23 convolutional layers, with biases.
    paper = UNet(1, 2, width=64, norm="none")
    layers = [m for m in paper.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(layers) == 23
    assert all(layer.bias is not None for layer in layers)
    widths = [64, 128, 256, 512, 1024]
    expected = 64 * 2 + 2  # the head
    for before, after in zip([1, *widths], widths, strict=False):
        expected += 9 * before * after + 9 * after * after + 2 * after
    for channels in widths[:-1]:
        expected += 2 * channels * 4 * channels + channels
        expected += 9 * 2 * channels * channels + 9 * channels**2 + 2 * channels
    assert count(paper) == expected


@pytest.mark.parametrize("up", UPS)
@pytest.mark.parametrize("size", [(16, 16), (1, 1), (3, 5), (17, 31), (33, 2), (40, 7)])
@pytest.mark.parametrize("norm", get_args(NormName))
def test_any_size(norm, size, up):
    net = small(depth=3, width=2, norm=norm, up=up, num_classes=3)
    net(images(1, 3, *size))  # in training no norm must meet a map of one pixel
    logits = net.eval()(images(2, 3, *size))
    assert logits.shape == (2, 3, *size)
    assert logits.isfinite().all()


@pytest.mark.parametrize(("depth", "width"), [(1, 1), (5, 3), (4, 6)])
def test_any_depth_and_width(depth, width):
    net = UNet(1, 2, depth=depth, width=width, norm="group")
    assert net(images(1, 1, 20, 20)).shape == (1, 2, 20, 20)
    assert net.bottom[1].conv.out_channels == width * 2**depth


def test_padding_continues_the_image_and_leaves_it_where_it_is():
    net = small()
    x = images(1, 3, 9, 14)
    padded = net._pad(x)
    assert padded.shape == (1, 3, 12, 16)
    assert torch.equal(padded[:, :, :9, :14], x)
    assert torch.equal(padded[:, :, 9], padded[:, :, 7])
    assert torch.equal(padded[:, :, :, 15], padded[:, :, :, 11])
    tiny = net._pad(x[:, :, :2, :3])
    assert tiny.shape == (1, 3, 8, 8)
    assert torch.equal(tiny[0, :, 7, :3], x[0, :, 1, :3])
    fitting = images(1, 3, 8, 12)
    assert net._pad(fitting) is fitting


@pytest.mark.parametrize("up", UPS)
@pytest.mark.parametrize("norm", get_args(NormName))
def test_every_parameter_gets_a_gradient(norm, up):
    net = small(norm=norm, up=up, dropout=0.1)
    net(images(2, 3, 12, 20)).square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.dim() == 1 or parameter.grad.any(), name


@pytest.mark.parametrize(
    ("norm", "conv"),
    [("batch", "plain"), ("none", "plain"), ("group", "ws"), ("none", "scaled_ws")],
)
def test_learns_to_label_a_square(norm, conv):
    assert conv in get_args(ConvName)
    net = small(in_channels=1, width=8, norm=norm, conv=conv)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    mask = torch.zeros(4, 20, 20, dtype=torch.int64)
    for i in range(4):
        mask[i, i : i + 9, 2 * i : 2 * i + 9] = 1
    x = mask[:, None] + 0.5 * images(4, 1, 20, 20)
    for _ in range(25):
        loss = F.cross_entropy(net(x), mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1  # 0.51 is what the share of the square alone would give


def test_joins_maps_of_one_size():
    net = small(dropout=0.5)
    seen = []
    for block in [*net.encoder, net.bottom, *net.decoder]:
        block.register_forward_hook(lambda m, given, y: seen.append((given[0].shape, y.shape)))
    net(images(1, 3, 16, 24))
    sizes = [(tuple(x[1:]), tuple(y[1:])) for x, y in seen]
    assert sizes == [
        ((3, 16, 24), (4, 16, 24)),
        ((4, 8, 12), (8, 8, 12)),
        ((8, 4, 6), (16, 4, 6)),
        ((16, 8, 12), (8, 8, 12)),
        ((8, 16, 24), (4, 16, 24)),
    ]
    assert net.dropout.p == 0.5


def test_recorded_arguments_rebuild_the_net(tmp_path):
    net = small(norm="group", num_groups=2, up="bilinear", activation="silu").eval()
    json.dumps(net._hub_mixin_config)
    net.save_pretrained(tmp_path)
    x = images(1, 3, 10, 10)
    with torch.no_grad():
        assert torch.equal(UNet.from_pretrained(tmp_path)(x), net(x))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"in_channels": 0}, "option in_channels is 0"),
        ({"num_classes": 0}, "option num_classes is 0"),
        ({"depth": 0}, "option depth is 0; "),
        ({"width": -2}, "option width is -2; "),
        ({"norm": "bacth"}, "option norm is 'bacth'; "),
        ({"up": "bilinaer"}, "option up is 'bilinaer'; "),
        ({"activation": "rellu"}, "option activation is 'rellu'; "),
        ({"dropout": 1.0}, "option dropout is 1.0"),
        ({"conv": "ws", "norm": "none"}, "conv is 'ws'; it needs a norm"),
        ({"norm": "group", "num_groups": 3}, "num_groups is 3; it does not divide 32"),
    ],
)
def test_refuses_options_that_do_not_fit(options, said):
    with pytest.raises(ValueError, match=said) as error:
        UNet(**options)
    assert "\n" not in str(error.value)


# --- what a pixel sees ---------------------------------------------------------------------------


@pytest.mark.parametrize("up", UPS)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_receptive_field_is_exact(depth, up):
    net = small(in_channels=1, depth=depth, width=1, norm="none", up=up).eval()
    # All weights positive, no choice of a maximum: whatever can have influence has.
    net.pool = nn.AvgPool2d(2)
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.1)
    side = 2**depth
    middle = side * (128 // side)
    x = torch.ones(1, 1, 2 * middle, 2 * side, dtype=torch.float64, requires_grad=True)
    net.double()
    logits = net(x)
    farthest = 0
    for pixel in range(middle, middle + side):
        (gradient,) = torch.autograd.grad(logits[0, 0, pixel, 0], x, retain_graph=True)
        seen = gradient[0, 0].any(dim=1).nonzero()
        assert net._sees(pixel) == (seen.min(), seen.max())
        farthest = max(farthest, pixel - int(seen.min()), int(seen.max()) - pixel)
    assert net.receptive_field == farthest


@pytest.mark.parametrize("norm", get_args(NormName))
def test_only_batch_norm_and_none_are_local(norm):
    net = small(norm=norm, width=8).eval()
    x = images(1, 3, 64, 64)
    other = x.clone()
    other[:, :, -8:, -8:] += 5
    with torch.no_grad():
        local = torch.allclose(net(x)[:, :, :16, :16], net(other)[:, :, :16, :16], atol=1e-7)
    assert local == (net.receptive_field is not None) == (norm in ("batch", "none"))


# --- tiles ---------------------------------------------------------------------------------------


def trained(**options) -> UNet:
    """A net whose running averages are not what they start at."""
    net = small(**options)
    with torch.no_grad():
        for seed in range(3):
            net(2 * images(2, 3, 32, 32, seed=seed) + 1)
    return net.eval()


def test_tiles_of_a_large_image_equal_the_whole():
    net, x = trained(width=2), images(1, 3, 2000, 3000)
    with torch.no_grad():
        whole = net(x)
    tiled = predict_tiled(net, x, tile=512)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-4)


def test_with_too_little_overlap_the_seams_show():
    net, x = trained(), images(1, 3, 100, 100)
    assert (predict_tiled(net, x, tile=32, overlap=4) - predict_tiled(net, x)).abs().max() > 1e-3


@pytest.mark.parametrize("up", UPS)
@pytest.mark.parametrize("size", [(100, 131), (64, 64), (65, 30), (3, 200), (97, 96)])
@pytest.mark.parametrize("tile", [61, 64, 96])
def test_tiles_equal_the_whole_at_any_size(size, tile, up):
    net, x = trained(up=up), images(2, 3, *size)
    read = []
    net.encoder[0].register_forward_hook(lambda m, given, y: read.append(tuple(given[0].shape[2:])))
    tiled = predict_tiled(net, x, tile=tile)
    assert max(max(shape) for shape in read) <= 96
    with torch.no_grad():
        torch.testing.assert_close(tiled, net(x), rtol=0, atol=1e-5)


def test_tiles_of_any_net_that_labels_pixels():
    net = nn.Conv2d(3, 2, 5, padding=2).eval()
    x = images(1, 3, 40, 50)
    torch.testing.assert_close(predict_tiled(net, x, 11, overlap=2), net(x), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"overlap is not known: .* Conv2d"):
        predict_tiled(net, x, 11)


def test_tiles_that_cannot_be():
    net, x = small(norm="group"), images(1, 3, 100, 100)
    with pytest.raises(
        ValueError, match=r"overlap is not known: .*norms over the whole .*batch norm"
    ):
        predict_tiled(net, x, 64)
    assert predict_tiled(net, x, 64, overlap=20).shape == (1, 2, 100, 100)
    with pytest.raises(ValueError, match=r"tile is 40; give 44 or more, as an overlap of 20 "):
        predict_tiled(net, x, 38, overlap=18)
    with pytest.raises(ValueError, match=r"overlap is -4; give 0 or more"):
        predict_tiled(net, x, 64, overlap=-4)
