"""The multi-layer perceptron against its formula, and what it says when it gets the impossible."""

import pytest
import torch
import torch.nn.functional as F
from jsonargparse import ArgumentParser
from torch import Tensor, nn

from zoo.nets import MLP


def rows(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_follows_its_formula():
    net = MLP(5, 2, widths=[4, 6], activation="tanh", norm="layer", dropout=0.5).eval()
    x = expected = rows(3, 5)
    for linear, norm in ((net.layers[0], net.layers[1]), (net.layers[4], net.layers[5])):
        hidden = expected @ linear.weight.T + linear.bias
        expected = F.layer_norm(hidden, hidden.shape[1:], norm.weight, norm.bias).tanh()
    torch.testing.assert_close(net(x), expected @ net.fc.weight.T + net.fc.bias)


def test_dropout_is_between_layers_and_in_training_alone():
    torch.manual_seed(0)
    net = MLP(5, 2, widths=[40, 400], dropout=0.5)
    hidden = net.layers(rows(1, 5))
    # ReLU leaves about 200 of 400, of which half are dropped.
    assert (hidden == 0).sum() - (net.eval().layers(rows(1, 5)) == 0).sum() > 50
    x = rows(3, 5)
    assert torch.equal(net(x), net(x))
    assert not torch.equal(net.train()(x), net(x))


def test_lays_the_pixels_of_images_in_a_row():
    torch.manual_seed(0)
    net = MLP(2, 3, image_size=4, widths=[8])
    torch.manual_seed(0)
    table = MLP(2 * 4 * 4, 3, widths=[8])
    x = rows(5, 2, 4, 4)
    assert torch.equal(net(x), table(x.view(5, 32)))


def test_without_hidden_layers_it_is_linear():
    net = MLP(4, 1, widths=[])
    assert [name for name, _ in net.named_parameters()] == ["fc.weight", "fc.bias"]
    x = rows(3, 4)
    torch.testing.assert_close(net(x), x @ net.fc.weight.T + net.fc.bias)


def test_by_default_two_layers_of_256():
    widths = [m.out_features for m in MLP(4, 1).modules() if isinstance(m, nn.Linear)]
    assert widths == [256, 256, 1]


@pytest.mark.parametrize("norm", ["none", "batch", "layer", "group", "rms"])
def test_learns_what_no_linear_net_can(norm):
    torch.manual_seed(0)
    net = MLP(2, 2, widths=[32], activation="gelu", norm=norm)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = torch.tensor([0, 1, 1, 0])
    for _ in range(60):
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.2  # 0.69 is chance, and the best that a linear net can do


def test_widths_are_a_list_on_the_command_line():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(MLP, "net")
    given = parser.parse_args(["--net.widths", "[7, 3]", "--net.image_size", "null"])
    net = parser.instantiate_classes(given).net
    assert [m.out_features for m in net.modules() if isinstance(m, nn.Linear)] == [7, 3, 10]
    assert net._hub_mixin_config["widths"] == [7, 3]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_classes": 0}, "option num_classes is 0; "),
        ({"in_channels": 0}, "option in_channels is 0; "),
        ({"dropout": 1.0}, "option dropout is 1.0; "),
        ({"image_size": 0}, "option image_size is 0; "),
        ({"widths": [8, 0]}, r"widths is \[8, 0\]; give numbers of 1 or more"),
        ({"activation": "rulu"}, "option activation is 'rulu'.*did you mean 'relu'"),
        ({"activation": "rulu", "widths": []}, "option activation is 'rulu'.*did you mean 'relu'"),
        ({"norm": "bath"}, "option norm is 'bath'.*did you mean 'batch'"),
        ({"norm": "instance"}, "norm is 'instance'; .* pixels"),
        ({"norm": "group", "num_groups": 7}, "num_groups is 7; it does not divide 256 channels"),
    ],
)
def test_refuses_options_that_do_not_fit(options, said):
    with pytest.raises(ValueError, match=said) as error:
        MLP(**options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "shape", "said"),
    [
        ({"in_channels": 4}, (2, 5), r"image_size=None makes .* tables .*\('B', 4\).*\(2, 5\)"),
        ({"in_channels": 4}, (2, 1, 2, 2), r"tables of shape \('B', 4\).* \(2, 1, 2, 2\)"),
        ({"image_size": 8}, (2, 3, 8, 9), r"images of shape \('B', 3, 8, 8\).* \(2, 3, 8, 9\)"),
    ],
)
def test_refuses_input_of_another_shape(options, shape, said):
    with pytest.raises(ValueError, match=said):
        MLP(**options)(rows(*shape))
