"""Random changes to a whole batch of images at once, on whatever device it lies.

Images are NHWC here, so that a pixel row is one run of bytes and a crop copies runs.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from datamodules.core.randomness import bits, uniform_floats, uniform_ints
from datamodules.images.colour import adjust_hue, adjust_saturation

# Every choice has its own draw, whether or not it is in use: switching one option on or off leaves
# the others as they were.
_TOP, _LEFT, _FLIP, _CUT_Y, _CUT_X, _BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(9)
_ERASED, _AREA, _ASPECT, _ERASE_Y, _ERASE_X = range(9, 14)

# Of random erasing: shares of the image's area, and the sides' ratio (arXiv 1708.04896).
_AREAS, _ASPECTS = (0.02, 0.33), (0.3, 3.3)


# Kept for the same reason as the hash's offsets: no transfer to the device per batch.
@lru_cache(maxsize=32)
def _ranges(padding: int, height: int, width: int, device: torch.device) -> Tensor:
    shifts = 2 * padding + 1
    rest = [1] * (_ERASE_X + 1 - _BRIGHTNESS)  # floats are drawn of these
    return torch.tensor([shifts, shifts, 2, height, width, *rest], device=device)


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training image.

    Args:
        crop_padding: Black pixels added on each side before a crop of the original size.
        horizontal_flip: Mirror half of the images, chosen anew in each epoch. ``alternate`` (K.
            Jordan, arXiv 2404.00498) chooses in epoch 0, and each later epoch mirrors those that
            the one before left as they were: two epochs in a row show every image both ways.
        cutout: Side in pixels of the square that is set to the mean colour; 0 for none.
        brightness: The image is scaled by a factor from 1 - brightness to 1 + brightness.
        contrast: The distance to the image's mean is scaled likewise.
        saturation: The distance of colours to their grey is scaled likewise.
        hue: Colours are turned by up to this share of the circle, either way.
        random_erasing: Probability that a rectangle of 2 to 33 % of the image is set to the mean
            colour (arXiv 1708.04896); one that would not fit is cut to the image's sides, where the
            paper draws another.
    """

    crop_padding: int = 0
    horizontal_flip: bool | Literal["alternate"] = False
    cutout: int = 0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    random_erasing: float = 0.0

    def draw(
        self, height: int, width: int, index: Tensor, *, seed: int, epoch: int
    ) -> "SampledAugmentation | None":
        """Choose for each image, by its index (B,); None if there is nothing to choose.

        Args:
            height: The images' height in pixels.
            width: Their width.
            index: The samples' numbers, int64 (B,).
            seed: The run's seed.
            epoch: The epoch, from 0.
        """
        used = [
            (self.crop_padding > 0, _LEFT),
            (bool(self.horizontal_flip), _FLIP),
            (self.cutout > 0, _CUT_X),
            (self.brightness > 0, _BRIGHTNESS),
            (self.contrast > 0, _CONTRAST),
            (self.saturation > 0, _SATURATION),
            (self.hue > 0, _HUE),
            (self.random_erasing > 0, _ERASE_X),
        ]
        count = max((draw + 1 for on, draw in used if on), default=0)
        if count == 0:
            return None
        random_bits = bits(seed, epoch, index, count)
        ranges = _ranges(self.crop_padding, height, width, index.device)
        ints = uniform_ints(random_bits, ranges[:count])
        if self.horizontal_flip == "alternate":
            first = uniform_ints(bits(seed, 0, index, _FLIP + 1)[:, _FLIP], 2)
            ints[:, _FLIP] = (first + epoch) % 2
        return SampledAugmentation(self, random_bits, ints)


