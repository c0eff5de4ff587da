"""Predictions are one process's, whatever devices and nodes are asked for: a row for each input."""

import csv
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import zoo as package
from zoo.cli.cli import one_of_devices

ENOUGH = (
    "--data.batch_size 4 --wandb off --trainer.max_epochs 1 --trainer.limit_train_batches 1 "
    "--trainer.limit_val_batches 1 --trainer.limit_test_batches 1 --trainer.accelerator cpu"
)
MANY = "--trainer.devices 2 --trainer.num_nodes 2 --trainer.strategy ddp"


def draw(folder: str, grey: int = 0) -> None:
    Path(folder).mkdir(parents=True)
    for number in range(9):
        pixels = np.random.default_rng(number).integers(0, 2, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels * 255 if grey else pixels * 90).save(f"{folder}/{number}.png")


def images() -> tuple[str, str]:
    draw("images/a")
    draw("images/b", 255)
    data = "--data ImageFolder --data.root images --data.image_size 8"
    data += " --data.allow_missing_classes true"
    return f"--model ImageClassifier --model.net MLP {data}", "--inputs images"


def images_of_the_test_set() -> tuple[str, str]:
    return images()[0] + " --data.test_fraction 0.5", ""


def masks() -> tuple[str, str]:
    draw("cells/images"), draw("cells/masks", 255)
    data = "--data SegmentationFolder --data.root cells --data.image_size 8"
    net = "--model ImageSegmenter --model.net UNet --model.net.depth 1 --model.net.width 4"
    return f"{net} {data}", "--inputs cells/images"


def write(name: str, rows: list[tuple[Any, ...]]) -> None:
    with Path(name).open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def table() -> tuple[str, str]:
    write("t.csv", [("x", "y"), *((n, n * 0.5 + n % 3) for n in range(30))])
    data = "--data CSVTable --data.path t.csv --data.target y"
    return f"--model Regressor --model.net MLP {data}", "--inputs t.csv"


def texts() -> tuple[str, str]:
    write("t.csv", [("text", "label"), *((f"word{n % 5} and {n}", n % 2) for n in range(30))])
    net = "--model TextClassifier --model.net BagOfEmbeddings"
    return f"{net} --data TextClassification --data.path t.csv", "--inputs t.csv"


def prompts() -> tuple[str, str]:
    Path("t.txt").write_text("".join(f"{n} is a number\n" for n in range(99)))
    net = "--model LanguageModel --model.net RNNLanguageModel --model.sample_tokens 3"
    data = "--data TextCorpus --data.path t.txt --data.tokenizer char --data.max_length 16"
    return f"{net} {data}", "--inputs 1 2 3"


@pytest.mark.parametrize("kind", [images, images_of_the_test_set, masks, table, texts, prompts])
def test_several_devices_lose_no_row(
    zoo: Callable[[str], Any], kind: Callable[[], tuple[str, str]]
) -> None:
    options, inputs = kind()
    assert zoo(f"fit {options} {ENOUGH}").code == 0
    (checkpoint,) = Path("runs").glob("*/*/checkpoints/last.ckpt")
    predict = f"predict --ckpt_path {checkpoint} {inputs} --trainer.accelerator cpu "
    for root, extra in (("one", ""), ("many", MANY)):
        assert zoo(f"{predict} --trainer.default_root_dir {root} {extra}").code == 0
    (one,), (many,) = (list(Path(root).glob("*/*/predictions.csv")) for root in ("one", "many"))
    assert many.read_text() == one.read_text()
    assert len(one.read_text().splitlines()) > 3
    masks_of = [sorted(path.name for path in each.parent.glob("masks/*")) for each in (one, many)]
    assert masks_of[0] == masks_of[1]


def test_other_processes_of_a_launcher_predict_nothing(
    zoo: Callable[[str], Any], checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw("images")
    predict = f"predict --ckpt_path {checkpoint} --inputs images --trainer.accelerator cpu"
    monkeypatch.setattr("lightning_utilities.core.rank_zero.rank_zero_only.rank", 1)
    assert zoo(predict) == (0, "", "")
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("asked", "one"),
    [("auto", 1), (4, 1), ("4", 1), (-1, 1), ([2, 3], [2]), ("2, 3", [2]), ("[2,3]", [2])],
)
def test_one_of_the_devices(asked: Any, one: Any) -> None:
    assert one_of_devices(asked) == one


