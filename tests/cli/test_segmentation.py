"""Masks from files of one's own: trained, tested, and predicted from a checkpoint alone."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


def write_pairs(root: Path, count: int) -> None:
    """Bright discs on dark ground, of any size, in any mode, of 1, 8 or 16 bits."""
    generator = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for number in range(count):
        height, width = generator.integers(30, 60, 2)
        y, x = np.mgrid[:height, :width]
        disc = (y - height / 2) ** 2 + (x - width / 2) ** 2 < 100
        grey = np.where(disc, 200, 50) + generator.integers(0, 30, (height, width))
        image = Image.fromarray(grey.astype(np.uint8))
        mode = ("L", "RGB", "16", "RGBA", "P", "LA", "1")[number % 7]
        if mode == "16":
            image = Image.fromarray((grey * 257).astype(np.uint16))
        elif mode == "1":
            image = Image.fromarray(grey > 127)
        else:
            image = image.convert(mode)
        image.save(root / "images" / f"{number}.png")
        mask = Image.fromarray((disc * 255).astype(np.uint8))
        (mask.convert("1") if number % 2 else mask).save(root / "masks" / f"{number}.png")


def test_a_folder_of_mixed_files(zoo: Callable[[str], Any]) -> None:
    write_pairs(Path("discs"), 40)
    ended = zoo(
        "fit --config unet --data SegmentationFolder --data.root discs --data.image_size 32 "
        "--data.batch_size 8 --model.net.depth 2 --model.net.width 8 --trainer.max_epochs 8 "
        "--trainer.accelerator cpu --trainer.enable_progress_bar false --wandb off"
    )
    assert ended.code == 0, ended.err
    (run,) = Path("runs/unet").iterdir()
    assert json.loads((run / "summary.json").read_text())["test"]["dice"] > 0.8
    assert {"masks.png", "batch.png", "confusion.png"} < {path.name for path in run.iterdir()}
    checkpoint = (run / "checkpoints" / "best.ckpt").rename("alone.ckpt")
    for verb in ("validate", "test"):
        ended = zoo(f"{verb} --ckpt_path {checkpoint} --wandb off")
        assert ended.code == 0, ended.err
    Path("discs/masks").rename("kept")
    ended = zoo(f"predict --ckpt_path {checkpoint} --inputs discs/images --wandb off")
    assert ended.code == 0, ended.err
    (path,) = Path("runs/predict").glob("*/predictions.csv")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    overlaps = []
    for row in rows:
        said = np.asarray(Image.open(path.parent / row["mask"])) == 1
        true = np.asarray(Image.open(Path("kept") / Path(row["input"]).name)) > 0
        assert said.shape == true.shape
        assert float(row["share(foreground)"]) == pytest.approx(said.mean(), abs=1e-6)
        overlaps.append(2 * (said & true).sum() / (said.sum() + true.sum()))
    assert np.mean(overlaps) > 0.8
