"""The Transformer against torch's own encoder, and its norms and positions against formulas."""

import math

import pytest
import torch
from torch import Tensor, nn

from zoo.nets.transformer import (
    MaskedBatchNorm,
    Rotation,
    TransformerClassifier,
    _angles,
    _rotate,
    sinusoids,
)

VOCAB, WIDTH, HEADS, HIDDEN = 40, 12, 3, 20


def build(**options: object) -> TransformerClassifier:
    torch.manual_seed(0)
    defaults = {"embedding_dim": WIDTH, "num_heads": HEADS, "max_length": 16}
    net = TransformerClassifier(VOCAB, 3, **{**defaults, **options})
    with torch.no_grad():  # drawn anew: biases of zero and scales of one would hide mistakes
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        net.embedding.weight[0] = 0.0
    return net


def draw(lengths: tuple[int, ...] = (9, 1, 4), seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, VOCAB, (len(lengths), max(lengths)), generator=generator)
    return tokens, torch.tensor(lengths)


def torchs_encoder(net: TransformerClassifier, pre_norm: bool, activation: str) -> nn.Module:
    layer = nn.TransformerEncoderLayer(
        WIDTH, HEADS, HIDDEN, 0.0, activation, batch_first=True, norm_first=pre_norm
    )
    final = nn.LayerNorm(WIDTH) if pre_norm else None
    encoder = nn.TransformerEncoder(layer, len(net.layers), final, enable_nested_tensor=False)
    pairs = [(encoder.norm, net.norm)] if pre_norm else []
    for theirs, ours in zip(encoder.layers, net.layers, strict=True):
        theirs.self_attn.in_proj_weight.data.copy_(ours.attention.in_proj.weight)
        theirs.self_attn.in_proj_bias.data.copy_(ours.attention.in_proj.bias)
        pairs += [
            (theirs.self_attn.out_proj, ours.attention.out_proj),
            (theirs.linear1, ours.feedforward[0]),
            (theirs.linear2, ours.feedforward[3]),
            (theirs.norm1, ours.norm1),
            (theirs.norm2, ours.norm2),
        ]
    for theirs, ours in pairs:
        theirs.load_state_dict(ours.state_dict())
    return encoder


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("pre_norm", [True, False])
def test_gives_what_torchs_encoder_gives(pre_norm, activation, training):
    net = build(
        num_layers=3,
        feedforward_dim=HIDDEN,
        pre_norm=pre_norm,
        activation=activation,
        dropout=0.0,
        pooling="max",
    )
    encoder = torchs_encoder(net, pre_norm, activation)
    net.train(training)
    encoder.train(training)
    tokens, lengths = draw()
    tokens[torch.arange(9) >= lengths.unsqueeze(1)] = 0
    y = encoder(net.embed(tokens), src_key_padding_mask=tokens == 0)
    expected = net.fc(torch.stack([y[i, :n].amax(dim=0) for i, n in enumerate(lengths)]))
    torch.testing.assert_close(net(tokens, lengths), expected, rtol=0, atol=1e-5)
    assert (expected[0] - expected[1]).abs().max() > 0.1


def test_positions_tell_the_order():
    tokens, lengths = draw((9,))
    for positions in ("learned", "sinusoidal", "rotary"):
        net = build(positions=positions, embedding_dim=WIDTH, num_heads=2).eval()
        difference = net(tokens, lengths) - net(tokens.flip(1), lengths)
        assert difference.abs().max() > 1e-2, positions


def test_sinusoids_follow_the_paper():
    table = sinusoids(20, 8)
    for t, i in ((0, 0), (3, 1), (19, 3)):
        angle = t / 10_000 ** (2 * i / 8)
        assert table[t, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-5)
        assert table[t, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-5)
    net = build(positions="sinusoidal")
    embedded = net.embed(torch.tensor([[5, 0]]))
    torch.testing.assert_close(
        embedded[0], net.embedding.weight[[5, 0]] * math.sqrt(WIDTH) + sinusoids(2, WIDTH)
    )


