"""The convolutional text net against the formula of Kim, arXiv 1408.5882, window by window."""

import pytest
import torch

from zoo.nets import TextCNN

VOCAB, PAD = 40, 0


def test_has_the_papers_size():
    net = TextCNN(VOCAB, 6)
    filters = sum(100 * (300 * size + 1) for size in (3, 4, 5))
    assert sum(p.numel() for p in net.parameters()) == VOCAB * 300 + filters + 6 * (300 + 1)
    assert net.dropout.p == 0.5
    assert net.embedding.weight.detach().std() == pytest.approx(0.25 / 3**0.5, rel=0.05)


@pytest.mark.parametrize("length", [1, 2, 6])
def test_takes_each_filters_maximum_over_the_windows_with_a_token(length):
    torch.manual_seed(0)
    net = TextCNN(VOCAB, 3, embedding_dim=5, kernel_sizes=[2, 4], num_filters=7).eval()
    with torch.no_grad():
        net.convs[0].bias.fill_(2.0)  # so large that a window of padding would win
    text = torch.randint(1, VOCAB, (length,))
    vectors = net.embedding.weight[text]
    features = []
    for conv, size in zip(net.convs, (2, 4), strict=True):
        around = torch.zeros(size - 1, 5)
        x = torch.cat([around, vectors, around])
        fits = [
            torch.relu(torch.einsum("fdk,kd->f", conv.weight, x[at : at + size]) + conv.bias)
            for at in range(length + size - 1)
        ]
        features.append(torch.stack(fits).amax(dim=0))
    expected = net.fc(torch.cat(features))
    tokens = torch.full((1, length + 9), PAD)
    tokens[0, :length] = text
    torch.testing.assert_close(net(tokens)[0], expected)


@pytest.mark.parametrize("sizes", [[], [3, 0]])
def test_refuses_filters_of_no_tokens(sizes):
    with pytest.raises(ValueError, match=r"option kernel_sizes is \[.*; give one or more numbers"):
        TextCNN(VOCAB, 2, kernel_sizes=sizes)
