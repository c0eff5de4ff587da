"""The picture of a test of masks: the worst images, truth, prediction and errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from datamodules.core.plot import class_colours, new_figure, overlay, set_margins, shown
from datamodules.core.protocols import MASK_IGNORE_INDEX

#: Colours of pixels of a class that are missed, of pixels wrongly given one, of wrong classes.
_ERRORS = {
    "missed": (60, 120, 255),
    "wrongly found": (255, 60, 60),
    "another class": (255, 80, 255),
}
_TRUTH, _GUESS = "#ff9500", "#00d5ff"
#: Entries of the legend in a row, and classes that it names at most.
_COLUMNS, _MOST_CLASSES = 4, 12


@dataclass(frozen=True)
class MaskPicture:
    """An image of a test.

    Attributes:
        title: What it is called.
        image: Uint8 (H, W, 1 or 3).
        truth: Each pixel's class, (H, W); 255 where there is none.
        predicted: The same as predicted.
    """

    title: str
    image: NDArray[Any]
    truth: NDArray[Any]
    predicted: NDArray[Any]


def draw_masks(samples: Sequence[MaskPicture], class_names: Sequence[str]) -> Figure:
    """Each image with outlines, under the true and the predicted mask, and its errors.

    Args:
        samples: The images, in their order.
        class_names: The classes, the background first.
    """
    legend = _legend(samples, class_names)
    below = 0.15 + 0.22 * -(-len(legend) // _COLUMNS)
    figure = new_figure(9.6, 2.6 * len(samples) + below + 0.25)
    for row, sample in enumerate(samples):
        image = torch.from_numpy(np.ascontiguousarray(sample.image)).permute(2, 0, 1)[None]
        colour = image.expand(1, 3, -1, -1)[0].permute(1, 2, 0).numpy()
        truth, guess = (
            overlay(image, torch.from_numpy(mask)[None])[0].permute(1, 2, 0).numpy()
            for mask in (sample.truth, sample.predicted)
        )
        pictures = (colour, truth, guess, error_map(colour, sample.truth, sample.predicted))
        titles = (shown(sample.title, 26), "truth", "prediction", "errors")
        for column, (title, picture) in enumerate(zip(titles, pictures, strict=True)):
            axes = figure.add_subplot(len(samples), 4, 4 * row + column + 1)
            axes.imshow(picture, interpolation="nearest")
            axes.axis("off")
            axes.set_title(title, fontsize=8, parse_math=False)
            if column == 0:
                _outline(axes, sample.truth, _TRUTH, "solid")
                _outline(axes, sample.predicted, _GUESS, "dashed")
    figure.legend(
        handles=legend,
        loc="lower center",
        ncols=min(_COLUMNS, len(legend)),
        fontsize=8,
        frameon=False,
    )
    set_margins(
        figure, len(samples), 4, top=0.25, bottom=below, between_columns=0.1, between_rows=0.25
    )
    return figure


def error_map(
    image: NDArray[Any], truth: NDArray[Any], predicted: NDArray[Any]
) -> NDArray[np.uint8]:
    """Return an image in pale grey with its wrong pixels in the colours of their errors.

    Args:
        image: Uint8 (H, W, 3).
        truth: Each pixel's class, (H, W); 255 where there is none, and so no error.
        predicted: The same as predicted.
    """
    pale = 96 + image.mean(axis=2, keepdims=True) * (128 / 255)
    errors = np.repeat(pale, 3, axis=2).astype(np.uint8)
    wrong = (truth != predicted) & (truth != MASK_IGNORE_INDEX)
    kinds = (predicted == 0, truth == 0, (predicted > 0) & (truth > 0))
    for kind, colour in zip(kinds, _ERRORS.values(), strict=True):
        errors[wrong & kind] = colour
    return errors


def _outline(axes: Any, mask: NDArray[Any], colour: str, style: str) -> None:
    """Draw the border of every class but the first."""
    for number in np.unique(mask):
        there = mask == number
        if number in (0, MASK_IGNORE_INDEX) or there.all() or min(mask.shape) < 2:
            continue
        axes.contour(there, levels=[0.5], colors=colour, linewidths=0.8, linestyles=style)


def _legend(samples: Sequence[MaskPicture], class_names: Sequence[str]) -> list[Any]:
    """Return what each line and colour means."""
    colours = class_colours() / 255
    handles: list[Any] = [
        Line2D([], [], color=_TRUTH, linestyle="solid", label="outline of the truth"),
        Line2D([], [], color=_GUESS, linestyle="dashed", label="outline of the prediction"),
    ]
    names = list(enumerate(class_names))[1:]
    handles += [Patch(color=colours[n], label=shown(of, 24)) for n, of in names[:_MOST_CLASSES]]
    if any((sample.truth == MASK_IGNORE_INDEX).any() for sample in samples):
        handles.append(Patch(color=colours[MASK_IGNORE_INDEX], label="no class"))
    several = len(names) > 1
    handles += [
        Patch(color=(colour[0] / 255, colour[1] / 255, colour[2] / 255), label=f"error: {kind}")
        for kind, colour in _ERRORS.items()
        if several or kind != "another class"
    ]
    return handles
