"""Saturation and hue of whole batches, with a factor for each image."""

import torch
from torch import Tensor

# Of red, green and blue, as torchvision weighs them.
_LUMINANCE = (0.2989, 0.587, 0.114)


def adjust_saturation(colours: Tensor, factor: Tensor) -> Tensor:
    """Scale each pixel's distance to its grey, as torchvision's function of that name.

    Args:
        colours: Floats from 0 to 255, (B, N, 3).
        factor: 0 makes grey, 1 changes nothing, (B,).
    """
    weights = torch.tensor(_LUMINANCE, device=colours.device)
    grey = (colours * weights).sum(dim=2, keepdim=True)
    return torch.lerp(grey, colours, factor[:, None, None]).clamp_(0, 255)


def adjust_hue(colours: Tensor, shift: Tensor) -> Tensor:
    """Turn each pixel's hue, as torchvision's function of that name.

    Args:
        colours: Floats from 0 to 255, (B, N, 3).
        shift: Shares of the whole circle, (B,).
    """
    high, low = colours.amax(dim=2), colours.amin(dim=2)
    spread = high - low
    red, green, blue = colours.unbind(dim=2)
    # Where on the circle of six parts, from red over green and blue.
    divisor = torch.where(spread == 0, 1.0, spread)
    hue = torch.where(
        high == red,
        (green - blue) / divisor,
        torch.where(high == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    turned = hue + 6 * shift[:, None]
    # Back: how much of its spread each colour has, by its distance on the circle.
    offsets = torch.tensor([5.0, 3.0, 1.0], device=colours.device)
    place = (turned[:, :, None] + offsets).remainder(6)
    share = torch.minimum(place, 4 - place).clamp(0, 1)
    return high[:, :, None] - spread[:, :, None] * share
