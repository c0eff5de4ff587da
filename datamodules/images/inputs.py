"""Files to predict on."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from datamodules.core.errors import DataError, at_least
from datamodules.core.sampling import PositionedLoader
from datamodules.images.base import PreparedImages
from datamodules.images.dataset import ImageBatch
from datamodules.images.decode import check_channels, check_window, list_images, read_image


class _Files(Dataset[ImageBatch]):
    """Images that are decoded when their batch is due."""

    def __init__(
        self, names: list[str], size: int, channels: int, window: list[float] | None
    ) -> None:
        self.names, self.size, self.channels, self.window = names, size, channels, window

    def __len__(self) -> int:
        return len(self.names)

    def __getitems__(self, indices: list[int]) -> ImageBatch:
        def read(index: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
            path = Path(self.names[index])
            return read_image(path, self.size, self.channels, window=self.window)

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
            images = np.stack(list(threads.map(read, indices)))
        label = torch.full((len(indices),), -1)
        return ImageBatch(
            torch.from_numpy(images).permute(0, 3, 1, 2), label, torch.tensor(indices)
        )

    def __getitem__(self, index: int) -> ImageBatch:
        image, label, number = self.__getitems__([index])
        return ImageBatch(image[0], label[0], number[0])


class ImageInputs(PreparedImages):
    """Image files to predict on, prepared as a trained net's own data were.

    Any number of files, of your own and under your own licence. The shorter side is resized to
    ``image_size`` and the middle of the longer one is kept. Labels are -1.

    Args:
        inputs: Files and folders; of a folder all images at any depth, hidden ones apart.
        class_names: The classes that the net tells apart.
        image_size: Height and width in pixels that the net expects.
        in_channels: 1 for grey, 3 for colour.
        mean: Mean per channel on the scale 0 to 1.
        std: Standard deviation per channel on the scale 0 to 1.
        batch_size: Samples in a batch, over all processes together.
        window: Two percentiles of each image that become 0 and 255, for files of more than 8 bits;
            by default their whole range does.
        label_kind: What kind of labels the net gives.

    Raises:
        DataError: If a path does not exist or no image is found.
    """

    def __init__(
        self,
        inputs: list[str],
        class_names: list[str],
        image_size: int,
        in_channels: int,
        mean: list[float],
        std: list[float],
        batch_size: int = 128,
        window: list[float] | None = None,
        label_kind: str = "multiclass",
    ) -> None:
        super().__init__(batch_size=batch_size, mean=mean, std=std)
        self.label_kind = label_kind
        self.inputs = [str(path) for path in inputs]
        check_channels(in_channels)
        self._set_facts(class_names, in_channels, at_least("image_size", image_size, 1))
        self.window = check_window(window)
        #: The files' paths; ``batch.index`` numbers them.
        self.names = self._list_files()

    def _list_files(self) -> list[str]:
        names: list[str] = []
        for given in self.inputs:
            path = Path(given).expanduser()
            if path.is_dir():
                names += [str(file) for file in list_images(path)]
            elif path.is_file():
                names.append(str(path))  # whatever its extension: it was asked for by name
            else:
                raise DataError(f"{given!r} does not exist; give image files or folders")
        if not names:
            places = ", ".join(map(repr, self.inputs)) or "an empty list"
            raise DataError(f"no image found in {places}; give image files or folders")
        return names

    def predict_dataloader(self) -> PositionedLoader:
        """Return the images in the order of ``names``."""
        files = _Files(self.names, self.image_size, self.in_channels, self.window)
        return self._prediction_loader(files)
