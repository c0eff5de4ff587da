"""Which mask belongs to which image, and how its values become classes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules import SegmentationFolder
from datamodules.core.errors import DataError, UserError
from datamodules.segmentation import folder
from datamodules.segmentation.mask_files import MaskReader
from datamodules.segmentation.pairs import NamePattern, _guess, pair


def save(path: Path, value: int = 0, mode: str = "L", side: int = 8) -> None:
    """A black picture whose left half has a value."""
    pixels = np.zeros((side, side), dtype=np.uint16 if mode == "I;16" else np.uint8)
    pixels[:, : side // 2] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image if mode == "I;16" else image.convert(mode)).save(path, quality=60)


@pytest.mark.parametrize(
    ("images", "masks", "pattern"),
    [
        (["a", "b"], ["a", "b"], "*"),
        (["a", "b"], ["a_mask", "b_mask"], "*_mask"),
        (["a"], ["a_mask"], "*_mask"),
        (["10", "20"], ["10_m", "20_m"], "*_m"),
        (["21_training", "22_training"], ["21_manual1", "22_manual1"], "*_training -> *_manual1"),
        (["img_01", "img_02"], ["mask_01", "mask_02"], "img_* -> mask_*"),
        (["p/img1", "p/img2"], ["p/img1_seg", "p/img2_seg"], "*_seg"),
        (["x1", "x2", "x3"], ["x1_mask", "x2_mask"], "*_mask"),  # one lacks its mask
        (["cat", "dog"], ["one", "two"], "*"),  # nothing in common
    ],
    ids=str,
)
def test_how_names_differ_is_guessed(images: list[str], masks: list[str], pattern: str) -> None:
    assert str(_guess(images, masks)) == pattern


def test_a_guess_is_told_once_and_kept(tmp_path: Path) -> None:
    for number in range(21, 41):
        save(tmp_path / "images" / f"{number}_training.tif", number, "RGB")
        save(tmp_path / "masks" / f"{number}_manual1.gif", 255)
    with pytest.warns(UserWarning, match=r"paired as '\*_training -> \*_manual1', 21_training.tif"):
        data = SegmentationFolder(str(tmp_path), image_size=8)
    assert len(data.names) == 20
    assert data.names[0].endswith("21_training.tif")
    init = data.resolved()["init_args"]
    assert init["mask_pattern"] == "*_training -> *_manual1"
    data.setup()
    assert (data.split("train").masks[0][:, :4] == 1).all()


def drive(root: Path, *splits: str, other: str = "test") -> Path:
    """Splits as DRIVE's are: images of each end in its own name, masks in manual1."""
    for start, split in enumerate(splits):
        ending = other if split.lower().startswith("te") else "training"
        for number in range(20 * start + 1, 20 * start + 4):
            save(root / split / "images" / f"{number:02}_{ending}.tif", number, "RGB")
            save(root / split / "masks" / f"{number:02}_manual1.gif", 255)
    return root


def test_each_split_has_names_of_its_own(tmp_path: Path) -> None:
    root = drive(tmp_path, "train", "val", "test")
    with pytest.warns(UserWarning, match=r"_manual1' in train, .*'\*_test -> \*_manual1' in test"):
        data = SegmentationFolder(str(root), image_size=8)
    assert [Path(name).name for name in data.names[::3]] == [
        "01_training.tif",
        "21_training.tif",
        "41_test.tif",
    ]
    spec = data.resolved()["init_args"]
    assert spec["mask_pattern"] is None
    with pytest.warns(UserWarning, match="in test"):
        assert SegmentationFolder(**spec).names == data.names  # guessed again


@pytest.mark.filterwarnings("ignore:.*names are paired")
def test_a_split_of_one_image_is_paired_as_the_training_images_are(tmp_path: Path) -> None:
    for split, numbers in (("train", (1, 2)), ("val", (3,)), ("test", (4,))):
        for number in numbers:
            save(tmp_path / split / "images" / f"img_{number:02}.png")
            save(tmp_path / split / "masks" / f"mask_{number:02}.png")
    data = SegmentationFolder(str(tmp_path), image_size=8)
    assert data.mask_pattern == "img_* -> mask_*"
    assert len(data.names) == 4


@pytest.mark.filterwarnings("ignore:.*names are paired")
def test_splits_are_known_by_other_names(tmp_path: Path) -> None:
    root = drive(tmp_path, "Training", "valid", "Testing", other="training")
    data = SegmentationFolder(str(root), image_size=8)
    data.setup()
    numbers = {split: data.split(split).index.tolist() for split in ("train", "val", "test")}
    assert numbers == {"train": [0, 1, 2], "val": [3, 4, 5], "test": [6, 7, 8]}
    told = [data._given_by(split) for split in ("train", "val", "test")]
    assert told == ["folder Training", "folder valid", "folder Testing"]
    drive(root, "val")
    with pytest.raises(DataError, match=r"val' and .*valid' are both the val split's"):
        SegmentationFolder(str(root))


