"""Images, and masks over them, as pictures."""

import math
import unicodedata
from collections.abc import Iterable
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from datamodules.core.protocols import MASK_IGNORE_INDEX

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image


#: Pixels an inch of the pictures that are kept; texts, whose letters stand on whole pixels, are
#: measured at it.
DPI = 110


def new_figure(width: float, height: float) -> "Figure":
    """Return a figure of the size in inches that draws into memory.

    pyplot is left alone: it would pick a window system and keep every figure alive. Margins are
    for :func:`set_margins`; Matplotlib's own layouts would draw everything twice.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    class NotebookFigure(Figure):
        """A figure that notebooks show without pyplot."""

        def _repr_png_(self) -> bytes:
            file = BytesIO()
            self.savefig(file, dpi=DPI, format="png")
            return file.getvalue()

    figure = NotebookFigure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def text_width(texts: Iterable[str], points: float) -> float:
    """Return the length in inches of the longest text, in the font that is set."""
    from matplotlib.font_manager import FontProperties

    renderer, font = _renderer(), FontProperties(size=points)
    widths = [renderer.get_text_width_height_descent(text, font, False)[0] for text in texts]
    return max(widths, default=0.0) / DPI


def shown(text: str, most: int = 40) -> str:
    """Return a text as a picture shows it: on one line, not too long.

    >>> shown("internationalisation", 8)
    'interna…'
    """
    cut = text if len(text) <= most else text[: most - 1] + "…"
    # Control characters, and halves of surrogate pairs, which no font can be asked for.
    hidden = {"Cc", "Cs"}
    return "".join(
        each.encode("unicode_escape").decode() if unicodedata.category(each) in hidden else each
        for each in cut
    )


@cache
def _renderer() -> Any:
    from matplotlib.backends.backend_agg import RendererAgg

    return RendererAgg(1, 1, DPI)  # type: ignore[no-untyped-call]


def set_margins(
    figure: "Figure",
    rows: int = 1,
    columns: int = 1,
    *,
    left: float = 0.05,
    right: float = 0.05,
    bottom: float = 0.05,
    top: float = 0.05,
    between_columns: float = 0.0,
    between_rows: float = 0.0,
) -> None:
    """Set a grid's margins and the gaps between its axes, all in inches."""
    width, height = figure.get_size_inches()
    each_width = (width - left - right - (columns - 1) * between_columns) / columns
    each_height = (height - bottom - top - (rows - 1) * between_rows) / rows
    figure.subplots_adjust(
        left=left / width,
        right=1 - right / width,
        bottom=bottom / height,
        top=1 - top / height,
        wspace=between_columns / each_width,
        hspace=between_rows / each_height,
    )


def draw_images(images: Tensor, titles: list[str], headline: str = "") -> "Figure":
    """Draw uint8 images (B, C, H, W), C 1 or 3, in a square grid, each under its title."""
    side = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / side)
    above = 0.1 + 0.16 * max(text.count("\n") + 1 for text in titles)
    top = above + (0.3 if headline else 0)
    width = max(1.4 * side, text_width([headline], 10) + 0.2)
    figure = new_figure(width, 1.25 * rows + above * (rows - 1) + top + 0.05)
    if headline:
        figure.suptitle(headline, fontsize=10, y=1 - 0.05 / figure.get_figheight(), va="top")
    set_margins(figure, rows, side, top=top, between_rows=above, between_columns=0.1)
    axes = list(figure.subplots(rows, side, squeeze=False).flat)  # the iterator serves only once
    for axis in axes:
        axis.axis("off")
    for axis, image, title in zip(
        axes, images.cpu().permute(0, 2, 3, 1).numpy(), titles, strict=False
    ):
        if image.shape[2] == 1:
            axis.imshow(image[:, :, 0], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        else:
            axis.imshow(image, interpolation="nearest")
        lines = [shown(line, 16) for line in title.split("\n")]
        axis.set_title("\n".join(lines), fontsize=9, parse_math=False)
    return figure


def class_colours() -> npt.NDArray[np.uint8]:
    """Return a colour for each class of a mask, uint8 (256, 3): black for class 0, grey for 255."""
    colours = np.full((256, 3), 128, dtype=np.uint8)
    colours[0] = 0
    for number in range(1, MASK_IGNORE_INDEX):
        # From yellow on in steps of the golden ratio, which keeps neighbours apart on the wheel.
        hue = 6 * ((1 / 6 + (number - 1) * 0.618) % 1)
        wheel = [abs(hue - 3) - 1, 2 - abs(hue - 2), 2 - abs(hue - 4)]
        colours[number] = [round(255 * min(max(part, 0.0), 1.0)) for part in wheel]
    return colours


def overlay(images: Tensor, masks: Tensor) -> Tensor:
    """Tint images by their masks: class 0 not at all, each other class in a colour of its own.

    Args:
        images: Uint8 (B, 1 or 3, H, W).
        masks: Whole numbers (B, H, W); 255 turns grey.

    Returns:
        uint8 (B, 3, H, W).
    """
    colours = torch.from_numpy(class_colours()).to(images.device, torch.float32)
    tints = colours[masks.long()].permute(0, 3, 1, 2)
    colour_images = images.expand(-1, 3, -1, -1).float()
    mixed = torch.where(masks[:, None] == 0, colour_images, 0.6 * colour_images + 0.4 * tints)
    return mixed.round().to(torch.uint8)


def write_mask(path: Path, mask: npt.NDArray[np.uint8]) -> None:
    """Save a mask as a palette PNG: its pixels are class numbers, and viewers show colours.

    Args:
        path: The file.
        mask: Uint8 (H, W).
    """
    mask_image(mask).save(path)


def mask_image(mask: npt.NDArray[np.uint8]) -> "Image":
    """Return a mask, uint8 (H, W), as an image of class numbers with a palette."""
    from PIL import Image

    image = Image.fromarray(mask, mode="P")
    image.putpalette(class_colours().tobytes())
    return image
