"""Flips and rotations of images together with their masks."""

from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules.core.randomness import bits, uniform_ints
from datamodules.segmentation.dataset import _HORIZONTAL, _TURNS, _VERTICAL


@dataclass(frozen=True)
class FlipsAndRotations:
    """Flips and quarter turns, of image and mask alike.

    They move whole pixels: nothing is interpolated, and every pixel keeps its class.

    Args:
        horizontal_flip: Mirror half of the images left to right.
        vertical_flip: Mirror half of them upside down.
        rotate90: Turn each by 0, 1, 2 or 3 quarters.
    """

    horizontal_flip: bool = False
    vertical_flip: bool = False
    rotate90: bool = False

    def apply(
        self, image: Tensor, mask: Tensor, index: Tensor, *, seed: int, epoch: int
    ) -> tuple[Tensor, Tensor]:
        """Turn a batch; what happens to a sample is a function of (seed, epoch, index).

        Args:
            image: Uint8 (B, C, S, S), left as it is.
            mask: Uint8 (B, S, S), left as it is.
            index: The samples' numbers, int64 (B,).
            seed: The run's seed.
            epoch: The epoch, from 0.

        Returns:
            Image, in channels_last memory, and mask.
        """
        if not (self.horizontal_flip or self.vertical_flip or self.rotate90):
            return image, mask
        draws = bits(seed, epoch, index, _TURNS + 1)
        horizontal, vertical = (
            uniform_ints(draws[:, draw], 2).bool() & wanted
            for draw, wanted in (
                (_HORIZONTAL, self.horizontal_flip),
                (_VERTICAL, self.vertical_flip),
            )
        )
        # The mask goes along as one more channel, so that it cannot but move with its image.
        both = torch.cat([image, mask.unsqueeze(1)], dim=1)
        if self.rotate90:
            # A turn by a quarter is a transposition and a flip upside down; by three, a
            # transposition and a flip left to right; by two, both flips.
            quarters = uniform_ints(draws[:, _TURNS], 4)
            both = _where(quarters % 2 == 1, both.transpose(2, 3), both)
            vertical = vertical ^ (quarters == 1) ^ (quarters == 2)
            horizontal = horizontal ^ (quarters == 2) ^ (quarters == 3)
        both = _where(vertical, both.flip(2), both)
        both = _where(horizontal, both.flip(3), both)
        image = both[:, :-1].contiguous(memory_format=torch.channels_last)
        return image, both[:, -1]


def _where(chosen: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return torch.where(chosen[:, None, None, None], one, other)
