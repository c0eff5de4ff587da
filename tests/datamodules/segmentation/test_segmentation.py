"""Images with masks: in folders, in npz files, cropped, turned and batched."""

import itertools
import json
import unicodedata
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from datamodules.core.errors import DataError, OptionError
from datamodules.core.plot import overlay
from datamodules.images.geometry import Geometry
from datamodules.segmentation.dataset import MaskBatch, MaskedImages, SameSizeBatches, to_classes
from datamodules.segmentation.folder import SegmentationFolder
from datamodules.segmentation.inputs import MaskInputs
from datamodules.segmentation.npz import SegmentationNpz

SPLITS = ("train", "val", "test")
PLAIN = {"mean": [0.0], "std": [1 / 255]}  # prepared images keep their values
EVERY_TURN = {"horizontal_flip": True, "vertical_flip": True, "rotate90": True}


def save(path: Path, pixels: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def draw_mask(height: int, width: int, seed: int = 0, classes: int = 2) -> np.ndarray:
    """A mask that no flip or turn leaves as it is."""
    mask = np.random.default_rng(seed).integers(0, classes, (height, width), dtype=np.uint8)
    mask[0, 0] = 1
    return mask


def picture_of(mask: np.ndarray) -> np.ndarray:
    """An image in which each class has a grey value of its own, never black."""
    return (20 + mask * 100).astype(np.uint8)


def folder(root: Path, sizes: list[tuple[int, int]], **options) -> Path:
    for i, (height, width) in enumerate(sizes):
        mask = draw_mask(height, width, seed=i, **options)
        save(root / "images" / f"{i:02}.png", picture_of(mask))
        save(root / "masks" / f"{i:02}.png", mask)
    return root


SIZES = [(24, 30), (40, 25), (13, 50), (9, 7), (24, 30), (16, 16)] * 4


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """24 grey images of five sizes, larger and smaller than a crop of 16."""
    return folder(tmp_path / "cells", SIZES)


def build(root: Path, stage: str | None = None, **kwargs) -> SegmentationFolder:
    data = SegmentationFolder(str(root), **{"image_size": 16, "in_channels": 1, **kwargs})
    data.setup(stage)
    return data


def npz(path: Path, **changes) -> Path:
    arrays = {}
    for number, split in enumerate(SPLITS):
        masks = np.stack([draw_mask(12, 12, seed=10 * number + i) for i in range(6 - number)])
        arrays |= {f"{split}_images": picture_of(masks), f"{split}_masks": masks}
    arrays |= changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


# --- a mask stays on its object ------------------------------------------------------------------


@pytest.mark.parametrize(
    "turns",
    [
        {},
        {"horizontal_flip": True},
        {"vertical_flip": True},
        {"rotate90": True},
        {"horizontal_flip": True, "rotate90": True},
        EVERY_TURN,
    ],
    ids=lambda turns: "+".join(turns) or "crop",
)
def test_a_mask_stays_on_its_object(root, turns) -> None:
    data = build(root, "fit", batch_size=8, **turns, **PLAIN)
    moved = 0
    for epoch in range(4):
        for raw in data.train_dataloader():
            batch = data.prepare_batch(raw, training=True, epoch=epoch)
            image, mask = batch.image[:, 0].round().long(), batch.mask
            assert mask.shape == image.shape == (len(raw.index), 16, 16)
            assert set(mask.unique().tolist()) <= {0, 1, 255}
            # Where an image was padded it is black and the mask says so; everywhere else the
            # image's value is that of the mask's class.
            assert torch.equal(image == 0, mask == 255)
            assert torch.equal(image[mask != 255], 20 + 100 * mask[mask != 255])
            moved += int((raw.mask.long() != mask).any())
    assert (moved > 0) == bool(turns)


@pytest.mark.parametrize("options", [{"brightness": 0.5}, {"contrast": 0.5}], ids=str)
def test_shades_leave_the_mask_alone(root, options) -> None:
    data = build(root, "fit", **options, **PLAIN)
    raw = next(iter(data.train_dataloader()))
    batch = data.prepare_batch(raw, training=True, epoch=0)
    assert torch.equal(batch.mask, raw.mask.long())
    assert not torch.equal(batch.image.round(), raw.image.float())
    assert batch.image.min() >= 0
    assert batch.image.max() <= 255.001


def test_turns_are_those_that_they_are_called() -> None:
    image = torch.arange(2 * 9, dtype=torch.uint8).view(1, 2, 3, 3).repeat(400, 1, 1, 1)
    index = torch.arange(400)
    known = {
        "horizontal_flip": [image[0], image[0].flip(2)],
        "vertical_flip": [image[0], image[0].flip(1)],
        "rotate90": [image[0].rot90(k, (1, 2)) for k in range(4)],
    }
    for option, expected in known.items():
        turned, mask = Geometry(**{option: True}).apply(image, image[:, 0], index, seed=3, epoch=1)
        assert torch.equal(turned[:, 0], mask)
        assert turned.is_contiguous(memory_format=torch.channels_last)
        counts = [int((turned == one).flatten(1).all(dim=1).sum()) for one in expected]
        assert sum(counts) == 400
        assert min(counts) > 400 / len(expected) * 0.7
        later, _ = Geometry(**{option: True}).apply(image, image[:, 0], index, seed=3, epoch=2)
        assert not torch.equal(later, turned)
    turned, _ = Geometry(**EVERY_TURN).apply(image, image[:, 0], index, seed=0, epoch=0)
    assert len(turned.flatten(1).unique(dim=0)) == 8


@pytest.mark.parametrize("options", [{}, {"brightness": 0.3, **EVERY_TURN}], ids=["crop", "all"])
def test_what_happens_to_a_sample_depends_on_seed_epoch_and_index_alone(root, options) -> None:
    def look(epoch: int, batch_size: int, seed: int = 5) -> dict[int, torch.Tensor]:
        data = build(root, "fit", batch_size=batch_size, seed=seed, **options)
        batches = data._train_batches()
        batches.position = lambda: (epoch, 0)
        seen = {}
        for numbers in batches:
            raw = data.split("train").__getitems__(numbers)
            batch = data.prepare_batch(raw, training=True, epoch=epoch)
            seen |= dict(zip(batch.index.tolist(), batch.image, strict=True))
        return seen

    one, other = look(3, 4), look(3, 9)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[index], other[index]) for index in one)
    for different in (look(4, 4), look(3, 4, seed=6)):
        # Images of 16x16 have but one crop.
        same = [index for index in one if torch.equal(one[index], different[index])]
        assert sum(SIZES[index] != (16, 16) for index in same) <= 2


