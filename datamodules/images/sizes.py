"""Which sizes images have, as they are told before a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.core.description import Fact
from datamodules.core.options import height_and_width

Rows = npt.NDArray[np.int64]

#: Files whose heads are read to tell the sizes, evenly spread: no more than some 10 ms.
LOOKED_AT = 100


def sides_of_files(paths: Sequence[str]) -> Rows:
    """Return height and width in pixels of some of the files, (N, 2); broken ones are passed over.

    The heads alone are read; a picture that is to be turned (EXIF) counts as it lies.
    """
    from PIL import Image

    some = np.linspace(0, len(paths) - 1, min(LOOKED_AT, len(paths))).round().astype(int)
    sides = []
    for path in (Path(paths[number]) for number in some.tolist()):
        try:
            with Image.open(path) as image:
                sides.append((image.height, image.width))
        except (OSError, ValueError, Image.DecompressionBombError):
            continue  # which the reader of the pixels says
    return np.array(sides, dtype=np.int64).reshape(-1, 2)


def images_fact(
    image_size: int | list[int], channels: int, sides: Rows, of: int, then: str
) -> Fact:
    """Return what is known of images' sizes and colours.

    Args:
        image_size: Pixels of what a net trains on, a side or ``[H, W]``.
        channels: 1 for grey, 3 for colour.
        sides: Height and width of the images that were looked at, (N, 2); none where all have
            ``image_size`` already.
        of: How many images there are.
        then: What is done to them, such as "brought to".
    """
    values: dict[str, Any] = {"image_size": image_size, "channels": channels}
    colour = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    height, width = height_and_width(image_size)
    text = f"{width}x{height}"
    if len(sides):
        by_area = sides[np.argsort(sides.prod(axis=1), kind="stable")]
        names = ("smallest", "median", "largest")
        places = (0, len(sides) // 2, -1)
        found = {name: by_area[at, ::-1].tolist() for name, at in zip(names, places, strict=True)}
        values |= {**found, "looked_at": len(sides), "of": of}
        low, middle, high = ("x".join(map(str, size)) for size in found.values())
        seen = low if low == high else f"{low} to {high}, median {middle}"
        some = "" if len(sides) == of else f" ({len(sides)} of {of:,} looked at)"
        text = seen + some if low == high == text else f"{seen}{some}, {then} {text}"
    return Fact("images", f"{text}, {colour}", values)