@dataclass(frozen=True)
class SampledAugmentation:
    """The choices for one batch and how they are carried out."""

    options: Augmentation
    random_bits: Tensor
    ints: Tensor

    def move(self, images: Tensor) -> Tensor:
        """Crop and flip uint8 images (B, H, W, C); the images themselves are left as they are."""
        if self.options.crop_padding:
            number = torch.arange(len(images), device=images.device)
            top, left = self.ints[:, _TOP], self.ints[:, _LEFT]
            padding = self.options.crop_padding
            images = windows(pad(images, padding), number, top, left, padding)
        elif self.options.horizontal_flip:
            images = images.contiguous().clone()  # `flip_` writes in place
        if self.options.horizontal_flip:
            images = flip_(images, self.ints[:, _FLIP].bool())
        return images

    def gather(self, shelf: "ResidentImages", rows: Tensor) -> Tensor:
        """Crop and flip rows (B,) of resident images: for them it is a matter of where to read."""
        padding = self.options.crop_padding
        top, left = self.ints[:, _TOP], self.ints[:, _LEFT]
        if self.options.horizontal_flip:
            chosen = self.ints[:, _FLIP]
            rows = rows + chosen * shelf.count
            # What is cut out of a mirrored image lies on its other side.
            left = left + chosen * (2 * padding - 2 * left)
        return windows(shelf.padded, rows, top, left, padding)

    def color_jitter(self, rows: Tensor, channels: int) -> Tensor:
        """Change the colours of floats from 0 to 255, (B, H, W * C), perhaps in place."""
        options = self.options
        if options.brightness:
            factor = self._factor(_BRIGHTNESS, options.brightness)
            rows.mul_(factor).clamp_(0, 255)
        if options.contrast:
            factor = self._factor(_CONTRAST, options.contrast)
            mean = rows.mean(dim=(1, 2), keepdim=True)
            rows.sub_(mean).mul_(factor).add_(mean).clamp_(0, 255)
        if channels != 3 or not (options.saturation or options.hue):
            return rows
        colours = rows.view(len(rows), -1, 3)
        if options.saturation:
            factor = self._factor(_SATURATION, options.saturation)
            colours = adjust_saturation(colours, factor[:, 0, 0])
        if options.hue:
            shift = self._factor(_HUE, options.hue)[:, 0, 0] - 1
            colours = adjust_hue(colours, shift)
        return colours.view_as(rows)

    def cut(self, rows: Tensor, channels: int) -> Tensor:
        """Set a square of normalised floats (B, H, W * C) to 0, the mean colour, in place."""
        side = self.options.cutout
        if not side:
            return rows
        height, width = rows.shape[1], rows.shape[2] // channels
        # The centre is uniform over the image (DeVries and Taylor, 2017), so the square may
        # overhang.
        first_y = self.ints[:, _CUT_Y, None] - side // 2
        first_x = self.ints[:, _CUT_X, None] - side // 2
        y = torch.arange(height, device=rows.device) - first_y
        x = torch.arange(width, device=rows.device) - first_x
        in_y = (y >= 0) & (y < side)
        in_x = ((x >= 0) & (x < side)).repeat_interleave(channels, dim=1)
        return rows.masked_fill_(in_y[:, :, None] & in_x[:, None, :], 0.0)

    def erase(self, rows: Tensor, channels: int) -> Tensor:
        """Set a rectangle of some images, normalised floats (B, H, W * C), to 0, in place."""
        if not self.options.random_erasing:
            return rows
        height, width = rows.shape[1], rows.shape[2] // channels
        uniform = uniform_floats(self.random_bits[:, _ERASED : _ERASE_X + 1])
        erased, area, aspect, place_y, place_x = uniform.unbind(dim=1)
        area = (_AREAS[0] + (_AREAS[1] - _AREAS[0]) * area) * (height * width)
        low, high = (math.log(ratio) for ratio in _ASPECTS)
        aspect = torch.exp(low + (high - low) * aspect)
        tall = (area * aspect).sqrt().round().clamp(1, height)
        wide = (area / aspect).sqrt().round().clamp(1, width)
        tall = torch.where(erased < self.options.random_erasing, tall, 0)
        top = (place_y * (height - tall + 1)).floor()
        left = (place_x * (width - wide + 1)).floor()
        y = torch.arange(height, device=rows.device) - top[:, None]
        x = torch.arange(width, device=rows.device) - left[:, None]
        in_y = (y >= 0) & (y < tall[:, None])
        in_x = ((x >= 0) & (x < wide[:, None])).repeat_interleave(channels, dim=1)
        return rows.masked_fill_(in_y[:, :, None] & in_x[:, None, :], 0.0)

    def _factor(self, draw: int, strength: float) -> Tensor:
        uniform = uniform_floats(self.random_bits[:, draw])
        return (1 - strength + 2 * strength * uniform)[:, None, None]


