"""DICOM files, as scanners write them; pydicom reads them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datamodules.core.errors import DataError, shown

if TYPE_CHECKING:
    from PIL.Image import Image


def is_dicom(path: Path) -> bool:
    """Return whether a file is a DICOM file by its name."""
    return path.suffix.lower() == ".dcm"


def need_pydicom(path: Path) -> None:
    """Check that DICOM files can be read.

    Raises:
        DataError: If pydicom is not installed; says how it is.
    """
    try:
        import pydicom  # noqa: F401
    except ImportError:
        raise DataError(
            f"{shown(path)} is a DICOM file, which needs pydicom; "
            "pip install 'lightning-zoo[dicom]'"
        ) from None


def read_dicom(path: Path) -> "Image":
    """Read the picture of a DICOM file.

    Values are the file's own units (Hounsfield's of CT), of which its window, or else the whole
    range that it uses, becomes 0 to 255; what MONOCHROME1 calls white is black. With the option
    ``window`` two percentiles of the values take its window's place.

    Raises:
        DataError: If pydicom is not installed.
        ValueError: If it holds several pictures.
    """
    need_pydicom(path)
    from PIL import Image
    from pydicom import dcmread
    from pydicom.pixels.processing import apply_modality_lut

    data: Any = dcmread(path)
    frames = int(data.get("NumberOfFrames", None) or 1)
    if frames > 1:
        raise ValueError(f"it has {frames} pictures, where an image is one; save each as a file")
    kind = str(data.PhotometricInterpretation)
    if data.SamplesPerPixel == 3:
        return Image.fromarray(np.asarray(data.pixel_array))  # RGB already, of YBR too
    values = np.asarray(apply_modality_lut(data.pixel_array, data), dtype=np.float32)
    image = Image.fromarray(-values if kind == "MONOCHROME1" else values)
    image.info["window"] = _window(data, values, inverted=kind == "MONOCHROME1")
    return image


def _window(data: Any, values: Any, *, inverted: bool) -> tuple[float, float]:
    """Return the lowest and the highest value that are told apart."""
    centre, width = data.get("WindowCenter"), data.get("WindowWidth")
    if centre is not None and width is not None:
        # Of several windows the first is the default.
        middle, span = (float(np.atleast_1d(each)[0]) for each in (centre, width))
        low, high = middle - span / 2, middle + span / 2
    else:
        low, high = float(values.min()), float(values.max())
    return (-high, -low) if inverted else (low, high)
