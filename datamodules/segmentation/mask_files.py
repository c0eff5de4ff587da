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


#: Where a JPEG mask's values are divided.
_HALF = 128


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
    return opened(path, lambda image: whole_image(image, channels, window))


def whole_image(image: "Image", channels: int, window: list[float] | None = None) -> Array:
    """Return an image that is upright as ``read_whole_image`` returns a file's.

    Raises:
        ValueError: If the range of its pixels is not known.
    """
    converted = convert(image, "L" if channels == 1 else "RGB", window)
    pixels = np.array(converted, dtype=np.uint8)
    return pixels.reshape(*pixels.shape[:2], channels)


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


def read_brightness(path: Path) -> npt.NDArray[Any]:
    """Decode a mask as how bright each pixel is: of colours the brightest, (H, W).

    Raises:
        DataError: If it cannot be read, naming it.
    """

    def decode(image: "Image") -> npt.NDArray[Any]:
        if image.mode == "1":
            return np.array(image).astype(np.uint8) * 255
        if image.mode in ("P", "CMYK", "YCbCr", "RGBA", "LA", "PA"):
            image = image.convert("RGBA").convert("RGB")
        values = np.array(image)
        return values if values.ndim == 2 else values.max(axis=2)

    return opened(path, decode)


def is_lossy(path: Path) -> bool:
    """Return whether a mask's values are not those that were saved, by its name."""
    return path.suffix.lower() in (".jpg", ".jpeg")


class MaskReader:
    """Reads masks of one data set as classes.

    Args:
        num_classes: How many classes there are.
        ignore_value: The value that means: no class; a colour where there is a palette.
        palette: The colour of each class, where masks are to be read by their colours.
        threshold: The lowest value that is foreground, where there are two classes.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_value: int | list[int] | None,
        palette: list[list[int]] | None,
        threshold: int | None = None,
    ) -> None:
        self.num_classes = num_classes
        self.threshold = threshold
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
        if self._threshold_of(path) is not None:
            return read_brightness(path)
        return read_mask_values(path, colours=self.palette is not None)

    def _threshold_of(self, path: Path) -> int | None:
        """Return what divides a mask's values; of a JPEG of two classes, which blurs them, half."""
        blurred = self.num_classes == 2 and self.palette is None and is_lossy(path)
        return _HALF if self.threshold is None and blurred else self.threshold

    def classes(self, values: npt.NDArray[Any], path: Path) -> Array:
        """Return what ``read`` gave as classes, uint8 (H, W), with 255 for none.

        Raises:
            DataError: If a value or colour stands for no class, naming it.
        """
        threshold = self._threshold_of(path)
        if threshold is not None:
            found: Array = (values >= threshold).astype(np.uint8)
            if self.ignore_value is not None:
                found[values == self.ignore_value] = MASK_IGNORE_INDEX
            return found
        if self.palette is None and is_lossy(path):
            raise DataError(
                f"{shown(path)} is a JPEG, which blurs the numbers of {self.num_classes} classes; "
                "save it as PNG"
            )
        if self.palette is None:
            return to_classes(values, self.num_classes, self.ignore_value, shown(path))
        codes = _codes(values)
        order = np.argsort(self.palette)
        place = np.searchsorted(self.palette, codes, sorter=order).clip(max=len(order) - 1)
        nearest = order[place]
        wrong = self.palette[nearest] != codes
        if wrong.any():
            raise DataError(
                f"{shown(path)} holds the colour {values[wrong][0].tolist()}, which palette lacks; "
                "mend the mask, add the colour and its class, or give it as ignore_value"
            )
        classes: Array = self._classes[nearest]
        return classes


def _codes(colours: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return colours (..., 3) as one number each."""
    codes: npt.NDArray[np.int64] = colours.astype(np.int64) @ np.array([65536, 256, 1])
    return codes
