"""Images to predict masks for."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from datamodules.core.protocols import MASK_IGNORE_INDEX
from datamodules.images.inputs import ImageInputs
from datamodules.segmentation.dataset import Array, MaskBatch
from datamodules.segmentation.mask_files import read_whole_image, whole_image
from datamodules.segmentation.prepared import PreparedMasks

if TYPE_CHECKING:
    from PIL.Image import Image


class MaskInputs(PreparedMasks, ImageInputs):
    """Images to predict masks for, prepared as a trained net's own data were.

    Any number of files, of your own and under your own licence. Each keeps its size and is a batch
    of its own. Masks are 255, unknown.

    Args:
        inputs: Files and folders; of a folder all images at any depth, hidden ones apart.
        class_names: The classes that the net tells apart.
        image_size: Pixels of the crops that the net was trained on, a side or ``[H, W]``.
        in_channels: 1 for grey, 3 for colour.
        mean: Mean per channel on the scale 0 to 1.
        std: Standard deviation per channel on the scale 0 to 1.
        window: Two percentiles of each image that become 0 and 255, for files of more than 8 bits;
            by default their whole range does.

    Raises:
        DataError: If no image is found.
    """

    def __init__(
        self,
        inputs: list[str] | None,
        class_names: list[str],
        image_size: int | list[int],
        in_channels: int,
        mean: list[float],
        std: list[float],
        window: list[float] | None = None,
    ) -> None:
        super().__init__(
            inputs,
            class_names,
            image_size,
            in_channels,
            mean,
            std,
            batch_size=1,
            window=window,
            label_kind="mask",
        )

    def _read(self, path: Path) -> Array:
        return read_whole_image(path, self.in_channels, self.window)

    def _fitted(self, image: "Image") -> Array:
        return whole_image(image, self.in_channels, self.window)

    def _batch(self, image: Tensor, index: Tensor) -> MaskBatch:
        shape = (len(image), *image.shape[2:])
        return MaskBatch(image, torch.full(shape, MASK_IGNORE_INDEX, dtype=torch.uint8), index)
