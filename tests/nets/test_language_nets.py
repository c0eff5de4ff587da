"""What every net that predicts the next token promises, beside its peers of transformers."""

import json
import warnings
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from zoo.nets.gpt import GPT, GPTActivation, GPTLayout
from zoo.nets.pretrained.gpt_export import to_transformers
from zoo.nets.rnn_lm import LMCellName, RNNLanguageModel

VOCAB, LENGTH = 50, 16
SMALL = {"embedding_dim": 32, "num_layers": 3, "num_heads": 4}
RNN = {"embedding_dim": 12, "hidden_size": 9, "num_layers": 2}
NETS: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    **{f"gpt-{layout}": (GPT, {"layout": layout, **SMALL}) for layout in get_args(GPTLayout)},
    "gpt-grouped": (GPT, {"num_kv_heads": 2, **SMALL}),
    "gpt-one-kv-head": (GPT, {"num_kv_heads": 1, "layout": "llama", **SMALL}),
    "gpt-relu2-tied": (GPT, {"activation": "relu2", "tie_embeddings": True, **SMALL}),
    "gpt-learned-rms": (GPT, {"positions": "learned", "norm": "layer", **SMALL}),
    **{f"rnn-{cell}": (RNNLanguageModel, {"cell": cell, **RNN}) for cell in get_args(LMCellName)},
    "rnn-untied": (RNNLanguageModel, {"tie_embeddings": False, **RNN}),
}
each_net = pytest.mark.parametrize("name", NETS)


def build(name: str, **options: Any) -> nn.Module:
    """A net whose weights all differ from zero."""
    torch.manual_seed(0)
    net_class, kwargs = NETS[name]
    length = {"max_length": LENGTH} if net_class is GPT else {}
    net = net_class(vocab_size=VOCAB, **length, **{**kwargs, **options})
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    return net


def draw(rows: int = 2, length: int = LENGTH) -> Tensor:
    return torch.randint(0, VOCAB, (rows, length), generator=torch.Generator().manual_seed(1))


@each_net
def test_logits_depend_on_no_later_token(name):
    net, tokens = build(name).eval(), draw()
    logits = net(tokens)
    assert logits.shape == (2, LENGTH, VOCAB)
    changed = tokens.clone()
    changed[:, 9:] = (changed[:, 9:] + 1) % VOCAB
    torch.testing.assert_close(net(changed)[:, :9], logits[:, :9], rtol=0, atol=1e-6)
    assert not torch.allclose(net(changed)[:, 9:], logits[:, 9:], atol=1e-3)


@each_net
def test_the_output_layer_makes_the_logits_of_the_features(name):
    net, tokens = build(name).eval(), draw()
    assert torch.equal(net.output_layer(net.features(tokens)), net(tokens))
    assert net.vocab_size == VOCAB


@each_net
def test_steps_give_the_logits_of_reading_all_at_once(name):
    net, tokens = build(name).eval(), draw()
    whole = net(tokens)
    logits, state = net.step(tokens[:, :5])
    torch.testing.assert_close(logits, whole[:, 4], rtol=0, atol=1e-5)
    logits, state = net.step(tokens[:, 5:9], state)
    torch.testing.assert_close(logits, whole[:, 8], rtol=0, atol=1e-5)
    for place in range(9, LENGTH):
        logits, state = net.step(tokens[:, place : place + 1], state)
        torch.testing.assert_close(logits, whole[:, place], rtol=0, atol=1e-5)


@each_net
def test_every_parameter_gets_a_gradient(name):
    net = build(name).train()
    net(draw()).square().mean().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


@each_net
def test_recorded_arguments_rebuild_the_net(name):
    net, tokens = build(name).eval(), draw()
    twin = type(net)(**json.loads(json.dumps(net._hub_mixin_config))).eval()
    twin.load_state_dict(net.state_dict())
    assert torch.equal(twin(tokens), net(tokens))


@pytest.mark.parametrize("name", [name for name in NETS if name.startswith("gpt")])
def test_texts_of_one_row_do_not_see_each_other(name):
    net, tokens = build(name).eval(), draw()
    sizes = (7, 4, 5)
    position_ids = torch.cat([torch.arange(size) for size in sizes]).expand(2, -1)
    segment_ids = torch.arange(3).repeat_interleave(torch.tensor(sizes)).expand(2, -1)
    apart = torch.cat([net(part) for part in tokens.split(sizes, dim=1)], dim=1)
    together = net(tokens, position_ids, segment_ids)
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-5)
    assert not torch.allclose(net(tokens)[:, 7:], apart[:, 7:], atol=1e-3)
    # The first three tokens begin all of them.
    start, *rests = tokens.split((3, 4, 4, 5), dim=1)
    whole = torch.cat([net(torch.cat([start, rest], dim=1))[:, 3:] for rest in rests], dim=1)
    after = torch.cat([torch.arange(3), *(torch.arange(3, 3 + r.shape[1]) for r in rests)])
    shared_prefix_len = net(tokens, after.expand(2, -1), segment_ids, shared_prefix_len=3)
    torch.testing.assert_close(shared_prefix_len[:, 3:], whole, rtol=0, atol=1e-5)


