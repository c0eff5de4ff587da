"""Flips, turns, rotation and scale of whole batches, of masks along with their images."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.core.protocols import MASK_IGNORE_INDEX
from datamodules.core.randomness import bits, uniform_floats, uniform_ints

# Draws of one sample's random bits, above those of `augment` and of a mask's crop.
_HORIZONTAL, _VERTICAL, _TURNS, _ROTATION, _SCALE = range(34, 39)


@dataclass(frozen=True)
class Geometry:
    """Where an image's pixels go, and its mask's alike.

    Flips and quarter turns move whole pixels: nothing is interpolated, and every pixel keeps its
    class. Rotation and scale go about the middle, in one step: images are interpolated between
    four pixels, of masks the nearest is taken, and what comes from outside is black and no class.

    Args:
        horizontal_flip: Mirror half of the images left to right.
        vertical_flip: Mirror half of them upside down.
        rotate90: Turn each by 0, 1, 2 or 3 quarters.
        rotation: Turn each by up to so many degrees, either way.
        scale: Enlarge each by a factor from 1 - scale to 1 + scale.
    """

    horizontal_flip: bool | Literal["alternate"] = False
    vertical_flip: bool = False
    rotate90: bool = False
    rotation: float = 0.0
    scale: float = 0.0

    def apply(
        self, image: Tensor, mask: Tensor | None, index: Tensor, *, seed: int, epoch: int
    ) -> tuple[Tensor, Tensor | None]:
        """Move a batch's pixels; what happens to a sample is a function of (seed, epoch, index).

        Args:
            image: Uint8 (B, C, H, W), left as it is.
            mask: Uint8 (B, H, W), left as it is; None where there is none.
            index: The samples' numbers, int64 (B,).
            seed: The run's seed.
            epoch: The epoch, from 0.

        Returns:
            Image, in channels_last memory, uint8 or, where it is interpolated, floats from 0 to
            255, and mask.
        """
        if self == Geometry():
            return image, mask
        draws = bits(seed, epoch, index, _SCALE + 1)
        image, mask = self._turn(image, mask, draws, index, seed=seed, epoch=epoch)
        if self.rotation or self.scale:
            signed = 2 * uniform_floats(draws[:, [_ROTATION, _SCALE]]) - 1
            angle = signed[:, 0] * math.radians(self.rotation)
            image, mask = warp(image, mask, angle, 1 + signed[:, 1] * self.scale)
        return image.contiguous(memory_format=torch.channels_last), mask

    def _turn(
        self,
        image: Tensor,
        mask: Tensor | None,
        draws: Tensor,
        index: Tensor,
        *,
        seed: int,
        epoch: int,
    ) -> tuple[Tensor, Tensor | None]:
        if not (self.horizontal_flip or self.vertical_flip or self.rotate90):
            return image, mask
        horizontal, vertical = (
            uniform_ints(draws[:, draw], 2).bool() & bool(wanted)
            for draw, wanted in (
                (_HORIZONTAL, self.horizontal_flip),
                (_VERTICAL, self.vertical_flip),
            )
        )
        if self.horizontal_flip == "alternate":
            first = uniform_ints(bits(seed, 0, index, _HORIZONTAL + 1)[:, _HORIZONTAL], 2)
            horizontal = (first + epoch) % 2 == 1
        # The mask goes along as one more channel, so that it cannot but move with its image.
        both = image if mask is None else torch.cat([image, mask.unsqueeze(1)], dim=1)
        if self.rotate90:
            # A turn by a quarter is a transposition and a flip upside down; by three, a
            # transposition and a flip left to right; by two, both flips.
            quarters = uniform_ints(draws[:, _TURNS], 4)
            both = _where(quarters % 2 == 1, both.transpose(2, 3), both)
            vertical = vertical ^ (quarters == 1) ^ (quarters == 2)
            horizontal = horizontal ^ (quarters == 2) ^ (quarters == 3)
        both = _where(vertical, both.flip(2), both)
        both = _where(horizontal, both.flip(3), both)
        return (both, None) if mask is None else (both[:, :-1], both[:, -1])


def _where(chosen: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return torch.where(chosen[:, None, None, None], one, other)


def warp(
    image: Tensor, mask: Tensor | None, angle: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Rotate and scale each image of a batch about its middle, and its mask alike.

    Args:
        image: (B, C, H, W), values from 0 to 255.
        mask: Uint8 (B, H, W), or None.
        angle: Radians, counter-clockwise, (B,).
        scale: Above 1 enlarges, (B,).

    Returns:
        Image, float32, and mask, uint8.
    """
    height, width = image.shape[2:]
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    zero = torch.zeros_like(cos)
    # Where a pixel comes from, in units of half a side: an affine map of where it goes to.
    theta = torch.stack(
        [
            torch.stack([cos, -sin * (height / width), zero], dim=1),
            torch.stack([sin * (width / height), cos, zero], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(theta, [len(image), 1, height, width], align_corners=False)
    moved = F.grid_sample(image.float(), grid, mode="bilinear", align_corners=False)
    if mask is None:
        return moved, None
    # From outside come zeros, which here mean no class.
    shifted = mask[:, None].float() - MASK_IGNORE_INDEX
    classes = F.grid_sample(shifted, grid, mode="nearest", align_corners=False)
    return moved, (classes[:, 0] + MASK_IGNORE_INDEX).to(torch.uint8)
