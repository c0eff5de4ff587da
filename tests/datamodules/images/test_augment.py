from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats

from datamodules.core.errors import OptionError
from datamodules.core.randomness import bits, uniform_floats
from datamodules.images.augment import Augmentation

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


def reference(image, index, *, seed, epoch, options, mean, std):
    """One sample, step by step; image is uint8 (H, W, C), the result float32 (C, H, W)."""
    height, width, _ = image.shape
    z = bits(seed, epoch, torch.tensor([index]), 7)
    words = [int(word) & (2**64 - 1) for word in z[0].tolist()]

    def whole(draw, n):
        return ((words[draw] >> 33) * n) >> 31

    p = options.crop_padding
    if p:
        padded = np.pad(image, ((p, p), (p, p), (0, 0)))
        top, left = whole(0, 2 * p + 1), whole(1, 2 * p + 1)
        image = padded[top : top + height, left : left + width]
    flip = whole(2, 2)
    if options.horizontal_flip == "alternate":
        first = int(bits(seed, 0, torch.tensor([index]), 3)[0, 2]) & (2**64 - 1)
        flip = ((first >> 63) + epoch) % 2
    if options.horizontal_flip and flip:
        image = image[:, ::-1]
    values = image.astype(np.float64)
    if options.brightness:
        u = uniform_floats(z[0, 5]).item()
        values = np.clip(values * (1 - options.brightness + 2 * options.brightness * u), 0, 255)
    if options.contrast:
        u = uniform_floats(z[0, 6]).item()
        factor = 1 - options.contrast + 2 * options.contrast * u
        values = np.clip((values - values.mean()) * factor + values.mean(), 0, 255)
    values = (values / 255 - mean) / std
    side = options.cutout
    if side:
        y, x = whole(3, height) - side // 2, whole(4, width) - side // 2
        values[max(y, 0) : max(y + side, 0), max(x, 0) : max(x + side, 0)] = 0
    return values.transpose(2, 0, 1).astype(np.float32)


CASES = {
    "nothing": {},
    "crop": {"crop_padding": 2},
    "flip": {"horizontal_flip": True},
    "crop and flip": {"crop_padding": 3, "horizontal_flip": True},
    "alternating flip": {"horizontal_flip": "alternate"},
    "crop and alternating flip": {"crop_padding": 3, "horizontal_flip": "alternate"},
    "cutout": {"cutout": 4},
    "odd cutout": {"cutout": 5, "horizontal_flip": True},
    "brightness": {"brightness": 0.6},
    "contrast": {"contrast": 0.9},
    "everything": {
        "crop_padding": 4,
        "horizontal_flip": True,
        "cutout": 3,
        "brightness": 0.4,
        "contrast": 0.4,
    },
}


@pytest.mark.parametrize("resident", [False, True], ids=["sent", "resident"])
@pytest.mark.parametrize(("channels", "side"), [(3, 8), (1, 8), (3, 7)])
@pytest.mark.parametrize("name", CASES)
def test_equals_the_obvious_way(arrays, name, channels, side, resident) -> None:
    mean, std = MEAN[:channels], STD[:channels]
    data = arrays(
        "fit",
        side=side,
        channels=channels,
        resident=resident,
        seed=11,
        mean=mean,
        std=std,
        **CASES[name],
    )
    options = Augmentation(**CASES[name])
    for raw in data.train_dataloader():
        batch = data.prepare_batch(raw, training=True, epoch=3)
        for image, index in zip(batch.image, batch.index.tolist(), strict=True):
            expected = reference(
                data.pixels[index], index, seed=11, epoch=3, options=options, mean=mean, std=std
            )
            np.testing.assert_allclose(image.numpy(), expected, atol=2e-6)


def test_the_loaders_batch_is_left_as_it_was(arrays) -> None:
    for options in CASES.values():
        data = arrays("fit", **options)
        raw = next(iter(data.train_dataloader()))
        before = raw.image.clone()
        first = data.prepare_batch(raw, training=True, epoch=0)
        second = data.prepare_batch(raw, training=True, epoch=0)
        assert torch.equal(raw.image, before)
        assert torch.equal(first.image, second.image)


