"""Other data than a net was trained on is tested whole; what it was trained on is known again."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules import (
    CSVTable,
    ImageFolder,
    SegmentationFolder,
    SyntheticCells,
    TextClassification,
)
from datamodules.core.errors import DataError

COUNT = 60


def images(place: Path, numbers: list[int]) -> dict[str, str]:
    for number in numbers:
        path = place / "ab"[number % 2] / f"{number % 97}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return {"root": str(place)}


def table(place: Path, numbers: list[int]) -> dict[str, str]:
    place.mkdir()
    rows = [f"{number % 7},{number}" for number in numbers]
    (place / "t.csv").write_text("\n".join(["a,y", *rows]))
    return {"path": str(place / "t.csv")}


def texts(place: Path, numbers: list[int]) -> dict[str, str]:
    place.mkdir()
    rows = [f"the text of number {number},{number % 2}" for number in numbers]
    (place / "t.csv").write_text("\n".join(["text,label", *rows]))
    return {"path": str(place / "t.csv")}


def masks(place: Path, numbers: list[int]) -> dict[str, str]:
    for number in numbers:
        pixels = np.random.default_rng(number).integers(0, 2, (2, 8, 8), dtype=np.uint8)
        for folder, own in zip(("images", "masks"), pixels, strict=True):
            (place / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(own).save(place / folder / f"{number % 97}.png")
    return {"root": str(place)}


KINDS = {
    images: (ImageFolder, {"image_size": 8, "in_channels": 1}),
    masks: (SegmentationFolder, {"image_size": 8, "in_channels": 1}),
    table: (CSVTable, {"target": "y"}),
    texts: (TextClassification, {"tokenizer": "word", "min_frequency": 1}),
}


@pytest.mark.parametrize("write", KINDS, ids=lambda kind: kind.__name__)
def test_other_data_is_tested_whole(tmp_path: Path, write: Callable[..., dict[str, str]]) -> None:
    kind, options = KINDS[write]
    data = kind(**write(tmp_path / "old", [*range(COUNT)]), **options)
    data.setup()
    sizes = {split: len(data.split(split)) for split in ("train", "val", "test")}
    spec = json.loads(json.dumps(data.resolved()))["init_args"]

    def evaluated(place: dict[str, str], stage: str) -> int:
        other = kind(**{**spec, **place})
        for _ in range(2):  # as the command line and Lightning each do
            other.setup(stage)
        assert list(other._splits) == ["val" if stage == "validate" else "test"]
        return len(other.split("val" if stage == "validate" else "test"))

    # Others, of the same names even: all of them.
    new = write(tmp_path / "new", [*range(1000, 1000 + COUNT // 2)])
    assert evaluated(new, "test") == COUNT // 2
    assert evaluated(new, "validate") == COUNT // 2
    other = kind(**{**spec, **new})
    other.setup("test")
    assert other.describe().splits["test"].origin == "all of it, as the net was trained on others"
    # To be trained on, they are divided.
    other.setup("fit")
    other.setup("test")
    assert sum(len(other.split(split)) for split in sizes) == COUNT // 2
    # What was trained on, elsewhere and with a few more: the checkpoint's split.
    moved = write(tmp_path / "moved", [*range(COUNT + 6)])
    with pytest.warns(UserWarning, match="have changed since the checkpoint was made"):
        count = evaluated(moved, "test")
    assert sizes["test"] <= count <= sizes["test"] + 6
    # In its own place it is the same set, whatever has become of it.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = kind(**spec)
        again.setup("test")
    assert len(again.split("test")) == sizes["test"]
    # A few among others that the net has seen are told.
    mixed = write(tmp_path / "mixed", [*range(1000, 1060), *range(12)])
    with pytest.warns(UserWarning, match=r"about 1?[0-9] \w+ of .* that the net was trained on"):
        count = evaluated(mixed, "test")
    assert count == COUNT + 12


def _set_up(kind, spec):
    data = kind(**spec)
    data.setup("test")
    return data


@pytest.mark.parametrize("write", KINDS, ids=lambda kind: kind.__name__)
def test_others_in_the_same_place_are_tested_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[..., dict[str, str]]
) -> None:
    kind, options = KINDS[write]
    for folder, numbers in (("one", range(COUNT)), ("two", range(970, 970 + COUNT // 2))):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        place = write(Path("set"), [*numbers])  # as another directory or machine may have it
        if folder == "one":
            data = kind(**place, **options)
            data.setup()
            spec = json.loads(json.dumps(data.resolved()))["init_args"]
    with pytest.warns(UserWarning, match=r"set.*' has other \w+ than those that the net was train"):
        other = _set_up(kind, spec)
    for stage in ("validate", "test"):
        with warnings.catch_warnings(action="ignore"):
            other.setup(stage)
        split = "val" if stage == "validate" else "test"
        assert len(other.split(split)) == COUNT // 2
        assert other.describe().splits[split].origin.startswith("all of it")


@pytest.mark.parametrize("write", [images, table])
def test_a_checkpoint_that_keeps_no_sketch_goes_by_its_partition(
    tmp_path: Path, write: Callable[..., dict[str, str]]
) -> None:
    kind, options = KINDS[write]
    data = kind(**write(tmp_path / "set", [*range(COUNT)]), **options)
    data.setup()
    spec = json.loads(json.dumps(data.resolved()))["init_args"]
    for share in spec["partition"].values():
        for name in {*share} - {"drawn_by", "ends", "count", "mark"}:
            del share[name]
    again = kind(**spec)
    again.setup("test")
    assert again.marks()["test"] == data.marks()["test"]


def test_the_same_images_in_another_size_are_known_by_their_place(tmp_path: Path) -> None:
    data = ImageFolder(**images(tmp_path / "set", [*range(COUNT)]), image_size=8, in_channels=1)
    data.setup()
    spec = json.loads(json.dumps(data.resolved()))["init_args"]
    larger = ImageFolder(**{**spec, "image_size": 12})
    larger.setup("test")
    assert np.array_equal(larger.split("test").rows, data.split("test").rows)


def test_a_drawn_set_is_never_of_others() -> None:
    data = SyntheticCells(count=30, image_size=16)
    data.setup("test")
    assert not data._are_others(np.arange(1000, 1030))  # as a few of many are


def test_copies_among_images_with_masks(tmp_path: Path) -> None:
    for split, numbers in (("train", range(20)), ("val", range(20, 25)), ("test", range(22, 30))):
        masks(tmp_path / "set" / split, [*numbers])
    data = SegmentationFolder(str(tmp_path / "set"), image_size=8, in_channels=1)
    data.setup()
    copies = data.copies()
    assert copies is not None
    assert copies.values() == {"of test in val": 3}
    assert next(iter(copies)).original == "val/images/22.png"


def test_a_test_folder_alone_and_other_classes(tmp_path: Path) -> None:
    spec = {**images(tmp_path / "old", [*range(COUNT)]), "image_size": 8, "in_channels": 1}
    data = ImageFolder(**spec)
    data.setup()
    spec = json.loads(json.dumps(data.resolved()))["init_args"]
    for numbers, folder in (([*range(1000, 1030)], "both"), ([*range(1000, 1030, 2)], "one")):
        images(tmp_path / folder / "test", numbers)
        other = ImageFolder(**{**spec, "root": str(tmp_path / folder)})
        other.setup("test")
        assert len(other.split("test")) == len(numbers)
        assert other.class_names == ["a", "b"]
    (tmp_path / "both" / "test" / "a").rename(tmp_path / "both" / "test" / "c")
    with pytest.raises(
        DataError, match="test' has the classes 'b', 'c', but the net knows 'a', 'b'; train on"
    ):
        ImageFolder(**{**spec, "root": str(tmp_path / "both")})
