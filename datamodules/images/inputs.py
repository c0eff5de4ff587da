"""Files to predict on."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.core.errors import DataError
from datamodules.core.sampling import PositionedLoader
from datamodules.images.dataset import ImageBatch
from datamodules.images.decode import (
    Resize,
    check_channels,
    check_resize,
    check_window,
    list_images,
    read_image,
)
from datamodules.images.prepared import PreparedImages

BatchT = TypeVar("BatchT")


class _Files(Dataset[BatchT]):
    """Images that are decoded when their batch is due.

    Args:
        names: The files' paths.
        read: Decodes one, to (H, W, C).
        make: Makes a batch of images (B, C, H, W) and their numbers (B,).
        black: The shape (H, W, C) of what stands for a file that cannot be read.
        broken: Gets what is wrong with each of those.
    """

    def __init__(
        self,
        names: list[str],
        read: Callable[[Path], npt.NDArray[np.uint8]],
        make: Callable[[Tensor, Tensor], BatchT],
        black: tuple[int, ...],
        broken: dict[int, str],
    ) -> None:
        self.names, self.read, self.make = names, read, make
        self.black, self.broken = black, broken

    def __len__(self) -> int:
        return len(self.names)

    def __getitems__(self, indices: list[int]) -> BatchT:
        def read(index: int) -> npt.NDArray[np.uint8]:
            try:
                return self.read(Path(self.names[index]))
            except DataError as error:
                self.broken[index] = str(error)
                return np.zeros(self.black, dtype=np.uint8)

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
            images = np.stack(list(threads.map(read, indices)))
        return self.make(torch.from_numpy(images).permute(0, 3, 1, 2), torch.tensor(indices))

    def __getitem__(self, index: int) -> BatchT:
        parts: Any = self.__getitems__([index])
        one: BatchT = type(parts)(*(part[0] for part in parts))
        return one


class ImageInputs(PreparedImages):
    """Image files to predict on, prepared as a trained net's own data were.

    Any number of files, of your own and under your own licence. Labels are -1. A file that cannot
    be read, or is not there, is passed over, and named in ``broken``.

    Args:
        inputs: Files and folders; of a folder all images at any depth, hidden ones apart. A file
            counts once, however often it is named.
        class_names: The classes that the net tells apart.
        image_size: Height and width in pixels that the net expects, a number for both or
            ``[H, W]``.
        in_channels: 1 for grey, 3 for colour.
        mean: Mean per channel on the scale 0 to 1.
        std: Standard deviation per channel on the scale 0 to 1.
        batch_size: Samples in a batch, over all processes together.
        window: Two percentiles of each image that become 0 and 255, for files of more than 8 bits;
            by default their whole range does.
        label_kind: What kind of labels the net gives.
        resize: How an image of another shape is brought to its size: its middle is kept (``crop``),
            all of it between black bars (``pad``), or it is stretched (``squash``).

    Raises:
        DataError: If no image is found.
    """

    def __init__(
        self,
        inputs: list[str],
        class_names: list[str],
        image_size: int | list[int],
        in_channels: int,
        mean: list[float],
        std: list[float],
        batch_size: int = 128,
        window: list[float] | None = None,
        label_kind: str = "multiclass",
        resize: Resize = "crop",
    ) -> None:
        super().__init__(batch_size=batch_size, mean=mean, std=std)
        self.label_kind = label_kind
        self.inputs = [str(path) for path in inputs]
        check_channels(in_channels)
        self._set_facts(class_names, in_channels, image_size)
        self.resize = check_resize(resize)
        self.window = check_window(window)
        #: The files' paths; ``batch.index`` numbers them.
        self.names = self._list_files()
        #: What is wrong with each file that cannot be read, by its number; a black image stands
        #: for it.
        self.broken: dict[int, str] = {}

    def _list_files(self) -> list[str]:
        names: list[str] = []
        missing: list[str] = []
        for given in self.inputs:
            path = Path(given).expanduser()
            if path.is_dir():
                names += [str(file) for file in list_images(path)]
            else:
                names.append(str(path))  # whatever its extension: it was asked for by name
                missing += [given] * (not path.is_file())
        if missing and len(missing) == len(names):
            raise DataError(f"{missing[0]!r} does not exist; give image files or folders")
        if not names:
            places = ", ".join(map(repr, self.inputs)) or "an empty list"
            raise DataError(f"no image found in {places}; give image files or folders")
        # one that is named, and lies in a named folder too, is one
        found: dict[str, str] = {}
        for name in names:
            found.setdefault(os.path.abspath(name), name)
        return [*found.values()]

    def _read(self, path: Path) -> npt.NDArray[np.uint8]:
        return read_image(
            path, self.image_size, self.in_channels, window=self.window, resize=self.resize
        )

    def _batch(self, image: Tensor, index: Tensor) -> Any:
        return ImageBatch(image, torch.full((len(index),), -1), index)

    def predict_dataloader(self) -> PositionedLoader:
        """Return the images in the order of ``names``."""
        channels, *sides = self.input_shape
        black = (*sides, channels)
        files = _Files(self.names, self._read, self._batch, black, self.broken)
        return self._prediction_loader(files)
