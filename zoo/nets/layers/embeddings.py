"""Token embeddings, with whole-word dropout, and word vectors from files."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from datamodules.core.errors import OptionError, refuse
from zoo.nets.checks import check_positive, check_rate

# splitmix64's constants (https://prng.di.unimi.it/splitmix64.c) as int64.
_STEP = 0x9E3779B97F4A7C15 - 2**64
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64


def mix64(x: Tensor) -> Tensor:
    """Return a hash of int64 numbers, of any shape: splitmix64's finaliser, which is one to one.

    It is plain arithmetic that wraps around, and so gives the same numbers on every device.
    """
    x = (x ^ _shift(x, 30)) * _MIX_1
    x = (x ^ _shift(x, 27)) * _MIX_2
    return x ^ _shift(x, 31)


def hash_pair(state: Tensor, token: Tensor) -> Tensor:
    """Return a hash of two int64 numbers that tells their order; nest it for more than two."""
    return mix64(state * _STEP + mix64(token + _STEP))


def _shift(x: Tensor, bits: int) -> Tensor:
    """Shift right as an unsigned number: ``>>`` drags the sign in, which is masked away."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


class TokenEmbedding(nn.Embedding):
    """A vector for each token: ids ``(B, T)`` to ``(B, T, D)``; zeros for padding.

    Whole-word dropout takes words, not single positions or features, out of a text: a word that is
    dropped is zero wherever it stands in that text, and the rest is scaled by ``1 / (1 - p)``.
    Source: Gal & Ghahramani, arXiv 1512.05287, section 4.2. Each text draws its own words; for
    that a hash of (the text's random key, token) is compared with p, which costs a number a
    position where a mask of rows would cost one a word of the vocabulary and text.

    Args:
        vocab_size: Number of tokens.
        embedding_dim: Length ``D`` of a vector.
        pad_id: The token whose vector is zero and stays zero.
        word_dropout: Probability ``p`` of dropping a word from a text while training.
        std: Standard deviation of the start values, which are normal with mean 0.
        freeze: Whether the vectors are kept as they are.

    Raises:
        ValueError: If an option's value does not fit.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_dim: int,
        *,
        pad_id: int = 0,
        word_dropout: float = 0.0,
        std: float = 0.1,
        freeze: bool = False,
    ) -> None:
        check_positive(embedding_dim=embedding_dim)
        check_rate("embedding_dropout", word_dropout)
        super().__init__(vocab_size, embedding_dim, padding_idx=pad_id)
        self.pad_id = pad_id
        self.word_dropout = word_dropout
        with torch.no_grad():
            self.weight.mul_(std)  # drawn by torch with a deviation of 1
        self.weight.requires_grad_(not freeze)

    def forward(self, tokens: Tensor) -> Tensor:
        """Look up ids ``(B, T)``; gives ``(B, T, D)``."""
        x: Tensor = super().forward(tokens)  # (B, T, D)
        if self.training and self.word_dropout > 0:
            x = x * self._draw_words(tokens).to(x.dtype).unsqueeze(2)
        return x

    def set_vectors(self, vectors: Tensor) -> None:
        """Start from given vectors, ``load_vectors``'s say; padding stays zero.

        Args:
            vectors: One row a token, ``(vocab_size, D)``.

        Raises:
            ValueError: If the table has another shape.
        """
        rows, dim = vectors.shape
        if dim != self.embedding_dim:
            raise ValueError("the table " + _other_dimension(dim, self.embedding_dim))
        if rows != self.num_embeddings:
            raise ValueError(
                f"the vectors are {rows} rows for vocab_size={self.num_embeddings}; give one row "
                "for each token of the vocabulary"
            )
        with torch.no_grad():
            self.weight.copy_(vectors)
            self.weight[self.pad_id] = 0.0

    def _draw_words(self, tokens: Tensor) -> Tensor:
        """Factors ``(B, T)``: zero for the words that a text loses, ``1 / (1 - p)`` for others."""
        keys = torch.randint(2**62, (tokens.shape[0], 1), device=tokens.device)  # (B, 1)
        uniform = _shift(hash_pair(keys, tokens), 40).float() / 2**24  # (B, T)
        return (uniform >= self.word_dropout) / (1 - self.word_dropout)


class WordVectors(NamedTuple):
    """Word vectors for a vocabulary.

    Attributes:
        table: One row a token, ``(vocab_size, D)``, float32.
        coverage: Share of the vocabulary's tokens that have a vector in the file.
    """

    table: Tensor
    coverage: float


def load_vectors(path: str | Path, vocabulary: Mapping[str, int], dim: int) -> WordVectors:
    """Read the vectors of a vocabulary's tokens from a text file, of fastText's or GloVe's form.

    A line is a word and its numbers, separated by single spaces; fastText's files start with a line
    that gives the count of words and of numbers. Words are matched as they are written. Of a word
    that stands there twice the first line counts. Tokens without a vector start from a normal
    distribution with mean 0 and the deviation of all numbers found.

    Args:
        path: The file, UTF-8, such as ``glove.6B.100d.txt`` or ``cc.ko.300.vec``.
        vocabulary: The id of each token.
        dim: Length of the vectors, the net's ``embedding_dim``.

    Returns:
        The table, with a row for each id up to the largest one, and the coverage.

    Raises:
        ValueError: If the file is not there or empty, its vectors have another length, a line is
            broken (its number is given), or no token has a vector.
    """
    if not Path(path).is_file():
        raise refuse(
            "vectors",
            path,
            "there is no such file; give a text file of word vectors in fastText's (.vec) or "
            "GloVe's (.txt) form",
        )
    # Words stay bytes: a few in the published files are no valid UTF-8, and cannot match anyway.
    wanted = {token.encode(): row for token, row in vocabulary.items()}
    table = torch.full((max(vocabulary.values(), default=-1) + 1, dim), math.nan)
    found: set[int] = set()
    number = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            line = line.rstrip(b" \r\n")
            spaces = line.count(b" ")
            if number == 1:
                header = _read_header(line)
                file_dim = spaces if header is None else header
                if file_dim < 1:
                    raise _broken(path, number, dim)
                if file_dim != dim:
                    raise refuse("vectors", path, "it " + _other_dimension(file_dim, dim))
                if header is not None:
                    continue
            if spaces < dim:
                raise _broken(path, number, dim)
            # GloVe's largest file has words with spaces in them; the split of the others is cheap.
            word = line.partition(b" ")[0] if spaces == dim else line.rsplit(b" ", dim)[0]
            row = wanted.get(word)
            if row is None or row in found:
                continue
            try:
                vector = torch.tensor([float(value) for value in line.split(b" ")[-dim:]])
            except ValueError:
                raise _broken(path, number, dim) from None
            if not vector.isfinite().all():
                raise _broken(path, number, dim)
            table[row] = vector
            found.add(row)
    if number == 0:
        raise refuse("vectors", path, "the file is empty; give one of word vectors")
    if not found:
        raise refuse(
            "vectors",
            path,
            f"the file has none of the vocabulary's {len(vocabulary)} tokens; use a tokenizer "
            "that keeps words whole, and vectors of the texts' language",
        )
    without = table[:, 0].isnan()
    std = table[~without].std(correction=0)
    table[without] = torch.randn(int(without.sum()), dim) * std
    return WordVectors(table, len(found) / len(vocabulary))


def _read_header(line: bytes) -> int | None:
    """Return the length of the vectors, if this is fastText's first line: two whole numbers."""
    fields = line.split(b" ")
    return int(fields[1]) if len(fields) == 2 and all(f.isdigit() for f in fields) else None


def _broken(path: str | Path, number: int, dim: int) -> OptionError:
    return refuse(
        "vectors",
        path,
        f"line {number} is not a word and {dim} finite numbers, separated by spaces; download the "
        "file again, or take the line out",
    )


def _other_dimension(dim: int, embedding_dim: int) -> str:
    return (
        f"has vectors of {dim} numbers and the net has embedding_dim {embedding_dim}; set "
        f"embedding_dim to {dim}"
    )
