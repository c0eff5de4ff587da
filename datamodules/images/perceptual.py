"""Perceptual hashes: images that look alike differ in few bits."""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from datamodules.core.copies import Hashes

#: Side of the grey image whose cosine transform is taken, and of the corner of it that is kept.
_SIDE, _CORNER = 32, 8


def perceptual_hashes(images: npt.NDArray[np.uint8]) -> Hashes:
    """Return pHash's 64 bits of each image.

    An image is made grey and 32 x 32; of its cosine transform the 8 x 8 lowest frequencies are
    compared with their median.

    Source: C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010),
    as ImageHash's ``phash`` has it. Deviation: images are shrunk by torch's antialiased bilinear
    filter.

    Args:
        images: Uint8 (N, H, W, C).
    """
    from scipy.fft import dctn

    grey = torch.from_numpy(images).float().mean(dim=3)[:, None]
    small = F.interpolate(grey, (_SIDE, _SIDE), mode="bilinear", antialias=True)
    waves = dctn(small[:, 0].numpy(), axes=(1, 2))[:, :_CORNER, :_CORNER].reshape(-1, _CORNER**2)
    above = waves > np.median(waves, axis=1, keepdims=True)
    hashes: Hashes = np.packbits(above, axis=1).view(np.uint64)[:, 0]
    return hashes
