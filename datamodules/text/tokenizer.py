"""Text to token numbers and back, on the ``tokenizers`` library."""

import json
import os
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from datamodules.core.errors import DataError, nearest, refuse
from datamodules.core.hub import hub_errors, hub_said, hub_unreachable

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.normalizers import Normalizer

TokenizerKind = Literal["bpe", "word", "char", "byte"]

#: The first three numbers of a vocabulary trained here: padding, unknown, between two texts.
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[SEP]")

_BYTES = 256
#: What padding is called in vocabularies that do not say so, the likeliest first.
PAD_NAMES = ("[PAD]", "<pad>", "<|pad|>", "<|endoftext|>")

_UNK_NAMES = ("[UNK]", "<unk>", "<|unk|>", "<|endoftext|>")


class Vocabulary(NamedTuple):
    """How a vocabulary is to be trained.

    Attributes:
        kind: "bpe": byte-level byte-pair encoding (arXiv 1508.07909, on bytes as in GPT-2), which
            knows every text; "word": runs of letters and digits, and of other signs; "char": single
            characters; "byte": the 256 bytes, which know every text without training. Words and
            characters that are not known turn into [UNK].
        size: How many tokens at most, special ones included; "byte" has as many as it needs.
        min_frequency: How often a word, a character or a pair to be merged must occur.
        lowercase: Whether large letters become small.
        nfc: Whether texts are brought to Unicode's composed form (NFC) first.
        specials: The special tokens, which get the first numbers ("byte": the last).
        prefix_space: Whether a text's first word gets a space before it, as all others have one, so
            that it is the same token; a text that is to come back as it was must do without.
    """

    kind: TokenizerKind
    size: int
    min_frequency: int
    lowercase: bool
    nfc: bool
    specials: tuple[str, ...] = SPECIAL_TOKENS
    prefix_space: bool = True

    def check(self) -> None:
        """Refuse a size that leaves no room.

        Raises:
            DataError: Naming the lowest size.
        """
        if self.kind == "byte":
            return
        lowest = len(self.specials) + (_BYTES if self.kind == "bpe" else 0) + 1
        if self.size < lowest:
            holds = "all 256 bytes" if self.kind == "bpe" else f"one {self.kind}"
            held = f"{len(self.specials)} special tokens and at least {holds}"
            remedy = f"give {lowest} or more, as tokenizer {self.kind!r} holds {held}"
            raise refuse("vocab_size", self.size, remedy)


class Encoded(NamedTuple):
    """Some texts as tokens.

    Attributes:
        tokens: Uint32, all texts one after the other.
        lengths: Int64 (N,), how many tokens each text has; at least 1.
    """

    tokens: npt.NDArray[np.uint32]
    lengths: npt.NDArray[np.int64]


