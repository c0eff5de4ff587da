"""From an image file of any kind to an array of one size."""

import os
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from datamodules.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

EXTENSIONS = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)

READER_VERSION = 1
"""Part of a cache's key: raise it when the same file would give other pixels."""


def is_image(path: Path) -> bool:
    """Whether a name looks like an image's; macOS's `._x.jpg` and other hidden files do not."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def list_images(folder: Path) -> list[Path]:
    """All image files under a folder, at any depth, sorted; hidden ones are skipped."""
    return sorted(_walk(folder))


def _walk(folder: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (path for path in (Path(where, name) for name in files) if is_image(path))


def read_image(
    file: Path | bytes, size: int, channels: int, name: str | None = None
) -> npt.NDArray[np.uint8]:
    """Decode an image, turn it upright, fit it to a square.

    The EXIF orientation is applied; 16 bits are scaled to 8 over their whole range; the shorter
    side is resized to `size` (bilinear, antialiased) and the middle of the longer one is kept. An
    image that has the size already keeps its pixels.

    Args:
        file: a path, or a file's content.
        size: height and width of the result in pixels.
        channels: 1 for grey, 3 for colour.
        name: what to call the image in an error; the path by default.

    Returns:
        uint8 (size, size, channels).

    Raises:
        DataError: if it cannot be read, naming it.
    """
    from PIL import Image, ImageOps

    name = name if name is not None else str(file)
    try:
        with Image.open(BytesIO(file) if isinstance(file, bytes) else file) as opened:
            ImageOps.exif_transpose(opened, in_place=True)
            image = _fit(_convert(opened, "L" if channels == 1 else "RGB"), size)
            return np.asarray(image, dtype=np.uint8).reshape(size, size, channels)
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{name}: too large to be decoded safely ({error}); shrink or remove it"
        ) from None
    except MemoryError:
        raise
    # Whatever else goes wrong in a decoder is a fault of the file: they raise OSError, SyntaxError,
    # ValueError, EOFError, struct.error and zlib.error.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise DataError(
            f"{name}: cannot be read as an image ({reason}); mend or remove it"
        ) from None


def _convert(image: "Image", mode: str) -> "Image":
    from PIL import Image

    if image.mode.startswith("I;16") or image.mode == "I":
        # PIL's own conversion clips at 255: a 16-bit image would turn white.
        values = np.asarray(image).astype(np.int64)
        if values.min(initial=0) < 0 or values.max(initial=0) > 65535:
            raise ValueError("whole numbers of more than 16 bits; save it with 8 or 16")
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError(
            "floating-point pixels, whose range is not known; save it with 8 or 16 bits"
        )
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB, PIL warns
    return image if image.mode == mode else image.convert(mode)


def _fit(image: "Image", size: int) -> "Image":
    from PIL import Image

    width, height = image.size
    if (width, height) == (size, size):
        return image
    shorter = min(width, height)
    # The square in the middle, resized in one step; the box may lie between pixels.
    left, top = (width - shorter) / 2, (height - shorter) / 2
    box = (left, top, left + shorter, top + shorter)
    return image.resize((size, size), Image.Resampling.BILINEAR, box=box)
