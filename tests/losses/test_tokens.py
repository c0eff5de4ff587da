"""The loss over a vocabulary, made in pieces or at once."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import zoo.losses.tokens
from datamodules.core.protocols import IGNORE_INDEX
from zoo.losses.tokens import MOST_LOGITS, logits_loss, token_loss

N, D, V = 300, 16, 90


def sample(bias: bool = True):
    torch.manual_seed(0)
    layer = nn.Linear(D, V, bias=bias)
    features = torch.randn(N, D, requires_grad=True)
    labels = torch.randint(0, V, (N,))
    labels[::3] = IGNORE_INDEX
    return features, layer, labels


def gradients(loss, features, layer):
    return torch.autograd.grad(
        loss, [p for p in (features, *layer.parameters()) if p.requires_grad]
    )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"z_loss": 1e-2}])
@pytest.mark.parametrize("frozen", [None, "features", "layer"])
def test_pieces_have_the_loss_and_gradient_of_all_at_once(monkeypatch, bias, options, frozen):
    features, layer, labels = sample(bias)
    features.requires_grad_(frozen != "features")
    layer.requires_grad_(frozen != "layer")
    whole = token_loss(features, layer, labels, **options)
    expected = gradients(whole, features, layer)
    monkeypatch.setattr(zoo.losses.tokens, "MOST_LOGITS", 40 * V)
    pieces = token_loss(features, layer, labels, **options)
    torch.testing.assert_close(pieces, whole, rtol=1e-5, atol=1e-4)
    for got, want in zip(gradients(pieces, features, layer), expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(token_loss(features, layer, labels, **options), pieces)


def test_half_precision_has_the_loss_and_gradient_of_full_precision():
    torch.manual_seed(0)
    layer = nn.Linear(8, 300, bias=False)
    features = torch.randn(MOST_LOGITS // 300 + 1000, 8, requires_grad=True)
    labels = torch.randint(0, 300, features.shape[:1])
    weight = layer.weight.detach().double().requires_grad_()
    exact = F.cross_entropy(features.double() @ weight.T, labels, reduction="sum")
    expected = torch.autograd.grad(exact, [features, weight])
    with torch.autocast("cpu", torch.bfloat16):
        loss = token_loss(features, layer, labels)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=1e-4)
    for got, want in zip(gradients(loss / 3, features, layer), expected, strict=True):
        assert (3 * got - want).norm() < 0.01 * want.norm()
        assert (3 * got * want).sum() / want.square().sum() == pytest.approx(1, abs=1e-3)


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