def test_crops_are_uniform_and_whole_images_come_back() -> None:
    image = np.arange(6 * 5, dtype=np.uint8).reshape(6, 5, 1)
    data = MaskedImages([image], [image[..., 0]], np.array([7]))
    data.crop((3, 3), seed=0)
    counts: dict[int, int] = {}
    for epoch in range(1200):
        crop, mask, index = data[epoch]
        assert (index, crop.shape) == (7, (1, 3, 3))
        corner = int(mask[0, 0])
        top, left = divmod(corner, 5)
        assert np.array_equal(mask.numpy(), image[top : top + 3, left : left + 3, 0])
        counts[corner] = counts.get(corner, 0) + 1
    assert len(counts) == 4 * 3
    assert min(counts.values()) > 60
    assert max(counts.values()) < 145


# --- the Trainer ---------------------------------------------------------------------------------


class Recorder(pl.LightningModule):
    """A net of one convolution that notes what reaches it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Conv2d(1, 2, 3, padding=1)
        self.seen: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []
        self.images: list[torch.Tensor] = []

    def note(self, stage: str, batch: MaskBatch) -> torch.Tensor:
        self.seen.append((stage, tuple(batch.index.tolist()), tuple(batch.mask.shape[1:])))
        assert batch.image.dtype == torch.float32
        assert batch.mask.dtype == torch.int64
        return nn.functional.cross_entropy(self.net(batch.image), batch.mask, ignore_index=255)

    def training_step(self, batch: MaskBatch, batch_idx: int) -> torch.Tensor:
        self.images.append(batch.image.clone())
        return self.note("train", batch)

    def validation_step(self, batch: MaskBatch, batch_idx: int) -> None:
        self.note("val", batch)

    def test_step(self, batch: MaskBatch, batch_idx: int) -> None:
        self.note("test", batch)

    def predict_step(self, batch: MaskBatch, batch_idx: int) -> torch.Tensor:
        self.seen.append(("predict", tuple(batch.index.tolist()), tuple(batch.image.shape[2:])))
        return self.net(batch.image).argmax(dim=1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_mixed_sizes_train_validate_test_and_predict(root, trainer, num_workers, recwarn) -> None:
    options = {"image_size": 16, "in_channels": 1, "batch_size": 4, "num_workers": num_workers}
    data = SegmentationFolder(str(root), val_fraction=0.3, test_fraction=0.3, **options)
    module, run = Recorder(), trainer(max_epochs=2)
    run.fit(module, datamodule=data)
    run.test(module, datamodule=data, verbose=False)
    run.predict(module, datamodule=data)
    rows = {}
    for stage in ("train", "val", "test", "predict"):
        rows[stage] = sorted(
            itertools.chain(*(index for name, index, _ in module.seen if name == stage))
        )
    assert rows["train"] == sorted(2 * sorted(set(rows["train"])))
    assert rows["val"] == sorted(2 * sorted(set(rows["val"])))
    assert rows["test"] == rows["predict"]
    disjoint = [set(rows[stage]) for stage in SPLITS]
    assert sum(map(len, disjoint)) == len(set.union(*disjoint)) == 24
    for stage, index, size in module.seen:
        assert size == (16, 16) if stage == "train" else all(SIZES[i] == size for i in index)
    first, second = (
        module.images[: len(module.images) // 2],
        module.images[len(module.images) // 2 :],
    )
    assert not torch.equal(torch.cat(first), torch.cat(second))
    assert not [warning for warning in recwarn if "sampler" in str(warning.message)]


def test_a_resumed_run_crops_as_the_uninterrupted_one(root, trainer, tmp_path) -> None:
    def data() -> SegmentationFolder:
        options = {"image_size": 16, "in_channels": 1, "batch_size": 4, "seed": 1}
        return SegmentationFolder(str(root), rotate90=True, **options)

    path = tmp_path / "stopped.ckpt"

    class Saver(pl.Callback):
        def on_train_batch_end(self, trainer, *args) -> None:
            if trainer.global_step == 8:  # in mid-epoch: there are 5 steps
                trainer.save_checkpoint(path)

    whole, rest = Recorder(), Recorder()
    trainer(max_epochs=3, callbacks=[Saver()]).fit(whole, datamodule=data())
    trainer(max_epochs=3).fit(rest, datamodule=data(), ckpt_path=path, weights_only=False)
    assert len(whole.images) == 15
    assert len(rest.images) == 15 - 8
    assert all(torch.equal(*pair) for pair in zip(whole.images[8:], rest.images, strict=True))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_batches_are_complete_and_of_one_size(world_size) -> None:
    sides = np.array([(4, 4), (4, 6), (4, 4), (40, 40), (4, 4), (4, 6), (4, 4), (4, 4)])
    seen = []
    for rank in range(world_size):
        batches = SameSizeBatches(sides, 6, most_pixels=50, rank=rank, world_size=world_size)
        listed = list(batches)
        assert len(batches) == len(listed)
        for batch in listed:
            assert len({tuple(sides[number]) for number in batch}) == 1
            assert len(batch) == 1 or sides[batch].prod(axis=1).sum() <= 50
            assert len(batch) <= 6 // world_size
        seen += itertools.chain(*listed)
    assert sorted(seen) == list(range(8))
    with pytest.raises(DataError, match="8 samples cannot be shared by 9 processes"):
        SameSizeBatches(sides, 6, most_pixels=50, world_size=9)


def test_spread_evaluation_batches_mix_sizes_and_samples() -> None:
    sides = np.array([(4, 4)] * 60 + [(4, 6)] * 60)
    batches = list(SameSizeBatches(sides, 6, most_pixels=1000, spread=True))
    assert sorted(itertools.chain(*batches)) == list(range(120))
    first = np.concatenate(batches[:8])
    assert 12 <= (first < 60).sum() <= 36
    assert max(np.diff(np.sort(first))) < 30  # of both ends and of the middle


# --- folders -------------------------------------------------------------------------------------


def test_facts_need_no_setup_and_rebuild_the_object(root) -> None:
    data = SegmentationFolder(str(root), image_size=16, rotate90=True, ignore_value=9)
    assert (data.in_channels, data.num_classes, data.image_size) == (3, 2, 16)
    assert data.class_names == ["background", "foreground"]
    assert data.input_shape == (3, 16, 16)
    assert data.label_kind == "mask"
    assert data.ignore_index == 255
    data.setup("fit")
    spec = data.resolved()
    assert spec["class_path"] == "datamodules.SegmentationFolder"
    assert spec == json.loads(json.dumps(spec))
    again = SegmentationFolder(**spec["init_args"])
    again.setup()
    assert again.resolved() == spec
    for split in ("train", "val"):
        assert np.array_equal(again.split(split).index, data.split(split).index)
    with pytest.raises(DataError, match="the test split is not loaded"):
        data.split("test")


def test_splits_are_disjoint_and_stand_whatever_the_seed(root) -> None:
    data = build(root, val_fraction=0.25, test_fraction=0.25)
    rows = {split: data.split(split).index.tolist() for split in SPLITS}
    assert [len(rows[split]) for split in SPLITS] == [12, 6, 6]
    assert sorted(itertools.chain(*rows.values())) == list(range(24))
    same = build(root, val_fraction=0.25, test_fraction=0.25, seed=4)
    other = build(root, val_fraction=0.25, test_fraction=0.25, split_seed=4)
    assert same.split("test").index.tolist() == rows["test"]
    assert other.split("test").index.tolist() != rows["test"]
    for split in SPLITS:
        for row, image, mask in zip(
            rows[split], data.split(split).images, data.split(split).masks, strict=True
        ):
            whole = np.asarray(Image.open(data.names[row]))
            if split != "train":
                assert np.array_equal(image[..., 0], whole)
            assert np.array_equal(20 + 100 * mask, whole)


def test_mean_and_std_are_those_of_the_training_pixels(root) -> None:
    data = build(root, "fit")
    pixels = np.concatenate([image.ravel() for image in data.split("train").images]) / 255
    np.testing.assert_allclose((data.mean[0], data.std[0]), (pixels.mean(), pixels.std()))
    raw = next(iter(data.val_dataloader()))
    batch = data.prepare_batch(raw, training=False, epoch=0)
    assert torch.equal(data.denormalize(batch.image), raw.image)


def test_folders_for_splits(tmp_path) -> None:
    for split, count in (("train", 6), ("val", 2), ("test", 3)):
        folder(tmp_path / split, SIZES[:count])
    data = build(tmp_path)
    assert [len(data.split(split)) for split in SPLITS] == [6, 2, 3]
    for split in SPLITS:
        assert all(f"/{split}/images/" in data.names[i] for i in data.split(split).index)
    (tmp_path / "val").rename(tmp_path / "later")
    data = build(tmp_path, val_fraction=0.5)
    assert [len(data.split(split)) for split in SPLITS] == [3, 3, 3]


def test_only_what_a_stage_needs_is_read(root) -> None:
    rows = build(root).split("test").index
    Path(SegmentationFolder(str(root)).names[rows[0]]).write_bytes(b"no image")
    data = build(root, "fit")
    with pytest.raises(DataError, match=r"images/\d\d\.png' cannot be read"):
        data.setup("test")


def test_images_of_any_kind(tmp_path) -> None:
    mask = draw_mask(8, 10)
    grey = picture_of(mask)
    colour = np.stack([grey, grey // 2, grey], axis=2)
    kinds = {
        "grey": Image.fromarray(grey),
        "colour": Image.fromarray(colour),
        "alpha": Image.fromarray(np.dstack([colour, grey])),
        "palette": Image.fromarray(colour).convert("P", palette=Image.Palette.ADAPTIVE),
        "one_bit": Image.fromarray(mask * 255).convert("1"),
        "sixteen": Image.fromarray(grey.astype(np.uint16) * 257),
    }
    for name, image in kinds.items():
        (tmp_path / "images").mkdir(exist_ok=True)
        image.save(tmp_path / "images" / f"{name}.png")
        save(tmp_path / "masks" / f"{name}.tif", mask)
    for channels in (1, 3):
        data = SegmentationFolder(str(tmp_path), image_size=8, in_channels=channels)
        data.setup()
        for split in SPLITS:
            for row, image in zip(data.split(split).index, data.split(split).images, strict=True):
                assert image.shape == (8, 10, channels)
                if Path(data.names[row]).stem in ("grey", "sixteen"):
                    assert np.array_equal(image[..., 0], grey)


def test_a_window_for_deep_images(tmp_path) -> None:
    mask = draw_mask(8, 10)
    for name in ("a", "b", "c"):
        save(tmp_path / "images" / f"{name}.png", mask * np.uint16(100) + np.uint16(1000))
        save(tmp_path / "masks" / f"{name}.png", mask)
    assert build(tmp_path).split("test").images[0].max() < 10
    data = build(tmp_path, window=[0, 100])
    assert np.array_equal(data.split("test").images[0][..., 0], mask * 255)
    inputs = MaskInputs([str(tmp_path / "images")], **data.inputs_spec()["init_args"])
    raw = next(iter(inputs.predict_dataloader()))
    assert np.array_equal(raw.image[0, 0].numpy(), mask * 255)
    with pytest.raises(OptionError, match=r"window is \[9, 3\]"):
        build(tmp_path, window=[9, 3])


def test_images_that_lie_on_their_side(tmp_path) -> None:
    mask = draw_mask(8, 10)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    for name in ("a", "b", "c"):
        save(tmp_path / "masks" / f"{name}.png", mask)
        sideways = np.ascontiguousarray(np.rot90(picture_of(mask)))
        save(tmp_path / "images" / f"{name}.png", sideways, exif=exif)
    data = build(tmp_path)
    assert np.array_equal(data.split("test").images[0][..., 0], picture_of(mask))


def test_masks_of_any_kind(tmp_path) -> None:
    classes = draw_mask(8, 10, classes=3)
    classes[2, 3] = 2
    binary = np.minimum(classes, 1)
    palette = Image.fromarray(classes, mode="P")
    palette.putpalette([0, 0, 0, 250, 0, 0, 0, 0, 250])
    three = {
        "grey.png": Image.fromarray(classes),
        "palette.png": palette,
        "sixteen.png": Image.fromarray(classes.astype(np.uint16)),
        "grey_as_colour.png": Image.fromarray(np.dstack([classes] * 3)),
        "alpha.png": Image.fromarray(np.dstack([classes, classes + 9])),
    }
    two = {
        "ones.png": Image.fromarray(binary),
        "white.png": Image.fromarray(binary * 255),
        "one_bit.png": Image.fromarray(binary * 255).convert("1"),
    }
    colours = {"palette.png": palette, "rgb.png": palette.convert("RGB")}
    names = ["nothing", "cell", "dirt"]
    for number, (masks, expected, options) in enumerate(
        [
            (three, classes, {"class_names": names}),
            (two, binary, {}),
            (
                colours,
                classes,
                {"class_names": names, "palette": [[0, 0, 0], [250, 0, 0], [0, 0, 250]]},
            ),
            # in another order than the palette's own
            (
                colours,
                np.array([2, 0, 1])[classes],
                {"class_names": names, "palette": [[250, 0, 0], [0, 0, 250], [0, 0, 0]]},
            ),
        ]
    ):
        root = tmp_path / str(number)
        for split in SPLITS:
            (root / split / "masks").mkdir(parents=True)
            for name, mask in masks.items():
                save(root / split / "images" / name, picture_of(classes))
                mask.save(root / split / "masks" / name)
        data = build(root, "test", mean=[0.0], std=[1.0], **options)
        for mask in data.split("test").masks:
            assert mask.dtype == np.uint8
            assert np.array_equal(mask, expected)


def test_a_value_to_ignore(tmp_path) -> None:
    values = np.array([[0, 1, 2], [255, 7, 7]], dtype=np.uint8)
    said = "holds the value 7 and 1 other such values, outside the 3 classes 0 to 2"
    with pytest.raises(DataError, match=f"x {said}"):
        to_classes(values, 3, None, "x")
    with pytest.raises(DataError, match="the value 255, outside the 3 classes"):
        to_classes(values, 3, 7, "x")
    values[0, 0] = 255
    values[1, 1:] = 0
    expected = [[255, 1, 2], [255, 0, 0]]
    assert to_classes(values, 3, 255, "x").tolist() == expected
    assert to_classes(np.where(values == 255, -100, values.astype(int)), 3, -100, "x").tolist() == (
        expected
    )
    both = np.array([0, 1, 255], dtype=np.uint8)
    with pytest.raises(DataError, match=r"x holds both 1 and 255.*ignore_value: 255"):
        to_classes(both, 2, None, "x")
    assert to_classes(both, 2, 255, "x").tolist() == [0, 1, 255]
    with pytest.raises(DataError, match="the value -1"):
        to_classes(np.array([0, -1]), 2, None, "x")
    with pytest.raises(DataError, match="the value 70000"):
        to_classes(np.array([0, 70000]), 2, None, "x")


def test_a_colour_to_ignore(tmp_path) -> None:
    values = draw_mask(8, 10, classes=3)
    palette = [[0, 0, 0], [250, 0, 0]]
    border = [224, 224, 192]
    colours = np.array([*palette, border], dtype=np.uint8)[values]
    for name in ("a", "b", "c"):
        save(tmp_path / "images" / f"{name}.png", picture_of(values))
        save(tmp_path / "masks" / f"{name}.png", colours)
    with pytest.raises(DataError, match=r"colour \[224, 224, 192\], .*or give it as ignore_value"):
        build(tmp_path, palette=palette)
    data = build(tmp_path, palette=palette, ignore_value=border)
    expected = np.where(values == 2, 255, values)
    assert np.array_equal(data.split("test").masks[0], expected)
    again = SegmentationFolder(**json.loads(json.dumps(data.resolved()))["init_args"])
    assert again.ignore_value == border
    for options, said in (
        (
            {"palette": palette, "ignore_value": 255},
            "255; give a colour, .* as palette reads masks by their colours",
        ),
        (
            {"palette": palette, "ignore_value": [1, 2]},
            r"\[1, 2\]; give three numbers from 0 to 255",
        ),
        (
            {"palette": palette, "ignore_value": palette[1]},
            "give another colour; this one is a class's in palette",
        ),
        ({"ignore_value": border}, "give a number; a colour goes with palette"),
    ):
        with pytest.raises(OptionError, match=f"ignore_value is .*{said}"):
            SegmentationFolder(str(tmp_path), **options)


def test_images_and_masks_that_do_not_pair(root) -> None:
    mask = root / "masks" / "03.png"
    kept = mask.read_bytes()
    mask.unlink()
    with pytest.raises(DataError, match=r"images/03\.png' has no mask; add .*masks/03"):
        SegmentationFolder(str(root))
    (root / "masks" / "05.png").unlink()
    with pytest.raises(DataError, match=r"\(1 more images have none either\)"):
        SegmentationFolder(str(root))
    mask.write_bytes(kept)
    (root / "masks" / "05.png").write_bytes(kept)
    (root / "masks" / "extra.png").write_bytes(kept)
    with pytest.raises(DataError, match=r"masks/extra\.png' has no image; add .*images"):
        SegmentationFolder(str(root))
    (root / "masks" / "extra.png").unlink()
    (root / "images" / "03.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"images/03\.png' has the same name as .*03\.jpg"):
        SegmentationFolder(str(root))


def test_masks_that_do_not_fit(root) -> None:
    save(root / "masks" / "02.png", draw_mask(13, 49))
    with pytest.raises(DataError, match=r"masks/02\.png' has 49x13 pixels, .*02\.png' has 50x13"):
        build(root, test_fraction=0.0, val_fraction=0.01)
    save(root / "masks" / "02.png", np.full((13, 50), 4, dtype=np.uint8))
    with pytest.raises(DataError, match=r"masks/02\.png' holds the value 4, outside the 2 classes"):
        build(root)
    save(root / "masks" / "02.png", np.full((13, 50, 3), (9, 0, 3), dtype=np.uint8))
    with pytest.raises(DataError, match=r"masks/02\.png' .*picture in colours; give palette"):
        build(root)
    with pytest.raises(DataError, match=r"holds the colour \[1, 1, 1\], which palette lacks"):
        build(root, palette=[[0, 0, 0], [9, 0, 3]])
    for palette, said in (
        ([[0, 0, 0]], "a colour for each of the 2 class_names"),
        ([[0, 0, 0], [0, 0, 0]], "give each class a colour of its own"),
        ([[0, 0, 0], [0, 0, 256]], r"\[0, 0, 256\]; give three numbers from 0 to 255"),
    ):
        with pytest.raises(OptionError, match=f"palette is .*{said}"):
            build(root, palette=palette)


@pytest.mark.parametrize("folder_name", ["images", "masks"])
def test_broken_files(root, folder_name) -> None:
    paths = sorted((root / folder_name).iterdir())
    for path in paths[:2]:
        path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=rf"{folder_name}/0\d\.png' cannot be read .*skip_broken"):
        build(root)
    with pytest.warns(UserWarning, match="skip_broken: left out"):
        data = build(root, skip_broken=True)
    rows = list(itertools.chain(*(data.split(split).index.tolist() for split in SPLITS)))
    assert sorted(rows) == list(range(2, 24))
    for path in paths:
        path.write_bytes(b"nothing")
    for skip_broken in (False, True):
        with pytest.raises(DataError, match=r"holds no readable pair .* train split.*cells/"):
            build(root, skip_broken=skip_broken)


def test_wrong_folders(tmp_path, root) -> None:
    with pytest.raises(OptionError, match=r"root is .*absent'; give a folder that exists"):
        SegmentationFolder(str(tmp_path / "absent"))
    with pytest.raises(DataError, match="holds neither a folder 'images' nor a folder 'train'"):
        SegmentationFolder(str(tmp_path))
    (root / "masks").rename(root / "labels")
    with pytest.raises(DataError, match="masks' is not a folder"):
        SegmentationFolder(str(root))
    (tmp_path / "empty" / "images").mkdir(parents=True)
    (tmp_path / "empty" / "masks").mkdir()
    with pytest.raises(DataError, match="empty/images' holds no images"):
        SegmentationFolder(str(tmp_path / "empty"))
    folder(tmp_path / "two", SIZES[:2])
    with pytest.raises(OptionError, match="would leave too few to train on"):
        SegmentationFolder(str(tmp_path / "two"))
    (root / "labels").rename(root / "masks")
    with pytest.raises(DataError, match="val split is empty; give a larger val_fraction"):
        build(root, val_fraction=0.0)
    with pytest.raises(OptionError, match=r"class_names is \['a', 'a'\]; name each class once"):
        SegmentationFolder(str(root), class_names=["a", "a"])
    with pytest.raises(OptionError, match=r"class_names is \[\]; give 1 to 255 names"):
        SegmentationFolder(str(root), class_names=[])
    with pytest.raises(OptionError, match="option image_size is 0"):
        SegmentationFolder(str(root), image_size=0)


# --- patients and classes ------------------------------------------------------------------------


def owners_csv(path: Path, owners: dict[str, str]) -> str:
    path.write_text("\n".join(["file,patient", *(f"{file},{who}" for file, who in owners.items())]))
    return str(path)


def test_no_patient_stands_in_two_splits(root, tmp_path) -> None:
    owners = {f"images/{i:02}.png": f"P{i % 8}" for i in range(24)}
    fractions = {"val_fraction": 0.25, "test_fraction": 0.25}

    def patients(**options) -> list[set[str]]:
        data = build(root, **fractions, **options)
        return [
            {owners[Path(data.names[i]).relative_to(root).as_posix()] for i in data.split(s).index}
            for s in SPLITS
        ]

    table = owners_csv(tmp_path / "owners.csv", owners)
    whole = patients(groups=table)
    assert [len(part) for part in whole] == [4, 2, 2]
    assert len(set.union(*whole)) == 8
    torn = patients()  # without the table
    assert torn[0] & torn[1]
    assert torn[0] & torn[2]
    data = build(root, groups=table, **fractions)
    again = SegmentationFolder(**json.loads(json.dumps(data.resolved()))["init_args"])
    again.setup()
    assert again.split("test").index.tolist() == data.split("test").index.tolist()
    # by the names alone, which no two images share
    short = {Path(file).name: who for file, who in owners.items()}
    assert patients(groups=owners_csv(tmp_path / "short.csv", short)) == whole


def test_a_patient_in_two_folders(tmp_path) -> None:
    for split, count in zip(SPLITS, (6, 3, 3), strict=True):
        folder(tmp_path / "cells" / split, SIZES[:count])
    owners = {f"{s}/images/{i:02}.png": f"{s}{i}" for s in SPLITS for i in range(6)}
    build(tmp_path / "cells", groups=owners_csv(tmp_path / "good.csv", owners))
    owners["test/images/01.png"] = "train4"
    words = (
        r"^patient 'train4' stands in two splits, with 'train/images/04\.png' in train and "
        r"'test/images/01\.png' in test; move its images into one"
    )
    with pytest.raises(DataError, match=words):
        build(tmp_path / "cells", groups=owners_csv(tmp_path / "bad.csv", owners))
    del owners["train/images/02.png"]
    with pytest.raises(DataError, match=r"has no row for 'train/images/02\.png'; add it"):
        build(tmp_path / "cells", groups=owners_csv(tmp_path / "bad.csv", owners))


def test_a_class_that_a_split_lacks(tmp_path) -> None:
    names = {"class_names": ["nothing", "cell", "dirt"]}
    for split in SPLITS:
        folder(tmp_path / "cells" / split, SIZES[:3], classes=2 if split == "val" else 3)
    words = r"^'{}' has no pixel of class 'dirt' in its val split; add some, or set allow_missing"
    place = str(tmp_path / "cells")
    with pytest.raises(DataError, match=words.format(place)):
        build(tmp_path / "cells", "fit", **names)
    build(tmp_path / "cells", "test", mean=[0.0], std=[1.0], **names)  # the test split has it
    data = build(tmp_path / "cells", "fit", allow_missing_classes=True, **names)
    assert data.resolved()["init_args"]["allow_missing_classes"]
    assert len(data.class_weights()) == 3
    # There is nothing to learn of a class that the training split lacks.
    with pytest.raises(DataError, match=r"no pixel of class 'dust' in its train split; add some$"):
        build(
            tmp_path / "cells",
            class_names=[*names["class_names"], "dust"],
            allow_missing_classes=True,
        )
    # So it is in an npz file.
    masks = np.stack([draw_mask(12, 12, seed=i, classes=3) for i in range(6)])
    changes = {"train_masks": masks, "test_masks": masks[:4]}
    path = npz(tmp_path / "three.npz", **changes)
    with pytest.raises(DataError, match=words.format(path)):
        SegmentationNpz(str(path), **names).setup()
    SegmentationNpz(str(path), allow_missing_classes=True, **names).setup()


# --- npz files -----------------------------------------------------------------------------------


def test_an_npz_file(tmp_path) -> None:
    path = npz(tmp_path / "cells.npz")
    data = SegmentationNpz(str(path), batch_size=4)
    assert (data.in_channels, data.num_classes, data.image_size) == (1, 2, 12)
    data.setup()
    rows = [data.split(split).index.tolist() for split in SPLITS]
    assert rows == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10], [11, 12, 13, 14]]
    stored = np.load(path)
    for split, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
        batches = [data.prepare_batch(raw, training=False, epoch=0) for raw in loader]
        images = torch.cat([data.denormalize(batch.image) for batch in batches])
        masks = torch.cat([batch.mask for batch in batches])
        assert np.array_equal(images[:, 0].numpy(), stored[f"{split}_images"])
        assert np.array_equal(masks.numpy(), stored[f"{split}_masks"])
    spec = data.resolved()
    again = SegmentationNpz(**json.loads(json.dumps(spec))["init_args"])
    assert again.resolved() == spec
    crops = SegmentationNpz(str(path), image_size=5)
    crops.setup("fit")
    assert next(iter(crops.train_dataloader())).image.shape == (6, 1, 5, 5)


def test_an_npz_file_with_colours_and_classes(tmp_path) -> None:
    changes = {}
    for split in SPLITS:
        mask = np.stack([draw_mask(6, 9, seed=i, classes=4) for i in range(3)]).astype(np.int32)
        changes[f"{split}_images"] = np.stack([picture_of(mask // 2)] * 3, axis=-1)
        changes[f"{split}_masks"] = mask - 1
    path = npz(tmp_path / "four.npz", **changes)
    options = {"class_names": ["a", "b", "c"], "ignore_value": -1}
    data = SegmentationNpz(str(path), batch_size=4, **options)
    data.setup()
    assert (data.in_channels, data.num_classes, data.image_size) == (3, 3, 6)
    raw = next(iter(data.test_dataloader()))
    assert raw.image.shape == (2, 3, 6, 9)
    expected = np.where(changes["test_masks"] < 0, 255, changes["test_masks"])[:2]
    assert np.array_equal(raw.mask.numpy(), expected)
    with pytest.raises(DataError, match=r"four\.npz': train_masks holds the value -1"):
        SegmentationNpz(str(path), class_names=["a", "b", "c"]).setup()
    with pytest.raises(DataError, match="the value 2, outside the 2 classes"):
        SegmentationNpz(str(path), ignore_value=-1).setup()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"val_masks": None, "test_images": None}, r"holds tr.*; add val_masks, test_images"),
        ({"train_images": np.zeros((6, 12, 12))}, "train_images is float64 .*; give .* uint8"),
        ({"test_masks": np.zeros((4, 12, 12))}, "test_masks is of type float64; save .* whole num"),
        ({"test_masks": np.array([None] * 4)}, "test_masks is of type object"),
        ({"val_masks": np.zeros((5, 12, 11), int)}, r"val_masks has shape .*be \(5, 12, 12\)"),
        ({"val_masks": np.zeros((4, 12, 12), int)}, r"val_masks has shape .*be \(5, 12, 12\)"),
        (
            {"val_images": np.zeros((5, 9, 9), np.uint8)},
            r"val_images has shape .*be \(5, 12, 12, 1\)",
        ),
        (
            {"train_images": np.zeros((6, 12, 12, 2), np.uint8)},
            r"\(6, 12, 12, 2\); give .* \(N, H, W, 3\)",
        ),
        ({"train_images": np.zeros((6, 12), np.uint8)}, r"\(6, 12\); give .* \(N, H, W\)"),
    ],
)
def test_npz_files_that_do_not_fit(tmp_path, changes, said) -> None:
    path = npz(tmp_path / "cells.npz", **changes)
    with pytest.raises(DataError, match=said) as error:
        SegmentationNpz(str(path))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_are_no_npz(tmp_path) -> None:
    with pytest.raises(OptionError, match=r"path is .*absent\.npz'; give an npz file that exists"):
        SegmentationNpz(str(tmp_path / "absent.npz"))
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK nothing")
    with pytest.raises(DataError, match=r"broken\.npz' cannot be read as npz"):
        SegmentationNpz(str(broken))
    whole = npz(tmp_path / "whole.npz")
    data = SegmentationNpz(str(whole))
    whole.write_bytes(whole.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"whole\.npz' cannot be read"):
        data.setup()


def test_real_nuclei(real_images) -> None:
    data = SegmentationNpz(str(real_images / "nuclei" / "nuclei_128.npz"))
    data.setup()
    assert [len(data.split(split)) for split in SPLITS] == [464, 100, 100]
    assert (data.in_channels, data.image_size) == (3, 128)
    batch = data.prepare_batch(next(iter(data.train_dataloader())), training=True, epoch=0)
    assert batch.image.shape == (16, 3, 128, 128)
    assert batch.mask.unique().tolist() == [0, 1]


# --- pictures and files to predict on ------------------------------------------------------------


def test_pictures(root) -> None:
    data = build(root, batch_size=4)
    for stage in SPLITS:
        assert len(data.draw_batch(stage).axes) >= 1
    image = torch.full((1, 1, 2, 2), 100, dtype=torch.uint8)
    tinted = overlay(image, torch.tensor([[[0, 1], [2, 255]]]))
    assert tinted.shape == (1, 3, 2, 2)
    assert tinted[0, :, 0, 0].tolist() == [100, 100, 100]
    assert len({tuple(colour) for colour in tinted[0].flatten(1).T.tolist()}) == 4


def test_files_to_predict_on(root) -> None:
    data = build(root, "fit")
    spec = data.inputs_spec()
    assert spec["class_path"] == "datamodules.MaskInputs"
    inputs = MaskInputs([str(root / "images")], **spec["init_args"])
    batches = [inputs.on_after_batch_transfer(raw, 0) for raw in inputs.predict_dataloader()]
    assert [tuple(batch.mask.shape) for batch in batches] == [(1, *size) for size in SIZES]
    assert [batch.index.tolist() for batch in batches] == [[i] for i in range(24)]
    raw = data.split("val").__getitems__([0])
    row = int(raw.index)
    ours = data.prepare_batch(raw, training=False, epoch=0)
    theirs = inputs.prepare_batch(
        next(itertools.islice(inputs.predict_dataloader(), row, None)), training=False, epoch=0
    )
    assert inputs.names[row] == data.names[row]
    assert torch.equal(ours.image, theirs.image)
    assert theirs.mask.unique().tolist() == [255]
    assert theirs.image.is_contiguous(memory_format=torch.channels_last)
    assert MaskInputs(**inputs.resolved()["init_args"]).names == inputs.names


def test_an_image_and_its_mask_in_two_forms_of_unicode(root) -> None:
    image = sorted((root / "images").iterdir())[0]
    mask = next((root / "masks").glob(f"{image.stem}.*"))
    written = {f: unicodedata.normalize(f, f"세포é{image.suffix}") for f in ("NFC", "NFD")}
    image.rename(image.with_name(written["NFC"]))
    mask.rename(mask.with_name(written["NFD"]).with_suffix(mask.suffix))
    data = SegmentationFolder(str(root))
    assert str(root / "images" / written["NFC"]) in data.names


def test_a_stack_is_no_mask(root) -> None:
    mask = sorted((root / "masks").iterdir())[0]
    pages = [Image.fromarray(draw_mask(8, 8, seed)) for seed in range(2)]
    pages[0].save(mask.with_suffix(".tif"), save_all=True, append_images=pages[1:])
    mask.unlink()
    with pytest.raises(DataError, match=r"\.tif' .*it has 2 pages, where an image is one"):
        build(root)
