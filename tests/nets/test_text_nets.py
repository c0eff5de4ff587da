"""What every net for texts promises, and the parts they share."""

import itertools
import json
import math
import random
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.export._patches import (
    register_gru_while_loop_decomposition,
    register_lstm_while_loop_decomposition,
)

from zoo.nets.bag import BagOfEmbeddings
from zoo.nets.layers.embeddings import TokenEmbedding, hash_pair, load_vectors, mix64
from zoo.nets.layers.pooling import Pooling, PoolingName, prepare_texts
from zoo.nets.rnn import CellName, RNNClassifier, RNNPooling
from zoo.nets.text_cnn import TextCNN
from zoo.nets.transformer import TransformerClassifier, TransformerPooling

VOCAB, CLASSES, PAD = 50, 3, 2
RNN = {"embedding_dim": 6, "hidden_size": 5}
TRANSFORMER = {"embedding_dim": 8, "num_heads": 2, "max_length": 40}
BAG = {"embedding_dim": 6, "buckets": 20}

NETS: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    **{
        f"{cell}-{pooling}": (
            RNNClassifier,
            {**RNN, "cell": cell, "pooling": pooling, "num_layers": 2},
        )
        for cell, pooling in itertools.product(get_args(CellName), get_args(RNNPooling))
    },
    "lstm-forward": (RNNClassifier, {**RNN, "bidirectional": False}),
    **{
        f"transformer-{pooling}": (TransformerClassifier, {**TRANSFORMER, "pooling": pooling})
        for pooling in get_args(TransformerPooling)
    },
    "transformer-post": (TransformerClassifier, {**TRANSFORMER, "pre_norm": False}),
    "transformer-rms-rotary": (
        TransformerClassifier,
        {**TRANSFORMER, "norm": "rms", "positions": "rotary", "pooling": "cls"},
    ),
    "transformer-batch-sinusoidal": (
        TransformerClassifier,
        {**TRANSFORMER, "norm": "batch", "positions": "sinusoidal"},
    ),
    "bag-words": (BagOfEmbeddings, {**BAG, "ngrams": 1}),
    "bag": (BagOfEmbeddings, {**BAG, "ngrams": 3}),
    "cnn": (TextCNN, {"embedding_dim": 6, "num_filters": 4}),
}
each_net = pytest.mark.parametrize("name", NETS)


