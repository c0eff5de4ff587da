"""Texts to be put into classes."""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import numpy as np

from datamodules.core.balance import class_counts, class_weights, need_samples
from datamodules.core.cache import cached
from datamodules.core.copies import Copies, Part, first_copies
from datamodules.core.description import Fact, read_as_fact
from datamodules.core.drawn import DrawnSplits
from datamodules.core.errors import DataError, at_least, listed, one_of, refuse
from datamodules.core.labels import LabelKind, check_columns, rarest_labels
from datamodules.core.options import plain
from datamodules.core.sampling import PositionedLoader
from datamodules.core.split_names import Split, Stage
from datamodules.core.text_file import check_encoding
from datamodules.text.buckets import BucketBatches
from datamodules.text.columns import Layout, text_columns
from datamodules.text.dataset import ArrayTexts, PreparedText, TextBatch
from datamodules.text.files import SplitSource
from datamodules.text.lengths import lengths_fact
from datamodules.text.sources import find_sources
from datamodules.text.survey import (
    Corpus,
    Rows,
    classes,
    selected,
    source_keys,
    survey,
)
from datamodules.text.token_store import TokenStore, tokenised
from datamodules.text.tokenizer import (
    TextTokenizer,
    TokenizerKind,
    Vocabulary,
    pretrained,
    read_tokenizer,
    train,
)

__all__ = ["TextBatch", "TextClassification", "TextDataModule"]

#: From more training text than this every k-th text alone trains the tokenizer.
VOCABULARY_BYTES = 2**28