@pytest.mark.filterwarnings("ignore:.*names are paired")
def test_only_files_to_train_on_or_to_divide_are_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []

    def keys(paths: list[Path]) -> np.ndarray:
        hashed.extend(path.parent.parent.name for path in paths)
        return np.arange(len(paths))

    monkeypatch.setattr(folder, "file_keys", keys)
    SegmentationFolder(str(drive(tmp_path, "train", "val", "test")), image_size=8)
    assert hashed == ["train"] * 3


def test_masks_may_lie_beside_their_images(tmp_path: Path) -> None:
    for number in range(20):
        save(tmp_path / f"benign ({number}).png", number, "RGB")
        save(tmp_path / f"benign ({number})_mask.png", 255)
    pairs, pattern = pair(tmp_path, None)
    assert str(pattern) == "*_mask"
    assert [path.name for path in pairs.masks[:1]] == ["benign (0)_mask.png"]
    assert len(pairs.images) == 20
    assert not any("mask" in path.name for path in pairs.images)


@pytest.mark.parametrize(
    ("files", "pattern", "words"),
    [
        (["images/a.png"], "mask", r"mask_pattern is 'mask'; give a mask's name with \*"),
        (["images/a.png", "masks/b_m.png"], "*_m", r"a\.png' has no mask; add .*a_m\.png or"),
        (["images/a.png", "masks/a.png"], "*_m", r"a\.png' has no name like '\*_m'; rename"),
        (["images/a.png", "masks/b.png"], None, r"'.*a\.png' has no mask; add .*masks/a\.png or"),
        (["a.png", "b.png"], None, "none that is called like another and ends in _mask"),
        (["a.png", "a_mask.png", "b.png"], None, r"b\.png' has no mask; add .*b_mask\.png"),
    ],
    ids=str,
)
def test_files_that_do_not_pair_end_in_a_sentence(
    tmp_path: Path, files: list[str], pattern: str | None, words: str
) -> None:
    for file in files:
        save(tmp_path / file)
    with pytest.raises(UserError, match=words):
        SegmentationFolder(str(tmp_path), mask_pattern=pattern, val_fraction=0, test_fraction=0)


def read(path: Path, classes: int = 2, **options: Any) -> np.ndarray:
    reader = MaskReader(classes, options.get("ignore_value"), None, options.get("threshold"))
    return reader.classes(reader.read(path), path)


@pytest.mark.parametrize(
    ("name", "mode", "value", "threshold"),
    [
        ("x.jpg", "L", 255, None),
        ("x.jpeg", "RGB", 250, None),
        ("x.png", "L", 90, 50),
        ("x.png", "RGB", 90, 50),
        ("x.png", "L", 17, 1),
        ("x.png", "I;16", 4000, 1),
    ],
    ids=str,
)
def test_values_from_a_threshold_on_are_foreground(
    tmp_path: Path, name: str, mode: str, value: int, threshold: int | None
) -> None:
    save(tmp_path / name, value, mode)
    classes = read(tmp_path / name, threshold=threshold)
    assert np.array_equal(classes, np.repeat([[1] * 4 + [0] * 4], 8, axis=0))


def test_instances_in_colours_are_one_foreground_and_what_is_ignored_stays_so(
    tmp_path: Path,
) -> None:
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    pixels[0], pixels[1] = (0, 0, 200), (10, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    assert np.array_equal(read(tmp_path / "x.png", threshold=1)[:, 0], [1, 1, 0, 0])
    Image.fromarray(np.array([[0, 1, 9, 200]], dtype=np.uint8)).save(tmp_path / "y.png")
    assert read(tmp_path / "y.png", threshold=5, ignore_value=1).tolist() == [[0, 255, 1, 1]]


def test_values_beyond_the_classes_and_blurred_ones_end_in_a_sentence(tmp_path: Path) -> None:
    save(tmp_path / "x.png", 17)
    with pytest.raises(DataError, match=r"value 17, outside .* numbered instances .*threshold: 1"):
        read(tmp_path / "x.png")
    save(tmp_path / "x.jpg", 2)
    with pytest.raises(DataError, match=r"x\.jpg' is a JPEG, which blurs the numbers of 3 classes"):
        read(tmp_path / "x.jpg", classes=3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": 0}, "threshold is 0; give 1 or more"),
        ({"threshold": 9, "class_names": list("abc")}, "threshold is 9; leave it out, as it makes"),
        ({"threshold": 9, "palette": [[0, 0, 0], [9, 9, 9]]}, "give it or palette, not both"),
        ({"threshold": 9, "ignore_value": 9}, "threshold is 9; give more than 9, which is the ig"),
    ],
    ids=str,
)
def test_thresholds_that_cannot_be(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        SegmentationFolder(str(tmp_path), **options)


def test_a_pattern_is_read_as_it_is_written() -> None:
    for text in ("*", "*_mask", "a*b -> c*d"):
        assert str(NamePattern.parse(text)) == text
