"""Images to predict on."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.core.errors import DataError
from datamodules.core.inputs import Inputs, described
from datamodules.core.sampling import PositionedLoader
from datamodules.images.arrays import FORMS, as_pil, images_in, is_batch, is_image_object
from datamodules.images.dataset import ImageBatch
from datamodules.images.decode import (
    Resize,
    check_channels,
    check_resize,
    check_window,
    fitted,
    list_images,
    read_image,
)
from datamodules.images.prepared import PreparedImages

if TYPE_CHECKING:
    from PIL.Image import Image

BatchT = TypeVar("BatchT")

_FORMS = f"give files, folders, images of PIL, or arrays: {FORMS}"


class _Images(Dataset[BatchT]):
    """Images that are decoded when their batch is due.

    Args:
        sources: Files, and images as Python has them.
        read: Makes pixels (H, W, C) of one; gets its number, too.
        make: Makes a batch of images (B, C, H, W) and their numbers (B,).
        black: The shape (H, W, C) of what stands for a file that cannot be read.
        broken: Gets what is wrong with each of those.
    """

    def __init__(
        self,
        sources: list[Any],
        read: Callable[[Any, int], npt.NDArray[np.uint8]],
        make: Callable[[Tensor, Tensor], BatchT],
        black: tuple[int, ...],
        broken: dict[int, str],
    ) -> None:
        self.sources, self.read, self.make = sources, read, make
        self.black, self.broken = black, broken

    def __len__(self) -> int:
        return len(self.sources)

    def __getitems__(self, indices: list[int]) -> BatchT:
        def read(index: int) -> npt.NDArray[np.uint8]:
            try:
                return self.read(self.sources[index], index)
            except DataError as error:
                self.broken[index] = str(error)
                return np.zeros(self.black, dtype=np.uint8)

        if len(indices) == 1:  # a thread takes longer to start than a small image to decode
            pixels = [read(indices[0])]
        else:
            with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
                pixels = list(threads.map(read, indices))
        images = np.stack(pixels)
        return self.make(torch.from_numpy(images).permute(0, 3, 1, 2), torch.tensor(indices))

    def __getitem__(self, index: int) -> BatchT:
        parts: Any = self.__getitems__([index])
        one: BatchT = type(parts)(*(part[0] for part in parts))
        return one


class ImageInputs(PreparedImages, Inputs):
    """Images to predict on, prepared as a trained net's own data were.

    Any number of files, of your own and under your own licence. Labels are -1. A file that cannot
    be read, or is not there, is passed over, and named in ``broken``. In Python images of PIL and
    arrays are taken, too: uint8 or floats from 0 to 1, (H, W), (H, W, C) or (C, H, W), and those
    of several, (N, H, W, C) or (N, C, H, W).

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
        inputs: list[str] | None,
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
        self.inputs = None if inputs is None else [str(path) for path in inputs]
        check_channels(in_channels)
        self._set_facts(class_names, in_channels, image_size)
        self.resize = check_resize(resize)
        self.window = check_window(window)
        self._sources: list[Any] = []
        self.names: list[str] = []
        #: What is wrong with each file that cannot be read, by its number; a black image stands
        #: for it.
        self.broken: dict[int, str] = {}
        if self.inputs is not None:
            self._take(self.inputs)

    def _apart(self, given: Any) -> tuple[list[Any], bool]:
        inputs, alone = super()._apart(given)
        of_several = is_batch(given) or (
            isinstance(given, str | os.PathLike) and Path(given).expanduser().is_dir()
        )
        return [image for each in inputs for image in images_in(each)], alone and not of_several

    def _wanted(self) -> str:
        return "image files or folders"

    def _take(self, inputs: Sequence[Any]) -> None:
        # One that is named, and lies in a named folder too, is one.
        found: dict[Any, tuple[str, Any]] = {}
        missing: list[str] = []
        given_files = 0
        for number, given in enumerate(inputs):
            if is_image_object(given):
                name = str(getattr(given, "filename", "") or f"image {number}")
                found[number] = name, given
                continue
            if not isinstance(given, str | os.PathLike):
                raise DataError(
                    f"input {number} is {described(given)}, which is no image; {_FORMS}"
                )
            path = Path(given).expanduser()
            is_folder = path.is_dir()
            # A file by its name whatever its extension: it was asked for.
            files = list_images(path) if is_folder else [path]
            missing += [os.fspath(given)] * (not is_folder and not path.is_file())
            given_files += len(files)
            for file in files:
                found.setdefault(os.path.abspath(file), (str(file), file))
        if missing and len(missing) == given_files:
            raise DataError(f"{missing[0]!r} does not exist; give {self._wanted()}")
        if not found:
            places = ", ".join(map(repr, inputs)) or "an empty list"
            raise DataError(f"no image found in {places}; give {self._wanted()}")
        self.names = [name for name, _ in found.values()]
        self._sources = [source for _, source in found.values()]
        self.broken = {}

    def _pixels(self, source: Any, number: int) -> npt.NDArray[np.uint8]:
        """Return the pixels (H, W, C) of a file or of one of Python's images."""
        if isinstance(source, Path):
            return self._read(source)
        name = self.names[number]
        image = as_pil(source, name)
        try:
            return self._fitted(image)
        except ValueError as error:
            raise DataError(f"{name} cannot be taken: {error}") from error

    def _read(self, path: Path) -> npt.NDArray[np.uint8]:
        return read_image(
            path, self.image_size, self.in_channels, window=self.window, resize=self.resize
        )

    def _fitted(self, image: "Image") -> npt.NDArray[np.uint8]:
        return fitted(
            image, self.image_size, self.in_channels, window=self.window, resize=self.resize
        )

    def _batch(self, image: Tensor, index: Tensor) -> Any:
        return ImageBatch(image, torch.full((len(index),), -1), index)

    def predict_dataloader(self) -> PositionedLoader:
        """Return the images in the order of ``names``."""
        channels, *sides = self.input_shape
        black = (*sides, channels)
        images = _Images(self._sources, self._pixels, self._batch, black, self.broken)
        return self._prediction_loader(images)
