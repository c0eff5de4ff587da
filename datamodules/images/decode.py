"""From an image file of any kind to an array of one size."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from datamodules.core.errors import DataError, listed, one_of, refuse, shown
from datamodules.core.files import hidden_reason, is_shown
from datamodules.core.options import height_and_width
from datamodules.images.dicom import is_dicom, read_dicom

if TYPE_CHECKING:
    from PIL.Image import Image

Result = TypeVar("Result")
Resize = Literal["crop", "pad", "squash"]

#: A TIFF's tag that says what a page is, and those of its bits that say: a smaller copy, a mask.
_SUBFILE_TYPE, _NO_PAGE = 254, 1 | 4

EXTENSIONS = frozenset(
    {
        *(".bmp", ".dcm", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif"),
        *(".tiff", ".webp"),
    }
)
#: Volumes, of which a file is no image.
_VOLUMES = (".nii", ".nii.gz")

#: Part of a cache's key: raise it when the same file would give other pixels.
READER_VERSION = 3


def is_image(path: Path) -> bool:
    """Return whether a name looks like an image's; hidden ones, as macOS's ``._x.jpg``, do not."""
    return path.suffix.lower() in EXTENSIONS and is_shown(path)


def skipped_reason(path: Path) -> str | None:
    """Return why a file or folder is passed over, in words for several; None for an image.

    A folder is passed over only where it is hidden, or macOS's own.

    Raises:
        DataError: If it is a volume.
    """
    if (hidden := hidden_reason(path)) is not None:
        return hidden
    if path.is_symlink() and not path.exists():
        return "links to nothing"
    if path.name.lower().endswith(_VOLUMES):
        raise DataError(f"{shown(path)} {_VOLUME}")
    return None if is_image(path) or path.is_dir() else "other files"


_VOLUME = "is a NIfTI volume, where an image is one file: save its slices as PNG or DICOM files"


def list_images(
    folder: Path, *, some: bool = False, skipped: Counter[str] | None = None
) -> list[Path]:
    """Return all image files under a folder, at any depth, sorted; hidden ones are skipped.

    Args:
        folder: The folder.
        some: Refuse a folder that holds none.
        skipped: Counts what is passed over, by the reason.

    Raises:
        DataError: If there are none, where ``some`` are wanted, or a file is a volume.
    """
    skipped = Counter() if skipped is None else skipped
    found = sorted(_walk(folder, skipped))
    if some and not found:
        raise no_images(folder)
    return found


def no_images(*folders: Path) -> DataError:
    """Return the error to raise where folders of images are empty."""
    if len(folders) == 1:
        return DataError(f"{shown(folders[0])} holds no images; add some or remove the folder")
    return DataError(
        f"{listed([*map(str, folders)])} hold no images; add some or remove the folders"
    )


def _walk(folder: Path, skipped: Counter[str]) -> Iterator[Path]:
    for where, folders, files in os.walk(folder, followlinks=True):
        reasons = {name: skipped_reason(Path(where, name)) for name in (*folders, *files)}
        skipped.update(reason for reason in reasons.values() if reason is not None)
        folders[:] = [name for name in folders if reasons[name] is None]
        yield from (Path(where, name) for name in files if reasons[name] is None)


def check_window(window: list[float] | None) -> list[float] | None:
    """Return the percentiles, if they can be some.

    Raises:
        OptionError: If they are not two, rising, from 0 to 100.
    """
    if window is None:
        return None
    if len(window) != 2 or not 0 <= window[0] < window[1] <= 100:
        remedy = "give two percentiles from 0 to 100, the lower first, such as [0.5, 99.5]"
        raise refuse("window", window, remedy)
    return [float(percentile) for percentile in window]


def check_channels(in_channels: int) -> int:
    """Return the number of channels, if images can have so many.

    Raises:
        OptionError: If it is neither 1 nor 3.
    """
    if in_channels not in (1, 3):
        raise refuse("in_channels", in_channels, "give 1 for grey or 3 for colour")
    return in_channels


def read_image(
    file: Path | bytes,
    size: int | list[int],
    channels: int,
    name: str | None = None,
    window: list[float] | None = None,
    resize: Resize = "crop",
) -> npt.NDArray[np.uint8]:
    """Decode an image, turn it upright, fit it to a size.

    The EXIF orientation is applied; 16 bits are scaled to 8 over their whole range, or over that
    between two percentiles of the image's own values; then it is resized (bilinear, antialiased).
    An image that has the size already keeps its pixels.

    Args:
        file: A path, or a file's content.
        size: Height and width of the result in pixels, a number for both or ``[H, W]``.
        channels: 1 for grey, 3 for colour.
        name: What to call the image in an error; the path by default.
        resize: What becomes of an image of another shape: its middle is kept (``crop``), all of it
            is, between black bars (``pad``), or it is stretched (``squash``).
        window: Two percentiles that become 0 and 255, for a grey image of more than 8 bits (whole
            numbers of any range, or floats); values beyond them are clipped. PIL reads colour of 16
            bits as 8, which a window leaves alone.

    Returns:
        uint8 (H, W, channels).

    Raises:
        DataError: If it cannot be read, naming it.
    """
    return opened(file, lambda image: fitted(image, size, channels, window, resize), name)


def fitted(
    image: "Image",
    size: int | list[int],
    channels: int,
    window: list[float] | None = None,
    resize: Resize = "crop",
) -> npt.NDArray[np.uint8]:
    """Return an image that is upright as ``read_image`` returns a file's.

    Raises:
        ValueError: If the range of its pixels is not known.
    """
    sides = height_and_width(size)
    fit = _fit(convert(image, "L" if channels == 1 else "RGB", window), sides, resize)
    return np.asarray(fit, dtype=np.uint8).reshape(*sides, channels)


def opened(file: Path | bytes, use: "Callable[[Image], Result]", name: str | None = None) -> Result:
    """Open an image, turn it upright by its EXIF orientation, and make something of it.

    Args:
        file: A path, or a file's content.
        use: What to do with it.
        name: What to call the image in an error; the path by default.

    Raises:
        DataError: If it cannot be read or has several pages, naming it.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    name = name if name is not None else str(file)
    try:
        if isinstance(file, Path) and is_dicom(file):
            return use(read_dicom(file))
        if name.lower().endswith(_VOLUMES):
            raise DataError(f"{name!r} {_VOLUME}")
        with Image.open(BytesIO(file) if isinstance(file, bytes) else file) as image:
            _check_pages(image)
            ImageOps.exif_transpose(image, in_place=True)
            return use(image)
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{name!r} is too large to be decoded safely ({error}); shrink or remove it"
        ) from None
    except (MemoryError, DataError):
        raise
    # Whatever else goes wrong in a decoder is a fault of the file: they raise OSError, SyntaxError,
    # ValueError, EOFError, struct.error and zlib.error.
    except Exception as error:
        own = error.strerror if isinstance(error, OSError) else None  # without the path
        reason = own or str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = "it begins as no image does"
        raise DataError(
            f"{name!r} cannot be read as an image ({reason}); mend or remove it"
        ) from None


