"""Images and masks of any size, out of files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from datamodules.core.errors import DataError, shown
from datamodules.core.protocols import MASK_IGNORE_INDEX
from datamodules.images.decode import convert, opened
from datamodules.segmentation.dataset import Array, to_classes

if TYPE_CHECKING:
    from PIL.Image import Image


def read_whole_image(path: Path, channels: int, window: list[float] | None = None) -> Array:
    """Decode an image at its own size; otherwise as ``decode.read_image``.

    Args:
        path: The file.
        channels: 1 for grey, 3 for colour.
        window: Two percentiles that become 0 and 255, for a grey image of more than 8 bits.

    Returns:
        uint8 (H, W, channels).

    Raises:
        DataError: If it cannot be read, naming it.
    """

    def decode(image: "Image") -> Array:
        converted = convert(image, "L" if channels == 1 else "RGB", window)
        pixels = np.array(converted, dtype=np.uint8)
        return pixels.reshape(*pixels.shape[:2], channels)

    return opened(path, decode)


def read_mask_values(path: Path, *, colours: bool) -> npt.NDArray[Any]:
    """Decode a mask as it is stored.

    Args:
        path: The file.
        colours: Whether colours are wanted, which a palette is looked up in; otherwise a palette's
            entries count by their number.

    Returns:
        Whole numbers (H, W), or uint8 (H, W, 3) for colours.

    Raises:
        DataError: If it cannot be read, naming it.
    """

    def decode(image: "Image") -> npt.NDArray[Any]:
        if colours:
            return np.array(image.convert("RGBA").convert("RGB"))
        if image.mode == "F":
            raise ValueError("floating-point pixels, which are no class numbers")
        if image.mode == "1":
            return np.array(image).astype(np.uint8)
        values = np.array(image.convert("RGB") if image.mode in ("CMYK", "YCbCr") else image)
        if values.ndim == 2:
            return values
        # LA and RGBA have a last channel that says how opaque a pixel is.
        visible = values[:, :, :1] if values.shape[2] == 2 else values[:, :, :3]
        if (visible != visible[:, :, :1]).any():
            raise ValueError(
                "it is a picture in colours; give palette, the colour of each class, or save class "
                "numbers"
            )
        return visible[:, :, 0]

    return opened(path, decode)


class MaskReader:
    """Reads masks of one data set as classes.

    Args:
        num_classes: How many classes there are.
        ignore_value: The value that means: no class; a colour where there is a palette.
        palette: The colour of each class, where masks are to be read by their colours.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_value: int | list[int] | None,
        palette: list[list[int]] | None,
    ) -> None:
        self.num_classes = num_classes
        self.ignore_value = None if isinstance(ignore_value, list) else ignore_value
        self.palette: npt.NDArray[np.int64] | None = None
        if palette is not None:
            nothing = [ignore_value] if isinstance(ignore_value, list) else []
            self.palette = _codes(np.array([*palette, *nothing], dtype=np.int64))
            self._classes = np.array(
                [*range(len(palette)), *[MASK_IGNORE_INDEX] * len(nothing)], np.uint8
            )

    def read(self, path: Path) -> npt.NDArray[Any]:
        """Return the mask as it is stored, (H, W) or (H, W, 3).

        Raises:
            DataError: If it cannot be read, naming it.
        """
        return read_mask_values(path, colours=self.palette is not None)

    def classes(self, values: npt.NDArray[Any], path: Path) -> Array:
        """Return what ``read`` gave as classes, uint8 (H, W), with 255 for none.

        Raises:
            DataError: If a value or colour stands for no class, naming it.
        """
        if self.palette is None:
            return to_classes(values, self.num_classes, self.ignore_value, shown(path))
        codes = _codes(values)
        order = np.argsort(self.palette)
        place = np.searchsorted(self.palette, codes, sorter=order).clip(max=len(order) - 1)
        found = order[place]
        wrong = self.palette[found] != codes
        if wrong.any():
            raise DataError(
                f"{shown(path)} holds the colour {values[wrong][0].tolist()}, which palette lacks; "
                "mend the mask, add the colour and its class, or give it as ignore_value"
            )
        classes: Array = self._classes[found]
        return classes


def _codes(colours: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return colours (..., 3) as one number each."""
    codes: npt.NDArray[np.int64] = colours.astype(np.int64) @ np.array([65536, 256, 1])
    return codes
