"""A batch as a picture."""

import math
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_images(images: Tensor, titles: list[str], headline: str = "") -> "Figure":
    """Draw uint8 images (B, C, H, W) with 1 or 3 channels in a square grid, each under its title.

    pyplot is left alone: it would pick a window system and keep every figure alive.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    side = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / side)
    figure = Figure(figsize=(1.4 * side, 1.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    if headline:
        figure.suptitle(headline, fontsize=10)
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
        lines = [line if len(line) <= 16 else line[:15] + "…" for line in title.split("\n")]
        axis.set_title("\n".join(lines), fontsize=9)
    return figure
