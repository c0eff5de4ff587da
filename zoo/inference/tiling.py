"""Images that are too large for the memory, tile by tile."""

import math
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor, nn

from datamodules.core.errors import OptionError, at_least, refuse
from zoo.nets.outputs import main_logits
from zoo.nets.protocols import KnowsItsReach


class _Tile(NamedTuple):
    """One tile along one axis.

    Attributes:
        read: What the net sees.
        keep: What is kept of its output, as a part of the image.
    """

    read: slice
    keep: slice


def reach(net: nn.Module) -> tuple[int | None, int]:
    """Return how many pixels a prediction looks far, if that is known, and the downsampling."""
    if not isinstance(net, KnowsItsReach):
        return None, 1
    return net.receptive_field, net.downsampling


@torch.no_grad()
def predict_tiled(
    net: nn.Module, images: Tensor, tile: int = 1024, overlap: int | None = None
) -> Tensor:
    """Return the logits of a net that labels pixels, without ever running it on a whole image.

    Tiles overlap, and of each the pixels within ``overlap`` of an edge that is not the image's own
    are discarded, so that every pixel that is kept has seen all it depends on: the result equals
    ``net(images)`` but for rounding. Tiles start at multiples of the net's ``downsampling``, where
    the grids of its pools coincide. That holds for a net whose norm is local in evaluation, such as
    batch norm; norms with statistics over the image (layer, group, instance, rms, frn) see only the
    tile, and the result is an approximation then.

    Args:
        net: Maps ``(B, C, H, W)`` to ``(B, num_classes, H, W)`` for any H and W, in evaluation
            mode. Its ``downsampling`` counts as 1 where it has none.
        images: ``(B, C, H, W)``.
        tile: Pixels a side of a tile; rounded up to a multiple of the net's ``downsampling``.
        overlap: Pixels that are discarded at each inner edge, rounded up likewise; by default the
            net's ``receptive_field``.

    Returns:
        Logits ``(B, num_classes, H, W)``.

    Raises:
        OptionError: If the overlap is not known, or leaves nothing of a tile.
    """
    radius, step = reach(net)
    if overlap is None:
        overlap = radius
        if overlap is None:
            raise OptionError(
                "overlap",
                f" is not known: a pixel's prediction by {type(net).__name__} with norms over the "
                "whole image depends on all of it, so tiles only approximate it; give the overlap "
                "in pixels, say 64, or choose a net with batch norm",
            )
    at_least("overlap", overlap, 0)
    tile, overlap = (math.ceil(length / step) * step for length in (tile, overlap))
    if tile <= 2 * overlap:
        raise refuse(
            "tile",
            tile,
            f"give {2 * overlap + step} or more, as an overlap of {overlap} pixels is discarded at "
            "both edges",
        )
    logits: Tensor | None = None
    height, width = images.shape[2:]
    rows, columns = _tiles(height, tile, overlap), _tiles(width, tile, overlap)
    for row, column in product(rows, columns):
        part = main_logits(net(images[:, :, row.read, column.read]), net)
        if logits is None:
            logits = part.new_empty(*part.shape[:2], height, width)
        inner = part[:, :, _within(row), _within(column)]
        logits[:, :, row.keep, column.keep] = inner
    assert logits is not None
    return logits


def _tiles(length: int, tile: int, overlap: int) -> list[_Tile]:
    """Return tiles whose kept parts make up the whole of one axis."""
    tiles, start, kept = [], 0, 0
    while kept < length:
        end = min(start + tile, length)
        stop = end if end == length else end - overlap
        tiles.append(_Tile(slice(start, end), slice(kept, stop)))
        start, kept = start + tile - 2 * overlap, stop
    return tiles


def _within(tile: _Tile) -> slice:
    """Return what is kept of a tile, as a part of the tile."""
    return slice(tile.keep.start - tile.read.start, tile.keep.stop - tile.read.start)
