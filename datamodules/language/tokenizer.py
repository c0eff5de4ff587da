"""Tokenizers as language models need them: nothing is added, and every text comes back."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from datamodules.core.errors import refuse
from datamodules.text.tokenizer import (
    PAD_NAMES,
    TextTokenizer,
    byte_alphabet,
    own_padding,
    own_unknown,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

#: Stands before each document, in vocabularies trained here.
END_TOKEN = "[END]"

_END_NAMES = (
    END_TOKEN,
    "<|endoftext|>",
    "<|end_of_text|>",
    "</s>",
    "<eos>",
    "<|eos|>",
    "<|eot_id|>",
    "<|im_end|>",
)


class LanguageTokenizer(TextTokenizer):
    """A tokenizer that is taken as it is.

    The vocabulary stays the one that a pretrained model knows: where it has no padding token, the
    one that ends a text pads too, and lacking that the first, since no loss is taken there.

    Args:
        text: The content of a tokenizer.json.
        end_token: The token that ends a text; by default the first there is of the names that are
            usual.

    Raises:
        DataError: If it is no tokenizer.json or lacks the token.
    """

    def __init__(self, text: str, end_token: str | None = None) -> None:
        self._named_end = end_token
        self.end_id: int | None = None
        super().__init__(text)
        self.vocab_size = max(self.vocabulary().values()) + 1  # some vocabularies have gaps
        self._facts = json.loads(self.json)

    def _filling(self, tokenizer: "Tokenizer") -> tuple[int, int]:
        """Return the padding and the unknown token."""
        ends = [self._named_end] if self._named_end is not None else _END_NAMES
        self.end_id = _first(tokenizer, ends)
        if self._named_end is not None and self.end_id is None:
            raise refuse("end_token", self._named_end, "give a token of the vocabulary")
        pad = _first(tokenizer, [*own_padding(tokenizer), *PAD_NAMES])
        if pad is None:
            pad = self.end_id or 0
        unk = _first(tokenizer, own_unknown(tokenizer))
        return pad, pad if unk is None else unk

    @property
    def end_token(self) -> str | None:
        """The token that ends a text, as it is written in the vocabulary."""
        return None if self.end_id is None else self.token(self.end_id)

    def encode_text(self, text: str) -> list[int]:
        """Return the tokens of one text, without special ones around it; none of an empty text."""
        tokens: list[int] = self.encode([[text]]).tokens.tolist() if text else []
        return tokens

    def encode_pieces(self, texts: Sequence[Sequence[str]]) -> list[list[list[int]]]:
        """Tokenise texts in which special tokens are written out, as a chat template writes them.

        Args:
            texts: Each text in pieces, no token of which reaches into the next piece.

        Returns:
            Each text's pieces as tokens.
        """
        # What some tokenizers put before a text has no place before a piece within it.
        lead = "" if self.byte_level else "\n"
        flat = [
            piece if number == 0 else lead + piece
            for pieces in texts
            for number, piece in enumerate(pieces)
        ]
        tokenizer = self._tokenizer
        tokenizer.encode_special_tokens = False
        try:
            skipped = tokenizer.encode(lead, add_special_tokens=False).ids
            encoded = iter(tokenizer.encode_batch_fast(flat, add_special_tokens=False))
        finally:
            tokenizer.encode_special_tokens = True
        return [
            [next(encoded).ids[len(skipped) if number else 0 :] for number in range(len(pieces))]
            for pieces in texts
        ]

    def special_tokens(self) -> list[str]:
        """Return the special tokens, as they are written."""
        return [token["content"] for token in self._facts["added_tokens"] if token["special"]]

    def number(self, token: str) -> int | None:
        """Return the number of a token, if it is in the vocabulary."""
        found: int | None = self._tokenizer.token_to_id(token)
        return found

    @property
    def byte_level(self) -> bool:
        """Whether tokens are strings of bytes that give a text back as it was."""
        found = _types(self._facts.get("decoder"))
        spaced = any(
            step.get("add_prefix_space") for step in _steps(self._facts.get("pre_tokenizer"))
        )
        return found == ["ByteLevel"] and not spaced and self._is_plain()

    @property
    def by_character(self) -> bool:
        """Whether each token is a character."""
        model = self._facts["model"]
        return (
            model["type"] == "WordLevel"
            and _types(self._facts.get("decoder")) == ["Fuse"]
            and _types(self._facts.get("pre_tokenizer")) == ["Split"]
            and self._is_plain()
        )

    def _is_plain(self) -> bool:
        """Whether texts are brought to NFC at most before they are cut into tokens."""
        return set(_types(self._facts.get("normalizer"))) <= {"NFC"}

    def token_sizes(self) -> Tensor | None:
        """How much text each token stands for.

        Returns:
            int64 (vocab_size, 2), bytes and characters, where a character counts with its first
            byte; 0 for special tokens, but 1 for an unknown character. None if texts do not come
            back as they were.
        """
        if not (self.byte_level or self.by_character):
            return None
        special = {token["id"] for token in self._facts["added_tokens"] if token["special"]}
        alphabet = byte_alphabet()
        sizes = np.zeros((self.vocab_size, 2), dtype=np.int64)
        for token, number in self.vocabulary().items():
            if number in special:
                continue
            if self.byte_level and all(sign in alphabet for sign in token):
                content = bytes(alphabet[sign] for sign in token)
            else:  # a character; or one of a byte-level tokenizer's added tokens, written out
                content = token.encode()
            starts = sum(byte & 0xC0 != 0x80 for byte in content)
            sizes[number] = len(content), starts
        if self.by_character:
            sizes[self.unk_id] = 1
        return torch.from_numpy(sizes)


def named_end(name: str) -> str | None:
    """Return the end token that the folder of a pretrained tokenizer names, if it does."""
    config = Path(name).expanduser() / "tokenizer_config.json" if len(name) < 4096 else None
    try:
        text = config.read_text(encoding="utf-8") if config is not None else "{}"
        token: Any = json.loads(text).get("eos_token")
    except (OSError, ValueError):
        return None
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None


def _first(tokenizer: "Tokenizer", names: Iterable[str]) -> int | None:
    """Return the number of the first of some tokens that is there."""
    numbers = (tokenizer.token_to_id(name) for name in names)
    return next((int(number) for number in numbers if number is not None), None)


def _steps(part: Any) -> list[dict[str, Any]]:
    """Return the steps of a tokenizer's normalizer, pre-tokenizer or decoder."""
    if part is None:
        return []
    for inner in ("normalizers", "pretokenizers", "decoders"):
        if inner in part:
            return [step for each in part[inner] for step in _steps(each)]
    return [part]


def _types(part: Any) -> Sequence[str]:
    return [step["type"] for step in _steps(part)]
