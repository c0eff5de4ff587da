"""Documents as one stream of tokens for each split, in files that are mapped into memory."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from datamodules.core.cache import cached
from datamodules.core.split_names import Split
from datamodules.language.documents import Documents, counted
from datamodules.language.tokenizer import LanguageTokenizer
from datamodules.text.files import CHUNK_ROWS
from datamodules.text.token_store import TokenStore, token_type

SPLITS: tuple[Split, ...] = get_args(Split)

#: The splits in the order in which they are cut off a text.
_ALONG: tuple[Split, ...] = ("train", "test", "val")

#: Tokenised at once: enough for every core.
_BATCH_CHARACTERS = 2**22


@dataclass
class Division:
    """Which split gets which text.

    Attributes:
        split_of: Int8 (N,), which of train, val and test each document belongs to; -1 for none.
        cuts: Where the test and, behind it, the validation text begin, in characters of all
            training documents; None where documents stay whole.
    """

    split_of: npt.NDArray[np.int8]
    cuts: tuple[int, int] | None = None

    def key(self) -> object:
        """Return what it says, as JSON."""
        return [hashlib.sha256(self.split_of.tobytes()).hexdigest(), self.cuts]


class SplitText(NamedTuple):
    """A text that belongs to one split.

    Attributes:
        split: 0 for train, 1 for val, 2 for test.
        text: Some of a document, or all of it.
        begins: Whether the document begins here.
        ends: Whether it ends here.
    """

    split: int
    text: str
    begins: bool
    ends: bool


def split_texts(sources: Sequence[Documents], division: Division, what: str) -> Iterator[SplitText]:
    """Yield all texts that belong to some split, in order."""
    number, begins, place = 0, True, 0
    chunks = (chunk for source in sources for chunk in source.chunks())
    for chunk in counted(chunks, what):
        split = int(division.split_of[number])
        if split == 0 and division.cuts is not None:
            yield from _split_text_at(chunk.text, place, division.cuts, begins, chunk.last)
            place += len(chunk.text)
        elif split >= 0:
            yield SplitText(split, chunk.text, begins, chunk.last)
        begins = chunk.last
        number += chunk.last


def _split_text_at(
    text: str, place: int, cuts: Sequence[int], begins: bool, ends: bool
) -> Iterator[SplitText]:
    """Return a text that begins at some place, cut where another split begins."""
    stop = place + len(text)
    bounds = [0, *(min(max(cut, place), stop) - place for cut in cuts), len(text)]
    for split, (first, last) in zip(_ALONG, pairwise(bounds), strict=True):
        if first < last:
            whole = first == 0, last == len(text)
            yield SplitText(
                SPLITS.index(split), text[first:last], begins and whole[0], ends and whole[1]
            )


def token_streams(
    sources: Sequence[Documents], division: Division, tokenizer: LanguageTokenizer, mark: int | None
) -> dict[Split, TokenStore]:
    """Tokenise all documents, or find them tokenised by an earlier run.

    Args:
        sources: Where the documents are.
        division: Which split gets which.
        tokenizer: What turns them into tokens.
        mark: A token that stands before each document and behind the last one; None for none.

    Returns:
        Each split's tokens and where its documents begin.
    """
    key = [
        [source.key() for source in sources],
        division.key(),
        hashlib.sha256(tokenizer.json.encode()).hexdigest(),
        mark,
    ]
    build = partial(_build, sources, division, tokenizer, mark)
    return cached("text/streams", key, _open, build)


def _open(folder: Path) -> dict[Split, TokenStore]:
    return {split: TokenStore.open(folder / split) for split in SPLITS}


def _build(
    sources: Sequence[Documents],
    division: Division,
    tokenizer: LanguageTokenizer,
    mark: int | None,
    folder: Path,
) -> None:
    writers = [_StreamWriter(folder / split, tokenizer, mark) for split in SPLITS]
    try:
        for text in split_texts(sources, division, "tokenising documents"):
            writers[text.split].add(text)
    finally:
        for writer in writers:
            writer.close()


class _StreamWriter:
    """Writes the files of a ``TokenStore``."""

    def __init__(self, folder: Path, tokenizer: LanguageTokenizer, mark: int | None) -> None:
        folder.mkdir()
        self.folder, self.tokenizer, self.mark = folder, tokenizer, mark
        self.dtype = token_type(tokenizer.vocab_size)
        self.file = (folder / "tokens.bin").open("wb")
        self.waiting: list[SplitText] = []
        self.characters, self.written = 0, 0
        self.offsets: list[int] = []
        self.open = False  # whether the last document has not ended

    def add(self, text: SplitText) -> None:
        """Take a text, which is written sooner or later."""
        self.waiting.append(text)
        self.characters += len(text.text)
        if self.characters >= _BATCH_CHARACTERS or len(self.waiting) >= CHUNK_ROWS:
            self._flush()

    def _flush(self) -> None:
        if not self.waiting:
            return
        tokens, lengths = self.tokenizer.encode([[text.text for text in self.waiting]])
        firsts = np.cumsum(lengths) - lengths
        begins = np.array([text.begins for text in self.waiting])
        if self.mark is not None:
            tokens = np.insert(tokens, firsts[begins], self.mark)
            firsts = firsts + np.cumsum(begins) - begins
        if not self.offsets:
            begins[0] = True  # the split's text may begin within a document
        self.offsets += (firsts[begins] + self.written).tolist()
        self.file.write(tokens.astype(self.dtype).tobytes())
        self.written += len(tokens)
        self.open = not self.waiting[-1].ends
        self.waiting, self.characters = [], 0

    def close(self) -> None:
        """Write what is left and where the documents begin."""
        self._flush()
        if self.mark is not None and self.offsets and not self.open:
            self.file.write(np.array([self.mark], dtype=self.dtype).tobytes())
            self.written += 1
        self.file.close()
        np.save(
            self.folder / "offsets.npy", np.array([*self.offsets, self.written], dtype=np.int64)
        )
        facts = json.dumps({"dtype": self.dtype.name})
        (self.folder / "facts.json").write_text(facts, encoding="utf-8")
