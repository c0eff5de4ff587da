"""Texts as token numbers in files that are mapped into memory, so that each is tokenised once."""

import hashlib
import json
import mmap
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from datamodules.core.cache import cached
from datamodules.text.files import SplitSource
from datamodules.text.survey import Rows, progress, source_keys
from datamodules.text.tokenizer import TextTokenizer

Truncate = Literal["head", "tail", "both"]

#: Brought into memory out of the mapped file before its pages are handed back to the system.
_RELEASE_BYTES = 2**24

#: What Linux maps around the place that is read, at most.
_AROUND_BYTES = 2**16


class TokenStore:
    """The tokens of some texts, one after the other, and where each text begins.

    Args:
        tokens: All tokens; an np.memmap is read from its file as needed.
        offsets: Int64 (N + 1,), where each text begins, and the end.
    """

    def __init__(self, tokens: npt.NDArray[Any], offsets: Rows) -> None:
        self.tokens, self.offsets = tokens, offsets
        self._gathered = 0

    @classmethod
    def open(cls, folder: Path) -> "TokenStore":
        """Map the files of a folder.

        Raises:
            OSError: If they cannot be read.
            ValueError: If they are not whole.
        """
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        offsets = np.load(folder / "offsets.npy")
        dtype = np.dtype(facts["dtype"])
        path = folder / "tokens.bin"
        # no file without content can be mapped
        empty = path.stat().st_size == 0
        tokens = np.empty(0, dtype) if empty else np.memmap(path, dtype, "r")
        if len(tokens) != offsets[-1]:
            raise ValueError("not whole")
        return cls(tokens, offsets)

    def __len__(self) -> int:
        """Return how many texts there are."""
        return len(self.offsets) - 1

    def __getstate__(self) -> dict[str, Any]:
        """Send a mapped file to a worker by its name; pickled, it would be read whole."""
        state = self.__dict__.copy()
        if isinstance(self.tokens, np.memmap):
            state["tokens"] = str(self.tokens.filename), self.tokens.dtype
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map the file again."""
        self.__dict__.update(state)
        if isinstance(self.tokens, tuple):
            self.tokens = np.memmap(*self.tokens, "r")

    def counts(self, rows: Rows) -> Rows:
        """Return how many tokens each of some rows has, (B,)."""
        counts: Rows = self.offsets[rows + 1] - self.offsets[rows]
        return counts

    def gather(
        self,
        rows: Rows,
        room: int,
        truncate: Truncate,
        pad_id: int,
        prefix: Sequence[int] = (),
        suffix: Sequence[int] = (),
    ) -> tuple[Rows, Rows]:
        """Return a padded batch, by one gather.

        Args:
            rows: Which rows.
            room: The most tokens of a text that are kept.
            truncate: Which end of a longer text is kept: "head", "tail", or the outer half of
                "both".
            pad_id: What stands behind a text.
            prefix: What stands before each text.
            suffix: What stands right behind it.

        Returns:
            int64 (B, T) and the lengths without padding, int64 (B,).
        """
        counts = self.counts(rows)
        kept = np.minimum(counts, room)
        head = {"head": kept, "tail": np.zeros_like(kept), "both": (kept + 1) // 2}[truncate]
        place = np.arange(int(kept.max()))
        source = self.offsets[rows][:, None] + place
        # Behind the head, what is cut out of the text is stepped over.
        source += np.where(place >= head[:, None], (counts - kept)[:, None], 0)
        is_text = place < kept[:, None]
        lengths: Rows = kept + len(prefix) + len(suffix)
        batch = np.full((len(rows), int(lengths.max())), pad_id, dtype=np.int64)
        batch[:, : len(prefix)] = prefix
        body = batch[:, len(prefix) : len(prefix) + len(place)]
        body[is_text] = self.tokens[source[is_text]]
        for number, token in enumerate(suffix):
            batch[np.arange(len(rows)), len(prefix) + kept + number] = token
        self._release(len(rows), int(kept.sum()))
        return batch, lengths

    def take(self, places: Rows) -> Rows:
        """Return the tokens at some places, int64."""
        taken: Rows = self.tokens[places].astype(np.int64)
        self._release(0, len(places))
        return taken

    def windows(self, starts: Rows, length: int, fill: int) -> Rows:
        """Return windows of all tokens, by one gather.

        Args:
            starts: The place of each window's first token.
            length: Tokens in a window.
            fill: What stands behind the last token there is.

        Returns:
            int64 (B, length).
        """
        if int(starts.max()) + length <= len(self.tokens):
            views = np.lib.stride_tricks.sliding_window_view(self.tokens, length)
            batch: Rows = views[starts].astype(np.int64)
        else:
            places = starts[:, None] + np.arange(length)
            inside = places < len(self.tokens)
            batch = np.full(places.shape, fill, dtype=np.int64)
            batch[inside] = self.tokens[places[inside]]
        self._release(len(starts), batch.size)
        return batch

    def _release(self, places: int, count: int) -> None:
        """Keep the mapped pages from adding up in the process's memory; the file stays cached."""
        self._gathered += places * _AROUND_BYTES + count * self.tokens.itemsize
        mapped = getattr(self.tokens, "_mmap", None)
        if mapped is None or not hasattr(mapped, "madvise"):  # in memory, or on Windows
            return
        if self._gathered >= _RELEASE_BYTES:
            self._gathered = 0
            mapped.madvise(mmap.MADV_DONTNEED)


def token_type(vocab_size: int) -> np.dtype[Any]:
    """Return the smallest type that holds each token's number, in two bytes or four."""
    return np.dtype(np.uint16 if vocab_size <= 2**16 else np.uint32)


def tokenised(sources: Sequence[SplitSource], tokenizer: TextTokenizer, count: int) -> TokenStore:
    """Tokenise all rows, or find them tokenised by an earlier run.

    Args:
        sources: Where the texts are.
        tokenizer: What turns them into tokens.
        count: How many rows there are, for the progress bar.
    """
    key = [source_keys(sources), hashlib.sha256(tokenizer.json.encode()).hexdigest()]
    return cached(
        "text/tokens", key, TokenStore.open, partial(_tokenise, sources, tokenizer, count)
    )


def _tokenise(
    sources: Sequence[SplitSource], tokenizer: TextTokenizer, count: int, folder: Path
) -> None:
    dtype = token_type(tokenizer.vocab_size)
    lengths = [np.zeros(1, dtype=np.int64)]
    with (folder / "tokens.bin").open("wb") as file:
        chunks = (chunk for source in sources for chunk in source.chunks())
        for chunk in progress(chunks, "tokenising texts", count):
            encoded = tokenizer.encode(chunk.columns)
            file.write(encoded.tokens.astype(dtype).tobytes())
            lengths.append(encoded.lengths)
    np.save(folder / "offsets.npy", np.cumsum(np.concatenate(lengths)))
    (folder / "facts.json").write_text(json.dumps({"dtype": dtype.name}), encoding="utf-8")
