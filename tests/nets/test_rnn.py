"""The recurrent net against torch's own layers over packed sequences."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from zoo.nets.layers.pooling import prepare_texts
from zoo.nets.rnn import RNNClassifier

VOCAB, WIDTH, HIDDEN = 40, 7, 6
LENGTHS = [9, 1, 4, 12, 2]


def make_pair(cell: str, layers: int, both: bool) -> tuple[RNNClassifier, nn.RNNBase]:
    """Our net, and torch's layers with the same weights."""
    torch.manual_seed(0)
    net = RNNClassifier(
        VOCAB,
        3,
        cell=cell,
        embedding_dim=WIDTH,
        hidden_size=HIDDEN,
        num_layers=layers,
        bidirectional=both,
    )
    make = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[cell]
    theirs = make(WIDTH, HIDDEN, layers, batch_first=True, bidirectional=both)
    with torch.no_grad():
        for ours, suffix in ((net.forward_layers, ""), (net.backward_layers, "_reverse")):
            for index, layer in enumerate(ours):
                for name, parameter in layer.named_parameters():
                    # Drawn anew: biases of zero would hide a mistake.
                    parameter.uniform_(-0.7, 0.7)
                    twin = name.replace("_l0", f"_l{index}{suffix}")
                    getattr(theirs, twin).copy_(parameter)
    return net, theirs


def draw() -> tuple[Tensor, Tensor]:
    tokens = torch.randint(1, VOCAB, (len(LENGTHS), 14), generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor(LENGTHS)
    return tokens, lengths


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_gives_what_packed_sequences_give(cell, layers, both):
    net, theirs = make_pair(cell, layers, both)
    net.embedding.weight.data.normal_()
    tokens, lengths = draw()
    x = net.embedding(prepare_texts(tokens, lengths, 0).tokens)
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    output, state = theirs(packed)
    expected, _ = pad_packed_sequence(output, batch_first=True, total_length=14)

    texts = prepare_texts(tokens, lengths, 0)
    features = net.features(texts) * texts.mask.unsqueeze(2)
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-6)

    last = (state[0] if cell == "lstm" else state)[-2 if both else -1 :]
    logits = net.fc(torch.cat(list(last), dim=1))
    torch.testing.assert_close(net(tokens, lengths), logits, rtol=0, atol=1e-6)
    assert (logits[0] - logits[1]).abs().max() > 0.03

    ours = torch.autograd.grad(net(tokens, lengths).square().sum(), net.embedding.weight)
    packed_gradient = torch.autograd.grad(logits.square().sum(), net.embedding.weight)
    torch.testing.assert_close(ours, packed_gradient, rtol=0, atol=1e-5)


def test_start_values():
    torch.manual_seed(0)
    net = RNNClassifier(VOCAB, 2, embedding_dim=WIDTH, hidden_size=HIDDEN)
    for layer in (*net.forward_layers, *net.backward_layers):
        for gate in layer.weight_hh_l0.chunk(4):
            torch.testing.assert_close(gate @ gate.T, torch.eye(HIDDEN))
        bias = (layer.bias_ih_l0 + layer.bias_hh_l0).view(4, HIDDEN)
        assert torch.equal(bias, torch.tensor([0.0, 1, 0, 0]).view(4, 1).expand(4, HIDDEN))
        assert layer.weight_ih_l0.abs().max() <= (6 / (WIDTH + HIDDEN)) ** 0.5
    gru = RNNClassifier(VOCAB, 2, cell="gru").forward_layers[0]
    assert not gru.bias_ih_l0.any()


def test_dropout_lies_between_layers_and_before_the_head():
    tokens, lengths = draw()
    for layers, inside in ((1, False), (2, True)):
        torch.manual_seed(0)
        net = RNNClassifier(VOCAB, 2, num_layers=layers, dropout=0.5).train()
        texts = prepare_texts(tokens, lengths, 0)
        assert torch.equal(net.features(texts), net.features(texts)) != inside
        assert not torch.equal(net(tokens, lengths), net(tokens, lengths))
        net.eval()
        assert torch.equal(net(tokens, lengths), net(tokens, lengths))
