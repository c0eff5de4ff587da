"""Images of one's own, of whatever kind: trained, validated, tested and predicted."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Zoo = Callable[[str], Any]


def kinds(grey: np.ndarray) -> dict[str, Image.Image]:
    """A picture in every mode and depth that files come in, by the name that its file gets."""
    eight = Image.fromarray(grey.astype(np.uint8))
    deep = grey.astype(np.uint16) * 257
    return {
        "grey.png": eight,
        "one_bit.png": eight.point(lambda value: 255 * (value > 127)).convert("1"),
        "palette.gif": eight.convert("P"),
        "grey_alpha.png": eight.convert("LA"),
        "colour.jpg": eight.convert("RGB"),
        "colour_alpha.png": eight.convert("RGBA"),
        "cmyk.jpg": eight.convert("RGB").convert("CMYK"),
        "deep.png": Image.fromarray(deep),
        "deep.tif": Image.fromarray(deep),
        "whole.tif": Image.fromarray(deep.astype(np.int32)),
    }


def write_images(root: Path, seed: int = 0) -> None:
    """Bright images and dark ones, each of a size of its own."""
    generator = np.random.default_rng(seed)
    for label, level in (("bright", 190), ("dark", 30)):
        (root / label).mkdir(parents=True)
        for number in range(4):
            height, width = generator.integers(20, 60, 2)
            grey = level + generator.integers(0, 40, (height, width))
            for name, image in kinds(grey).items():
                image.save(root / label / f"{number}_{name}")


def test_a_folder_of_mixed_size_depth_and_mode(zoo: Zoo) -> None:
    write_images(Path("mixed"))
    end = "--trainer.accelerator cpu --trainer.enable_progress_bar false --wandb off"
    ended = zoo(
        "fit --config inception --data ImageFolder --data.root mixed --data.image_size 16 "
        f"--data.val_fraction 0.2 --data.test_fraction 0.2 --data.batch_size 8 "
        f"--trainer.max_epochs 4 {end}"
    )
    assert ended.code == 0, ended.err
    (run,) = Path("runs/inception").iterdir()
    test = json.loads((run / "summary.json").read_text())["test"]
    assert test["acc"] >= 0.9
    checkpoint = run / "checkpoints" / "best.ckpt"
    for verb in ("validate", "test"):
        ended = zoo(f"{verb} --ckpt_path {checkpoint} {end}")
        assert ended.code == 0, ended.err
    # A picture in several kinds of files is one picture, and stands in one split.
    with (run / "copies.csv").open() as file:
        copies = list(csv.DictReader(file))
    assert len(copies) >= 2 * 4 * 4
    for copy in copies:
        assert copy["split"] == copy["original_split"]
        if "one_bit" not in copy["sample"]:  # all black or all white
            assert copy["sample"].split("_")[0] == copy["original"].split("_")[0]
    ended = zoo(f"predict --ckpt_path {checkpoint} --inputs mixed {end}")
    assert ended.code == 0, ended.err
    (path,) = Path("runs/predict").glob("*/predictions.csv")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 4 * len(kinds(np.zeros((1, 1))))
    right = [row["prediction"] == Path(row["input"]).parent.name for row in rows]
    assert np.mean(right) >= 0.9


OWN = """
from torch import nn


class Three(nn.Module):
    \"\"\"A net of somebody's that takes three channels, whatever the data has.\"\"\"

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, num_classes)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))
"""


def test_grey_images_come_to_a_net_for_colours_as_it_takes_them(zoo: Zoo) -> None:
    Path("three_channels.py").write_text(OWN)
    line = (
        "fit --config inception --model.net three_channels.Three --trust three_channels "
        "--trainer.max_epochs 1 --trainer.limit_train_batches 1 --trainer.limit_val_batches 1 "
        "--trainer.limit_test_batches 1 --trainer.accelerator cpu --wandb off"
    )
    ended = zoo(line)
    assert ended.code == 2
    assert "images of 1 channel" in ended.err
    assert "set data.channels to 3, or to auto" in ended.err
    ended = zoo(f"{line} --data.channels auto")
    assert ended.code == 0, ended.err
    assert "8x8, colour" in ended.out


def test_other_images_are_tested_whole(zoo: Zoo) -> None:
    write_images(Path("first"))
    end = "--trainer.accelerator cpu --trainer.enable_progress_bar false --wandb off"
    ended = zoo(
        "fit --config r.yaml --data ImageFolder --data.root first --data.image_size 16 "
        f"--data.batch_size 16 --model.net MLP {end}"
    )
    assert ended.code == 0, ended.err
    (checkpoint,) = Path("runs/r").glob("*/checkpoints/best.ckpt")
    write_images(Path("second"), seed=1)
    ended = zoo(f"test --ckpt_path {checkpoint} --data.root second {end}")
    assert ended.code == 0, ended.err
    assert "  test       80  bright 40, dark 40  all of it, as the net was trained" in ended.out
    Path("second/dark").rename("second/dim")
    ended = zoo(f"test --ckpt_path {checkpoint} --data.root second {end}")
    assert ended.code == 2
    assert ended.err.startswith(
        "zoo: 'second' has the classes 'bright', 'dim', but the net knows 'bright', 'dark'; train"
    )