def _check_pages(image: Any) -> None:
    """Refuse a TIFF of several pages, a stack say, of which one alone would be taken.

    Smaller copies of a page, and masks of what is transparent in it, are no pages.
    """
    if image.format != "TIFF" or image.n_frames == 1:
        return
    for page in range(1, image.n_frames):
        image.seek(page)
        if not image.tag_v2.get(_SUBFILE_TYPE, 0) & _NO_PAGE:
            raise ValueError(
                f"it has {image.n_frames} pages, where an image is one; save each to be used as a "
                "file of its own"
            )
    image.seek(0)


def convert(image: "Image", mode: str, window: list[float] | None = None) -> "Image":
    """Bring an image to 8 bits and a mode, its brightness kept.

    Args:
        image: As opened.
        mode: "L" or "RGB".
        window: Two percentiles that become 0 and 255, where it is grey and has more than 8 bits.

    Raises:
        ValueError: If the range of its pixels is not known.
    """
    from PIL import Image

    deep = image.mode.startswith("I;16") or image.mode in ("I", "F")
    if deep and window is not None:
        image = Image.fromarray(_windowed(np.asarray(image).astype(np.float64), window))
    elif image.mode == "F" and "window" in image.info:
        image = Image.fromarray(_between(np.asarray(image, np.float64), *image.info["window"]))
    elif image.mode == "F":
        raise ValueError(
            "floating-point pixels, whose range is not known; save it with 8 or 16 bits"
        )
    elif deep:
        # PIL's own conversion clips at 255: a 16-bit image would turn white.
        values = np.asarray(image).astype(np.int64)
        if values.min(initial=0) < 0 or values.max(initial=0) > 65535:
            raise ValueError("whole numbers of more than 16 bits; save it with 8 or 16")
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB, PIL warns
    return image if image.mode == mode else image.convert(mode)


def _windowed(values: npt.NDArray[np.float64], window: list[float]) -> npt.NDArray[np.uint8]:
    """Map what lies between two percentiles of the values to 0 to 255, the rest to either end."""
    if not np.isfinite(values).all():
        raise ValueError("some pixels are not finite numbers; save it without them")
    low, high = np.percentile(values, window)
    return _between(values, low, high)


def _between(values: npt.NDArray[np.float64], low: float, high: float) -> npt.NDArray[np.uint8]:
    """Map what lies between two values to 0 to 255, the rest to either end."""
    if high > low:
        scaled = (values - low) * (255 / (high - low))
    else:  # hardly any contrast: what is brighter than the rest stays so
        scaled = np.where(values > high, 255.0, 0.0)
    grey: npt.NDArray[np.uint8] = np.clip(np.round(scaled), 0, 255).astype(np.uint8)
    return grey


def check_resize(resize: Resize) -> Resize:
    """Return how images are brought to their size, if it is known.

    Raises:
        OptionError: If it is not.
    """
    one_of("resize", resize, get_args(Resize))
    return resize


def _fit(image: "Image", sides: tuple[int, int], resize: Resize) -> "Image":
    from PIL import Image

    (height, width), (own_width, own_height) = sides, image.size
    if (own_width, own_height) == (width, height):
        return image
    if resize == "squash":
        return image.resize((width, height), Image.Resampling.BILINEAR)
    ratios = own_width / width, own_height / height
    if resize == "pad":
        longest = max(ratios)
        inner = max(1, round(own_width / longest)), max(1, round(own_height / longest))
        padded = Image.new(image.mode, (width, height))  # black
        place = (width - inner[0]) // 2, (height - inner[1]) // 2
        padded.paste(image.resize(inner, Image.Resampling.BILINEAR), place)
        return padded
    # The part in the middle, resized in one step; the box may lie between pixels.
    shortest = min(ratios)
    left, top = (own_width - width * shortest) / 2, (own_height - height * shortest) / 2
    box = (left, top, left + width * shortest, top + height * shortest)
    return image.resize((width, height), Image.Resampling.BILINEAR, box=box)
