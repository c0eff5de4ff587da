"""Answers of which one is to be preferred to the other."""

from typing import Any

import numpy as np

from datamodules.core.splits import Rows
from datamodules.language.chat_store import ChatRows, Reader
from datamodules.language.chats import ChatDataModule
from datamodules.language.conversations import preferences
from datamodules.language.records import find_records


class Preferences(ChatDataModule):
    """Pairs of answers, one of which is to be preferred to the other.

    The size and the licence are the pairs' own. ``path`` is a file (.json with a list of objects,
    .jsonl with an object a line, or .parquet), a folder with such files named ``train*``, and
    perhaps ``val*`` and ``test*``, or a data set's name on the Hugging Face hub, whose code is
    never executed. Its rows have ``prompt``, ``chosen`` and ``rejected``, texts or lists of
    messages, each with a role and a content; without a prompt, ``chosen`` and ``rejected`` are
    whole chats that end with the answer.

    A batch of B pairs has 2 B rows: first all chats with the answer to be preferred, then, in the
    same order, those with the other. Labels are on the answers alone, with the token that ends
    them. A split that is there is taken as it is; one that is not is drawn from the training pairs
    by ``split_seed``.

    Args:
        path: The file, the folder or the name on the hub.
        config: The hub data set's configuration.
        revision: Its branch, tag or commit.
        splits: Which of its splits, or of the folder's files, is train, val and test, as
            ``{train: train, test: validation}``; by default they are found by their names.
        encoding: What files of json are in, by Python's name, such as cp949; by default what their
            bytes tell: UTF-8 with or without a byte order mark, UTF-16, cp949 or latin-1.

    Raises:
        OptionError: If an option's value is not possible or the pairs will not do.
    """

    samples = "pairs"
    chats_per_sample = 2

    def __init__(
        self,
        path: str,
        *,
        config: str | None = None,
        revision: str | None = None,
        splits: dict[str, str] | None = None,
        encoding: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path = str(path)
        self.config = config
        self.revision = revision
        self.splits = splits
        self.encoding = encoding
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
        return preferences

    def _dataset(self, rows: Rows) -> ChatRows:
        assert self._store is not None
        pairs = (rows[:, None] * 2 + np.arange(2)).ravel()
        sizes = np.full_like(rows, 2)
        return ChatRows(self._store, pairs, sizes, self.max_length, self.pad_id, paired=True)