def test_rotary_scores_depend_on_the_distance_alone():
    torch.manual_seed(0)
    angles = _angles(30, 8, 10_000.0, None)
    rotation = Rotation(angles.cos(), angles.sin())
    q, k = (torch.randn(8).expand(1, 1, 30, 8) for _ in range(2))
    turned_q, turned_k = _rotate(q, rotation), _rotate(k, rotation)
    scores = (turned_q @ turned_k.transpose(2, 3))[0, 0]
    torch.testing.assert_close(scores[:-7, :-7], scores[7:, 7:], rtol=1e-4, atol=1e-4)
    assert (scores[0, 0] - scores[0, 5]).abs() > 0.1
    # Pairs of neighbours are complex numbers, turned by the angle of their position.
    turn = torch.polar(torch.ones(30, 4), angles)
    expected = torch.view_as_real(torch.view_as_complex(q[0, 0].reshape(30, 4, 2)) * turn)
    torch.testing.assert_close(turned_q[0, 0], expected.flatten(1))


def test_masked_batch_norm_is_torchs_over_real_tokens():
    torch.manual_seed(0)
    x = torch.randn(4, 6, 5) * 3 + 1
    mask = torch.arange(6) < torch.tensor([6, 1, 3, 2]).unsqueeze(1)
    ours, theirs = MaskedBatchNorm(5), nn.BatchNorm1d(5)
    for norm in (ours, theirs):
        nn.init.constant_(norm.weight, 0.7)
        nn.init.constant_(norm.bias, 0.2)
    for _ in range(3):
        torch.testing.assert_close(ours(x, mask)[mask], theirs(x[mask]))
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    torch.testing.assert_close(ours.eval()(x, mask)[mask], theirs.eval()(x[mask]))
    alone = ours.train()(x[:1, :1], torch.ones(1, 1).bool())
    torch.testing.assert_close(alone, torch.full_like(alone, 0.2))


@pytest.mark.parametrize("norm", ["layer", "rms", "batch"])
def test_only_batch_norm_mixes_the_texts_of_a_batch(norm):
    net = build(norm=norm, dropout=0.0)
    tokens, lengths = draw((9, 3, 4))
    others = torch.cat([tokens[:1], draw((9, 8), seed=2)[0]])
    both = [net.train()(t, n)[0] for t, n in ((tokens, lengths), (others, torch.tensor([9, 9, 8])))]
    assert ((both[0] - both[1]).abs().max() > 1e-3) == (norm == "batch")
    # What is behind the texts' ends changes nothing even so.
    padded = torch.cat([tokens, tokens], dim=1)[:, :16]
    torch.testing.assert_close(net(padded, lengths)[0], both[0], rtol=0, atol=1e-5)
    net.eval()
    torch.testing.assert_close(net(tokens, lengths)[0], net(others)[0], rtol=0, atol=1e-5)


def test_refuses_a_text_beyond_the_learned_positions():
    net = build(max_length=5).eval()
    tokens, _ = draw((9, 2))
    with pytest.raises(ValueError, match=r"a text has 9 tokens .* end at max_length=5; raise"):
        net(tokens)
    # Padding may go on behind them.
    lengths = torch.tensor([5, 2])
    torch.testing.assert_close(net(tokens, lengths), net(tokens[:, :5], lengths))
    for positions in ("sinusoidal", "rotary"):
        free = build(max_length=5, positions=positions, num_heads=2).eval()
        assert free(tokens).isfinite().all()


def test_cls_is_read_before_the_text():
    net = build(pooling="cls").eval()
    tokens, lengths = draw((16,))  # as many as there are positions: cls takes none of them
    before = net(tokens, lengths)
    net.cls.data.add_(torch.randn_like(net.cls))
    assert (net(tokens, lengths) - before).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["dropout", "attention_dropout", "embedding_dropout"])
def test_drops_attention_weights_features_and_words_in_training_alone(name):
    net = build(**{"dropout": 0.0, name: 0.5})
    tokens, lengths = draw()
    assert not torch.equal(net.train()(tokens, lengths), net(tokens, lengths))
    assert torch.equal(net.eval()(tokens, lengths), net(tokens, lengths))