class TextDataModule(DrawnSplits[ArrayTexts], PreparedText):
    """A data set of texts with three disjoint splits.

    A subclass calls ``_read_sources`` at the end of its constructor. That reads the texts once and,
    unless it is given, trains the tokenizer on the training split alone; an earlier run's findings
    are taken up out of ``$ZOO_CACHE`` (by default ``~/.cache/lightning_zoo``). All texts are
    tokenised there, too, and mapped into memory: a set may be larger than it.

    Texts that are equal in NFC count once, and the first one's label holds; an official test split
    stays as it is, and what it holds is left out of the others. Counts are in ``duplicates`` and
    ``conflicts``.

    Evaluation goes from the longest text to the shortest; ``batch.index`` says which is which.

    Args:
        tokenizer: "bpe" (byte-level pairs, knows every text), "word" or "char", to be trained, or
            "byte"; or one that exists: a tokenizer.json, a model's name on the hub, or the JSON
            text itself.
        vocab_size: Tokens at most, where the tokenizer is trained; once it is, how many there are.
        min_frequency: How often a word, a character or a pair must occur to become a token.
        lowercase: Make large letters small, where the tokenizer is trained.
        nfc: Bring texts to Unicode's composed form first, so that Hangul written by macOS gives the
            same tokens as any other.
        max_length: Tokens that a text has at most, special ones included; a longer one is cut.
        truncate: Which end of a longer text is kept: the head, the tail, or half of both.
        batch_size: Texts in a batch, over all processes together; unused with max_tokens.
        max_tokens: Tokens in a batch with its padding, over all processes together, in place of a
            number of texts.
        deduplicate: Leave out repeated texts.
        class_names: The classes in the order of their numbers; by default those of the source, or
            else the labels, sorted.

    Raises:
        OptionError: If an option's value is not possible or the texts will not do.
    """

    samples = "texts"

    def __init__(
        self,
        *,
        tokenizer: str = "bpe",
        vocab_size: int = 8000,
        min_frequency: int = 2,
        lowercase: bool = False,
        nfc: bool = True,
        max_tokens: int | None = None,
        deduplicate: bool = True,
        class_names: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tokenizer = str(tokenizer)
        self.vocab_size = at_least("vocab_size", vocab_size, 1)
        self.min_frequency = at_least("min_frequency", min_frequency, 1)
        self.lowercase = lowercase
        self.nfc = nfc
        self.max_tokens = None if max_tokens is None else at_least("max_tokens", max_tokens, 1)
        self.deduplicate = deduplicate
        self._given_names = class_names
        self._store: TokenStore | None = None
        self.cut_share: float | None = None
        """Share of the training and validation texts longer than ``max_length``; set by setup()."""

    def _read_sources(
        self,
        sources: Mapping[Split, SplitSource],
        *,
        kind: LabelKind | None = "multiclass",
        separator: str | None = None,
    ) -> None:
        """Read, split and find the tokenizer.

        Args:
            sources: "train", and the other splits that there are.
            kind: Whether a text has one class, or any number of labels; None for what they show.
            separator: What parts several labels of a value, if that is known.
        """
        self._sources = list(sources.values())
        self._splits_given = list(sources)
        corpus = survey(self._sources)
        for source, size in zip(self._sources, corpus.sizes, strict=True):
            if size == 0:
                raise DataError(f"{source.name} holds no texts; give one that does")
        source = self._sources[0]
        if corpus.blank == len(corpus.codes):
            texts = " and ".join(map(repr, source.layout.text_columns))
            raise DataError(
                f"column {texts} of {source.name} is empty in all {corpus.blank} rows; choose "
                "another text_column or fill it"
            )
        self.blank = corpus.blank
        names = self._given_names or source.label_names
        of_net = self.partition is not None
        found = classes(corpus, names, self._sources, kind=kind, separator=separator, of_net=of_net)
        self.label_kind = "multilabel" if found.are_several else "multiclass"
        self._separator = found.separator
        self._labels: Rows = found.of_value[corpus.codes]
        self._corpus = corpus
        bounds = np.cumsum([0, *corpus.sizes])
        rows: dict[str, Rows] = {
            s: np.arange(bounds[i], bounds[i + 1]) for i, s in enumerate(self._splits_given)
        }
        self._check_labels(rows, corpus)
        self.duplicates, self.conflicts = 0, 0
        if self.deduplicate:
            rows = self._first_copies(rows, corpus)
        self._rows = self._draw_splits(rows, corpus)
        if not self._holds_others:
            where = source.name.strip("'")
            need_samples(len(found.names), len(self._rows["train"]), where, "texts")
        self._set_facts(found.names, self._load_or_train_tokenizer(corpus))

    def _check_labels(self, rows: Mapping[str, Rows], corpus: Corpus) -> None:
        """Refuse labels that training does not know."""
        for (split, own), source in zip(rows.items(), self._sources, strict=True):
            labels = self._labels[own]
            unknown = own[labels.reshape(len(own), -1).min(axis=1, initial=0) < 0]
            if len(unknown):
                values = [corpus.values[code] for code in np.unique(corpus.codes[unknown])]
                written = [
                    value if isinstance(value, str) else "; ".join(value) for value in values
                ]
                raise DataError(
                    f"{source.name}: {len(unknown)} {split} labels are not among the training "
                    f"texts' classes, {listed(written)}; mend them, or leave the split out"
                )

    def _first_copies(self, rows: Mapping[str, Rows], corpus: Corpus) -> dict[str, Rows]:
        """Return the rows whose text has not come before; the test split stays whole."""
        order: list[Split] = ["test", "val", "train"]
        queue = np.concatenate([rows[split] for split in order if split in rows])
        first, leader = first_copies(corpus.digests[queue])
        exempt = len(rows["test"]) if "test" in rows else 0
        dropped = ~first
        dropped[:exempt] = False
        differs = self._labels[queue] != self._labels[queue[leader]]
        differs = differs.reshape(len(queue), -1).any(axis=1)
        self.duplicates = int(dropped.sum())
        self.conflicts = int((dropped & differs).sum())
        absent = queue[dropped]
        return {split: np.setdiff1d(own, absent, assume_unique=True) for split, own in rows.items()}

    def _draw_splits(self, rows: Mapping[str, Rows], corpus: Corpus) -> dict[str, Rows]:
        """Return the training, validation and test rows."""
        pool = rows["train"]
        if not len(pool):
            raise DataError(
                f"{self._sources[0].name}: every training text stands in another split too; give "
                "other texts, or set deduplicate: false"
            )
        keys = corpus.digests[pool, 0].view(np.int64)
        strata = rarest_labels(self._labels[pool])
        drawn = self._draw_missing(keys, strata, rows, contents=keys)
        self._given_rows = dict(rows)
        return {**rows, **{split: pool[own] for split, own in drawn.items()}}

    def _load_or_train_tokenizer(self, corpus: Corpus) -> TextTokenizer:
        if self.tokenizer not in get_args(TokenizerKind):
            return TextTokenizer(pretrained(self.tokenizer, nfc=self.nfc))
        from tokenizers import __version__

        kind: Any = self.tokenizer
        vocabulary = Vocabulary(kind, self.vocab_size, self.min_frequency, self.lowercase, self.nfc)
        vocabulary.check()
        rows = self._rows["train"]
        train_bytes = corpus.text_bytes * len(rows) // len(corpus.codes)
        rows = rows[:: train_bytes // VOCABULARY_BYTES + 1]
        content = hashlib.sha256(corpus.digests[rows].tobytes()).hexdigest()

        def build(folder: Path) -> None:
            found = selected(self._sources, corpus.sizes, rows, "training the tokenizer")
            texts = chain.from_iterable(found)
            (folder / "tokenizer.json").write_text(train(texts, vocabulary), encoding="utf-8")

        # Digests are of texts in NFC; a tokenizer that is not has to know the texts as they are.
        raw = None if self.nfc else source_keys(self._sources)
        key = [__version__, vocabulary, content, raw]
        return TextTokenizer(cached("text/tokenizers", key, read_tokenizer, build))

    def texts(self, index: Sequence[int]) -> list[str]:
        """Return the raw texts of some numbers, as a batch's ``index`` gives them.

        Of a pair, " | " between.

        They are looked up where they come from: the files that hold any of them are read.
        """
        wanted = np.unique(np.asarray(index, dtype=np.int64))
        texts = selected(self._sources, self._corpus.sizes, wanted, "looking up texts")
        found = dict(zip(wanted.tolist(), map(" | ".join, texts), strict=True))
        return [found[int(number)] for number in index]

    def prepare_data(self) -> None:
        """Tokenise all texts, in one process while the others wait."""
        tokenised(self._sources, self.text_tokenizer, len(self._labels))

    def _dataset(self, rows: Rows) -> ArrayTexts:
        if self._store is None:
            self._store = tokenised(self._sources, self.text_tokenizer, len(self._labels))
        dataset = ArrayTexts(
            self._store,
            self._labels,
            rows,
            self.text_tokenizer,
            self.max_length,
            self.truncate,
        )
        self._buckets(dataset, training=False)  # max_tokens had better be refused before training
        return dataset

    def load_fit(self) -> tuple[ArrayTexts, ArrayTexts]:
        """Read the training and the validation split."""
        train_split, val_split = (
            self._dataset(self._rows["train"]),
            self._dataset(self._rows["val"]),
        )
        self.cut_share = (train_split.cut + val_split.cut) / (len(train_split) + len(val_split))
        return train_split, val_split

    @property
    def usual_length(self) -> int:
        """The median length of the texts that are read, as a net gets them, in tokens."""
        lengths = np.concatenate([dataset.lengths for dataset in self._splits.values()])
        return int(np.median(lengths))

    def _facts(self) -> list[Fact]:
        end = {"head": "end", "tail": "beginning", "both": "middle"}[self.truncate]
        around = len(self.text_tokenizer.prefix) + len(self.text_tokenizer.suffix)
        rows = np.concatenate([dataset.rows for dataset in self._splits.values()])
        assert self._store is not None
        return [
            self._form(),
            *self._several(),
            lengths_fact(self._store.counts(rows) + around, self.max_length, f"lose their {end}"),
            Fact("tokens", f"{self.vocab_size:,} different ones", {"vocab_size": self.vocab_size}),
            *self._repeated(),
        ]

    def _form(self) -> Fact:
        """Return how the texts lie on the disk."""
        forms: dict[str, str] = {
            split: source.form
            for split, source in zip(self._splits_given, self._sources, strict=True)
        }
        fact = read_as_fact(forms)
        empty = f"; {self.blank:,} texts are empty" if self.blank else ""
        return Fact(fact.name, fact.text + empty, {**fact.values, "empty": self.blank})

    def _several(self) -> list[Fact]:
        """Return that a text may have several labels, if it may."""
        if self.label_kind == "multiclass":
            return []
        rows = np.concatenate([dataset.rows for dataset in self._splits.values()])
        mean = float(self._labels[rows].sum() / len(rows))
        parted = f", parted by {self._separator!r}" if self._separator else ""
        values = {"by_text": mean, "separator": self._separator}
        return [Fact("labels", f"several a text, {mean:.2f} on average{parted}", values)]

    def _repeated(self) -> list[Fact]:
        """Return how many texts were left out, if any were."""
        values = {"duplicates": self.duplicates, "conflicts": self.conflicts}
        other = f", {self.conflicts:,} of them with another label" if self.conflicts else ""
        text = f"{self.duplicates:,} texts left out{other}"
        return [Fact("repeated", text if self.duplicates else "", values)]

    def class_weights(self) -> list[float]:
        """Return a weight for each class, inverse to its share of the training split."""
        return class_weights(self._class_counts(self.split("train")), self.class_names)

    def _class_counts(self, dataset: ArrayTexts) -> Rows:
        return class_counts(self._labels[dataset.rows], self.num_classes)

    def _classes(self, split: Split) -> dict[str, int] | None:
        counts = self._class_counts(self.split(split))
        return dict(zip(self.class_names, counts.tolist(), strict=True))

    def _given_by(self, split: Split) -> str:
        return self._sources[self._splits_given.index(split)].name

    def load_test(self) -> ArrayTexts:
        """Read the test split."""
        return self._dataset(self._rows["test"])

    def load_all(self, stage: Stage) -> ArrayTexts:
        """Read all texts; those of the split, where the set has it."""
        given = self._given_rows
        every = given[stage] if stage in given else np.sort(np.concatenate([*given.values()]))
        return self._dataset(every)

    def copies(self) -> Copies:
        """Return which texts are copies, those included that are left out for it."""
        if self._copies is None:
            bounds = np.cumsum([0, *self._corpus.sizes])
            parts = {
                str(split): self._part_of(self._sources[number], slice(*bounds[number:][:2]))
                for number, split in enumerate(self._splits_given)
            }
            self._copies = [], Copies({s: parts[s] for s in ("train", "val", "test") if s in parts})
        return self._copies[1]

    def _part_of(self, source: SplitSource, rows: slice) -> Part:
        return Part(
            self._corpus.digests[rows, 0].view(np.int64),
            self._labels[rows],
            lambda place: f"{source.name}, row {place + 1}",
            self._named,
        )

    def _named(self, label: Any) -> str:
        """Return a text's class, or its labels."""
        numbers = [int(label)] if np.ndim(label) == 0 else np.flatnonzero(label).tolist()
        return "; ".join(self.class_names[number] for number in numbers)

    def _trained_on(self, splits: Sequence[str]) -> str | None:
        return None if self.deduplicate else super()._trained_on(splits)  # else none of them is

    def _buckets(
        self, dataset: ArrayTexts, *, training: bool, spread: bool = False
    ) -> BucketBatches:
        rank, world_size = self._shard()
        return BucketBatches(
            dataset.lengths,
            self.batch_size,
            max_tokens=self.max_tokens,
            training=training,
            seed=self.order_seed,
            rank=rank,
            world_size=world_size,
            position=self._position if training else None,
            spread=spread,
        )

    def _train_batches(self) -> BucketBatches:
        return self._buckets(self.split("train"), training=True)

    def val_dataloader(self) -> PositionedLoader:
        """Return the validation split; from the longest text on, where the Trainer takes it all."""
        return self._by_length("val")

    def test_dataloader(self) -> PositionedLoader:
        """Return the test split; from the longest text on, where the Trainer takes it all."""
        return self._by_length("test")

    def _by_length(self, stage: Stage) -> PositionedLoader:
        dataset = self.split(stage)
        batches = self._buckets(dataset, training=False, spread=self._is_cut(stage))
        return self._loader(dataset, batches)

    def inputs_spec(self) -> dict[str, Any]:
        """Return the ``TextInputs`` that prepares texts as this one does, less ``inputs``."""
        names = (
            *("class_names", "label_kind", "tokenizer", "max_length", "truncate", "batch_size"),
        )
        return {
            "class_path": "datamodules.TextInputs",
            "init_args": {name: plain(getattr(self, name)) for name in names},
        }


class TextClassification(TextDataModule):
    """Your own texts: files, a folder, or a data set on the Hugging Face hub.

    The size and the licence are the texts' own. As ``path``:

    - a file: csv or tsv (a header, then rows), json or jsonl (a list of objects, or an object a
      line), fastText's lines (``__label__good A fine film``), parquet, or xlsx (its first sheet; by
      ``pip install 'lightning-zoo[excel]'``); gzip may have packed it;
    - a folder with such files named ``train*``, and perhaps ``val*`` or ``dev*`` and ``test*``;
    - a folder with a folder of .txt files for each class, or with a .txt file of one text a line
      for each class; or with such folders named train, val and test; or with one that holds these;
    - a name on the hub, ``owner/name``. Its data files are read, and its code is never executed.

    A split that is there is taken as it is; one that is not is cut out of the training texts,
    stratified and chosen by ``split_seed``.

    Args:
        path: The file, the folder or the name on the hub.
        config: The hub data set's configuration.
        revision: Its branch, tag or commit.
        splits: Which of its splits, or of the folder's files, is train, val and test, as
            ``{train: train, test: validation}``; by default they are found by their names.
        text_column: The column of the text, or a list of two for pairs; by default the one that has
            a usual name (text, sentence, review ...), or that is left beside the labels.
        label_column: The column of the labels: names, whole numbers, true and false, or lists of
            these, where an empty value is none of several labels; or a list of columns of zeros and
            ones, one a class. By default the one that has a usual name (label, class, intent,
            sentiment ...), or those of zeros and ones.
        label_separator: The character between several labels of a row; by default ``|``, ``;`` or
            a comma where labels recur so.
        label_kind: Whether a text has one label (multiclass) or may have several (multilabel); by
            default what the labels show.
        columns: The columns' names, for a csv file without a header.
        delimiter: The character between two values of a csv file; by default the comma, semicolon,
            tabulator or bar that gives each row as many values as the header has.
        quoted: Whether values in a csv file may stand in double quotes.
        encoding: What text files are in, by Python's name, such as cp949; by default what their
            bytes tell: UTF-8 with or without a byte order mark, UTF-16, cp949 or latin-1.

    Raises:
        DataError: If the texts or one of their columns are not there or will not do, or an option's
            value is not possible.
    """

    def __init__(
        self,
        path: str,
        *,
        config: str | None = None,
        revision: str | None = None,
        splits: dict[str, str] | None = None,
        text_column: str | list[str] | None = None,
        label_column: str | list[str] | None = None,
        label_separator: str | None = None,
        label_kind: LabelKind | None = None,
        columns: list[str] | None = None,
        delimiter: str | None = None,
        quoted: bool = True,
        encoding: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path = str(path)
        self.config = config
        self.revision = revision
        self.splits = splits
        self.columns = columns
        self.delimiter = delimiter
        self.quoted = quoted
        self.encoding = check_encoding(encoding)
        check_columns(label_column, label_separator)
        layout = Layout(
            () if text_column is None else text_columns(text_column),
            label_columns(label_column),
            None if columns is None else tuple(columns),
            delimiter,
            quoted,
            encoding=encoding,
        )
        if not set(layout.label_columns).isdisjoint(layout.text_columns):
            raise refuse("label_column", label_column, "give another than the text_column")
        if label_kind is not None:
            one_of("label_kind", label_kind, get_args(LabelKind))
        sources = find_sources(self.path, layout, config=config, revision=revision, splits=splits)
        found = sources["train"].layout
        # What was found is what a checkpoint records.
        self.text_column = text_column or (
            found.text_columns[0] if len(found.text_columns) == 1 else list(found.text_columns)
        )
        labels = found.label_columns
        self.label_column = label_column or (labels[0] if len(labels) == 1 else list(labels))
        self._read_sources(sources, kind=label_kind, separator=label_separator)
        self.label_separator = label_separator or self._separator

    def inputs_spec(self) -> dict[str, Any]:
        """Return the ``TextInputs`` that prepares texts as this one does, less ``inputs``."""
        spec = super().inputs_spec()
        own = {name: plain(getattr(self, name)) for name in ("text_column", "delimiter", "quoted")}
        return {**spec, "init_args": {**spec["init_args"], **own}}


def label_columns(given: str | Sequence[str] | None) -> str | tuple[str, ...]:
    """Return the column of the labels, or those of several; "" where they are to be guessed."""
    if given is None or isinstance(given, str):
        return given or ""
    return given[0] if len(given) == 1 else tuple(given)
