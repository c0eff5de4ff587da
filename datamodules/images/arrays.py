"""Images as Python has them: of PIL, NumPy or torch."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from datamodules.core.errors import DataError
from datamodules.core.inputs import described

if TYPE_CHECKING:
    from PIL.Image import Image

#: Numbers of channels: grey, colour, colour with transparency.
_CHANNELS = (1, 3, 4)
#: What an array may be, in words.
FORMS = "uint8 from 0 to 255 or floats from 0 to 1, (H, W), (H, W, C) or (C, H, W) with C 1 or 3"


def is_image_object(given: object) -> bool:
    """Return whether Python's object may be an image, or several of one size."""
    if isinstance(given, np.ndarray | torch.Tensor):
        return True
    return type(given).__module__.startswith("PIL.") and hasattr(given, "getexif")


def is_batch(given: Any) -> bool:
    """Return whether it is an array of several images, (N, H, W, C) or (N, C, H, W)."""
    return isinstance(given, np.ndarray | torch.Tensor) and given.ndim == 4


def images_in(given: Any) -> list[Any]:
    """Return the images of an array of several, or the only one."""
    return list(given) if is_batch(given) else [given]


def as_pil(given: Any, name: str) -> "Image":
    """Return an image of Python's as PIL's, turned upright where it knows how.

    An array keeps its pixels: uint8 as they are, floats times 255, rounded. Where its channels may
    stand first or last, NumPy's stand last and torch's first.

    Args:
        given: An image of PIL, or an array (H, W), (H, W, C) or (C, H, W).
        name: What to call it in a message.

    Raises:
        DataError: If it is no image.
    """
    from PIL import Image, ImageOps

    if not isinstance(given, np.ndarray | torch.Tensor):
        return ImageOps.exif_transpose(given)
    pixels = _pixels(given, name)
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _pixels(given: Any, name: str) -> npt.NDArray[Any]:
    """Return an array as (H, W, C) of uint8, or uint16 where it is grey."""
    is_tensor = isinstance(given, torch.Tensor)
    array: npt.NDArray[Any] = (
        given.detach().float().cpu().numpy()
        if _is_half(given)
        else (given.detach().cpu().numpy() if is_tensor else given)
    )
    array = _channels_last(array, given, name, first=is_tensor)
    what = f"{name} is {described(given)}"
    if array.dtype == np.uint8 or (array.dtype == np.uint16 and array.shape[-1] == 1):
        whole: npt.NDArray[Any] = np.ascontiguousarray(array)
        return whole
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"{what}; give {FORMS}")
    if not np.isfinite(array).all():
        raise DataError(f"{what}, and some of its values are NaN or infinite; give {FORMS}")
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > 1:
        raise DataError(f"{what} with values from {low:.4g} to {high:.4g}; give {FORMS}")
    rounded: npt.NDArray[Any] = np.round(array.astype(np.float64) * 255).astype(np.uint8)
    return rounded


def _is_half(given: Any) -> bool:
    """Return whether it is in a type of torch's that NumPy does not have."""
    return isinstance(given, torch.Tensor) and given.dtype == torch.bfloat16


def _channels_last(
    array: npt.NDArray[Any], given: object, name: str, *, first: bool
) -> npt.NDArray[Any]:
    """Return an array with its channels behind height and width."""
    if array.ndim == 2 and array.size:
        return array[..., None]
    places = [place for place in (0, 2) if array.ndim == 3 and array.shape[place] in _CHANNELS]
    if not places or not array.size:
        raise DataError(f"{name} is {described(given)}, which is no image; give {FORMS}")
    place = places[0] if first or len(places) == 1 else places[-1]
    return array if place == 2 else np.moveaxis(array, 0, -1)
