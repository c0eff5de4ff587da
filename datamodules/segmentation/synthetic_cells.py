"""Pictures of cells that never were: generated, for recipes that run anywhere."""

from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torchvision.transforms.functional import gaussian_blur

from datamodules.core.base import DatasetT
from datamodules.core.drawn import FractionSplits
from datamodules.core.errors import at_least
from datamodules.images.base import ImageDataModule
from datamodules.images.dataset import ArrayImages
from datamodules.images.decode import check_channels
from datamodules.segmentation.base import SegmentationDataModule
from datamodules.segmentation.dataset import Array, MaskedImages, Rows

Floats = npt.NDArray[np.float32]

CELL_TYPES = ("round", "spindle", "lobed", "granular")
_SHARES = (0.62, 0.2, 0.12, 0.06)

# How much of red, green and blue light a stained cell and its nucleus absorb, as optical densities.
_BODY_STAIN = np.array([0.10, 0.32, 0.16], dtype=np.float32)
_NUCLEUS_STAIN = np.array([0.75, 0.85, 0.30], dtype=np.float32)
_GREEN = slice(1, 2)  # the channel that a grey camera sees, where the stain absorbs most

_LARGEST_RADIUS = 9.0  # pixels, before a cell's own deformation
# Pixels times cells of the images drawn at once: what lies in between stays below about 100 MB.
_CHUNK = 32 * 64 * 64 * 9


class _Cells(NamedTuple):
    """Cells of some images, each field (N, K); cells without a radius are absent.

    Attributes:
        y: Row of the centre, in pixels.
        x: Column of the centre.
        radius: Of a circle with the cell's area.
        kind: Number of the type.
    """

    y: Floats
    x: Floats
    radius: Floats
    kind: Rows


