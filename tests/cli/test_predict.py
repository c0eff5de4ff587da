"""Predictions are one process's, whatever devices and nodes are asked for: a row for each input."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

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
