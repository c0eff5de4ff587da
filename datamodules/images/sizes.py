"""Which sizes images have, as they are told before a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from datamodules.core.description import Fact
from datamodules.core.options import height_and_width

Rows = npt.NDArray[np.int64]

#: Files whose heads are read to tell the sizes, evenly spread: no more than some 10 ms.
LOOKED_AT = 100
#: What PIL calls images of grey values, beside those of 16 bits.
_GREY = frozenset(("1", "L", "LA", "I", "F"))


class Heads(NamedTuple):
    """What the heads of some files tell.

    Attributes:
        sides: Height and width in pixels, (N, 2).
        are_grey: Whether they all hold grey values alone.
    """

    sides: Rows
    are_grey: bool


#: Of images that are in memory, all alike.
NO_HEADS = Heads(np.zeros((0, 2), dtype=np.int64), are_grey=False)


def heads_of_files(paths: Sequence[str]) -> Heads:
    """Return sizes and kinds of some of the files; broken ones are passed over.

    The heads alone are read; a picture that is to be turned (EXIF) counts as it lies.
    """
    from PIL import Image

    some = np.linspace(0, len(paths) - 1, min(LOOKED_AT, len(paths))).round().astype(int)
    sides, modes = [], set()
    for path in (Path(paths[number]) for number in some.tolist()):
        try:
            with Image.open(path) as image:
                sides.append((image.height, image.width))
                modes.add(image.mode)
        except (OSError, ValueError, Image.DecompressionBombError):
            continue  # which the reader of the pixels says
    are_grey = bool(modes) and all(mode in _GREY or mode.startswith("I;16") for mode in modes)
    return Heads(np.array(sides, dtype=np.int64).reshape(-1, 2), are_grey)


def images_fact(
    image_size: int | list[int], channels: int, read_as: int, heads: Heads, of: int, then: str
) -> Fact:
    """Return what is known of images' sizes and colours.

    Args:
        image_size: Pixels of what a net trains on, a side or ``[H, W]``.
        channels: 1 for grey, 3 for colour.
        read_as: The same, of what the files are read as.
        heads: What those of the files that were looked at are; none where all have ``image_size``
            already.
        of: How many images there are.
        then: What is done to them, such as "brought to".
    """
    values: dict[str, Any] = {"image_size": image_size, "channels": channels}
    sides = heads.sides
    colour = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    if heads.are_grey and channels == read_as == 3:
        colour = "grey, read as colour (in_channels 1 keeps them grey)"
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
