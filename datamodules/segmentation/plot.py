"""Images with their masks laid over them."""

import numpy as np
import torch
from torch import Tensor

from datamodules.core.protocols import MASK_IGNORE_INDEX
from datamodules.segmentation.dataset import Array


def class_colours() -> Array:
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