class TextTokenizer:
    """A tokenizer that is known by its JSON text alone.

    What stands for a special token in a text is ordinary text: "[PAD]" in a review pads nothing. A
    vocabulary without a padding or an unknown token gets [PAD] or [UNK] as one more. The special
    tokens that a pretrained tokenizer puts around a text are kept apart, as ``prefix`` and
    ``suffix``, so that a text may be cut without losing them; ``between`` are those of a pair.

    Args:
        text: The content of a tokenizer.json.

    Raises:
        DataError: If it is none.
    """

    def __init__(self, text: str) -> None:
        tokenizer = _parse(text)
        tokenizer.no_truncation()
        self.pad_id, self.unk_id = self._filling(tokenizer)
        tokenizer.enable_padding(pad_id=self.pad_id, pad_token=tokenizer.id_to_token(self.pad_id))
        self.json: str = tokenizer.to_str()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self.vocab_size: int = tokenizer.get_vocab_size()
        self.prefix, self.suffix = self._around()
        self.between = self._middle()

    def _filling(self, tokenizer: "Tokenizer") -> tuple[int, int]:
        """Return the padding and the unknown token; one that is absent is added."""
        pad = _special(tokenizer, [*own_padding(tokenizer), *PAD_NAMES])
        return pad, _special(tokenizer, [*own_unknown(tokenizer), *_UNK_NAMES], pad)

    def _around(self) -> tuple[list[int], list[int]]:
        """Return the special tokens before and after a text."""
        inner = self._tokenizer.encode("a", add_special_tokens=False).ids
        outer = self._tokenizer.encode("a").ids
        first = _start_of(inner, outer, 0)
        return outer[:first], outer[first + len(inner) :]

    def _middle(self) -> list[int]:
        """Return the special tokens between two texts."""
        inner = self._tokenizer.encode("a", add_special_tokens=False).ids
        outer = self._tokenizer.encode("a", "a").ids
        first = len(self.prefix) + len(inner)
        between: list[int] = outer[first : _start_of(inner, outer, first)]
        return between

    def encode(self, columns: Sequence[Sequence[str]]) -> Encoded:
        """Return the tokens of some texts, or of pairs.

        A text without any token becomes one unknown token, so that no length is 0. A pair is one
        sequence: the first text, the tokens between two, the second.

        Args:
            columns: One sequence of texts, or two of the same length.
        """
        encoded = [
            self._tokenizer.encode_batch_fast([_clean(t) for t in texts], add_special_tokens=False)
            for texts in columns
        ]
        if len(encoded) == 1:
            rows = [one.ids or [self.unk_id] for one in encoded[0]]
        else:
            rows = [
                a.ids + self.between + b.ids or [self.unk_id] for a, b in zip(*encoded, strict=True)
            ]
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        tokens = np.fromiter(chain.from_iterable(rows), dtype=np.uint32, count=int(lengths.sum()))
        return Encoded(tokens, lengths)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text that tokens stand for, special ones left out."""
        text: str = self._tokenizer.decode([int(token) for token in tokens])
        return text

    def vocabulary(self) -> dict[str, int]:
        """Return the number of each token."""
        return dict(self._tokenizer.get_vocab())

    def token(self, number: int) -> str:
        """Return a token as it is written in the vocabulary."""
        return str(self._tokenizer.id_to_token(number))


def train(texts: Iterable[str], vocabulary: Vocabulary) -> str:
    """Train a tokenizer; the same texts in the same order give the same one.

    Returns:
        Its JSON text.

    Raises:
        DataError: If the vocabulary's size is too small or the texts hold nothing to put into it.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    vocabulary.check()
    specials = list(vocabulary.specials)
    options: dict[str, Any] = {
        "vocab_size": vocabulary.size,
        "min_frequency": vocabulary.min_frequency,
        "special_tokens": specials,
        "show_progress": False,  # ours counts the texts
    }
    pad, unk, sep = SPECIAL_TOKENS
    trainer: Any = None
    if vocabulary.kind in ("bpe", "byte"):
        merged = vocabulary.kind == "bpe"
        tokenizer = Tokenizer(models.BPE() if merged else models.BPE(byte_alphabet(), []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(
            add_prefix_space=vocabulary.prefix_space, use_regex=merged
        )
        tokenizer.decoder = decoders.ByteLevel()
    if vocabulary.kind == "bpe":
        trainer = trainers.BpeTrainer(
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **options
        )
    elif vocabulary.kind != "byte":
        tokenizer = Tokenizer(models.WordLevel(unk_token=unk))
        if vocabulary.kind == "word":
            tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        else:
            tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
            tokenizer.decoder = decoders.Fuse()
        trainer = trainers.WordLevelTrainer(**options)
    normalizer = _normalizer(vocabulary)
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if trainer is None:
        tokenizer.add_special_tokens(specials)
    else:
        tokenizer.train_from_iterator(map(_clean, texts), trainer)
    if vocabulary.kind in ("word", "char") and tokenizer.get_vocab_size() <= len(specials):
        remedy = (
            "give more texts or a lower min_frequency, as nothing occurs "
            f"{vocabulary.min_frequency} times in the training texts and the vocabulary would be "
            "of size zero"
        )
        raise refuse("tokenizer", vocabulary.kind, remedy)
    if sep in specials:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A", pair=f"$A {sep} $B", special_tokens=[(sep, tokenizer.token_to_id(sep))]
        )
    for filling in (pad, unk):
        if filling in specials:
            number = tokenizer.token_to_id(filling)
            tokenizer.enable_padding(pad_id=number, pad_token=filling)
            break
    text: str = tokenizer.to_str()
    return text


def read_tokenizer(folder: Path) -> str:
    """Return the JSON text of the tokenizer.json in a folder.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is not whole.
    """
    text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    json.loads(text)
    return text


def byte_alphabet() -> dict[str, int]:
    """Return the 256 characters that stand for bytes in byte-level vocabularies.

    As GPT-2 has it: bytes that are printable in Latin-1 stand for themselves, the others, in their
    order, for the characters from 256 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(_BYTES) if byte not in printable]
    return {
        chr(byte if byte in printable else _BYTES + others.index(byte)): byte
        for byte in range(_BYTES)
    }


def _normalizer(vocabulary: Vocabulary) -> "Normalizer | None":
    from tokenizers import normalizers

    steps: list[Normalizer] = [normalizers.NFC()] if vocabulary.nfc else []
    if vocabulary.lowercase:
        steps.append(normalizers.Lowercase())
    return normalizers.Sequence(steps) if steps else None


def pretrained(name: str, *, nfc: bool) -> str:
    """Return a tokenizer that exists.

    Args:
        name: A tokenizer.json, or a folder that holds one or else GPT-2's older form, vocab.json
            and merges.txt; a model's name on the Hugging Face hub; or the JSON text itself, which
            is taken as it is.
        nfc: Whether texts are brought to NFC before whatever else the tokenizer does to them.

    Returns:
        Its JSON text.

    Raises:
        DataError: If there is none.
    """
    if name.lstrip().startswith("{"):
        return name
    path = Path(name).expanduser()
    if path.is_dir():
        merges = path / "merges.txt"
        path /= "tokenizer.json"
        if merges.is_file() and not path.is_file():
            text = _from_merges(merges)
            return _with_nfc(text) if nfc else text
    if not path.is_file():
        if name.endswith(".json") or path.name == "tokenizer.json":
            raise DataError(f"{str(path)!r} does not exist; give a tokenizer.json")
        path = _from_hub(name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{str(path)!r} cannot be read ({error}); give another") from None
    return _with_nfc(text) if nfc else text


def _from_merges(merges: Path) -> str:
    """Return a byte-level tokenizer in GPT-2's older form: merges.txt, and vocab.json beside it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocab = merges.with_name("vocab.json")
    try:
        tokenizer = Tokenizer(models.BPE.from_file(str(vocab), str(merges)))
    except Exception as error:  # the library raises nothing narrower
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{str(vocab)!r} and {merges.name} cannot be read ({reason}); give a "
            "folder with a tokenizer.json"
        ) from None
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    known = ("<|endoftext|>", "<s>", "</s>", "<pad>", "<unk>", "<mask>")
    tokenizer.add_special_tokens([t for t in known if tokenizer.token_to_id(t) is not None])
    text: str = tokenizer.to_str()
    return text


