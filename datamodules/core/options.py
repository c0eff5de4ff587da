"""Options as plain data, and what they stand for."""

import importlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def some(fraction: float, count: int) -> int:
    """Return that share of them, and at least one unless none is wanted."""
    return max(round(fraction * count), 1 if fraction > 0 else 0)


def height_and_width(image_size: int | Sequence[int]) -> tuple[int, int]:
    """Return the two sides that ``image_size`` stands for, one number for both or ``[H, W]``."""
    if isinstance(image_size, int):
        return image_size, image_size
    height, width = image_size
    return height, width


def plain(value: Any) -> Any:
    """Return the value in plain Python types, as a checkpoint may hold them."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, str | Path | os.PathLike):
        return str(value)
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def public_path(cls: type) -> str:
    """Return the name by which others may import a class, free of the file that it lies in."""
    package = cls.__module__.partition(".")[0]
    if getattr(importlib.import_module(package), cls.__name__, None) is cls:
        return f"{package}.{cls.__name__}"
    return f"{cls.__module__}.{cls.__qualname__}"