def build(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    net_class, kwargs = NETS[name]
    net = net_class(VOCAB, CLASSES, pad_id=PAD, **{**kwargs, **options})
    with torch.no_grad():  # start values are so small that a net's logits hardly see the text
        for module in net.modules():
            if isinstance(module, nn.Embedding):
                module.weight.div_(module.weight.std())
    return net


def draw_texts(lengths: list[int], seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(PAD + 1, VOCAB, (n,), generator=generator) for n in lengths]


def pad(texts: list[Tensor], width: int) -> tuple[Tensor, Tensor]:
    tokens = torch.full((len(texts), width), PAD)
    for row, text in zip(tokens, texts, strict=True):
        row[: len(text)] = text
    return tokens, torch.tensor([len(text) for text in texts])


# --- all nets ------------------------------------------------------------------------------------


@each_net
def test_logits_of_a_text_are_its_own(name):
    net = build(name).eval()
    texts = draw_texts([4, 1, 9, 2, 7])
    with torch.no_grad():
        alone = torch.cat([net(text.unsqueeze(0)) for text in texts])
        tokens, lengths = pad(texts, 9)
        together = net(tokens)
        far, _ = pad(texts, 23)
        garbage = torch.where(far == PAD, torch.tensor(7), far)
        padded = [net(far), net(far, lengths), net(garbage, lengths), net(far.flip(0)).flip(0)]
    assert alone.isfinite().all()
    assert (alone[0] - alone[2]).abs().max() > 1e-2  # the comparison is not of constants
    for logits in (together, *padded):
        torch.testing.assert_close(logits, alone, rtol=0, atol=1e-5)


@each_net
def test_gradients_do_not_see_padding(name):
    net = build(name, dropout=0.0).train()
    texts = draw_texts([4, 1, 6])
    gradients = []
    for width in (6, 15):
        net.zero_grad()
        net(*pad(texts, width)).square().mean().backward()
        gradients.append({key: p.grad.clone() for key, p in net.named_parameters()})
    for key, gradient in gradients[0].items():
        assert gradient.isfinite().all(), key
        torch.testing.assert_close(gradients[1][key], gradient, rtol=1e-4, atol=1e-5, msg=key)
        assert gradient.dim() == 1 or gradient.any(), key
    assert not gradients[0]["embedding.weight"][PAD].any()


@each_net
def test_empty_and_one_token_texts_go_through(name):
    net = build(name)
    for mode in (True, False):
        net.train(mode)
        empty = net(torch.full((2, 4), PAD), torch.tensor([0, 0]))
        assert empty.isfinite().all()
        torch.testing.assert_close(
            net.eval()(torch.empty(2, 0).long()), net(torch.full((2, 1), PAD))
        )
        loss = net.train(mode)(torch.tensor([[5]])).sum()
        loss.backward()
        assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


@each_net
def test_recorded_arguments_rebuild_the_net(name, tmp_path):
    net = build(name).eval()
    recorded = json.loads(json.dumps(net._hub_mixin_config))
    assert {"vocab_size": VOCAB, "num_classes": CLASSES, "pad_id": PAD}.items() <= recorded.items()
    assert NETS[name][1].items() <= recorded.items()
    net.save_pretrained(tmp_path)
    tokens, lengths = pad(draw_texts([3, 8]), 8)
    with torch.no_grad():
        assert torch.equal(type(net).from_pretrained(tmp_path)(tokens, lengths), net(tokens))
    assert net.num_classes == CLASSES
    assert {key.split(".")[0] for key, _ in net.named_parameters()} >= set(net.head_names)


@pytest.mark.filterwarnings("ignore:The tensor attributes")  # torch's, about its own layers
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lstm-last", {"num_layers": 1}),
        ("gru-last", {"num_layers": 1}),
        ("transformer-cls", {}),
        ("bag", {}),
        ("cnn", {}),
    ],
)
def test_exports_for_any_batch_and_length(name, options):
    net = build(name, **options).eval()
    batch, time = Dim("batch", min=1, max=64), Dim("time", min=2, max=40)
    shapes = {"tokens": {0: batch, 1: time}, "lengths": {0: batch}}
    # torch.export unrolls recurrent layers over the example's length; with these it makes loops.
    with register_lstm_while_loop_decomposition(), register_gru_while_loop_decomposition():
        exported = torch.export.export(
            net, pad(draw_texts([4, 9, 6]), 11), dynamic_shapes=shapes
        ).module()
    for size, width in ((3, 11), (1, 40), (7, 5)):
        tokens, lengths = pad(draw_texts([1 + i % width for i in range(size)]), width)
        with torch.no_grad():
            expected = net(tokens, lengths)
            torch.testing.assert_close(exported(tokens, lengths), expected, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore:The tensor attributes")
@pytest.mark.parametrize("name", ["lstm-attention", "rnn-last"])
def test_exports_recurrent_nets_for_a_fixed_length(name):
    net = build(name, num_layers=1).eval()
    batch = Dim("batch", min=1, max=64)
    shapes = {"tokens": {0: batch}, "lengths": {0: batch}}
    exported = torch.export.export(net, pad(draw_texts([4, 6]), 6), dynamic_shapes=shapes).module()
    for lengths in ([6, 1, 3], [2]):
        batch_of_texts = pad(draw_texts(lengths), 6)
        with torch.no_grad():
            expected = net(*batch_of_texts)
            torch.testing.assert_close(exported(*batch_of_texts), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["lstm-attention", "transformer-attention"])
def test_attention_weights_are_shares_of_the_texts_tokens(name):
    net = build(name).eval()
    tokens, lengths = pad(draw_texts([4, 1, 9]), 45)
    weights = net.attention_weights(tokens, lengths)
    assert weights.shape == tokens.shape
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(3))
    assert not weights[tokens == PAD].any()
    assert weights[0, :4].min() > 0
    assert not weights.requires_grad
    with pytest.raises(
        ValueError, match="pooling is 'mean'; it has no weights to show; choose 'atten"
    ):
        build(name, pooling="mean").attention_weights(tokens, lengths)


