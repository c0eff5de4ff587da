import json
import unicodedata

import numpy as np
import pytest

from datamodules.core.errors import UserError
from datamodules.text import tokenizer as tokenization
from datamodules.text.tokenizer import TextTokenizer, Vocabulary, pretrained, train

TEXTS = [
    "the cat sat on the mat",
    "the dog sat",
    "a cat, a dog",
    "영화가 정말 좋았다",
    "좋았다",
] * 3


def vocabulary(kind: str, **kwargs) -> Vocabulary:
    options = {"size": 300, "min_frequency": 2, "lowercase": False, "nfc": True, **kwargs}
    return Vocabulary(kind, **options)


def trained(kind: str, **kwargs) -> TextTokenizer:
    return TextTokenizer(train(TEXTS, vocabulary(kind, **kwargs)))


@pytest.mark.parametrize("kind", ["bpe", "word", "char"])
def test_special_tokens_come_first_and_training_repeats(kind: str) -> None:
    one = trained(kind)
    assert [one.token(number) for number in range(3)] == ["[PAD]", "[UNK]", "[SEP]"]
    assert (one.pad_id, one.unk_id) == (0, 1)
    assert one.json == trained(kind).json == TextTokenizer(one.json).json
    assert one.vocab_size == len(json.loads(one.json)["model"]["vocab"])


@pytest.mark.parametrize("kind", ["bpe", "word", "char"])
def test_a_text_comes_back(kind: str) -> None:
    encoded = trained(kind).encode([["the cat 영화가", "좋았다"]])
    assert encoded.lengths.sum() == len(encoded.tokens)
    first = encoded.tokens[: encoded.lengths[0]]
    assert trained(kind).decode(first).strip() == "the cat 영화가"


@pytest.mark.parametrize("kind", ["bpe", "byte"])
def test_bpe_knows_every_text(kind: str) -> None:
    text = "übel 🎬\n\tΩ"
    tokenizer = trained(kind)
    encoded = tokenizer.encode([[text]])
    assert tokenizer.unk_id not in encoded.tokens
    assert tokenizer.decode(encoded.tokens).strip() == text


def test_bytes_are_their_own_numbers() -> None:
    tokenizer = trained("byte", prefix_space=False, specials=("[END]", "[PAD]"))
    assert tokenizer.encode([["übel 🎬"]]).tokens.tolist() == list("übel 🎬".encode())
    assert [tokenizer.token(number) for number in (256, 257)] == ["[END]", "[PAD]"]
    assert tokenizer.pad_id == 257


@pytest.mark.parametrize(("kind", "known"), [("word", "cat"), ("char", "c")])
def test_what_is_not_known_is_unknown(kind: str, known: str) -> None:
    tokens = trained(kind).encode([[known, "Ω"]]).tokens.tolist()
    assert tokens[0] > 2
    assert tokens[1:] == [1]


@pytest.mark.parametrize("kind", ["bpe", "word", "char"])
def test_decomposed_hangul_gives_the_same_tokens(kind: str) -> None:
    text = "영화가 정말 좋았다"
    decomposed = unicodedata.normalize("NFD", text)
    assert decomposed != text
    both = trained(kind).encode([[text, decomposed]])
    one, other = np.split(both.tokens, both.lengths[:1])
    assert one.tolist() == other.tolist()
    apart = trained(kind, nfc=False).encode([[text, decomposed]])
    one, other = np.split(apart.tokens, apart.lengths[:1])
    assert one.tolist() != other.tolist()


def test_lowercase() -> None:
    encoded = trained("word", lowercase=True).encode([["THE Cat", "the cat"]]).tokens.tolist()
    assert encoded[:2] == encoded[2:]
    assert trained("word").encode([["THE"]]).tokens.tolist() == [1]


@pytest.mark.parametrize("kind", ["bpe", "word", "char"])
def test_a_special_token_in_a_text_is_ordinary_text(kind: str) -> None:
    tokens = trained(kind).encode([["the [PAD] cat [SEP]"]]).tokens
    assert not {0, 2} & set(tokens.tolist())


