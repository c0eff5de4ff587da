"""Images in one array: a batch is one gather."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.core.copies import Hashes, array_keys
from datamodules.core.randomness import REPEAT
from datamodules.core.splits import Keys
from datamodules.images.perceptual import perceptual_hashes


class ImageBatch(NamedTuple):
    """A batch of images.

    Attributes:
        image: (B, C, H, W) in channels_last memory; uint8 from a loader, normalised floats once
            prepared.
        label: Int64 (B,), or zeros and ones (B, C) where a sample may have several.
        index: Int64 (B,), the sample's number in its data set, unique over all splits. From a
            loader it is higher by ``REPEAT`` for each time that the sample has come before in the
            epoch.
    """

    image: Tensor
    label: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which no one needs here


class ResidentBatch(NamedTuple):
    """A batch whose images already lie on the device.

    Attributes:
        source: Which resident array holds the images.
        label: Int64 (B,), or zeros and ones (B, C) where a sample may have several.
        index: Int64 (B,), as in an ``ImageBatch`` from a loader.
    """

    source: str
    label: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which no one needs here


class ArrayImages(Dataset[ImageBatch]):
    """Some rows of an array of images.

    Args:
        images: Uint8 (N, H, W, C); an np.memmap is read from its file as needed.
        labels: (N,), or zeros and ones (N, C) where a sample may have several.
        rows: The rows that belong to this split; all of them if None.
        first: The number, in the whole data set, of the array's first row.
        source: The array's name; splits of one array share it.
        sums: Int64 (N, 2, C), each image's sum and sum of squares per channel, where they are
            known.
        keys: A hash of each image's pixels, int64 (N,), where they are known.
    """

    def __init__(
        self,
        images: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.int64],
        rows: npt.NDArray[np.int64] | None = None,
        *,
        first: int = 0,
        source: str = "fit",
        sums: npt.NDArray[np.int64] | None = None,
        keys: Keys | None = None,
    ) -> None:
        self.images = images
        self.labels = np.asarray(labels, dtype=np.int64)
        self.rows = np.arange(len(images)) if rows is None else np.asarray(rows, dtype=np.int64)
        self.first = first
        self.source = source
        self.sums = sums
        self.keys = keys
        self.resident = False
        #: Channels of a batch, whatever the array has.
        self.channels = images.shape[-1]

    def __len__(self) -> int:
        """Return how many samples the split has."""
        return len(self.rows)

    def __getitems__(self, indices: list[int]) -> ImageBatch | ResidentBatch:
        """Return the whole batch in one gather; a number's repeats pass over to the index."""
        numbers = np.asarray(indices, dtype=np.int64)
        positions = numbers % REPEAT
        rows = self.rows[positions]
        label = torch.from_numpy(self.labels[rows])
        index = torch.from_numpy(rows + self.first + (numbers - positions))
        if self.resident:
            return ResidentBatch(self.source, label, index)
        taken = to_channels(np.take(self.images, rows, axis=0), self.channels)
        image = torch.from_numpy(taken)
        return ImageBatch(image.permute(0, 3, 1, 2), label, index)

    def __getitem__(self, item: int) -> ImageBatch:
        """Return one sample, without the batch dimension."""
        row = int(self.rows[item])
        taken = to_channels(np.array(self.images[row]), self.channels)
        image = torch.from_numpy(taken).permute(2, 0, 1)
        return ImageBatch(image, torch.tensor(self.labels[row]), torch.tensor(row + self.first))

    def __getstate__(self) -> dict[str, Any]:
        """Hand a mapped file to a worker by name: pickled, it would be read whole into memory."""
        state = self.__dict__.copy()
        if isinstance(self.images, np.memmap):
            state["images"] = str(self.images.filename)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map the file again."""
        self.__dict__.update(state)
        if isinstance(self.images, str):
            self.images = np.load(self.images, mmap_mode="c")

    def contents(self) -> Keys:
        """Return a hash of each of the split's images, int64 (n,)."""
        if self.keys is not None:
            return self.keys[self.rows]
        return array_keys(self.images, self.rows)

    def looks(self) -> Hashes:
        """Return a perceptual hash of each of the split's images, uint64 (n,)."""
        chunks = [self.rows[i : i + 4096] for i in range(0, len(self.rows), 4096)]
        found = [perceptual_hashes(np.take(self.images, rows, axis=0)) for rows in chunks]
        return np.concatenate(found)

    def moments(self) -> tuple[list[float], list[float]]:
        """Return mean and standard deviation of the split per channel, on the scale 0 to 1.

        Exact: whole numbers are summed and only the result is a float.
        """
        if self.sums is not None and self.channels == self.images.shape[-1]:
            total, squares = self.sums[self.rows].sum(axis=0)
        else:
            chunks = [self.rows[i : i + 1024] for i in range(0, len(self.rows), 1024)]
            parts = [
                channel_sums(to_channels(np.take(self.images, rows, axis=0), self.channels)).sum(
                    axis=0
                )
                for rows in chunks
            ]
            total, squares = np.sum(parts, axis=0)
        count = len(self.rows) * self.images.shape[1] * self.images.shape[2]
        return moments_of(total, squares, count)


def to_channels(images: npt.NDArray[np.uint8], channels: int) -> npt.NDArray[np.uint8]:
    """Return images (..., H, W, C) with 1 or 3 channels: grey three times, or colours' luminance.

    The luminance is PIL's, ITU-R 601-2's weights in whole numbers.
    """
    own = images.shape[-1]
    if own == channels:
        return images
    if own == 1:
        return np.repeat(images, channels, axis=-1)
    weighted = images.astype(np.int32) @ np.array([19595, 38470, 7471], dtype=np.int32)
    return ((weighted + 0x8000) >> 16).astype(np.uint8)[..., None]


def moments_of(
    total: npt.NDArray[np.int64], squares: npt.NDArray[np.int64], count: int
) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation per channel, on the scale 0 to 1, from the pixels' sums.

    Args:
        total: Each channel's sum, (C,).
        squares: Each channel's sum of squares, (C,).
        count: How many pixels.
    """
    mean, std = [], []
    for first, second in zip(total.tolist(), squares.tolist(), strict=True):
        mean.append(first / count / 255)
        # integers up to here: count * second - first**2 would lose its digits in floats
        std.append((count * second - first * first) ** 0.5 / count / 255)
    return mean, std


def channel_sums(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Return sum and sum of squares per channel of each image (N, H, W, C), as int64 (N, 2, C)."""
    count, height, width, channels = images.shape
    # Whole image rows side by side: numpy adds them at full speed, which it cannot do along 3
    # channels.
    wide = images.reshape(count, height, width * channels).astype(np.int32)
    both = [wide.sum(axis=1, dtype=np.int64), (wide * wide).sum(axis=1, dtype=np.int64)]
    per_column = np.stack(both, axis=1).reshape(count, 2, width, channels)
    sums: npt.NDArray[np.int64] = per_column.sum(axis=2)
    return sums