#: A package of the user's own: classes that wait for the hooks of a Trainer.
MINE = """
import lightning as L
from torch import nn
import zoo
from datamodules import Digits


class Waits(zoo.ImageClassifier):
    def __init__(self, net: nn.Module, *, gives: str = "probabilities", **kwargs):
        super().__init__(net, **kwargs)
        self.gives, self.shift = gives, None

    def on_predict_start(self):
        self.shift = 1.0

    def predict_step(self, batch, batch_idx):
        assert self.trainer.predicting
        logits = self.net(batch[0]) * self.shift
        return {self.gives: logits.softmax(1), "index": batch[2]} if self.gives else logits


class Ours(zoo.ImageClassifier):
    def on_predict_start(self):
        print("hook of a task", flush=True)


class Marked(Digits):
    def on_before_batch_transfer(self, batch, dataloader_idx):
        assert self.trainer.predicting or self.trainer.training or self.trainer.evaluating
        print("hook of data", flush=True)
        return batch


class Noted(L.Callback):
    def on_predict_end(self, trainer, pl_module):
        print("hook of a callback", flush=True)
"""

MINIMAL = "--model.net MLP --trust mine --wandb off"


@pytest.fixture
def _mine(monkeypatch: pytest.MonkeyPatch, zoo: Any) -> Iterator[None]:
    Path("mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(Path.cwd())
    yield
    sys.modules.pop("mine", None)


def fitted(zoo: Callable[[str], Any], options: str) -> str:
    assert zoo(f"fit {options} {MINIMAL} {ENOUGH}").code == 0
    (checkpoint,) = Path("runs").glob("*/*/checkpoints/last.ckpt")
    return f"predict --trust mine --ckpt_path {checkpoint} --trainer.accelerator cpu"


@pytest.mark.usefixtures("_mine")
def test_hooks_of_foreign_classes_and_callbacks_are_called(zoo: Callable[[str], Any]) -> None:
    predict = fitted(zoo, "--model mine.Ours --data mine.Marked")
    ended = zoo(f"{predict} --trainer.callbacks mine.Noted --trainer.limit_predict_batches 1")
    assert ended.code == 0
    hooks = [line for line in ended.out.splitlines() if line.startswith("hook")]
    assert hooks == ["hook of a task", "hook of data", "hook of a callback"]
    (path,) = Path("runs").glob("predict/*/predictions.csv")
    assert len(path.read_text().splitlines()) == 5  # of the test set, a batch of 4


@pytest.mark.usefixtures("_mine")
def test_a_callback_changes_no_number(zoo: Callable[[str], Any], checkpoint: Path) -> None:
    draw("images")
    predict = f"predict --trust mine --ckpt_path {checkpoint} --inputs images --trainer.accelerator"
    for root, more in (("without", ""), ("with", "--trainer.callbacks mine.Noted")):
        ended = zoo(f"{predict} cpu {more} --trainer.default_root_dir {root}")
        assert ended.code == 0
        assert ("hook of a callback" in ended.out) is bool(more)
    first, second = (next(Path(r).glob("*/*/predictions.csv")) for r in ("without", "with"))
    assert first.read_text() == second.read_text()


@pytest.mark.usefixtures("_mine")
def test_a_foreign_task_predicts_with_its_trainer(zoo: Callable[..., Any]) -> None:
    predict = fitted(zoo, "--model mine.Waits --data Digits")
    ended = zoo(f"{predict} --trainer.limit_predict_batches 1")
    assert ended.code == 0
    (path,) = Path("runs").glob("predict/*/predictions.csv")
    assert path.read_text().startswith("input,prediction,probability,p(0),")
    checkpoint = predict.split()[4]
    pixels = np.zeros((8, 8), np.uint8)
    result: Any = package.load(checkpoint, device="cpu", trust=["mine"])(pixels)
    assert sum(result.probabilities.values()) == pytest.approx(1)
    ended = zoo([*predict.split(), "--model.gives", ""])
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "Waits.predict_step gives an array (4, 10) of float32; give a dictionary" in ended.err


def test_what_predict_takes_no_notice_of_is_said(
    zoo: Callable[[str], Any], checkpoint: Path
) -> None:
    draw("images")
    predict = f"predict --ckpt_path {checkpoint} --inputs images --trainer.accelerator cpu"
    assert "takes no notice" not in zoo(predict).out
    ended = zoo(f"{predict} --trainer.strategy ddp --trainer.profiler simple")
    said = "predict takes no notice of trainer.strategy and trainer.profiler: one device computes"
    assert said in ended.out
