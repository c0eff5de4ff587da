"""The loss over a vocabulary, made in pieces or at once."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import zoo.losses.tokens
from datamodules.core.protocols import IGNORE_INDEX
from zoo.losses.tokens import logits_loss, token_loss

N, D, V = 300, 16, 90


def sample(bias: bool = True):
    torch.manual_seed(0)
    layer = nn.Linear(D, V, bias=bias)
    features = torch.randn(N, D, requires_grad=True)
    labels = torch.randint(0, V, (N,))
    labels[::3] = IGNORE_INDEX
    return features, layer, labels


def gradients(loss, features, layer):
    return torch.autograd.grad(loss, [features, *layer.parameters()])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"z_loss": 1e-2}])
@pytest.mark.parametrize("has_torchs", [True, False])
def test_pieces_have_the_loss_and_gradient_of_all_at_once(monkeypatch, bias, options, has_torchs):
    features, layer, labels = sample(bias)
    whole = token_loss(features, layer, labels, **options)
    expected = gradients(whole, features, layer)
    called = []
    if has_torchs:
        torchs = F.linear_cross_entropy
        monkeypatch.setattr(
            F, "linear_cross_entropy", lambda *a, **k: called.append(1) or torchs(*a, **k)
        )
    else:
        monkeypatch.delattr(F, "linear_cross_entropy")
    monkeypatch.setattr(zoo.losses.tokens, "MOST_LOGITS", 40 * V)
    pieces = token_loss(features, layer, labels, **options)
    torch.testing.assert_close(pieces, whole, rtol=1e-5, atol=1e-4)
    for got, want in zip(gradients(pieces, features, layer), expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    assert bool(called) == (has_torchs and not options)


def test_formula():
    features, layer, labels = sample()
    logits = layer(features).double()
    asked = labels != IGNORE_INDEX
    p = logits.softmax(dim=1)[asked, labels[asked]]
    z = logits.exp().sum(dim=1)[asked].log()
    expected = -p.log().sum() + 0.5 * z.square().sum()
    got = logits_loss(layer(features), labels, z_loss=0.5)
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-3)


def test_no_place_asked_for():
    features, layer, labels = sample()
    loss = token_loss(features, layer, torch.full_like(labels, IGNORE_INDEX))
    assert float(loss) == 0
    assert not any(g.any() for g in gradients(loss, features, layer))