def test_no_augmentation_outside_training(arrays) -> None:
    plain, rich = arrays("fit"), arrays("fit", **CASES["everything"])
    for resident in (False, True):
        rich.split("val").resident = resident
        raw = next(iter(plain.val_dataloader()))
        other = next(iter(rich.val_dataloader()))
        expected = plain.prepare_batch(raw, training=False, epoch=0).image
        assert torch.equal(rich.prepare_batch(other, training=False, epoch=0).image, expected)


def test_choices_are_uniform_and_change_with_the_epoch() -> None:
    options = Augmentation(crop_padding=4, horizontal_flip=True, cutout=8)
    index = torch.arange(50_000)
    ints = options.draw(32, 32, index, seed=0, epoch=0).ints
    for draw, n in ((0, 9), (1, 9), (2, 2), (3, 32), (4, 32)):
        counts = ints[:, draw].bincount(minlength=n).numpy()
        assert len(counts) == n
        assert stats.chisquare(counts).pvalue > 0.001
    pairs = (ints[:, 0] * 9 + ints[:, 1]).bincount(minlength=81).numpy()
    assert stats.chisquare(pairs).pvalue > 0.001
    later = options.draw(32, 32, index, seed=0, epoch=1).ints
    same = (later[:, 0] == ints[:, 0]).float().mean().item()
    assert abs(same - 1 / 9) < 0.01


def test_alternating_flips() -> None:
    index = torch.arange(50_000)

    def flips(epoch, seed=0, **options):
        options = {"horizontal_flip": "alternate", **options}
        return Augmentation(**options).draw(32, 32, index, seed=seed, epoch=epoch).ints[:, 2]

    first = flips(0)
    assert torch.equal(first, flips(0, horizontal_flip=True))
    assert abs(first.float().mean().item() - 0.5) < 0.01
    for epoch in range(1, 5):
        assert torch.equal(flips(epoch), first if epoch % 2 == 0 else 1 - first)
    assert 0.48 < (flips(0, seed=1) == first).float().mean().item() < 0.52
    assert torch.equal(flips(3, crop_padding=4, cutout=3), flips(3))
    # and every other choice is what it is without
    options = {"crop_padding": 4, "cutout": 3, "contrast": 0.1}
    rest = [0, 1, 3, 4]
    alternate = Augmentation(horizontal_flip="alternate", **options)
    plain = Augmentation(horizontal_flip=True, **options)
    one, two = (each.draw(32, 32, index, seed=0, epoch=3) for each in (alternate, plain))
    assert torch.equal(one.ints[:, rest], two.ints[:, rest])


@pytest.mark.parametrize("resident", [False, True], ids=["sent", "resident"])
def test_two_epochs_in_a_row_show_both_sides(arrays, resident) -> None:
    data = arrays("fit", horizontal_flip="alternate", resident=resident)
    raw = next(iter(data.train_dataloader()))
    shown = [data.prepare_batch(raw, training=True, epoch=epoch).image for epoch in range(4)]
    for earlier, later in pairwise(shown):
        assert torch.equal(earlier.flip(3), later)
    plain = data.prepare_batch(raw, training=False, epoch=0).image
    as_it_was = (shown[0] == plain).flatten(1).all(dim=1)
    assert 0 < as_it_was.sum() < len(plain)


def test_a_flip_that_is_not_known(arrays) -> None:
    with pytest.raises(OptionError, match=r"horizontal_flip is 'alternat'; .*'alternate'"):
        arrays(horizontal_flip="alternat")


def test_one_option_does_not_move_another() -> None:
    index = torch.arange(100)
    crop = Augmentation(crop_padding=4).draw(32, 32, index, seed=0, epoch=0)
    both = Augmentation(crop_padding=4, horizontal_flip=True, cutout=3, contrast=0.1)
    drawn = both.draw(32, 32, index, seed=0, epoch=0)
    assert torch.equal(crop.ints[:, :2], drawn.ints[:, :2])
    assert Augmentation().draw(32, 32, index, seed=0, epoch=0) is None


def test_flips_on_another_device_agree() -> None:
    # The branch for accelerators, on the CPU: `where` instead of writing in place.
    from datamodules.images.augment import flip_

    images = torch.randint(0, 256, (6, 4, 4, 3), dtype=torch.uint8)
    which = torch.tensor([True, False, True, True, False, False])
    expected = torch.where(which[:, None, None, None], images.flip(2), images)
    assert torch.equal(flip_(images.clone(), which), expected)
