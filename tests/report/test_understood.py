"""What is told before the first step: the table's text for each kind of data, and its notes."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import nn

import datamodules
from datamodules.core.description import Description, SplitFacts
from zoo.cli.request import take_apart
from zoo.nets import BagOfEmbeddings
from zoo.nets.cost import Cost
from zoo.report.understood import Length, Telling, Understood, too_short, understand
from zoo.tasks import ImageClassifier, TextClassifier

RNG = np.random.default_rng(0)


def table(data: Any) -> str:
    """The table of some data, without the rows of net and run."""
    data.prepare_data()
    data.setup()
    told = Understood(data.describe(), "Net", None, "CPU", "32-true").table()
    *lines, net, run = told.splitlines()
    assert net.split() == ["net", "Net"]
    assert run.split() == ["run", "CPU,", "precision", "32-true"]
    assert all(len(line) <= 100 for line in lines)
    return "\n".join(line.rstrip() for line in lines)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


def picture(path: Path, height: int, width: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)


def write_csv(path: str, rows: list[Any]) -> None:
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def test_images_in_folders() -> None:
    for number in range(30):
        picture(Path("pets", "cat" if number % 3 else "dog", f"{number}.png"), 8 + number, 10)
    assert table(datamodules.ImageFolder("pets", image_size=16)) == (
        "data    ImageFolder in pets, 2 classes: cat, dog\n"
        "  split  images  classes        how it came to be\n"
        "  train      24  cat 16, dog 8  the rest\n"
        "  val         3  cat 2, dog 1   split_seed 0, val_fraction 0.1\n"
        "  test        3  cat 2, dog 1   split_seed 0, test_fraction 0.1\n"
        "images  10x8 to 10x37, median 10x23, brought to 16x16, colour"
    )


def test_folders_of_splits_and_a_class_that_one_lacks() -> None:
    for split in ("train", "val", "test"):
        for name in ("고양이", "개") if split == "train" else ("개",):
            picture(Path("pets", split, name, "1.png"), 16, 16)
    data = datamodules.ImageFolder("pets", image_size=16, allow_missing_classes=True)
    assert table(data) == (
        "data    ImageFolder in pets, 2 classes: 개, 고양이\n"
        "  split  images  classes         how it came to be\n"
        "  train       2  개 1, 고양이 1  folder train\n"
        "  val         1  개 1, 고양이 0  folder val\n"
        "  test        1  개 1, 고양이 0  folder test\n"
        "images  16x16, colour"
    )


def test_images_with_masks() -> None:
    for number in range(10):
        picture(Path("cells", "images", f"{number}.png"), 16, 20)
        mask = np.zeros((16, 20), dtype=np.uint8)
        mask[:, :5] = 1
        Path("cells", "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(Path("cells", "masks", f"{number}.png"))
    assert table(datamodules.SegmentationFolder("cells", image_size=8)) == (
        "data    SegmentationFolder in cells, 2 classes: background, foreground\n"
        "  split  images  classes                             how it came to be\n"
        "  train       8  background 75.0%, foreground 25.0%  the rest\n"
        "  val         1  background 75.0%, foreground 25.0%  split_seed 0, val_fraction 0.1\n"
        "  test        1  background 75.0%, foreground 25.0%  split_seed 0, test_fraction 0.1\n"
        "images  20x16, training crops 8x8, colour"
    )


def test_a_table() -> None:
    rows = [(number, "ab"[number % 2], number * 10) for number in range(20)]
    write_csv("houses.csv", [("size", "kind", "price"), *rows])
    assert table(datamodules.CSVTable("houses.csv", target="price")).splitlines()[:5] == [
        "data     CSVTable in houses.csv",
        "  split  rows  how it came to be",
        "  train    14  the rest",
        "  val       2  split_seed 0, val_fraction 0.1",
        "  test      4  split_seed 0, test_fraction 0.2",
    ]


def test_texts() -> None:
    texts = [f"{'very ' * (number % 5)}good film {number}" for number in range(40)]
    rows = [(text, "yes" if number % 4 else "no") for number, text in enumerate(texts)]
    write_csv("films.csv", [("text", "label"), *rows, rows[0], (texts[0], "yes")])
    data = datamodules.TextClassification(
        "films.csv", tokenizer="word", min_frequency=1, max_length=6
    )
    assert table(data) == (
        "data      TextClassification in films.csv, 2 classes: no, yes\n"
        "  split  texts  classes       how it came to be\n"
        "  train     32  no 8, yes 24  the rest\n"
        "  val        4  no 1, yes 3   split_seed 0, val_fraction 0.1\n"
        "  test       4  no 1, yes 3   split_seed 0, test_fraction 0.1\n"
        "read as   csv in utf-8, commas between values; texts in 'text', labels in 'label'\n"
        "lengths   median 5 tokens, 95 % up to 7, longest 7; 20.0% have more than 6 and lose their "
        "end\n"
        "tokens    38 different ones\n"
        "repeated  2 texts left out, 1 of them with another label"
    )


def test_a_corpus() -> None:
    Path("corpus.txt").write_text("to be or not to be " * 50)
    data = datamodules.TextCorpus("corpus.txt", tokenizer="char", max_length=16)
    assert table(data) == (
        "data       TextCorpus in corpus.txt\n"
        "  split  tokens  how it came to be\n"
        "  train     854  the rest\n"
        "  val        48  val_fraction 0.05, cut off the end\n"
        "  test       48  test_fraction 0.05, cut off the end\n"
        "read as    a text file in utf-8\n"
        "documents  1, of 950 characters in all\n"
        "tokens     8 different ones\n"
        "windows    16 tokens each, random"
    )


def test_instructions(tiny_llama: Path) -> None:
    rows = ", ".join(f'{{"instruction": "what is {n}", "output": "this"}}' for n in range(20))
    Path("asked.json").write_text(f"[{rows}]")
    data = datamodules.Instructions("asked.json", tokenizer=str(tiny_llama), packing=True)
    shown = table(data).splitlines()
    assert shown[:5] == [
        "data         Instructions in asked.json",
        "  split  samples  how it came to be",
        "  train       16  the rest",
        "  val          2  split_seed 0, val_fraction 0.1",
        "  test         2  split_seed 0, test_fraction 0.1",
    ]
    assert shown[5] == "read as      json in utf-8"
    assert shown[6].startswith("lengths      median ")
    assert shown[6].endswith("; none has over 1,024")
    assert shown[7] == "packed rows  train 1, val 1, test 1"


def test_a_split_that_a_checkpoint_keeps_says_so() -> None:
    data = datamodules.Digits()
    data.setup()
    again = datamodules.Digits(partition=data.partition)
    again.setup()
    assert [s.origin for s in again.describe().splits.values()] == ["as the checkpoint's"] * 3
    other = datamodules.Digits(partition=data.partition, split_seed=1)
    with pytest.warns(UserWarning, match="drawn anew"):
        other.setup()
    assert other.describe().splits["val"].origin == "split_seed 1, val_fraction 0.1"


def test_many_classes_with_long_names_fit_the_terminal() -> None:
    names = [f"{number} a name that is too long for a table of 100 columns" for number in range(99)]
    counts = dict(zip(names, range(1, 100), strict=True))
    data = Description(
        "Many", "x" * 40, "images", "image", {"train": SplitFacts(4950, "it", counts)}
    )
    told = Understood(data, "Net", Cost(1200, 200, 34_000_000), "CPU", "32-true", 8).table()
    assert max(map(len, told.splitlines())) <= 100
    assert "(97 more)" in told
    assert "rarest 0 a name that…: 1, commonest 98 a name tha…: 99" in told
    assert "net   Net, 1,200 parameters (200 of them trained), 34 M FLOPs a sample" in told
    assert Understood(data, "Net", None, "CPU", "32-true").plain()["data"]["splits"]["train"] == {
        "size": 4950, "origin": "it", "classes": counts,
    }  # fmt: skip


LONG = Length(batches=40, accumulated=4, steps=1000, epochs=100)


def test_the_length_of_a_run() -> None:
    run = Understood(None, "Net", None, "CPU", "32-true", 8, LONG)
    assert run.table().splitlines()[-2:] == [
        "net  Net",
        "run  100 epochs of 10 steps (of 4 batches each), 1,000 in all, batches of 8; CPU, "
        "precision 32-true",
    ]
    assert run.plain()["run"]["steps_per_epoch"] == 10


@pytest.mark.parametrize(
    ("options", "length", "sentence"),
    [
        ({}, LONG, ""),
        ({"ema_decay": 0.99, "warmup_steps": 999}, LONG, ""),
        ({"ema_decay": 0.999}, LONG, "option model.ema_decay is 0.999, an average over 1,000 steps,"
         " for which a run of 1,000 is short: it reaches over the last ninth of the steps so far"),
        ({"warmup_steps": 1000}, LONG, "option model.warmup_steps is 1,000, but the run has 1,000 "
         "steps: the learning rate never reaches model.lr; give fewer, or train longer"),
        ({}, Length(2, 1, 20, 10), "an epoch has 2 batches: a smaller data.batch_size gives more "
         "steps, and validation after so few says little"),
        ({"ema_decay": 0.999}, Length(40, 1, None, None), ""),
    ],
)  # fmt: skip
def test_what_a_run_is_too_short_for(
    options: dict[str, Any], length: Length, sentence: str
) -> None:
    task = ImageClassifier(nn.Linear(1, 2), num_classes=2, **options)
    assert "".join(too_short(task, length)) == sentence


@pytest.mark.parametrize(
    ("length", "told"),
    [
        (Length(78, 1, 156, 2), True),
        (Length(78, 1, 546, 7), False),
        (Length(78, 1, 100, 2), False),  # its steps were chosen
        (Length(3, 1, 3, 1), False),
    ],
)
def test_a_text_classifier_is_told_of_few_steps(length: Length, told: bool) -> None:
    task = TextClassifier(BagOfEmbeddings(9, 2, embedding_dim=2, buckets=3))
    sentence = (
        "156 steps for words that are learnt from nothing: recipes are made for larger sets; "
        "--trainer.max_epochs 13 gives 1,000"
    )
    assert too_short(task, length) == [sentence] * told


def test_a_class_that_is_missing_is_noted(trainer: Callable[..., Any]) -> None:
    class Data:
        def describe(self) -> Description:
            splits = {"val": SplitFacts(3, "folder val", {"a": 3, "b": 0, "c": 0})}
            return Description("Data", None, "images", "image", splits)

    fit = trainer()
    fit.datamodule = Data()
    told = understand(fit, ImageClassifier(nn.Linear(1, 2), num_classes=2), None, None)
    assert told.notes == ["the val split has no image of classes 'b', 'c'"]
    assert "note  the val split has no image" in told.table()


@pytest.mark.parametrize("flags", [[], ["--quiet"]])
def test_quiet_leaves_the_table_out(
    flags: list[str], trainer: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    request = take_apart(["fit", "--config", "inception", *flags, "--model.lr", "0.1"])
    assert request.flags == ["--model.lr", "0.1"]
    telling = Telling(silent=request.quiet)
    task = ImageClassifier(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), num_classes=10, warmup_steps=9
    )
    trainer(callbacks=[telling], max_steps=1).fit(task, datamodules.Digits(batch_size=100))
    assert telling.understood is not None
    assert telling.understood.plain()["run"]["steps_per_epoch"] == 13
    out = capsys.readouterr().out
    assert ("1 step, 13 steps an epoch, batches of 100; CPU" in out) == (not request.quiet)
    assert ("note    option model.warmup_steps is 9" in out) == (not request.quiet)
