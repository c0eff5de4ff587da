"""Chats as tokens in files that are mapped into memory, and batches of them."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from datamodules.core.cache import cached
from datamodules.core.protocols import IGNORE_INDEX
from datamodules.core.splits import composed
from datamodules.language.batch import TokenBatch
from datamodules.language.chat_template import ChatTemplate
from datamodules.language.conversations import Conversation
from datamodules.language.documents import counted
from datamodules.language.records import Record, Records
from datamodules.text.files import CHUNK_ROWS
from datamodules.text.survey import Rows
from datamodules.text.token_store import TokenStore, token_type

Reader = Callable[[Iterable[Record]], Iterator[tuple[str, list[Conversation]]]]


@dataclass
class ChatStore:
    """The tokens of chats, some of which the assistant says.

    Attributes:
        tokens: The chats, one after the other.
        learned: For each token 1 where it is to be learned, else 0.
        digests: Uint64 (N, 2), a hash of each row's chats; equal for equal ones.
        sizes: How many rows each source has.
    """

    tokens: TokenStore
    learned: TokenStore
    digests: npt.NDArray[np.uint64]
    sizes: list[int]

    @classmethod
    def open(cls, folder: Path) -> "ChatStore":
        """Map the files of a folder.

        Raises:
            OSError: If they cannot be read.
            ValueError: If they are not whole.
        """
        sizes = json.loads((folder / "sizes.json").read_text(encoding="utf-8"))
        digests = np.load(folder / "digests.npy")
        if len(digests) != sum(sizes):
            raise ValueError("not whole")
        tokens, learned = (TokenStore.open(folder / part) for part in ("tokens", "learned"))
        return cls(tokens, learned, digests, sizes)

    def to_learn(self, rows: Rows, room: int) -> Rows:
        """Return how many of each chat's first ``room`` tokens are to be learned."""
        offsets = self.learned.offsets
        # The first token of all is never foretold.
        sums = np.concatenate([[0], np.cumsum(self.learned.tokens, dtype=np.int64)])
        stops = np.minimum(offsets[rows] + room, offsets[rows + 1])
        learned: Rows = sums[stops] - sums[np.minimum(offsets[rows] + 1, stops)]
        return learned

    def common_start(self, rows: Rows) -> int:
        """Return how many tokens all chats begin with, of which none foretells one to learn."""
        starts, places = self.tokens.offsets[rows], 0
        least = self.tokens.counts(rows).min() - 1 if len(rows) else 0
        while places < least:
            tokens = self.tokens.take(starts + places)
            if (tokens != tokens[0]).any() or self.learned.take(starts + places + 1).any():
                break
            places += 1
        return places


def chat_store(sources: Sequence[Records], reader: Reader, template: ChatTemplate) -> ChatStore:
    """Tokenise all chats, or find them tokenised by an earlier run.

    Args:
        sources: Where the rows are.
        reader: What makes chats of them.
        template: What makes texts and tokens of these.

    Raises:
        DataError: If a row will not do.
    """
    key = [
        [source.key() for source in sources],
        reader.__name__,
        hashlib.sha256(template.tokenizer.json.encode()).hexdigest(),
        template.text,
    ]
    return cached("text/chats", key, ChatStore.open, partial(_build, sources, reader, template))


