import itertools
import os
import threading
import time
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules import ImageFolder, ImageInputs
from datamodules.core.cache import cache_folder
from datamodules.core.errors import DataError, OptionError, UserError
from datamodules.images import image_folder
from datamodules.images.cache import decoded
from datamodules.images.decode import read_image


def save(path: Path, pixels: np.ndarray | None = None, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels is None:
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes with 20 and 10 images of 8x8 pixels."""
    for name, count in (("cat", 20), ("dog", 10)):
        for i in range(count):
            save(tmp_path / "images" / name / f"{i:02}.png", seed=i)
    return tmp_path / "images"


def build(root: Path, stage: str | None = None, **kwargs) -> ImageFolder:
    data = ImageFolder(str(root), image_size=kwargs.pop("image_size", 8), **kwargs)
    data.setup(stage)
    return data


def test_facts_come_from_a_listing(root, monkeypatch) -> None:
    (root / "cat" / "._00.png").write_bytes(b"no image")
    (root / "cat" / "notes.txt").write_text("no image")
    (root / ".git").mkdir()
    monkeypatch.setattr(image_folder, "read_image", None)
    data = ImageFolder(str(root))
    assert (data.num_classes, data.class_names) == (2, ["cat", "dog"])
    assert (data.image_size, data.in_channels) == (224, 3)
    assert len(data.names) == 30


def test_splits_and_pixels(root) -> None:
    data = build(root)
    rows = [data.split(name).rows.tolist() for name in ("train", "val", "test")]
    assert sorted(itertools.chain(*rows)) == list(range(30))
    assert [len(r) for r in rows] == [24, 3, 3]
    batch = data.split("test").__getitems__([0, 1, 2])
    for image, label, index in zip(*batch, strict=True):
        path = Path(data.names[index])
        assert data.class_names[label] == path.parent.name
        assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(Image.open(path)))
    assert build(root).split("val").rows.tolist() == rows[1]
    assert build(root, split_seed=1).split("val").rows.tolist() != rows[1]
    train = data.split("train")
    moments = train.moments()
    train.sums = None
    assert moments == train.moments()


def test_folders_for_splits(root, tmp_path) -> None:
    split = tmp_path / "split"
    root.rename(tmp_path / "x")
    split.mkdir()
    (tmp_path / "x").rename(split / "train")
    for i in range(4):
        save(split / "val" / "dog" / f"{i}.png", seed=100 + i)
        save(split / "test" / "cat" / f"{i}.jpg", seed=200 + i)
    data = build(split, allow_missing_classes=True)
    assert [len(data.split(s)) for s in ("train", "val", "test")] == [30, 4, 4]
    for name in ("train", "val", "test"):
        index = data.split(name).__getitems__([0, 1, 2, 3]).index
        assert all(f"/split/{name}/" in data.names[i] for i in index)
    resident = build(split, resident=True, allow_missing_classes=True)
    for one, two in (
        (data.val_dataloader(), resident.val_dataloader()),
        (data.test_dataloader(), resident.test_dataloader()),
    ):
        images = [
            d.prepare_batch(next(iter(loader)), training=False, epoch=0).image
            for d, loader in ((data, one), (resident, two))
        ]
        assert np.array_equal(*images)
    # A split without a folder comes out of the training images.
    (split / "val").rename(tmp_path / "val")
    data = build(split, allow_missing_classes=True)
    assert [len(data.split(s)) for s in ("train", "val", "test")] == [27, 3, 4]
    save(split / "test" / "cow" / "0.png")
    with pytest.raises(DataError, match=r"test' has the classes 'cat', 'cow', but the "):
        ImageFolder(str(split))


def test_class_names(root) -> None:
    data = build(root, "fit", class_names=["dog", "cat"])
    assert data.class_names == ["dog", "cat"]
    first = data.split("train").__getitems__([0])
    assert Path(data.names[first.index[0]]).parent.name == "dog"
    assert first.label[0] == 0
    for names, words in (
        (["cat"], "add 'dog'"),
        (["cat", "dog", "cow"], "remove 'cow', of which .* has no images"),
        (["cat", "dog", "cat"], "name each class once"),
    ):
        with pytest.raises(OptionError, match=f"class_names is .*{words}"):
            ImageFolder(str(root), class_names=names)


def test_wrong_folders(tmp_path, root) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(OptionError, match=r"root is .*absent'; give a folder that exists"):
        ImageFolder(str(tmp_path / "absent"))
    with pytest.raises(DataError, match="holds no class folders"):
        ImageFolder(str(empty))
    save(empty / "lonely.png")
    with pytest.raises(DataError, match="holds no class folders"):
        ImageFolder(str(empty))
    (root / "cow").mkdir()
    (root / "cow" / "readme.md").write_text("soon")
    with pytest.raises(DataError, match=r"cow' holds no images; add some or remove the folder"):
        ImageFolder(str(root))
    (root / "emu").mkdir()
    with pytest.raises(
        DataError, match=r"/cow', '.*/emu' hold no images; add some or remove the f"
    ):
        ImageFolder(str(root))
    (empty / "val").mkdir()
    (empty / "test").mkdir()
    with pytest.raises(DataError, match=r"val' holds no class folders"):
        ImageFolder(str(empty))
    (empty / "train").mkdir()
    with pytest.raises(DataError, match=r"train' holds no class folders"):
        ImageFolder(str(empty))


@pytest.mark.parametrize("fault", ["truncated", "empty", "garbage", "bomb"])
def test_broken_images(root, monkeypatch, fault) -> None:
    path = root / "cat" / "03.png"
    if fault == "truncated":
        path = path.rename(root / "cat" / "03.jpg")
        save(path, np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
        path.write_bytes(path.read_bytes()[:1500])
    elif fault == "bomb":
        save(path, np.zeros((100, 100, 3), dtype=np.uint8))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    else:
        path.write_bytes(b"" if fault == "empty" else b"\x89PNG\r\n\x1a\n garbage" * 9)
    for _ in range(2):
        with pytest.raises(DataError, match=rf"cat/{path.name}' .*skip_broken: true"):
            build(root, "fit")
    with pytest.warns(UserWarning, match=rf"left out 1 of 30 images.*cat/{path.name}") as caught:
        data = build(root, skip_broken=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.setup("test")  # it is told once
    (said,) = {str(w.message) for w in caught if "left out" in str(w.message)}
    assert said.count(path.name) == 1
    assert "; " not in said
    rows = [i for s in ("train", "val", "test") for i in data.split(s).rows]
    assert len(rows) == 29
    assert str(path) not in [data.names[i] for i in rows]


@pytest.mark.parametrize("skip_broken", [False, True])
def test_folder_in_which_every_file_is_broken(root, skip_broken) -> None:
    for path in (root / "dog").iterdir():
        path.write_bytes(b"nothing")
    words = r"dog' holds broken files alone \(10 of 10\), the first being .*dog/00\.png' cannot be"
    with pytest.raises(DataError, match=words):
        build(root, "fit", skip_broken=skip_broken)


def test_class_that_a_split_lacks(root, tmp_path) -> None:
    for path in sorted((root / "dog").iterdir())[2:]:
        path.unlink()
    data = build(root)  # two dogs cannot stand in three splits
    counts = {s: data._class_counts(data.split(s)).tolist() for s in ("train", "val", "test")}
    assert counts == {"train": [16, 1], "val": [2, 0], "test": [2, 1]}
    # There is nothing to learn of a class that the training split lacks.
    split = tmp_path / "split"
    for name in ("train", "val", "test"):
        for label in ("cat", "dog"):
            save(split / name / label / "0.png")
    (split / "train" / "dog" / "0.png").write_bytes(b"")
    save(split / "train" / "dog" / "1.png")
    with pytest.warns(UserWarning, match="left out 1 of 5 images"):
        build(split, skip_broken=True)
    (split / "test" / "dog" / "0.png").unlink()
    with (
        pytest.raises(DataError, match="split' has no image of class 'dog' in its test split; add"),
        pytest.warns(UserWarning, match="left out"),
    ):
        build(split, skip_broken=True)


@pytest.mark.parametrize(
    ("options", "colour"),
    [
        ({}, "grey, read as colour (in_channels 1 keeps them grey)"),
        ({"in_channels": 1}, "grey"),
        ({"in_channels": 1, "channels": 3}, "colour"),
    ],
    ids=["read as colour", "read as grey", "grey for a net of colours"],
)
def test_grey_files_read_as_colour_are_told(tmp_path, options, colour) -> None:
    for name in ("cat", "dog"):
        for number in range(9):
            save(
                tmp_path / "grey" / name / f"{number}.png", np.full((8, 8), number, dtype=np.uint8)
            )
    told = build(tmp_path / "grey", **options).describe().facts[0].text
    assert told.split(", ", 1)[1] == colour
    save(tmp_path / "grey" / "cat" / "0.png", np.zeros((8, 8, 3), dtype=np.uint8))
    assert "read as" not in build(tmp_path / "grey", **options).describe().facts[0].text


def test_second_run_decodes_nothing(root, monkeypatch) -> None:
    calls = []

    def counting(*args, **kwargs):
        calls.append(args)
        return read_image(*args, **kwargs)

    monkeypatch.setattr(image_folder, "read_image", counting)
    first = build(root, "fit")
    assert len(calls) == 30
    with monkeypatch.context() as patch:
        patch.setattr("filelock.FileLock", None)  # a cache that is only to be read will do
        second = build(root, "fit")
    assert len(calls) == 30
    assert isinstance(second.split("train").images, np.memmap)
    assert np.array_equal(first.split("train").images, second.split("train").images)
    for change in ({"image_size": 4}, {"in_channels": 1}, {"window": [1, 99]}):
        calls.clear()
        build(root, "fit", **change)
        assert len(calls) == 30
    calls.clear()
    os.utime(root / "cat" / "00.png", ns=(5, 5))
    build(root, "fit")
    assert len(calls) == 30
    save(root / "cat" / "new.png", seed=99)
    assert len(build(root, "fit").split("train")) == 25


def test_cache_that_cannot_be_used(root, monkeypatch, tmp_path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("ZOO_CACHE", str(blocked))
    with pytest.warns(UserWarning, match="ZOO_CACHE"):
        data = build(root, "fit")
    assert not isinstance(data.split("train").images, np.memmap)
    assert data.split("train").images[:, 0, 0].any()
    # a damaged one is made again
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "good"))
    build(root, "fit")
    (file,) = (tmp_path / "good").rglob("images.npy")
    file.write_bytes(b"\x93NUMPY")
    again = build(root, "fit")
    assert np.array_equal(again.split("train").images, data.split("train").images)


def test_processes_do_not_decode_twice(monkeypatch) -> None:
    calls = []

    def read(row: int) -> np.ndarray:
        calls.append(row)
        time.sleep(0.01)
        return np.full((4, 4, 1), row, dtype=np.uint8)

    results = []
    threads = [
        threading.Thread(target=lambda: results.append(decoded("key", 10, 4, 1, lambda: read)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(calls) == list(range(10))
    assert all(r.images[7, 0, 0, 0] == 7 for r in results)
    assert not [p for p in (cache_folder() / "images").iterdir() if p.suffix not in ("", ".lock")]


def test_default_cache_is_in_the_home(monkeypatch) -> None:
    monkeypatch.delenv("ZOO_CACHE")
    monkeypatch.setenv("HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/.cache/lightning_zoo")


# --- every kind of file -------------------------------------------------------------------------


def ramp(dtype, top: int) -> np.ndarray:
    return np.linspace(0, top, 64).round().astype(dtype).reshape(8, 8)


def mode(path: Path) -> str:
    with Image.open(path) as image:
        return image.mode


GREY = ramp(np.uint8, 255)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path) -> None:
    for values in (ramp(np.uint16, 65535), ramp(np.uint16, 2000)):
        path = tmp_path / "x.png"
        Image.fromarray(values).save(path)
        assert mode(path).startswith("I")
        expected = np.round(values / 257).astype(np.uint8)
        assert np.array_equal(read_image(path, 8, 1)[..., 0], expected)
        colour = read_image(path, 8, 3)
        assert all(np.array_equal(colour[..., c], expected) for c in range(3))
    path = tmp_path / "x.tif"
    Image.fromarray(ramp(np.uint16, 65535)).save(path)
    assert np.array_equal(read_image(path, 8, 1)[..., 0], np.round(ramp(np.uint16, 65535) / 257))


def test_window(tmp_path) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(3000, 4000, (8, 8)).astype(np.uint16)
    values[0, 0], values[7, 7] = 0, 65535  # outliers that squeeze all else into 4 grey values
    path = tmp_path / "x.png"
    Image.fromarray(values).save(path)
    low, high = np.percentile(values, [5, 95])
    expected = np.clip((values - low) / (high - low) * 255, 0, 255).round().astype(np.uint8)
    assert np.ptp(read_image(path, 8, 1)[1:-1]) <= 4
    assert np.array_equal(read_image(path, 8, 1, window=[5, 95])[..., 0], expected)
    assert expected[0, 0] == 0
    assert expected[7, 7] == 255
    assert np.array_equal(read_image(path, 8, 3, window=[5, 95])[..., 2], expected)
    # more than 16 bits, negative numbers and floats have no range of their own
    for other in (values.astype(np.int32) * 99 - 70_000, values.astype(np.float32) / 7):
        Image.fromarray(other).save(tmp_path / "x.tif")
        assert np.array_equal(
            read_image(tmp_path / "x.tif", 8, 1, window=[5, 95])[..., 0], expected
        )
    # 8 bits stay as they are
    Image.fromarray(GREY // 2).save(path)
    assert np.array_equal(read_image(path, 8, 1, window=[5, 95])[..., 0], GREY // 2)
    # no contrast between the percentiles
    flat = np.full((8, 8), 700, dtype=np.uint16)
    flat[2, 3] = 900
    Image.fromarray(flat).save(path)
    assert np.array_equal(read_image(path, 8, 1, window=[5, 95])[..., 0], (flat > 700) * 255)
    Image.fromarray(np.full((8, 8), np.nan, dtype=np.float32)).save(tmp_path / "n.tif")
    with pytest.raises(DataError, match=r"n\.tif' .*not finite"):
        read_image(tmp_path / "n.tif", 8, 1, window=[5, 95])


def test_window_is_the_same_in_prediction(tmp_path) -> None:
    rng = np.random.default_rng(0)
    for i in range(20):
        values = rng.integers(100 * i, 100 * i + 900, (8, 8)).astype(np.uint16)
        save(tmp_path / "images" / "ab"[i % 2] / f"{i}.png", values)
    data = build(tmp_path / "images", in_channels=1, window=[1, 99])
    spec = data.inputs_spec()["init_args"]
    assert spec["window"] == [1, 99]
    inputs = ImageInputs(data.names, **spec)
    raw = next(iter(inputs.predict_dataloader())).image
    train = data.split("train")
    own = train.__getitems__(list(range(len(train))))
    assert np.array_equal(raw[own.index].numpy(), own.image.numpy())
    assert raw[0].float().std() > 50
    assert ImageInputs(**inputs.resolved()["init_args"]).window == [1, 99]
    for wrong in ([99, 1], [5], [-1, 50], [0, 101], [5, 5]):
        with pytest.raises(OptionError, match=r"window is .*; give two percentiles"):
            ImageFolder(str(tmp_path / "images"), window=wrong)


def test_grey_and_one_bit(tmp_path) -> None:
    Image.fromarray(GREY).save(tmp_path / "g.png")
    assert np.array_equal(read_image(tmp_path / "g.png", 8, 1)[..., 0], GREY)
    assert np.array_equal(read_image(tmp_path / "g.png", 8, 3), np.repeat(GREY[..., None], 3, 2))
    Image.fromarray(GREY > 100).save(tmp_path / "b.png")
    assert mode(tmp_path / "b.png") == "1"
    assert np.array_equal(
        read_image(tmp_path / "b.png", 8, 1)[..., 0], np.where(GREY > 100, 255, 0)
    )


def test_palette(tmp_path) -> None:
    colour = np.stack([GREY // 64 * 64, 255 - GREY // 64 * 64, GREY * 0], axis=2)
    image = Image.fromarray(colour).quantize(8)
    image.save(tmp_path / "p.png")
    image.save(tmp_path / "t.png", transparency=bytes([0, 128, 255, 255]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("p.png", "t.png"):
            assert mode(tmp_path / name) == "P"
            assert np.array_equal(read_image(tmp_path / name, 8, 3), colour)


def test_alpha_is_dropped(tmp_path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 4), dtype=np.uint8)
    Image.fromarray(pixels, "RGBA").save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png", 8, 3), pixels[..., :3])
    Image.fromarray(pixels[..., :2].copy(), "LA").save(tmp_path / "la.png")
    assert np.array_equal(read_image(tmp_path / "la.png", 8, 1), pixels[..., :1])


def test_cmyk(tmp_path) -> None:
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red.save(tmp_path / "c.jpg", quality=95)
    assert mode(tmp_path / "c.jpg") == "CMYK"
    assert np.abs(read_image(tmp_path / "c.jpg", 8, 3).astype(int) - [255, 0, 0]).max() < 12


def test_orientation(tmp_path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "e.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "e.png", 8, 3), np.rot90(pixels, -1))


def test_floats_are_refused(tmp_path) -> None:
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(DataError, match=r"f\.tif' .*floating-point"):
        read_image(tmp_path / "f.tif", 8, 1)
    Image.fromarray(np.full((8, 8), 70_000, dtype=np.int32)).save(tmp_path / "i.tif")
    with pytest.raises(DataError, match=r"i\.tif' .*16 bits"):
        read_image(tmp_path / "i.tif", 8, 1)


def test_shorter_side_fits_and_the_middle_stays(tmp_path) -> None:
    wide = np.zeros((10, 30, 3), dtype=np.uint8)
    wide[:, 10:20] = [10, 200, 30]
    for pixels in (wide, wide.transpose(1, 0, 2)):
        Image.fromarray(pixels).save(tmp_path / "w.png")
        assert (read_image(tmp_path / "w.png", 10, 3) == [10, 200, 30]).all()
        smaller = read_image(tmp_path / "w.png", 5, 3)
        assert smaller.shape == (5, 5, 3)
        # The filter reaches beyond the edge, as it does if the whole is resized and then cut.
        assert (smaller[1:-1, 1:-1] == [10, 200, 30]).all()
    # A fine chequerboard averages out when it shrinks, instead of leaving some of its squares.
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "c.png")
    assert np.abs(read_image(tmp_path / "c.png", 8, 1).astype(int) - 127).max() < 8


def test_trains(root, trainer, recorder) -> None:
    data = ImageFolder(str(root), image_size=8, batch_size=7, num_workers=2)
    model = recorder(192, 2)
    run = trainer(max_epochs=1)
    run.fit(model, datamodule=data)
    run.test(model, datamodule=data, verbose=False)
    assert len({i for _, index in model.seen for i in index}) == 30


# --- patients ------------------------------------------------------------------------------------


def write_csv(path: Path, rows: dict[str, str], header: str = "file,patient") -> str:
    path.write_text("\n".join([header, *(f"{file},{who}" for file, who in rows.items())]))
    return str(path)


@pytest.fixture
def patients(root) -> dict[str, str]:
    """Ten patients with 2 cats and 1 dog each; both folders hold files of the same names."""
    owners = {f"cat/{i:02}.png": f"P{i % 10}" for i in range(20)}
    return owners | {f"dog/{i:02}.png": f"P{i % 10}" for i in range(10)}


def test_no_patient_stands_in_two_splits(root, tmp_path, patients) -> None:
    table = write_csv(tmp_path / "owners.csv", patients | {"cat/gone.png": "P99"})
    data = build(root, groups=table, val_fraction=0.2, test_fraction=0.2)
    found = {}
    for split in ("train", "val", "test"):
        rows = data.split(split).rows
        owners = [patients[Path(data.names[i]).relative_to(root).as_posix()] for i in rows]
        found[split] = set(owners)
        assert len(rows) == 3 * len(found[split])
    assert {name: len(owners) for name, owners in found.items()} == {
        "train": 6,
        "val": 2,
        "test": 2,
    }
    assert not (found["train"] & found["val"] | found["val"] & found["test"])
    assert not found["train"] & found["test"]
    # Without the table patients are torn apart, so the test above can fail.
    plain = build(root, val_fraction=0.2, test_fraction=0.2)
    torn = [
        {patients[Path(plain.names[i]).relative_to(root).as_posix()] for i in plain.split(s).rows}
        for s in ("train", "val")
    ]
    assert torn[0] & torn[1]
    resolved = ImageFolder(**data.resolved()["init_args"])
    resolved.setup()
    assert resolved.split("val").rows.tolist() == data.split("val").rows.tolist()
    rows = {
        tuple(build(root, groups=table, split_seed=seed, val_fraction=0.2).split("val").rows)
        for seed in range(4)
    }
    assert len(rows) > 1


def test_patients_by_name_alone_and_by_other_columns(root, tmp_path, patients) -> None:
    for path in (root / "dog").iterdir():
        path.rename(path.with_name(f"d{path.name}"))
    names = {file.replace("dog/", "dog/d").split("/")[1]: who for file, who in patients.items()}
    table = tmp_path / "t.csv"
    table.write_text("slide;name\n" + "\n".join(f"{who};{file}" for file, who in names.items()))
    options = {"file_column": "name", "group_column": "slide", "delimiter": ";"}
    data = build(root, groups=str(table), **options)
    val = {names[Path(data.names[i]).name] for i in data.split("val").rows}
    train = {names[Path(data.names[i]).name] for i in data.split("train").rows}
    assert val
    assert not val & train


def test_patient_in_two_folders(root, tmp_path, patients) -> None:
    split = tmp_path / "split"
    for part, first in (("train", 0), ("val", 10)):
        (split / part).mkdir(parents=True)
        for name in ("cat", "dog"):
            for i in range(first, first + 10):
                save(split / part / name / f"{i}.png", seed=2 * i + (name == "dog"))
    owners = {
        path.relative_to(split).as_posix(): f"P{int(path.stem)}" for path in split.rglob("*.png")
    }
    data = build(split, groups=write_csv(tmp_path / "a.csv", owners))
    test = {Path(data.names[i]).stem for i in data.split("test").rows}
    assert len(test) == 1  # of the ten patients to train on, one with two images
    owners["val/dog/13.png"] = "P3"
    words = (
        r"patient 'P3' stands in two splits, with 'train/cat/3.png' in train and 'val/dog/13.png'"
    )
    with pytest.raises(DataError, match=words):
        build(split, groups=write_csv(tmp_path / "b.csv", owners))


def test_wrong_tables_of_patients(root, tmp_path, patients) -> None:
    def refuse(words: str, rows: dict[str, str], **options: str) -> None:
        with pytest.raises(UserError, match=words):
            build(root, groups=write_csv(tmp_path / "p.csv", rows), **options)

    refuse("group_column is 'pateint'; .*mean 'patient'", patients, group_column="pateint")
    refuse("file_column is 'x'; .*there are 'file', 'patient'", patients, file_column="x")
    fewer = {
        file: who for file, who in patients.items() if file not in ("cat/03.png", "dog/04.png")
    }
    refuse("has no row for 'cat/03.png' and 1 more; add it", fewer)
    refuse("column 'patient' .* missing value", patients | {"cat/03.png": ""})
    refuse(
        "names '00.png', but 2 files are called so; write", {Path(f).name: "P" for f in patients}
    )
    everyone = dict.fromkeys(patients, "P")
    refuse(
        "'patient'; lower .* to 0, or add some: 3 splits cannot share 1 different value", everyone
    )
    table = Path(write_csv(tmp_path / "two.csv", patients))
    table.write_text(table.read_text() + "\ncat/03.png,P5")
    with pytest.raises(DataError, match=r"gives 'cat/03.png' two values .*'P3' and 'P5'; keep one"):
        ImageFolder(str(root), groups=str(table))
    with pytest.raises(UserError, match=r"groups is .*absent.csv'; give a csv file: this does"):
        ImageFolder(str(root), groups="absent.csv")
    refuse(
        "test_fraction is .*; lower it or val_fraction, .* would leave too few",
        patients,
        val_fraction=0.9,
        test_fraction=0.9,
    )


def test_a_tiff_of_several_pages_is_refused(tmp_path, root) -> None:
    pages = [Image.fromarray(np.full((8, 8), value, dtype=np.uint8)) for value in (9, 99, 200)]
    path = root / "cat" / "stack.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match=r"stack\.tif' .*it has 3 pages, where an image is one"):
        read_image(path, 8, 1)
    with pytest.warns(UserWarning, match="skip_broken: left out 1 of .*it has 3 pages"):
        build(root, skip_broken=True)
    # Smaller copies, such as previews, are no pages of their own.
    small = Image.new("L", (2, 2))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    pages[0].save(path, save_all=True, append_images=[small])
    with Image.open(path) as written:
        written.seek(1)
        assert (written.n_frames, written.tag_v2[254]) == (2, 1)
    assert (read_image(path, 8, 1) == 9).all()
    # Of an animation the first picture is taken.
    pages[0].save(tmp_path / "x.gif", save_all=True, append_images=pages[1:])
    assert (read_image(tmp_path / "x.gif", 8, 1) == 9).all()


def test_names_in_two_forms_of_unicode(tmp_path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "세포é") for form in ("NFC", "NFD"))
    for split, name in (("train", composed), ("val", decomposed), ("test", decomposed)):
        for number in range(6):
            save(tmp_path / split / name / f"{number}.png", seed=number)
            save(tmp_path / split / "b" / f"{number}{name}.png", seed=number)
    data = build(tmp_path)
    assert data.class_names == ["b", composed]
    assert [len(data.split(split)) for split in ("train", "val", "test")] == [12] * 3
    assert build(tmp_path, class_names=[decomposed, "b"]).class_names == [composed, "b"]
    # A csv file of patients from another system, whose column is in another form, too.
    rows = [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*.png"))]
    lines = [f"{unicodedata.normalize('NFC', row)},P{number}" for number, row in enumerate(rows)]
    table = tmp_path / "p.csv"
    table.write_text("\n".join([f"{composed},patient", *lines]))
    build(tmp_path, groups=str(table), file_column=decomposed)
    # Two folders of one name are no two classes.
    (tmp_path / "train" / decomposed).mkdir()
    with pytest.raises(DataError, match="have one name, which Unicode can write in two"):
        ImageFolder(str(tmp_path))
