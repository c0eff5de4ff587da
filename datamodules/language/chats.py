"""What data of chats share: a model's tokenizer and template, splits, and what is too long."""

from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from datamodules.core.copies import first_copies
from datamodules.core.description import Fact, read_as_fact
from datamodules.core.drawn import DrawnSplits
from datamodules.core.errors import DataError, at_least, one_of
from datamodules.core.hub import SMALL_MODEL, find_model
from datamodules.core.sampling import EpochBatches, PositionedLoader
from datamodules.core.split_names import Split, Stage
from datamodules.language.base import LanguageData
from datamodules.language.chat_store import ChatRows, ChatStore, Reader, chat_store
from datamodules.language.chat_template import ChatTemplate, read_template
from datamodules.language.records import Records
from datamodules.language.tokenizer import LanguageTokenizer, named_end
from datamodules.text.buckets import BucketBatches
from datamodules.text.lengths import lengths_fact
from datamodules.text.survey import Rows
from datamodules.text.tokenizer import pretrained

TooLong = Literal["cut", "drop"]


class ChatDataModule(DrawnSplits[ChatRows], LanguageData):
    """Chats with three disjoint splits, of which what the assistant says is learned.

    A subclass calls ``_set_sources`` at the end of its constructor. Chats are tokenised once, into
    ``$ZOO_CACHE`` (by default ``~/.cache/lightning_zoo``), and mapped into memory.

    Args:
        tokenizer: The model whose tokenizer and chat template are used: its folder, its name on the
            Hugging Face hub, or ``smollm2-135m-instruct``; a tokenizer.json; or the JSON text
            itself.
        chat_template: The template, where it is not to be the model's own: "chatml", "alpaca" or
            "plain", the path of a jinja file, or the text of one.
        end_token: The token that ends a text, where the tokenizer does not name it.
        max_length: Tokens that a chat has at most.
        too_long: What becomes of a longer one: "cut" takes its end away, "drop" all of it.
        batch_size: Samples in a batch, over all processes together; unused with max_tokens.
        max_tokens: Tokens in a batch with its padding, over all processes together, in place of a
            number of samples.
        deduplicate: Leave out repeated samples; the test split comes first, then validation.

    Raises:
        OptionError: If an option's value is not possible or the samples will not do.
    """

    chats_per_sample: ClassVar[int] = 1

    def __init__(
        self,
        *,
        tokenizer: str = SMALL_MODEL,
        chat_template: str | None = None,
        end_token: str | None = None,
        max_length: int = 1024,
        too_long: TooLong = "cut",
        batch_size: int = 8,
        max_tokens: int | None = None,
        deduplicate: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, **kwargs)
        self.max_length = at_least("max_length", max_length, 1)
        one_of("too_long", too_long, get_args(TooLong))
        self.too_long = too_long
        self.max_tokens = None if max_tokens is None else at_least("max_tokens", max_tokens, 1)
        self.deduplicate = deduplicate
        self._store: ChatStore | None = None
        self.duplicates = 0
        """Return how many samples are left out because they stand there once before."""
        self.too_long_count = 0
        """Return how many samples are longer than ``max_length``; set by setup(), like the next."""
        self.without_answer = 0
        """Return how many samples are left out because there is nothing in them to learn."""
        folder, text = _tokenizer(str(tokenizer))
        if end_token is None and folder is not None:
            end_token = named_end(str(folder))
        known = LanguageTokenizer(text, end_token)
        template = ChatTemplate(read_template(chat_template, folder, known), known)
        self._set_tokenizer(known, template)

    def _reader(self) -> Reader:
        """Return what makes chats of rows."""
        raise NotImplementedError

    def _set_sources(self, sources: dict[Split, Records]) -> None:
        """Say where the samples are; the first row is read, so that what it lacks is said early."""
        self._sources = sources
        for source in sources.values():
            if next(iter(self._reader()(source.rows())), None) is None:
                raise DataError(f"{source.name} holds no rows; give some")

    def prepare_data(self) -> None:
        """Tokenise all chats, in one process while the others wait."""
        self._chats()

    def _chats(self) -> ChatStore:
        assert self._template is not None
        return chat_store(list(self._sources.values()), self._reader(), self._template)

    def setup(self, stage: str | None = None) -> None:
        """Load what a stage needs; None loads everything.

        Args:
            stage: "fit", "validate", "test" or "predict". Only the last two load the test split.

        Raises:
            DataError: If a split is empty or there is nothing to learn.
        """
        self._read()
        super().setup(stage)

    def _read(self) -> None:
        """Tokenise all chats and say which split gets which."""
        if self._store is None:
            self._store = self._chats()
            self._rows = self._divide(self._store)

    def _divide(self, store: ChatStore) -> dict[str, Rows]:
        """Return the samples of each split, without those that are left out."""
        bounds = np.cumsum([0, *store.sizes])
        rows: dict[str, Rows] = {
            s: np.arange(bounds[n], bounds[n + 1]) for n, s in enumerate(self._sources)
        }
        if self.deduplicate:
            order: list[Split] = ["test", "val", "train"]
            queue = np.concatenate([rows[split] for split in order if split in rows])
            first, _ = first_copies(store.digests[queue])
            first[: len(rows.get("test", ()))] = True  # an official test split stays whole
            repeated = queue[~first]
            self.duplicates = len(repeated)
            rows = {s: np.setdiff1d(own, repeated, assume_unique=True) for s, own in rows.items()}
        total = sum(map(len, rows.values()))
        rows = {split: self._usable(store, own) for split, own in rows.items()}
        if not any(map(len, rows.values())):
            raise DataError(
                f"none of the {total} samples has an answer to learn within "
                f"{self.max_length} tokens ({self.too_long_count} are longer); give a larger "
                "max_length or samples with answers"
            )
        pool = rows["train"]
        keys = store.digests[pool, 0].view(np.int64)
        drawn = self._draw_missing(keys, np.zeros(len(pool), dtype=np.int64), rows)
        self._given_rows = dict(rows)
        return {**rows, **{split: pool[own] for split, own in drawn.items()}}

    def _usable(self, store: ChatStore, rows: Rows) -> Rows:
        """Return the samples that are not dropped; counts the others."""
        chats = rows[:, None] * self.chats_per_sample + np.arange(self.chats_per_sample)
        is_long = store.tokens.counts(chats).max(axis=1) > self.max_length + 1
        self.too_long_count += int(is_long.sum())
        keep = ~is_long if self.too_long == "drop" else np.ones(len(rows), dtype=np.bool_)
        answered = store.to_learn(chats, self.max_length + 1).min(axis=1) > 0
        self.without_answer += int((keep & ~answered).sum())
        usable: Rows = rows[keep & answered]
        return usable

    def load_fit(self) -> tuple[ChatRows, ChatRows]:
        """Read the training and the validation split."""
        train_split, val_split = (
            self._dataset(self._rows["train"]),
            self._dataset(self._rows["val"]),
        )
        for dataset in (train_split, val_split):
            self._batches(
                dataset, training=False
            )  # max_tokens had better be refused before training
        return train_split, val_split

    def load_test(self) -> ChatRows:
        """Read the test split."""
        return self._dataset(self._rows["test"])

    def load_all(self, stage: Stage) -> ChatRows:
        """Read all samples; those of the split, where the set has it."""
        given = self._given_rows
        every = given[stage] if stage in given else np.sort(np.concatenate([*given.values()]))
        return self._dataset(every)

    def _dataset(self, rows: Rows) -> ChatRows:
        raise NotImplementedError

    def _size(self, split: Split) -> int:
        return len(self.split(split).chats) // self.chats_per_sample

    def _given_by(self, split: Split) -> str:
        return self._sources[split].name

    def _facts(self) -> list[Fact]:
        assert self._store is not None
        chats = np.concatenate([dataset.chats for dataset in self._splits.values()])
        lengths = self._store.tokens.counts(chats) - 1  # the last is foretold alone
        dropped = self.too_long_count if self.too_long == "drop" else 0
        left_out = {
            "repeated": self.duplicates,
            "longer": dropped,
            "without an answer": self.without_answer,
        }
        text = ", ".join(f"{count:,} {why}" for why, count in left_out.items() if count)
        return [
            read_as_fact({split: source.form for split, source in self._sources.items()}),
            lengths_fact(lengths, self.max_length, "lose their end"),
            Fact("left_out", text, {why.replace(" ", "_"): n for why, n in left_out.items()}),
        ]

    def _batches(self, dataset: ChatRows, *, training: bool, spread: bool = False) -> EpochBatches:
        """Return which rows make up which batch."""
        rank, world_size = self._shard()
        tokens = self.max_tokens
        return BucketBatches(
            dataset.lengths,
            self.batch_size,
            max_tokens=None if tokens is None else tokens // self.chats_per_sample,
            training=training,
            seed=self.order_seed,
            rank=rank,
            world_size=world_size,
            position=self._position if training else None,
            spread=spread,
        )

    def _train_batches(self) -> EpochBatches:
        return self._batches(self.split("train"), training=True)

    def _evaluation_loader(self, dataset: ChatRows, *, spread: bool = False) -> PositionedLoader:
        return self._loader(dataset, self._batches(dataset, training=False, spread=spread))

    def default_prompts(self) -> list[str]:
        """Return the first user's message of the first three validation samples."""
        self._read()
        wanted = self._rows["val"][:3].tolist()
        last = max(wanted)
        number, found = 0, {}
        for source in self._sources.values():
            for _, (chat, *_) in self._reader()(source.rows()):
                if number in wanted:
                    found[number] = next(m["content"] for m in chat.messages if m["role"] == "user")
                if number == last:
                    return [found[row] for row in wanted]
                number += 1
        return [found[row] for row in wanted]


def _tokenizer(given: str) -> tuple[Path | None, str]:
    """Return the folder of a tokenizer, if it has one, and its JSON text."""
    if given.lstrip().startswith("{"):
        return None, given
    place = Path(given).expanduser()
    if place.is_file():
        return place.parent, pretrained(given, nfc=False)
    folder = place if place.is_dir() else find_model(given, option="tokenizer")
    return folder, pretrained(str(folder), nfc=False)
