"""Arrays in an npz file."""

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.core.errors import DataError, refuse, shown
from datamodules.images.cache import DAMAGED, npy_header


def existing_npz(path: str) -> Path:
    """Return the file that the option ``path`` names.

    Raises:
        OptionError: If there is none.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise refuse("path", path, "give an npz file that exists")
    return file


class NpzFile:
    """An npz file; of its arrays only the headers are read at first.

    Args:
        path: The file.
        keys: The arrays that are wanted.

    Raises:
        DataError: If it cannot be read or lacks one of them.
    """

    def __init__(self, path: Path, keys: Iterable[str]) -> None:
        self.path = path
        #: How messages call the file.
        self.name = shown(path)
        #: Shape and type of each array.
        self.headers: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
        try:
            with zipfile.ZipFile(path) as archive:
                present = [name.removesuffix(".npy") for name in archive.namelist()]
                absent = [key for key in keys if key not in present]
                if not absent:
                    self.headers = {key: npy_header(archive, f"{key}.npy") for key in keys}
        except DAMAGED as error:
            raise self.damaged(error) from None
        if absent:
            raise DataError(
                f"{self.name} holds {', '.join(present) or 'nothing'}; add {', '.join(absent)}"
            )

    def image_shape(self, key: str) -> tuple[int, int, int, int]:
        """Return (N, H, W, C) of an array of images; an array without channels has one.

        Raises:
            DataError: If it does not hold images.
        """
        shape, dtype = self.headers[key]
        if dtype != np.uint8 or not (len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))):
            raise DataError(
                f"{self.name}: {key} is {dtype} of the shape {shape}; give images as uint8 "
                "(N, H, W) or (N, H, W, 3)"
            )
        count, height, width, channels = (*shape, 1)[:4]
        return count, height, width, channels

    def damaged(self, error: Exception) -> DataError:
        """Return the error to raise where the file cannot be read."""
        return DataError(f"{self.name} cannot be read as npz ({error}); save or fetch it again")

    def read(self, key: str) -> npt.NDArray[Any]:
        """Return a whole array.

        Raises:
            DataError: If it cannot be read.
        """
        try:
            with np.load(self.path) as file:  # it refuses pickled objects, which could run code
                array: npt.NDArray[Any] = file[key]
        except DAMAGED as error:
            raise self.damaged(error) from None
        return array