@pytest.mark.parametrize(
    ("net_class", "kwargs", "said"),
    [
        (BagOfEmbeddings, {"vocab_size": 0}, "option vocab_size is 0; "),
        (RNNClassifier, {"num_classes": 0}, "option num_classes is 0; "),
        (RNNClassifier, {"pad_id": 10}, "option pad_id is 10; "),
        (RNNClassifier, {"cell": "lstn"}, "option cell is 'lstn'; "),
        (RNNClassifier, {"pooling": "cls"}, "option pooling is 'cls'; "),
        (RNNClassifier, {"num_layers": 0}, "option num_layers is 0; "),
        (RNNClassifier, {"dropout": 1.0}, r"option dropout is 1\.0; "),
        (RNNClassifier, {"embedding_dropout": -0.1}, "option embedding_dropout is -0.1; "),
        (BagOfEmbeddings, {"ngrams": 0}, "option ngrams is 0; "),
        (BagOfEmbeddings, {"embedding_dim": 0}, "option embedding_dim is 0; "),
        (TransformerClassifier, {"pooling": "last"}, "option pooling is 'last'; "),
        (TransformerClassifier, {"norm": "group"}, "option norm is 'group'; "),
        (TransformerClassifier, {"positions": "rope"}, "option positions is 'rope'; "),
        (
            TransformerClassifier,
            {"num_heads": 3},
            "num_heads is 3; it does not divide embedding_dim, 128",
        ),
        (
            TransformerClassifier,
            {"embedding_dim": 12, "positions": "rotary"},
            "num_heads is 4; .* leaves 3 of embedding_dim 12",
        ),
        (
            TransformerClassifier,
            {"embedding_dim": 9, "num_heads": 3, "positions": "sinusoidal"},
            "embedding_dim is 9; .* even number",
        ),
    ],
)
def test_refuses_what_does_not_fit(net_class, kwargs, said):
    with pytest.raises(ValueError, match=said):
        net_class(**{"vocab_size": 10, "num_classes": 2, **kwargs})


def test_refuses_tokens_without_a_batch():
    with pytest.raises(ValueError, match=r"tokens of shape \(4,\) must have two dimensions"):
        build("bag")(torch.ones(4).long())


# --- padding and pooling -------------------------------------------------------------------------


def test_finds_where_texts_end():
    tokens = torch.tensor([[5, 6, PAD, PAD], [7, PAD, PAD, PAD], [PAD, PAD, PAD, PAD]])
    texts = prepare_texts(tokens, None, PAD)
    assert texts.lengths.tolist() == [2, 1, 1]
    assert texts.mask.sum(dim=1).tolist() == [2, 1, 1]
    given = prepare_texts(torch.full((3, 4), 9), torch.tensor([2, 1, 0], dtype=torch.int32), PAD)
    assert given.tokens.tolist() == [[9, 9, PAD, PAD], [9, PAD, PAD, PAD], [PAD] * 4]
    assert torch.equal(given.mask, texts.mask)


@pytest.mark.parametrize("kind", get_args(PoolingName))
def test_pools_the_tokens_of_a_text(kind):
    torch.manual_seed(0)
    x = torch.randn(2, 4, 3)
    lengths = torch.tensor([4, 2])
    mask = torch.arange(4) < lengths.unsqueeze(1)
    pool = Pooling(kind, 3)
    pooled = pool(x, lengths, mask)
    for row, text in zip(pooled, (x[0], x[1, :2]), strict=True):
        if kind == "attention":
            shares = (pool.score[2].weight @ torch.tanh(pool.score[0].weight @ text.T)).softmax(1)
            expected = (shares @ text).squeeze(0)
        else:
            expected = {
                "last": text[-1],
                "cls": text[0],
                "mean": text.mean(dim=0),
                "max": text.amax(dim=0),
            }[kind]
        torch.testing.assert_close(row, expected)


# --- bag of embeddings ---------------------------------------------------------------------------