def _with_nfc(text: str) -> str:
    """Return the tokenizer with NFC as its first step."""
    from tokenizers import normalizers

    tokenizer = _parse(text)
    own = tokenizer.normalizer
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), *([own] if own else [])])
    changed: str = tokenizer.to_str()
    return changed


def _from_hub(name: str) -> Path:
    near = nearest(name, get_args(TokenizerKind))
    if near is not None and "/" not in name:
        raise refuse("tokenizer", name, f"did you mean {near!r}?")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    local = (
        "give 'bpe', 'word', 'char', 'byte', the path of a tokenizer.json, or the name of a model "
        "on the hub that has one"
    )
    try:
        return Path(hf_hub_download(name, "tokenizer.json", local_files_only=True))
    except HFValidationError:
        raise refuse("tokenizer", name, local) from None
    except OSError:
        pass  # not in the hub's cache
    why = hub_unreachable()
    if why is None:
        try:
            return Path(hf_hub_download(name, "tokenizer.json"))
        except hub_errors() as error:
            why = hub_said(error)
    raise refuse("tokenizer", name, f"{local}; it is no file, and as to the hub: {why}")


def _parse(text: str) -> "Tokenizer":
    # Said before the first thread starts: otherwise the library warns in each worker process that
    # is forked later, although workers only gather tokens.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing narrower
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"what is given as tokenizer is no tokenizer.json ({reason}); save one with the "
            "tokenizers library"
        ) from None


def _special(tokenizer: "Tokenizer", names: Sequence[str], taken: int | None = None) -> int:
    """Return the number of the first of some special tokens, or of a new one."""
    for name in names:
        number = tokenizer.token_to_id(name)
        if number is not None and number != taken:
            return int(number)
    name = next(name for name in names if name.startswith("["))
    tokenizer.add_special_tokens([name])
    added = tokenizer.token_to_id(name)
    assert added is not None
    return int(added)


def own_padding(tokenizer: "Tokenizer") -> list[str]:
    """Return the name of a tokenizer's padding token, if it says one."""
    return [] if tokenizer.padding is None else [tokenizer.padding["pad_token"]]


def own_unknown(tokenizer: "Tokenizer") -> list[str]:
    """Return the name of a tokenizer's token for what it does not know, if it says one."""
    model = json.loads(tokenizer.to_str())["model"]
    name = model.get("unk_token")
    return [name] if isinstance(name, str) else []


def _start_of(part: Sequence[int], whole: Sequence[int], start: int) -> int:
    """Return where a part begins in a sequence."""
    for first in range(start, len(whole) - len(part) + 1):
        if list(whole[first : first + len(part)]) == list(part):
            return first
    return len(whole)


def _clean(text: str) -> str:
    """Return the text with half characters (lone surrogates), which UTF-8 cannot hold, made "?"."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