def _build(
    sources: Sequence[Records], reader: Reader, template: ChatTemplate, folder: Path
) -> None:
    types = {"tokens": token_type(template.tokenizer.vocab_size), "learned": np.dtype(np.uint8)}
    for name, dtype in types.items():
        (folder / name).mkdir()
        facts = json.dumps({"dtype": dtype.name})
        (folder / name / "facts.json").write_text(facts, encoding="utf-8")
    lengths, digests, sizes = [0], bytearray(), []
    with (
        (folder / "tokens" / "tokens.bin").open("wb") as tokens_file,
        (folder / "learned" / "tokens.bin").open("wb") as learned_file,
    ):
        for source in sources:
            before = len(digests)
            rows = reader(counted(source.rows(), "tokenising chats"))
            while chunk := list(islice(rows, CHUNK_ROWS)):
                encoded = iter(template.encode([(at, chat) for at, row in chunk for chat in row]))
                for _, row in chunk:
                    digest = hashlib.blake2b(digest_size=16)
                    # Of the words, not the tokens: with another tokenizer a sample's split stays.
                    words = composed(json.dumps(row, ensure_ascii=False))
                    digest.update(words.encode("utf-8", "surrogatepass"))
                    for tokens, learned in islice(encoded, len(row)):
                        tokens_file.write(np.array(tokens, dtype=types["tokens"]).tobytes())
                        learned_file.write(bytes(learned))
                        lengths.append(len(tokens))
                    digests += digest.digest()
            sizes.append((len(digests) - before) // 16)
    for name in types:
        np.save(folder / name / "offsets.npy", np.cumsum(lengths, dtype=np.int64))
    np.save(folder / "digests.npy", np.frombuffer(bytes(digests), np.uint64).reshape(-1, 2))
    (folder / "sizes.json").write_text(json.dumps(sizes), encoding="utf-8")


class ChatRows(Dataset[TokenBatch]):
    """Some chats as a net gets them: one or several in a row.

    The last token of a chat is foretold, but nothing is to be foretold from it.

    Args:
        store: The chats.
        chats: The numbers of the chats, row by row.
        sizes: How many of them each row has.
        max_length: Tokens that a chat has at most; a longer one loses its end.
        pad_id: What stands behind a row.
        packed: Whether positions begin anew with each chat of a row, and segments number them.
        shared_prefix_len: How many tokens that all chats begin with stand once in each packed row.
        paired: Whether a row's chats are two, of which one is to be chosen; a batch then has twice
            as many rows, all first ones before all second ones.
    """

    def __init__(
        self,
        store: ChatStore,
        chats: Rows,
        sizes: Rows,
        max_length: int,
        pad_id: int,
        *,
        packed: bool = False,
        shared_prefix_len: int = 0,
        paired: bool = False,
    ) -> None:
        self.store, self.pad_id = store, pad_id
        self.packed, self.shared_prefix_len, self.paired = packed, shared_prefix_len, paired
        self.chats = chats
        self.bounds: Rows = np.concatenate([[0], np.cumsum(sizes)])
        """Where each row begins among them, (n + 1,)."""
        self._inputs = chat_lengths(store, self.chats, max_length) - shared_prefix_len
        whole = np.maximum if paired else np.add
        starts = self.bounds[:-1]
        self.lengths: Rows = (
            shared_prefix_len + whole.reduceat(self._inputs, starts) if len(sizes) else sizes
        )
        """Tokens of each row as the net gets it, (n,); of two rows the longer one's."""

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.bounds) - 1

    def __getitems__(self, numbers: list[int]) -> TokenBatch:
        """Return the whole batch in one gather, padded to its longest row."""
        rows = np.asarray(numbers, dtype=np.int64)
        sizes = self.bounds[rows + 1] - self.bounds[rows]
        ordinal = _places(sizes)
        chosen = np.repeat(self.bounds[rows], sizes) + ordinal
        row = np.repeat(np.arange(len(rows)), sizes)
        lengths = self._inputs[chosen]
        if self.paired:
            row, first = row + ordinal * len(rows), np.zeros_like(row)
        else:
            before = np.cumsum(lengths) - lengths  # in the batch, less those in earlier rows
            first = before - np.repeat(before[np.cumsum(sizes) - sizes], sizes)
        # A row's first chat is whole; the others go on from the tokens that all share.
        skipped = np.where(ordinal > 0, self.shared_prefix_len, 0)
        lengths, first = lengths + self.shared_prefix_len - skipped, first + skipped
        place = _places(lengths) + np.repeat(skipped, lengths)
        where = np.repeat(row, lengths), np.repeat(first - skipped, lengths) + place
        source = np.repeat(self.store.tokens.offsets[self.chats[chosen]], lengths) + place
        shape = int(row.max()) + 1, int((first + lengths).max())
        tokens = np.full(shape, self.pad_id, dtype=np.int64)
        labels = np.full(shape, IGNORE_INDEX, dtype=np.int64)
        tokens[where] = self.store.tokens.take(source)
        learned = self.store.learned.take(source + 1) != 0
        labels[where] = np.where(learned, self.store.tokens.take(source + 1), IGNORE_INDEX)
        index = self.chats[self.bounds[rows]]
        if self.paired:
            index = np.concatenate([index, index + 1])
        batch = TokenBatch(
            torch.from_numpy(tokens), torch.from_numpy(labels), torch.from_numpy(index)
        )
        if not self.packed:
            return batch
        position_ids, segment_ids = (
            np.zeros(shape, dtype=np.int64),
            np.full(shape, -1, dtype=np.int64),
        )
        position_ids[where], segment_ids[where] = place, np.repeat(ordinal, lengths)
        return batch._replace(
            position_ids=torch.from_numpy(position_ids),
            segment_ids=torch.from_numpy(segment_ids),
            shared_prefix_len=self.shared_prefix_len,
        )

    def __getitem__(self, number: int) -> TokenBatch:
        """Return one row, without the batch dimension; of two rows both."""
        batch = self.__getitems__([number])
        return batch if self.paired else batch.first_row()


def chat_lengths(store: ChatStore, chats: Rows, max_length: int) -> Rows:
    """Return each chat's tokens as a net gets it, without the last, which is foretold alone."""
    return np.minimum(store.tokens.counts(chats) - 1, max_length)


def _places(sizes: Rows) -> Rows:
    """Return 0 to n - 1 for each n of some sizes, one after the other."""
    places: Rows = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return places