@pytest.mark.parametrize("ngrams", [1, 2, 3])
def test_the_bag_is_the_mean_of_words_and_ngrams(ngrams):
    net = build("bag", ngrams=ngrams).eval()
    text = draw_texts([5])[0]
    vectors = [net.embedding.weight[token] for token in text]
    for n in range(2, ngrams + 1):
        for start in range(len(text) - n + 1):
            value = text[start]
            for token in text[start + 1 : start + n]:
                value = hash_pair(value, token)
            vectors.append(net.ngram_embedding.weight[1 + int(value) % BAG["buckets"]])
    assert len(vectors) == sum(5 - n for n in range(ngrams))
    expected = net.fc(torch.stack(vectors).mean(dim=0))
    torch.testing.assert_close(net(text.unsqueeze(0)).squeeze(0), expected)


def test_the_bag_knows_word_order_by_its_ngrams_alone():
    text = draw_texts([6])[0]
    for ngrams, differs in ((1, False), (2, True)):
        net = build("bag", ngrams=ngrams).eval()
        difference = (net(text.unsqueeze(0)) - net(text.flip(0).unsqueeze(0))).abs().max()
        assert (difference > 1e-4) == differs


def test_ngrams_spread_over_all_buckets():
    net = BagOfEmbeddings(VOCAB, 2, ngrams=2, buckets=10, embedding_dim=2)
    tokens = torch.randint(VOCAB, (100, 101))
    rows = net.ngram_rows(tokens, torch.ones_like(tokens).bool())
    counts = rows.flatten().bincount(minlength=11)
    assert counts[0] == 100  # a text's first token ends no run of two
    assert counts[1:].min() > 700  # of 1,000 each
    assert counts[1:].max() < 1300


# --- embeddings ----------------------------------------------------------------------------------


def test_mix64_is_splitmix64():
    def reference(x: int) -> int:
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return x ^ (x >> 31)

    values = [0, 1, -1, 12345, -(2**63), 2**63 - 1]
    expected = [reference(value % 2**64) for value in values]
    assert [value % 2**64 for value in mix64(torch.tensor(values)).tolist()] == expected


def test_drops_whole_words_from_a_text():
    torch.manual_seed(0)
    embedding = TokenEmbedding(30, 4, pad_id=PAD, word_dropout=0.3)
    words = torch.randint(PAD + 1, 30, (400, 25))
    kept = embedding(words).abs().sum(dim=2) > 0
    fates: dict[tuple[int, int], set[bool]] = {}
    for text, (row, keeps) in enumerate(zip(words.tolist(), kept.tolist(), strict=True)):
        for word, keep in zip(row, keeps, strict=True):
            fates.setdefault((text, word), set()).add(keep)
    assert all(len(fate) == 1 for fate in fates.values())  # gone everywhere in a text, or nowhere
    assert 1 - sum(map(max, fates.values())) / len(fates) == pytest.approx(0.3, abs=0.02)
    shares = [[fate for (_, w), (fate,) in fates.items() if w == word] for word in (5, 6)]
    assert all(0.1 < 1 - sum(fate) / len(fate) < 0.5 for fate in shares)  # texts draw their own


def test_word_dropout_scales_the_rest_and_stops_in_evaluation():
    embedding = TokenEmbedding(30, 4, word_dropout=0.5)
    words = torch.arange(1, 30).unsqueeze(0)
    torch.manual_seed(0)
    once = embedding(words)
    torch.manual_seed(0)
    assert torch.equal(embedding(words), once)  # a step that is seeded alike draws alike
    kept = once.abs().sum(dim=2) > 0
    torch.testing.assert_close(once[kept], 2 * embedding.weight[words[kept]])
    assert torch.equal(embedding.eval()(words), embedding.weight[words])


@pytest.mark.parametrize("name", ["lstm-last", "transformer-mean", "bag", "cnn"])
def test_frozen_embeddings_are_not_trained(name):
    trained = {
        key: p.requires_grad for key, p in build(name, freeze_embeddings=True).named_parameters()
    }
    assert [key for key, train in trained.items() if not train] == ["embedding.weight"]


# --- word vectors from files ---------------------------------------------------------------------