def _scatter(rng: np.random.Generator, count: int, side: int, most: int) -> _Cells:
    """Scatter cells anywhere, over a third of them against the one before."""
    shape = (count, most)
    kind = rng.choice(len(CELL_TYPES), size=shape, p=_SHARES)
    radius = rng.uniform(0.6, 1.0, shape) * _LARGEST_RADIUS
    there = np.arange(most) < rng.integers(most // 3, most + 1, (count, 1))
    y, x = rng.uniform(0, side, (2, *shape))
    touching = rng.random(shape) < 0.4
    angle = rng.uniform(0, 2 * np.pi, shape)
    closeness = rng.uniform(0.8, 1.05, shape)
    for k in range(1, most):
        reach = closeness[:, k] * (radius[:, k] + radius[:, k - 1])
        y[:, k] = np.where(touching[:, k], y[:, k - 1] + reach * np.sin(angle[:, k]), y[:, k])
        x[:, k] = np.where(touching[:, k], x[:, k - 1] + reach * np.cos(angle[:, k]), x[:, k])
    return _Cells(_float32(y), _float32(x), _float32(radius * there), kind)


def _centre(rng: np.random.Generator, kinds: Rows, side: int) -> _Cells:
    """Return a cell of a given type in the middle of each image, some with neighbours beside."""
    shape = (len(kinds), 3)
    scale = side / 32
    kind = rng.choice(len(CELL_TYPES), size=shape, p=_SHARES)
    kind[:, 0] = kinds
    radius = rng.uniform(0.75, 1.0, shape) * _LARGEST_RADIUS * scale
    there = rng.random(shape) < 0.5
    there[:, 0] = True
    angle = rng.uniform(0, 2 * np.pi, shape)
    distance = rng.uniform(0.5, 0.7, shape) * side
    distance[:, 0] = rng.uniform(0, 2.5 * scale, len(kinds))
    y, x = side / 2 + distance * np.sin(angle), side / 2 + distance * np.cos(angle)
    return _Cells(_float32(y), _float32(x), _float32(radius * there), kind)


def _draw(rng: np.random.Generator, cells: _Cells, side: int, channels: int) -> tuple[Array, Array]:
    """Draw pictures (N, S, S, C) and, of each pixel, 0 or the cell's type + 1, (N, S, S), uint8."""
    parts = []
    step = max(1, min(32, _CHUNK // (side * side * max(1, cells.y.shape[1]))))
    for first in range(0, len(cells.y), step):
        some = slice(first, first + step)
        chunk = _Cells(cells.y[some], cells.x[some], cells.radius[some], cells.kind[some])
        parts.append(_draw_chunk(rng, chunk, side, channels))
    images, masks = zip(*parts, strict=True)
    return np.concatenate(images), np.concatenate(masks)


def _draw_chunk(
    rng: np.random.Generator, cells: _Cells, side: int, channels: int
) -> tuple[Array, Array]:
    count, most = cells.y.shape
    kind = cells.kind[:, :, None, None]
    spindle, lobed, granular = (kind == CELL_TYPES.index(name) for name in CELL_TYPES[1:])
    radius = np.maximum(cells.radius, 1e-3)[:, :, None, None]

    def each(low: float, high: float) -> Floats:
        return _float32(rng.uniform(low, high, (count, most, 1, 1)))

    # Polar coordinates around each cell, along its own axes: (N, K, S, S).
    grid = np.arange(side, dtype=np.float32)
    dy = grid[:, None] - cells.y[:, :, None, None]
    dx = grid[None, :] - cells.x[:, :, None, None]
    turn = each(0, 2 * np.pi)
    along, across = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
    stretch = np.where(spindle, each(1.4, 1.75), each(1.0, 1.15))
    along, across = along / stretch, across * stretch  # the area stays
    angle = np.arctan2(across, along)
    waves = each(0, 0.06) * np.cos(2 * angle + each(0, 6.3))
    waves = waves + each(0, 0.05) * np.cos(3 * angle + each(0, 6.3))
    # The distance from the centre, on a scale on which the outline is at 1.
    out = np.sqrt(along**2 + across**2) / (radius * (1 + waves))

    # A nucleus off the centre; that of a lobed cell has three lobes.
    centre_y, centre_x = each(-0.15, 0.15), each(-0.15, 0.15)
    in_y, in_x = across / radius - centre_y, along / radius - centre_x
    lobes = 1 + np.where(lobed, each(0.38, 0.5), 0) * np.cos(3 * np.arctan2(in_y, in_x) + turn)
    size = np.where(lobed, each(0.52, 0.62), each(0.36, 0.48))
    nucleus = _edge((np.sqrt(in_y**2 + in_x**2) / (size * lobes) - 1) * size * radius)
    body = _edge((out - 1) * radius)

    # Cells let light through, so that where two overlap their densities add up.
    thickness = body * np.sqrt(np.clip(1.2 - out**2, 0.15, None))
    grains = _noise(rng, (count, 1, side, side), 0.8) > 0.9
    thickness = thickness * (1 + np.where(granular & grains, 3.0, 0.0))
    strength = each(0.75, 1.25) * (cells.radius > 0)[:, :, None, None]
    density = np.einsum("nkhw,c->nhwc", thickness * strength, _BODY_STAIN)
    density += np.einsum("nkhw,c->nhwc", nucleus * body * strength, _NUCLEUS_STAIN)
    density *= rng.uniform(0.55, 1.2, (count, 1, 1, 1))  # some slides are stained less than others
    # Dirt, which is no cell: small specks and a haze.
    specks = np.clip(_noise(rng, (count, side, side), 0.9) - 3.0, 0, 1)
    haze = 0.04 * np.abs(_noise(rng, (count, side, side), 6.0))
    density += (specks + haze)[..., None]

    inside = (out <= 1) & (cells.radius > 0)[:, :, None, None]
    # Where cells overlap the later one lies on top.
    top = most - 1 - inside[:, ::-1].argmax(axis=1)
    types = np.take_along_axis(cells.kind[:, :, None, None] + 1, top[:, None], axis=1)[:, 0]
    mask = np.where(inside.any(axis=1), types, 0).astype(np.uint8)

    light = _light(rng, count, side)[..., None] * np.exp(-density)
    image = light[..., _GREEN] if channels == 1 else light * _tint(rng, count)
    return _expose(rng, image), mask


def _edge(distance: Floats) -> Floats:
    """Return 1 inside, 0 outside, soft over about a pixel."""
    return _float32(np.clip(0.5 - distance, 0, 1))


def _noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> Floats:
    """Return smooth noise of standard deviation 1 in the last two dimensions."""
    noise = _blur(rng.standard_normal(shape, dtype=np.float32), sigma)
    return _float32(noise / noise.std())


def _blur(images: Floats, sigma: float) -> Floats:
    """Blur the last two dimensions by a Gaussian."""
    width = 2 * round(2.5 * sigma) + 1
    width = min(width, 2 * (images.shape[-1] // 2) - 1)  # it reflects at the edge
    blurred = gaussian_blur(torch.from_numpy(images), [width, width], [sigma, sigma])
    return _float32(blurred.numpy())


def _light(rng: np.random.Generator, count: int, side: int) -> Floats:
    """Return light (N, S, S): a slope and a fall towards the corners, both of any strength."""
    grid = np.linspace(-1, 1, side, dtype=np.float32)
    y, x = grid[None, :, None], grid[None, None, :]
    slope_y, slope_x = rng.uniform(-0.12, 0.12, (2, count, 1, 1))
    fall = rng.uniform(0, 0.15, (count, 1, 1))
    level = rng.uniform(0.75, 0.95, (count, 1, 1))
    return _float32(level * (1 + slope_y * y + slope_x * x - fall * (y**2 + x**2)))


def _tint(rng: np.random.Generator, count: int) -> Floats:
    """Return a white balance, (N, 1, 1, 3)."""
    return _float32(rng.uniform(0.92, 1.05, (count, 1, 1, 3)))


def _expose(rng: np.random.Generator, light: Floats) -> Array:
    """Return what a camera makes of light (N, S, S, C): focus, noise, eight bits."""
    sigmas = rng.choice([0.5, 0.8, 1.1, 1.5], size=len(light), p=[0.35, 0.35, 0.2, 0.1])
    image = np.ascontiguousarray(_float32(light).transpose(0, 3, 1, 2))
    for sigma in np.unique(sigmas):
        chosen = sigmas == sigma
        image[chosen] = _blur(image[chosen], float(sigma))
    # Shot noise grows with the root of the light; read noise is the same everywhere.
    spread = np.sqrt(0.0006 * np.clip(image, 0, None) + 0.00008)
    image += spread * rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(np.round(image.transpose(0, 2, 3, 1) * 255), 0, 255).astype(np.uint8)


def _float32(values: npt.NDArray[Any]) -> Floats:
    return values.astype(np.float32, copy=False)


@lru_cache(maxsize=2)
def _fields(count: int, side: int, channels: int, most: int, seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return _draw(rng, _scatter(rng, count, side, most), side, channels)


@lru_cache(maxsize=2)
def _singles(count: int, side: int, channels: int, seed: int) -> tuple[Array, Rows]:
    rng = np.random.default_rng(seed)
    kinds = rng.choice(len(CELL_TYPES), size=count, p=_SHARES)
    images, _ = _draw(rng, _centre(rng, kinds, side), side, channels)
    return images, kinds


class _Drawn(FractionSplits[DatasetT]):
    """Pictures of cells that a seeded generator draws, in three splits.

    Args:
        in_channels: 1 for grey, 3 for colour.
        val_fraction: Share of the images for validation.
        test_fraction: Share of the images for the test.
        data_seed: Chooses the pictures; apart from ``seed``, so that runs with several seeds share
            their data.

    Raises:
        OptionError: If an option's value is not possible.
    """

    def __init__(
        self,
        *,
        in_channels: Literal[1, 3] = 3,
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        data_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(val_fraction=val_fraction, test_fraction=test_fraction, **kwargs)
        self.in_channels = check_channels(in_channels)
        self.data_seed = at_least("data_seed", data_seed, 0)


class SyntheticCells(_Drawn[MaskedImages], SegmentationDataModule):
    """Synthetic pictures of stained cells under a microscope, with masks; nothing here is real.

    A seeded generator draws them, at once and without a download: round, spindle-shaped, lobed and
    granular cells, many of which touch or overlap, under uneven light, out of focus to a varying
    degree, with dirt and noise. Absorbed light adds up where cells overlap; a mask has the cell
    that lies on top. Good for trying a net or a recipe out; what a net scores on it says nothing of
    real images.

    Args:
        count: How many images, over all splits.
        image_size: Height and width in pixels.
        most_cells: Cells in an image, at most; at least a third as many.
        cell_types: A class for each type of cell, instead of one for all.

    Raises:
        OptionError: If an option's value is not possible.
    """

    def __init__(
        self,
        *,
        count: int = 600,
        image_size: int = 64,
        most_cells: int = 9,
        cell_types: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.count = at_least("count", count, 3)
        self.most_cells = at_least("most_cells", most_cells, 1)
        self.cell_types = cell_types
        names = ["background", *(CELL_TYPES if cell_types else ["cell"])]
        self._set_facts(names, self.in_channels, at_least("image_size", image_size, 16))

    def load_splits(self) -> dict[str, MaskedImages]:
        """Draw "test", "val" and "train"."""
        images, masks = _fields(
            self.count, self.sides[0], self.in_channels, self.most_cells, self.data_seed
        )
        if not self.cell_types:
            masks = np.minimum(masks, 1)
        drawn = self._draw_missing(np.arange(self.count), np.zeros(self.count, dtype=np.int64))
        return {split: MaskedImages(images[own], masks[own], own) for split, own in drawn.items()}


class SyntheticCellTypes(_Drawn[ArrayImages], ImageDataModule):
    """Synthetic pictures of single stained cells of four types; nothing here is real.

    Drawn as those of ``SyntheticCells``, one cell in the middle of each, whose type is the label.
    The types are far from equally frequent: about 62 % are round, 20 % spindle-shaped, 12 % lobed
    and 6 % granular. What a net scores on them says nothing of real images.

    Args:
        count: How many images, over all splits.
        image_size: Height and width in pixels.

    Raises:
        OptionError: If an option's value is not possible.
    """

    def __init__(self, *, count: int = 2000, image_size: int = 32, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.count = at_least("count", count, 3)
        self._set_facts(CELL_TYPES, self.in_channels, at_least("image_size", image_size, 16))

    def load_splits(self) -> dict[str, ArrayImages]:
        """Draw "test", "val" and "train"."""
        images, kinds = _singles(self.count, self.sides[0], self.in_channels, self.data_seed)
        drawn = self._draw_missing(np.arange(self.count), kinds)
        return {split: ArrayImages(images, kinds, rows) for split, rows in drawn.items()}