def test_empty_texts_become_one_unknown_token() -> None:
    encoded = trained("word").encode([["", "  ", "cat"]])
    assert encoded.lengths.tolist() == [1, 1, 1]
    assert encoded.tokens[:2].tolist() == [1, 1]


def test_half_characters_go_through() -> None:
    assert trained("bpe").encode([["a \ud83d b"]]).lengths.tolist() >= [1]


def test_a_pair_is_one_sequence() -> None:
    tokenizer = trained("word")
    single = tokenizer.encode([["the cat", "dog"]]).tokens.tolist()
    pair = tokenizer.encode([["the cat"], ["dog"]])
    assert pair.tokens.tolist() == [*single[:2], 2, single[2]]
    assert pair.lengths.tolist() == [4]


def bert_like() -> str:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["[CLS]", "[SEP]", "<pad>", "[UNK]", "good", "bad"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["[CLS]", "[SEP]", "<pad>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 0), ("[SEP]", 1)],
    )
    tokenizer.enable_truncation(2)
    return tokenizer.to_str()


def test_a_pretrained_tokenizer(tmp_path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(bert_like())
    tokenizer = TextTokenizer(pretrained(str(tmp_path), nfc=True))
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.vocab_size) == (2, 3, 6)
    assert (tokenizer.prefix, tokenizer.suffix) == ([0], [1])
    assert tokenizer.encode([["good bad good"]]).tokens.tolist() == [4, 5, 4]
    assert tokenizer.encode([["good"], ["bad"]]).tokens.tolist() == [4, 1, 5]
    assert json.loads(tokenizer.json)["normalizer"]["normalizers"] == [{"type": "NFC"}]
    assert json.loads(pretrained(str(path), nfc=False))["normalizer"] is None
    assert pretrained(tokenizer.json, nfc=True) == tokenizer.json


def test_a_vocabulary_without_padding_gets_it() -> None:
    from tokenizers import Tokenizer, models

    tokenizer = TextTokenizer(Tokenizer(models.WordLevel({"a": 0, "b": 1}, "b")).to_str())
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.vocab_size) == (2, 1, 3)
    again = TextTokenizer(tokenizer.json)
    assert (again.pad_id, again.unk_id, again.vocab_size) == (2, 1, 3)


@pytest.mark.parametrize(("kind", "size", "lowest"), [("bpe", 259, 260), ("word", 3, 4)])
def test_a_vocabulary_that_is_too_small(kind: str, size: int, lowest: int) -> None:
    with pytest.raises(UserError, match=f"vocab_size is {size}; give {lowest} or more"):
        train(TEXTS, vocabulary(kind, size=size))
    assert TextTokenizer(train(TEXTS, vocabulary(kind, size=lowest))).vocab_size == lowest


@pytest.mark.parametrize("texts", [["", " "], ["one two three"]])
def test_a_vocabulary_of_size_zero(texts: list[str]) -> None:
    with pytest.raises(UserError, match="vocabulary would be of size zero"):
        train(texts, vocabulary("word"))


def test_names_that_are_no_tokenizer(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tokenization, "hub_unreachable", lambda: "the hub is down")
    with pytest.raises(UserError, match="'bpee'; did you mean 'bpe'"):
        pretrained("bpee", nfc=True)
    with pytest.raises(
        UserError, match=r"give 'bpe', 'word', 'char', 'byte', the .*the hub is down"
    ):
        pretrained("owner/no-such-model-here", nfc=True)
    with pytest.raises(UserError, match="'owner/no such'; give 'bpe'"):
        pretrained("owner/no such", nfc=True)
    with pytest.raises(UserError, match=r"t\.json' does not exist"):
        pretrained(str(tmp_path / "t.json"), nfc=True)
    with pytest.raises(UserError, match=r"no tokenizer\.json"):
        TextTokenizer('{"version": 1}')
