"""Options of every data set of images: channels, sizes, and what is done to training images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from datamodules import Digits, ImageFolder, ImageInputs, ImageNpz, SyntheticCells
from datamodules.core.errors import OptionError
from datamodules.images.augment import Augmentation
from datamodules.images.colour import adjust_hue, adjust_saturation
from datamodules.images.dataset import ArrayImages, to_channels
from datamodules.images.decode import read_image
from datamodules.images.geometry import warp
from datamodules.images.transforms import SeededTransforms

PLAIN: dict[str, Any] = {"mean": [0.0] * 3, "std": [1 / 255] * 3}


@pytest.fixture
def colours() -> Tensor:
    """Images (4, 3, 12, 12), uint8."""
    return torch.randint(256, (4, 3, 12, 12), generator=torch.manual_seed(0), dtype=torch.uint8)


def rows(images: Tensor) -> Tensor:
    """Images (B, C, H, W) as pixels (B, N, C)."""
    return images.permute(0, 2, 3, 1).flatten(1, 2).float()


def npz(path: Path, shape: tuple[int, ...] = (12, 12, 3)) -> str:
    draw = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 20), ("val", 6), ("test", 6)):
        arrays[f"{split}_images"] = draw.integers(0, 256, (count, *shape), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(count) % 2
    np.savez(path / "x.npz", **arrays)
    return str(path / "x.npz")


# ---------------------------------------------------------------------- channels


def test_colours_become_pils_luminance_and_grey_comes_three_times(colours: Tensor) -> None:
    arrays = colours.permute(0, 2, 3, 1).numpy()
    for array, grey in zip(arrays, to_channels(arrays, 1), strict=True):
        assert np.array_equal(grey[..., 0], np.asarray(Image.fromarray(array).convert("L")))
    grey = arrays[..., :1]
    assert np.array_equal(to_channels(grey, 3), np.repeat(grey, 3, axis=3))


@pytest.mark.parametrize(("own", "channels"), [(1, 3), (3, 1)])
def test_any_set_gives_the_channels_that_are_asked_for(
    tmp_path: Path, own: int, channels: int
) -> None:
    data = ImageNpz(npz(tmp_path, (12, 12, own)), channels=channels, batch_size=20)
    assert data.input_shape == (channels, 12, 12)
    data.setup("fit")
    data.setup("test")
    batch = next(iter(data.val_dataloader()))
    assert batch.image.shape == (6, channels, 12, 12)
    # Normalised by what is shown: mean 0 and deviation 1 over the training split.
    shown = data.prepare_batch(next(iter(data.train_dataloader())), training=False, epoch=0).image
    assert float(shown.mean()) == pytest.approx(0, abs=1e-5)
    assert float(shown.std(unbiased=False)) == pytest.approx(1, abs=1e-5)
    assert data.inputs_spec()["init_args"]["in_channels"] == channels


def test_known_sums_serve_only_for_the_channels_that_they_are_of() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), dtype=np.uint8)
    data = ArrayImages(images, np.zeros(5), sums=np.ones((5, 2, 1), dtype=np.int64))
    data.channels = 3
    mean, _ = data.moments()
    assert mean == pytest.approx([images.mean() / 255] * 3)


def test_channels_may_be_those_of_the_net() -> None:
    data = Digits(channels="auto", batch_size=8)
    assert data.in_channels == 1
    data.fit_channels(nn.Sequential(nn.Conv2d(3, 4, 1)))
    data.setup("fit")
    assert data.input_shape == (3, 8, 8)
    assert next(iter(data.train_dataloader())).image.shape == (8, 3, 8, 8)
    data = Digits(channels="auto")
    data.fit_channels(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    assert data.in_channels == 1


def test_masks_images_have_channels_too() -> None:
    data = SyntheticCells(count=10, image_size=16, in_channels=3, channels=1, batch_size=4)
    data.setup("fit")
    assert next(iter(data.train_dataloader())).image.shape == (4, 1, 16, 16)


# ---------------------------------------------------------------------- sizes


def oblong(path: Path) -> Path:
    """Black, with a white middle of 20 x 20 pixels in 40 x 20."""
    pixels = np.zeros((20, 40), dtype=np.uint8)
    pixels[:, 10:30] = 255
    Image.fromarray(pixels).save(path / "x.png")
    return path / "x.png"


def test_an_image_is_cropped_padded_or_squashed(tmp_path: Path) -> None:
    path = oblong(tmp_path)
    assert (read_image(path, 10, 1) > 200).all()
    padded = read_image(path, 10, 1, resize="pad")[..., 0]
    assert not padded[:2].any()
    assert not padded[-2:].any()
    assert (padded[3:7, 3:7] == 255).all()
    assert not padded[:, :2].any()
    squashed = read_image(path, 10, 1, resize="squash")[..., 0]
    assert (squashed[:, 4:6] == 255).all()
    assert not squashed[:, [0, 1, 8, 9]].any()
    assert read_image(path, [10, 20], 3).shape == (10, 20, 3)
    assert np.array_equal(
        read_image(path, [10, 20], 1), read_image(path, [10, 20], 1, resize="pad")
    )


def test_a_folders_images_and_later_inputs_have_one_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    for label in "ab":
        folder = tmp_path / "images" / label
        folder.mkdir(parents=True)
        for number in range(12):
            colour = (9 * number, 0, 200 if label == "a" else 0)  # no two are copies
            Image.new("RGB", (30 + number, 20), colour).save(folder / f"{number}.png")
    root = str(tmp_path / "images")
    data = ImageFolder(root, image_size=[8, 12], resize="pad", batch_size=4, rotation=10)
    data.setup("fit")
    batch = data.prepare_batch(next(iter(data.train_dataloader())), training=True, epoch=0)
    assert batch.image.shape[1:] == data.input_shape == (3, 8, 12)
    spec = data.inputs_spec()["init_args"]
    assert (spec["resize"], spec["image_size"]) == ("pad", [8, 12])
    inputs = ImageInputs([root], **spec)
    assert next(iter(inputs.predict_dataloader())).image.shape[1:] == (3, 8, 12)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image_size": [8]}, r"image_size is \[8\]; give a side in pixels, or \[H, W\]"),
        ({"image_size": [8, 0]}, "image_size is 0; give 1 or more"),
        ({"resize": "fit"}, "resize is 'fit'; give one of crop, pad, squash"),
        ({"image_size": [8, 4], "rotate90": True}, "rotate90 is true; set it to false, as"),
        ({"in_channels": 1, "hue": 0.1}, "hue is 0.1; leave it out, as grey images have no col"),
        ({"channels": 2}, "channels is 2; give 1 for grey, 3 for colour, or auto"),
        ({"rotation": 200}, "rotation is 200; give a number from 0 to 180"),
        ({"hue": 0.6}, "hue is 0.6; give a number from 0 to 0.5"),
        ({"policy": "autoaugment"}, "policy is 'autoaugment'; give randaugment or triviala"),
    ],
    ids=str,
)
def test_options_that_cannot_be_end_in_a_sentence(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / label / "x.png")
    with pytest.raises(OptionError, match=words):
        ImageFolder(str(tmp_path), **options)


# ---------------------------------------------------------------------- what is done to images


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_rotation_by_quarters_is_torchs(colours: Tensor, quarters: int) -> None:
    mask = colours[:, 0] % 4
    mask[mask == 3] = 255
    angle = torch.full((4,), quarters * torch.pi / 2)
    moved, turned = warp(colours, mask, angle, torch.ones(4))
    assert torch.equal(moved.round().to(torch.uint8), colours.rot90(quarters, (2, 3)))
    assert turned is not None
    assert torch.equal(turned, mask.rot90(quarters, (1, 2)))


@pytest.mark.parametrize(("angle", "scale"), [(30.0, 1.0), (0.0, 0.5), (-12.0, 1.7)])
def test_rotation_and_scale_are_torchvisions(angle: float, scale: float) -> None:
    image = torch.rand(1, 2, 9, 16) * 255
    moved, _ = warp(image, None, torch.tensor([angle]).deg2rad(), torch.tensor([scale]))
    # torchvision's angle is clockwise.
    theirs = F.affine(
        image, -angle, [0, 0], scale, [0.0, 0.0], interpolation=v2.InterpolationMode.BILINEAR
    )
    # It shades what lies over the edge otherwise.
    inner = (
        F.affine(
            torch.ones_like(image),
            -angle,
            [0, 0],
            scale,
            [0.0, 0.0],
            interpolation=v2.InterpolationMode.BILINEAR,
        )
        > 0.999
    )
    assert inner.float().mean() > 0.2
    torch.testing.assert_close(moved[inner], theirs[inner], rtol=1e-3, atol=0.05)


def test_what_is_turned_in_is_black_and_no_class(colours: Tensor) -> None:
    mask = torch.ones(4, 12, 12, dtype=torch.uint8)
    moved, classes = warp(colours, mask, torch.zeros(4), torch.full((4,), 0.5))
    assert classes is not None
    assert (classes[:, :2] == 255).all()
    assert not moved[:, :, :2].any()
    assert (classes[:, 4:8, 4:8] == 1).all()


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.6])
def test_saturation_is_torchvisions(colours: Tensor, factor: float) -> None:
    ours = adjust_saturation(rows(colours), torch.full((4,), factor)) / 255
    torch.testing.assert_close(
        ours, rows(F.adjust_saturation(colours.float() / 255, factor)), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("shift", [-0.5, -0.2, 0.0, 0.1, 0.33, 0.5])
def test_hue_is_torchvisions(colours: Tensor, shift: float) -> None:
    colours[0] = colours[0, :1]  # grey, which has no hue
    ours = adjust_hue(rows(colours), torch.full((4,), shift)) / 255
    torch.testing.assert_close(
        ours, rows(F.adjust_hue(colours.float() / 255, shift)), rtol=0, atol=1e-5
    )


def test_as_many_are_erased_as_asked_for_and_as_much() -> None:
    index = torch.arange(4000)
    drawn = Augmentation(random_erasing=0.5).draw(32, 32, index, seed=0, epoch=0)
    assert drawn is not None
    erased = drawn.erase(torch.ones(4000, 32, 32 * 3), 3).view(4000, 32, 32, 3) == 0
    assert torch.equal(erased[..., 0], erased[..., 2])
    share = erased[..., 0].float().mean((1, 2))
    assert float((share > 0).float().mean()) == pytest.approx(0.5, abs=0.03)
    share = share[share > 0]
    assert 0.01 < float(share.min()) < 0.03
    assert float(share.max()) < 0.36
    assert float(share.mean()) == pytest.approx(0.175, abs=0.02)
    # A rectangle: as many pixels as rows times columns.
    tall, wide = (erased[..., 0].any(dim).sum(1) for dim in (2, 1))
    assert torch.equal(erased[..., 0].sum((1, 2)), tall * wide)
    assert float((tall > wide).float().mean()) == pytest.approx(0.25, abs=0.05)


OPTIONS: list[dict[str, Any]] = [
    {"vertical_flip": True},
    {"rotate90": True},
    {"rotation": 30},
    {"scale": 0.3},
    {"saturation": 0.5},
    {"hue": 0.2},
    {"random_erasing": 0.9},
    {"policy": "randaugment"},
    {"policy": "trivialaugment"},
    {"transform": v2.GaussianNoise()},
    {"transform": [v2.RandomPerspective(p=1.0), v2.RandomAffine(20)]},
    {"rotation": 30, "hue": 0.2, "crop_padding": 2, "cutout": 3, "horizontal_flip": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "+".join(options))
def test_an_image_depends_on_seed_epoch_and_index_alone(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    data = ImageNpz(npz(tmp_path), seed=3, **PLAIN, **options)
    data.setup("fit")
    dataset = data.split("train")

    def look(numbers: list[int], epoch: int, training: bool = True) -> Tensor:
        raw = dataset.__getitems__(numbers)
        return data.prepare_batch(raw, training=training, epoch=epoch).image

    state = torch.get_rng_state()
    whole = look(list(range(20)), 1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)  # whatever else has been drawn
    assert torch.equal(torch.cat([look([7, 3], 1), look([11], 1)]), whole[[7, 3, 11]])
    assert not torch.equal(look(list(range(20)), 2), whole)
    data.seed = 4
    assert not torch.equal(look(list(range(20)), 1), whole)
    # Evaluation sees images as they are.
    images = torch.from_numpy(dataset.images).permute(0, 3, 1, 2)
    assert torch.equal(look(list(range(20)), 1, training=False).round(), images.float())


@pytest.mark.parametrize(
    "options",
    [{"rotation": 40, "scale": 0.2}, {"transform": v2.RandomAffine(30)}, {"hue": 0.3}],
    ids=str,
)
def test_masks_move_with_their_images(options: dict[str, Any]) -> None:
    data = SyntheticCells(count=20, image_size=16, batch_size=4, seed=1, **PLAIN, **options)
    data.setup("fit")
    dataset = data.split("train")
    # Images that show their masks.
    dataset.images = np.repeat(dataset.masks[..., None] * 200, 3, axis=3)
    raw = dataset.__getitems__([0, 1, 2, 3, 4, 5])
    batch = data.prepare_batch(raw, training=True, epoch=0)
    there = batch.mask != 255
    agree = ((batch.image[:, 0] > 100) == (batch.mask == 1))[there].float().mean()
    assert agree > 0.9
    alone = data.prepare_batch(dataset.__getitems__([4]), training=True, epoch=0)
    assert torch.equal(alone.image[0], batch.image[4])
    assert torch.equal(alone.mask[0], batch.mask[4])
    if "hue" not in options:
        assert not torch.equal(batch.mask, raw.mask.long())


def test_transforms_that_change_the_size_are_refused(colours: Tensor) -> None:
    with pytest.raises(
        OptionError, match=r"transform is 'RandomResizedCrop'; it makes torch.uint8"
    ):
        SeededTransforms([v2.RandomResizedCrop(8)]).apply(
            colours, None, torch.arange(4), seed=0, epoch=0
        )


def test_several_crops_of_an_image_make_an_epoch_longer() -> None:
    data = SyntheticCells(count=12, image_size=32, batch_size=4, crops=5, seed=1)
    data.setup("fit")
    assert len(data.split("train")) == 8
    data.image_size = 16
    data.split("train").crop((16, 16), seed=1, crops=5)
    batches = list(data.train_dataloader())
    assert len(batches) == 10
    prepared = [data.prepare_batch(raw, training=True, epoch=0) for raw in batches]
    index = torch.cat([batch.index for batch in prepared])
    assert sorted(index.tolist()) == sorted(data.split("train").index.tolist() * 5)
    images = torch.cat([batch.image for batch in prepared])
    own = images[index == index[0]]
    assert len(own.flatten(1).unique(dim=0)) == 5
