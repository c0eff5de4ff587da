"""What a net costs, found out without running it."""

import pytest
import torch
from torch import Tensor, nn

from zoo.nets import RNNClassifier, TransformerClassifier
from zoo.nets.cost import flop_counter, measure_cost


def tokens(length: int) -> tuple[Tensor, Tensor]:
    shape = {"dtype": torch.int64, "device": "meta"}
    return torch.zeros(1, length, **shape), torch.full((1,), length, **shape)


def test_a_linear_layer_multiplies_and_adds_once_a_weight() -> None:
    cost = measure_cost(nn.Linear(7, 3), torch.zeros(1, 7, device="meta"))
    assert (cost.parameters, cost.trained, cost.flops) == (24, 24, 2 * 21)
    assert measure_cost(nn.Linear(7, 3)).flops is None


def test_an_lstm_costs_a_product_a_weight_and_token() -> None:
    net = RNNClassifier(50, 2, cell="lstm", embedding_dim=8, hidden_size=16, num_layers=1)
    weights = sum(p.numel() for n, p in net.named_parameters() if "weight_" in n)
    short, long = (measure_cost(net, *tokens(length)).flops for length in (10, 30))
    assert short is not None
    assert long is not None
    assert long - short == pytest.approx(2 * weights * 20, rel=0.05)


#: Of two layers over 5 tokens of 3 texts: the products of a token with all weights of its cell.
TWO_LAYERS = 2 * 15 * 4 * ((8 * 16 + 16 * 16) + (16 * 16 + 16 * 16))


def test_layers_that_are_computed_at_once_are_counted_as_cells_are() -> None:
    net = nn.LSTM(8, 16, num_layers=2)
    inputs = torch.zeros(5, 3, 8, requires_grad=True)
    with flop_counter() as forward:
        outputs, _ = net(inputs)
    with flop_counter() as back:
        outputs.sum().backward()
    assert (forward.get_total_flops(), back.get_total_flops()) == (TWO_LAYERS, 2 * TWO_LAYERS)
    assert measure_cost(net, torch.zeros(5, 3, 8, device="meta")).flops == TWO_LAYERS


def test_layers_of_cudnn_are_counted_alike() -> None:
    weights = list(nn.LSTM(8, 16, num_layers=2, device="meta").parameters())
    inputs = torch.zeros(5, 3, 8, device="meta")
    state = torch.zeros(2, 3, 16, device="meta")
    lstm, layers = 2, (16, 0, 2)  # hidden size, size of a projection, how many
    options = (False, 0.0, True, False, [], None)
    with flop_counter() as counter:
        torch.ops.aten._cudnn_rnn(inputs, weights, 4, None, state, state, lstm, *layers, *options)
    assert counter.get_total_flops() == TWO_LAYERS


def test_a_transformer_is_measured_too() -> None:
    flops = measure_cost(TransformerClassifier(50, 2), *tokens(10)).flops
    assert flops is not None
    assert flops > 1e5


def test_a_net_that_wants_real_numbers_has_no_known_cost() -> None:
    class Net(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return torch.from_numpy(x.numpy())

    assert measure_cost(Net(2, 2), torch.zeros(1, 2, device="meta")).flops is None