class ResidentImages:
    """All images of a source on the device, padded and, if needed, mirrored beforehand.

    Args:
        images: Uint8 (N, H, W, C), on the device.
        options: What training will do with them.
    """

    def __init__(self, images: Tensor, options: Augmentation) -> None:
        self.count = len(images)
        self.padding = options.crop_padding
        if options.horizontal_flip:
            images = torch.cat([images, images.flip(2)])
        self.padded = pad(images, self.padding)

    def gather(self, rows: Tensor) -> Tensor:
        """Return the images (B, H, W, C) of some rows (B,), as they are."""
        middle = torch.full_like(rows, self.padding)
        return windows(self.padded, rows, middle, middle, self.padding)


def pad(images: Tensor, padding: int) -> Tensor:
    """Return images (B, H, W, C) with black pixels on each side."""
    if not padding:
        return images.contiguous()
    batch, height, width, channels = images.shape
    padded = images.new_zeros(batch, height + 2 * padding, width + 2 * padding, channels)
    # Whole pixel rows: copying would otherwise go about it three bytes at a time.
    inner = padded.flatten(2)[:, padding:-padding, padding * channels : -padding * channels]
    inner.copy_(images.flatten(2))
    return padded


def windows(padded: Tensor, number: Tensor, top: Tensor, left: Tensor, padding: int) -> Tensor:
    """Cut (H, W) out of some padded images, of each at its own place.

    Args:
        padded: Contiguous (N, H + 2 * padding, W + 2 * padding, C).
        number: Which images, int64 (B,).
        top: Int64 (B,) from 0 to 2 * padding; ``padding`` is the middle.
        left: The same for the other direction.
        padding: Pixels on each side.
    """
    _, taller, wider, channels = padded.shape
    height, row = taller - 2 * padding, (wider - 2 * padding) * channels
    line = wider * channels
    # Every crop there could be, as one overlapping view; index_select then copies a pixel row at a
    # time. (Measured for 128 images of 32x32x3 on one core: 32 us; advanced indexing of the same
    # view 310 us.)
    places = padded.numel() - (height - 1) * line - row + 1
    view = padded.as_strided((places, height, row), (1, line, 1))
    place = (number * (taller * line)).add_(top, alpha=line).add_(left, alpha=channels)
    return view.index_select(0, place).view(len(number), height, row // channels, channels)


def flip_(images: Tensor, which: Tensor) -> Tensor:
    """Mirror the chosen images left to right.

    Args:
        images: Contiguous uint8 (B, H, W, C); written to on a CPU.
        which: Bool (B,).
    """
    if images.device.type != "cpu":
        return torch.where(which[:, None, None, None], images.flip(2), images)
    # Half of the work. On a GPU finding the chosen ones would make the host wait for the device.
    chosen = which.nonzero().squeeze(1)
    mirrored = images.index_select(0, chosen).flip(2)
    flat, source = images.flatten(1), mirrored.flatten(1)
    if flat.shape[1] % 8 == 0:
        # index_copy_ goes element by element, so eight bytes at a time is eight times as fast.
        flat, source = flat.view(torch.int64), source.view(torch.int64)
    flat.index_copy_(0, chosen, source)
    return images
