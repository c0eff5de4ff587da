"""Files to predict masks for."""

from pathlib import Path

import torch
from torch.utils.data import Dataset

from datamodules.core.protocols import MASK_IGNORE_INDEX
from datamodules.core.sampling import PositionedLoader
from datamodules.images.inputs import ImageInputs
from datamodules.segmentation.base import PreparedMasks
from datamodules.segmentation.dataset import MaskBatch
from datamodules.segmentation.mask_files import read_whole_image


class _WholeFiles(Dataset[MaskBatch]):
    """Images at their own size, decoded when they are due, one to a batch."""

    def __init__(self, names: list[str], channels: int, window: list[float] | None) -> None:
        self.names, self.channels, self.window = names, channels, window

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> MaskBatch:
        path = Path(self.names[index])
        image = torch.from_numpy(read_whole_image(path, self.channels, self.window))
        mask = torch.full(image.shape[:2], MASK_IGNORE_INDEX, dtype=torch.uint8)
        return MaskBatch(image.permute(2, 0, 1), mask, torch.tensor(index))

    def __getitems__(self, indices: list[int]) -> MaskBatch:
        [index] = indices  # images of different sizes share no batch
        image, mask, number = self[index]
        return MaskBatch(image[None], mask[None], number[None])


class MaskInputs(PreparedMasks, ImageInputs):
    """Image files to predict masks for, prepared as a trained net's own data were.

    Any number of files, of your own and under your own licence. Each keeps its size and is a batch
    of its own. Masks are 255, unknown.

    Args:
        inputs: Files and folders; of a folder all images at any depth, hidden ones apart.
        class_names: The classes that the net tells apart.
        image_size: Side in pixels of the crops that the net was trained on.
        in_channels: 1 for grey, 3 for colour.
        mean: Mean per channel on the scale 0 to 1.
        std: Standard deviation per channel on the scale 0 to 1.
        window: Two percentiles of each image that become 0 and 255, for files of more than 8 bits;
            by default their whole range does.

    Raises:
        DataError: If a path does not exist or no image is found.
    """

    def __init__(
        self,
        inputs: list[str],
        class_names: list[str],
        image_size: int,
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

    def predict_dataloader(self) -> PositionedLoader:
        """Return the images in the order of ``names``."""
        return self._prediction_loader(_WholeFiles(self.names, self.in_channels, self.window))