PEERS = {
    "gpt-gpt2": "GPT2LMHeadModel",
    "gpt-llama": "LlamaForCausalLM",
    "gpt-one-kv-head": "LlamaForCausalLM",
    "gpt-modern": "Qwen3ForCausalLM",
    "gpt-grouped": "Qwen3ForCausalLM",
}


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("tied", [True, False])
def test_equal_to_transformers(name, tied, tmp_path):
    from transformers import AutoModelForCausalLM

    net, tokens = build(name, tie_embeddings=tied).eval(), draw()
    peer = to_transformers(net)
    assert type(peer).__name__ == PEERS[name]
    with torch.no_grad():
        torch.testing.assert_close(net(tokens), peer(tokens).logits, rtol=0, atol=1e-5)
        peer.save_pretrained(tmp_path)
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
        torch.testing.assert_close(net(tokens), loaded(tokens).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", [{"activation": "relu2"}, {"bias": True}, {"norm": "layer"}])
def test_what_transformers_has_not(options):
    with pytest.raises(ValueError, match=r"GPT-2.*Llama.*and it has norm"):
        to_transformers(build("gpt-llama", **options))


def test_gpt2_has_its_published_size():
    with torch.device("meta"):
        net = GPT(50_257, 1024, layout="gpt2", embedding_dim=768, num_layers=12, num_heads=12)
    assert sum(p.numel() for p in net.parameters()) == 124_439_808  # GPT-2 small


def test_start_values():
    torch.manual_seed(0)
    net = GPT(VOCAB, LENGTH, embedding_dim=128, num_heads=4)
    assert not net(draw()).any()  # so that the loss starts at log(vocab_size)
    old = GPT(VOCAB, LENGTH, layout="gpt2", embedding_dim=128, num_heads=4, num_layers=8)
    assert float(old.blocks[0].attention.qkv.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert float(old.blocks[0].attention.out.weight.detach().std()) == pytest.approx(
        0.005, rel=0.05
    )


@pytest.mark.parametrize("activation", get_args(GPTActivation))
def test_feedforward_width(activation):
    net = GPT(VOCAB, LENGTH, embedding_dim=96, num_heads=4, activation=activation)
    hidden = net.blocks[0].feedforward.out.in_features
    assert hidden == (256 if activation == "swiglu" else 384)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layout": "gpt3"}, "did you mean 'gpt2'"),
        ({"num_heads": 5}, "num_heads is 5; it does not divide embedding_dim, 32"),
        ({"num_heads": 4, "num_kv_heads": 3}, "num_kv_heads is 3; it does not divide num_heads, 4"),
        ({"embedding_dim": 12, "num_heads": 4}, "an even number a head"),
        ({"dropout": 1.0}, "option dropout is 1.0"),
        ({"num_layers": 0}, "option num_layers is 0"),
    ],
)
def test_options_that_do_not_fit(options, words):
    with pytest.raises(ValueError, match=words):
        GPT(VOCAB, LENGTH, **{**SMALL, **options})


def test_learned_positions_end():
    net = build("gpt-gpt2")
    with pytest.raises(ValueError, match="learned positions end there, before 17 tokens"):
        net(draw(1, LENGTH + 1))
    with pytest.raises(ValueError, match="17 tokens"):
        net.step(draw(1, 2), net.step(draw(1, LENGTH - 1))[1])


@pytest.mark.parametrize("cell", get_args(LMCellName))
def test_carried_state_makes_windows_one_text(cell):
    net, tokens = build(f"rnn-{cell}").eval(), draw(3)
    features, state = net.carry(tokens[:, :6], None)
    more, state = net.carry(tokens[:, 6:], state)
    torch.testing.assert_close(torch.cat([features, more], dim=1), net.features(tokens))
    assert not any(part.requires_grad for part in state)
    fewer, _ = net.carry(tokens[:2, :1], state)  # the third text has ended
    assert len(fewer) == 2


def test_texts_of_one_row_are_refused_by_recurrent_nets():
    with pytest.raises(ValueError, match="respect_documents: false"):
        build("rnn-lstm").features(draw(), segment_ids=torch.zeros_like(draw()))


@pytest.mark.parametrize("name", ["dropout", "attention_dropout"])
def test_gpt_drops_features_and_attention_weights_in_training_alone(name):
    net, tokens = build("gpt-modern", **{name: 0.5}), draw()
    assert not torch.equal(net.train()(tokens), net(tokens))
    assert torch.equal(net.eval()(tokens), net(tokens))


def test_awd_dropouts():
    tokens = draw(4)
    net = build("rnn-lstm", dropout=0.5, input_dropout=0.0).train()
    features = net.features(tokens)
    dropped = (features == 0).all(dim=1)  # by one mask for all tokens of a text
    assert torch.equal((features == 0), dropped.unsqueeze(1).expand_as(features))
    assert 0 < int(dropped.sum()) < dropped.numel()
    assert len(dropped.unique(dim=0)) > 1  # but not the same for all texts

    words = build("rnn-lstm", embedding_dropout=0.5).train()
    table = words._look_up(torch.arange(VOCAB).unsqueeze(0))[0]
    gone = (table == 0).all(dim=1)
    assert 0 < int(gone.sum()) < VOCAB
    torch.testing.assert_close(table[~gone], 2 * words.embedding.weight[~gone])

    net = build("rnn-lstm", weight_dropout=0.5).train()
    first, second = net(tokens), net(tokens)
    assert not torch.equal(first, second)
    assert torch.equal(net.eval()(tokens), net(tokens))
    net.train()(tokens).sum().backward()
    recurrent = net.layers[0].weight_hh_l0.grad
    assert 0.3 < float((recurrent == 0).double().mean()) < 0.7


def test_half_precision_keeps_the_norms_fused():
    net = GPT(vocab_size=20, embedding_dim=16, num_layers=1, num_heads=2, qk_norm=True)
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)  # torch says it once in a process otherwise
    try:
        with warnings.catch_warnings(), torch.autocast("cpu", torch.bfloat16):
            warnings.simplefilter("error")
            net(torch.arange(10)[None]).float().sum().backward()
    finally:
        torch.set_warn_always(always)
    assert net.blocks[0].attention.q_norm.weight.grad.dtype == torch.float32
