"""Images with masks: how they are held, batched, cropped and turned."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.core.errors import DataError
from datamodules.core.protocols import MASK_IGNORE_INDEX
from datamodules.core.randomness import REPEAT, bits, permutation, uniform_ints
from datamodules.core.sampling import EpochBatches
from datamodules.images.dataset import channel_sums, moments_of, to_channels

Array = npt.NDArray[np.uint8]
Arrays = Sequence[Array] | Array
Rows = npt.NDArray[np.int64]

# Draws of one sample's random bits, above those of `images.augment` and below `images.geometry`'s.
_TOP, _LEFT = range(32, 34)


class MaskBatch(NamedTuple):
    """A batch of images with a class for each pixel.

    Attributes:
        image: (B, C, H, W) in channels_last memory; uint8 from a loader, normalised floats once
            prepared.
        mask: (B, H, W), each pixel's class, or 255 where there is none; uint8 from a loader, int64
            once prepared.
        index: Int64 (B,), the sample's number in its data set, unique over all splits.
    """

    image: Tensor
    mask: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which no one needs here


class MaskedImages(Dataset[MaskBatch]):
    """Images and masks in memory, of one size or of many.

    Samples are numbered on through the epochs: number ``e * len(self) + i`` is sample i in epoch e,
    which matters where they are cropped at random. A number's repeats within an epoch pass over to
    the index, as those of ``ArrayImages`` do.

    Args:
        images: Uint8 (H, W, C) each; an array (N, H, W, C) where they have one size.
        masks: Uint8 (H, W) each.
        index: Each sample's number in its data set, (N,).
    """

    def __init__(self, images: Arrays, masks: Arrays, index: Rows) -> None:
        self.images = images
        self.masks = masks
        self.index = index
        self.sides = np.array([mask.shape for mask in masks], dtype=np.int64).reshape(-1, 2)
        #: Channels of a batch, whatever the images have.
        self.channels = images[0].shape[2] if len(images) else 1
        self.crop_size: tuple[int, int] | None = None
        self.crop_seed = 0
        self.crops = 1

    def crop(self, size: tuple[int, int], seed: int, crops: int = 1) -> None:
        """Give random parts from now on.

        Of a larger image it is a part, any with the same probability. A smaller one stands at a
        random place, in black, its mask in 255.

        Args:
            size: Height and width in pixels.
            seed: The run's seed; the place is a function of it, the epoch and the sample's index.
            crops: How many of each image an epoch has.
        """
        self.crop_size = size
        self.crop_seed = seed
        self.crops = crops

    def __len__(self) -> int:
        """Return how many samples the split has."""
        return len(self.index)

    def __getitems__(self, numbers: list[int]) -> MaskBatch:
        """Return the whole batch, of one epoch; without a crop the images must have one size."""
        every = np.asarray(numbers, dtype=np.int64)
        plain = every % REPEAT
        positions = plain % len(self)
        index = torch.from_numpy(self.index[positions] + every - plain)
        if self.crop_size is None or (self.sides[positions] == self.crop_size).all():
            image, mask = _stack(self.images, positions), _stack(self.masks, positions)
        else:
            epoch = int(plain[0]) // (len(self) * self.crops)
            image, mask = self._crop_batch(positions, index, self.crop_size, epoch)
        image = to_channels(image, self.channels)
        return MaskBatch(torch.from_numpy(image).permute(0, 3, 1, 2), torch.from_numpy(mask), index)

    def __getitem__(self, number: int) -> MaskBatch:
        """Return one sample, without the batch dimension."""
        image, mask, index = self.__getitems__([number])
        return MaskBatch(image[0], mask[0], index[0])

    def _crop_batch(
        self, positions: Rows, index: Tensor, sides: tuple[int, int], epoch: int
    ) -> tuple[Array, Array]:
        size = np.array(sides)
        room = self.sides[positions] - size  # below 0 where the image is the smaller one
        random_bits = bits(self.crop_seed, epoch, index, _LEFT + 1)[:, [_TOP, _LEFT]]
        places = uniform_ints(random_bits, torch.from_numpy(np.abs(room) + 1)).numpy()
        starts = places * np.sign(room)

        image = np.zeros((len(positions), *sides, self.images[0].shape[2]), dtype=np.uint8)
        mask = np.full((len(positions), *sides), MASK_IGNORE_INDEX, dtype=np.uint8)
        # One slice a sample: no single gather spans images of different widths.
        for i, (position, start) in enumerate(zip(positions, starts, strict=True)):
            first = np.maximum(start, 0)
            last = np.minimum(start + size, self.sides[position])
            inside = (slice(first[0], last[0]), slice(first[1], last[1]))
            there, beyond = first - start, last - start
            outside = (i, slice(there[0], beyond[0]), slice(there[1], beyond[1]))
            image[outside] = self.images[position][inside]
            mask[outside] = self.masks[position][inside]
        return image, mask

    @cached_property
    def pixels_of_classes(self) -> Rows:
        """How many pixels each class has, (256,)."""
        counts = [np.bincount(mask.ravel(), minlength=MASK_IGNORE_INDEX + 1) for mask in self.masks]
        total: Rows = np.sum(counts, axis=0)
        return total

    def moments(self) -> tuple[list[float], list[float]]:
        """Return mean and standard deviation of all pixels per channel, on the scale 0 to 1.

        Exact: whole numbers are summed and only the result is a float.
        """
        own = (to_channels(image[None], self.channels) for image in self.images)
        total, squares = np.sum([channel_sums(image)[0] for image in own], axis=0)
        return moments_of(total, squares, int(self.sides.prod(axis=1).sum()))


def _stack(arrays: Arrays, positions: Rows) -> Array:
    if isinstance(arrays, np.ndarray):
        return np.take(arrays, positions, axis=0)
    return np.stack([arrays[position] for position in positions])


class CropBatches(EpochBatches):
    """Training batches whose numbers go on through the epochs, as ``MaskedImages`` counts."""

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the rest of the epoch."""
        epoch, _ = self.position() if self.position is not None else (0, 0)
        for batch in super().__iter__():
            yield [epoch * self.size + number for number in batch]


