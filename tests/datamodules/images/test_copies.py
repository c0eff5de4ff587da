"""Copies among images: kept together where splits are drawn, told where they are given."""

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules import ImageFolder, ImageNpz
from datamodules.core.copies import Copies, Part
from datamodules.images.dataset import ArrayImages
from datamodules.images.perceptual import perceptual_hashes


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def blobs(count: int, side: int = 32, seed: int = 0) -> np.ndarray:
    """Smooth pictures, uint8 (N, side, side), as photographs are."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 6, 6), dtype=np.uint8)
    grown = [
        Image.fromarray(each).resize((side, side), Image.Resampling.BICUBIC) for each in coarse
    ]
    return np.stack([np.asarray(each) for each in grown])


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """Two classes in folders of three splits; three test images are copies of training images."""
    for number, pixels in enumerate(blobs(60)):
        split = "train" if number < 40 else "val" if number < 50 else "test"
        write(tmp_path / "set" / split / "ab"[number % 2] / f"{number}.png", pixels)
    for number in (3, 4, 5):
        source = tmp_path / "set" / "train" / "ab"[number % 2] / f"{number}.png"
        with Image.open(source) as image:  # other bytes, the same pixels
            image.save(tmp_path / "set" / "test" / "ab"[number % 2] / f"again{number}.bmp")
    return tmp_path / "set"


def test_copies_between_given_splits_are_told_once_and_named(given: Path) -> None:
    data = ImageFolder(str(given), image_size=32, in_channels=1)
    data.setup("fit")
    with pytest.warns(UserWarning, match="3 of 13 test images are copies of images that are tr"):
        data.setup("test")
    copies = data.copies()
    assert copies is not None
    assert copies.values() == {"of test in train": 3}
    assert {(copy.sample, copy.original) for copy in copies} == {
        (f"test/{name}/again{number}.bmp", f"train/{name}/{number}.png")
        for name, number in (("b", 3), ("a", 4), ("b", 5))
    }
    described = data.describe()
    assert {fact.name: fact.text for fact in described.facts}["copies"] == "3 of test in train"
    assert described.notes == ["3 of 13 test images are copies of images that are trained on"]


@pytest.mark.parametrize("near", [None, 2])
def test_copies_share_a_drawn_split(tmp_path: Path, near: int | None) -> None:
    pictures = blobs(60)
    for number, pixels in enumerate(pictures):
        write(tmp_path / "set" / "ab"[number % 2] / f"{number}.png", pixels)
        if number % 2 == 0:
            write(tmp_path / "set" / "a" / f"{number}again.png", pixels)
        elif number % 3 == 0:  # brighter by a shade
            brighter = np.clip(pixels.astype(int) + 3, 0, 255).astype(np.uint8)
            write(tmp_path / "set" / "b" / f"{number}again.png", brighter)
    data = ImageFolder(str(tmp_path / "set"), image_size=32, in_channels=1, near_copies=near)
    data.setup()
    homes: dict[str, set[str]] = {}
    for split in ("train", "val", "test"):
        for row in data.split(split).rows:
            stem = Path(data.names[row]).stem
            homes.setdefault(stem.removesuffix("again"), set()).add(split)
    torn = {int(number) % 2 for number, splits in homes.items() if len(splits) > 1}
    assert torn == (set() if near is not None else {1})  # without hashes near ones fall anywhere
    copies = data.copies()
    assert copies is not None
    kinds = [copy.kind for copy in copies]
    assert kinds.count("exact") == 30
    assert kinds.count("near") == (10 if near is not None else 0)


def test_a_perceptual_hash_is_that_of_what_one_sees() -> None:
    pictures = blobs(50, side=48)
    hashes = perceptual_hashes(pictures[..., None])
    smaller = [np.asarray(Image.fromarray(each).resize((40, 40))) for each in pictures]
    darker = (np.stack(smaller) * 0.8 + 10).astype(np.uint8)
    again = perceptual_hashes(np.repeat(darker[..., None], 3, axis=3))
    apart = np.bitwise_count(hashes[:, None] ^ again)
    assert np.diag(apart).max() <= 6
    assert apart[~np.eye(50, dtype=bool)].min() >= 8


def test_copies_of_real_sets(real_images: Path) -> None:
    data = ImageNpz(str(real_images / "medmnist" / "pneumoniamnist.npz"))
    with pytest.warns(UserWarning, match="8 of 524 val images are copies of images that are tr"):
        data.setup()
    copies = data.copies()
    assert copies is not None
    assert copies.values() == {"in train": 18, "in test": 3, "of val in train": 8}


def test_the_search_takes_no_time_on_sixty_thousand_images() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60_000, 28, 28, 1), dtype=np.uint8)
    pixels[59_000:] = pixels[:1000]
    start = time.monotonic()
    images = ArrayImages(pixels, np.zeros(60_000))
    copies = Copies({"train": Part(images.contents(), images.labels, str, str)})
    assert copies.values() == {"in train": 1000}
    assert time.monotonic() - start < 5  # 0.4 s on a core of its own
