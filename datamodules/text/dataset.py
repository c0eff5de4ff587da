"""Batches of texts, and what is known of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.core.arrays import ArrayData
from datamodules.core.errors import at_least, one_of, refuse
from datamodules.core.labels import LabelKind
from datamodules.text.survey import Rows
from datamodules.text.token_store import TokenStore, Truncate
from datamodules.text.tokenizer import TextTokenizer


class TextBatch(NamedTuple):
    """A batch of texts.

    Attributes:
        tokens: Int64 (B, T), padded on the right with ``pad_id``.
        label: Int64 (B,), -1 where it is not known; zeros and ones (B, C) where a text may have
            several.
        index: Int64 (B,), the text's number in its data set, unique over all splits.
        lengths: Int64 (B,), each text's tokens without padding, from 1 to T.
    """

    tokens: Tensor
    label: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which no one needs here
    lengths: Tensor


class ArrayTexts(Dataset[TextBatch]):
    """Some rows of tokenised texts, as a net gets them.

    Args:
        store: The tokens.
        labels: Of all rows of the store, int64 (N,), or (N, C) where a text may have several.
        rows: The rows that belong to this split.
        tokenizer: What made the tokens.
        max_length: Tokens that a text has at most, special ones included.
        truncate: Which end of a longer text is kept.
    """

    def __init__(
        self,
        store: TokenStore,
        labels: Rows,
        rows: Rows,
        tokenizer: TextTokenizer,
        max_length: int,
        truncate: Truncate,
    ) -> None:
        self.store, self.labels, self.rows = store, labels, rows
        self.prefix, self.suffix = tokenizer.prefix, tokenizer.suffix
        self.pad_id, self.truncate = tokenizer.pad_id, truncate
        self.room = max_length - len(self.prefix) - len(self.suffix)
        counts = store.counts(rows)
        self.cut = int((counts > self.room).sum())
        """Return how many texts are longer than there is room for."""
        self.lengths: Rows = np.minimum(counts, self.room) + max_length - self.room
        """Tokens in each text as the net gets it, (n,)."""

    def __len__(self) -> int:
        """Return how many texts the split has."""
        return len(self.rows)

    def __getitems__(self, indices: list[int]) -> TextBatch:
        """Return the whole batch in one gather, padded to its longest text."""
        rows = self.rows[indices]
        tokens, lengths = self.store.gather(
            rows, self.room, self.truncate, self.pad_id, self.prefix, self.suffix
        )
        return TextBatch(
            torch.from_numpy(tokens),
            torch.from_numpy(self.labels[rows]),
            torch.from_numpy(rows),
            torch.from_numpy(lengths),
        )

    def __getitem__(self, item: int) -> TextBatch:
        """Return one text, without the batch dimension."""
        tokens, label, index, lengths = self.__getitems__([item])
        return TextBatch(tokens[0], label[0], index[0], lengths[0])


class PreparedText(ArrayData):
    """Texts that a tokenizer turns into numbers.

    All facts are right as soon as the object is built.

    Args:
        max_length: Tokens that a text has at most, special ones included; a longer one is cut.
        truncate: Which end of a longer text is kept: the head, the tail, or half of both.

    Raises:
        OptionError: If an option's value is not possible.
    """

    label_kind: LabelKind = "multiclass"
    num_classes: int
    class_names: list[str]
    vocab_size: int
    """Return how many tokens there are."""
    pad_id: int
    """The token that stands behind a text that is shorter than others of its batch."""
    tokenizer: str
    """The tokenizer as JSON text, the content of a tokenizer.json."""
    text_tokenizer: TextTokenizer

    def __init__(
        self, *, max_length: int = 512, truncate: Truncate = "head", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.max_length = at_least("max_length", max_length, 1)
        one_of("truncate", truncate, get_args(Truncate))
        self.truncate = truncate

    def _set_facts(self, class_names: Sequence[str], tokenizer: TextTokenizer) -> None:
        self.class_names = list(class_names)
        self.num_classes = len(self.class_names)
        self.text_tokenizer = tokenizer
        self.tokenizer = tokenizer.json
        self.vocab_size, self.pad_id = tokenizer.vocab_size, tokenizer.pad_id
        around = len(tokenizer.prefix) + len(tokenizer.suffix)
        if self.max_length <= around:
            remedy = (
                f"give more than the {around} special tokens that the tokenizer puts around a text"
            )
            raise refuse("max_length", self.max_length, remedy)