class SameSizeBatches(EpochBatches):
    """Evaluation batches of whole images, each batch of one size.

    Every sample exactly once, nothing is padded, and no image shares a batch with a larger one, so
    that a prediction does not depend on which others are there. Large images come in smaller
    batches.

    Args:
        sides: Height and width of each image, (N, 2).
        batch_size: Samples in a batch, over all processes together.
        most_pixels: Pixels in a batch of one process, unless a single image has more.
        rank: This process, from 0.
        world_size: How many processes share the samples.
        spread: Sizes and samples in a random order, always the same one.

    Raises:
        DataError: If there are fewer samples than processes.
    """

    def __init__(
        self,
        sides: Rows,
        batch_size: int,
        *,
        most_pixels: int,
        rank: int = 0,
        world_size: int = 1,
        spread: bool = False,
    ) -> None:
        super().__init__(
            len(sides),
            batch_size,
            training=False,
            rank=rank,
            world_size=world_size,
            spread=spread,
        )
        by_size: dict[tuple[int, ...], list[int]] = {}
        for number in self._evaluation_order()[rank::world_size].tolist():
            by_size.setdefault(tuple(sides[number].tolist()), []).append(number)
        self._batches = []
        for (height, width), numbers in by_size.items():
            fitting = most_pixels // (height * width)
            step = max(1, min(batch_size // world_size, fitting))
            self._batches += [numbers[i : i + step] for i in range(0, len(numbers), step)]
        if spread:
            order = permutation(len(self._batches), 0, 0).tolist()
            self._batches = [self._batches[place] for place in order]

    def __len__(self) -> int:
        """Return how many batches this process has."""
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield them; not spread, in the order in which their sizes first occur."""
        yield from self._batches


def to_classes(
    values: npt.NDArray[Any], num_classes: int, ignore_value: int | None, name: str
) -> Array:
    """Check a mask's values and turn them into classes.

    A value is its class. With two classes, 255 is class 1 as well, unless it is to be ignored.

    Args:
        values: Whole numbers of any shape.
        num_classes: How many classes there are, at most 255.
        ignore_value: The value that means: no class; it becomes 255.
        name: What to call the mask in an error, quoted where it is a file.

    Returns:
        uint8 of the same shape.

    Raises:
        DataError: If a value stands for no class, naming it.
    """
    if not values.size:
        return values.astype(np.uint8)
    ignored = None if ignore_value is None else values == ignore_value
    if ignored is not None:
        values = np.where(ignored, 0, values)
    lowest, highest = int(values.min()), int(values.max())
    found = [lowest, highest]
    if lowest >= 0 and highest <= 65535:
        found = np.flatnonzero(np.bincount(values.ravel())).tolist()
    if num_classes == 2 and MASK_IGNORE_INDEX in found:
        if 1 in found:
            raise DataError(
                f"{name} holds both 1 and 255, so 255 cannot stand for class 1; give "
                "ignore_value: 255 if it marks pixels without a class"
            )
        values = np.where(values == MASK_IGNORE_INDEX, 1, values)
        found.remove(MASK_IGNORE_INDEX)
    wrong = [value for value in found if not 0 <= value < num_classes]
    if wrong:
        more = f" and {len(wrong) - 1} other such values" if len(wrong) > 1 else ""
        raise DataError(
            f"{name} holds the value {wrong[0]}{more}, outside the {num_classes} classes 0 to "
            f"{num_classes - 1}; mend the mask, or give class_names for all classes, ignore_value "
            "or, for numbered instances of one foreground, threshold: 1"
        )
    classes = values.astype(np.uint8)
    if ignored is not None:
        classes[ignored] = MASK_IGNORE_INDEX
    return classes