VOCABULARY = {"<pad>": 0, "좋다": 1, "the": 2, "a b": 3, "none": 4}
ROWS = {"좋다": [1.0, 2.0, 3.0], "the": [0.5, -1.0, 4.0], "a b": [9.0, 8.0, 7.0]}


def lines(end: str = "") -> list[str]:
    other = {"elsewhere": [0.0, 0.0, 0.0]}
    return [f"{word} {' '.join(map(str, row))}{end}" for word, row in {**other, **ROWS}.items()]


@pytest.mark.parametrize("header", [None, "4 3"])
@pytest.mark.parametrize("end", ["", " ", "\r"])
def test_reads_word_vectors(tmp_path, header, end):
    path = tmp_path / "vectors.txt"
    again = "the 7 7 7"  # the first line counts
    text = "\n".join([*([header] if header else []), *lines(end), again]) + "\n"
    path.write_bytes(text.encode() + b"\xff\xfe 1 2 3\n")
    vectors = load_vectors(path, VOCABULARY, 3)
    assert vectors.coverage == pytest.approx(3 / 5)
    for word, row in ROWS.items():
        assert vectors.table[VOCABULARY[word]].tolist() == row
    assert vectors.table.isfinite().all()
    assert vectors.table[4].any()

    net = RNNClassifier(5, 2, embedding_dim=3, hidden_size=2)
    net.embedding.set_vectors(vectors.table)
    assert torch.equal(net.embedding.weight[1:], vectors.table[1:])
    assert not net.embedding.weight[0].any()


def test_words_without_a_vector_start_at_the_scale_of_the_others(tmp_path):
    torch.manual_seed(0)
    random.seed(0)
    path = tmp_path / "vectors.txt"
    rows = [" ".join(str(random.gauss(0, 5)) for _ in range(20)) for _ in range(50)]
    path.write_text("".join(f"w{i} {row}\n" for i, row in enumerate(rows)))
    vocabulary = {f"w{i}": i for i in range(100)}
    table, coverage = load_vectors(path, vocabulary, 20)
    assert coverage == 0.5
    assert table[50:].std() == pytest.approx(5, rel=0.1)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("the 1 2\n", "has vectors of 2 numbers and the net has embedding_dim 3"),
        ("1 2\nthe 1 2\n", "has vectors of 2 numbers and the net has embedding_dim 3"),
        ("the 1 2 3\nnone 1 2\n", "line 2 is not a word and 3 finite numbers"),
        ("x 1 2 3\nnone 1 2 x\n", "line 2 is not a word and 3 finite numbers"),
        ("x 1 2 3\n\nthe 1 2 nan\n", "line 2 is not"),
        ("x 1 2 3\nthe 1 2 inf\n", "line 2 is not"),
        ("\x00\x01", "line 1 is not"),
        ("", "the file is empty"),
        ("x 1 2 3\n", "has none of the vocabulary's 5 tokens"),
    ],
)
def test_refuses_broken_word_vectors(tmp_path, content, said):
    path = tmp_path / "vectors.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=said) as caught:
        load_vectors(path, VOCABULARY, 3)
    assert str(path) in str(caught.value)


def test_refuses_vectors_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match="there is no such file; give a text file of word vectors"):
        load_vectors(tmp_path / "absent.vec", VOCABULARY, 3)
    embedding = TokenEmbedding(5, 3)
    with pytest.raises(ValueError, match="vectors of 4 numbers and the net has embedding_dim 3"):
        embedding.set_vectors(torch.zeros(5, 4))
    with pytest.raises(ValueError, match="6 rows for vocab_size=5"):
        embedding.set_vectors(torch.zeros(6, 3))


def test_start_values_have_the_scale_that_was_asked_for():
    torch.manual_seed(0)
    assert TokenEmbedding(5000, 8, std=0.2).weight.detach().std() == pytest.approx(0.2, rel=0.05)
    bag = BagOfEmbeddings(5000, 2, embedding_dim=8, buckets=10)
    assert bag.embedding.weight.detach().std() == pytest.approx(1 / 8 / math.sqrt(3), rel=0.05)
