"""What data sets of images with masks share."""

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from datamodules.core.copies import Part, array_keys
from datamodules.core.errors import at_least
from datamodules.core.plot import overlay
from datamodules.core.randomness import REPEAT, permutation
from datamodules.core.sampling import PositionedLoader
from datamodules.core.split_names import Stage
from datamodules.images.base import SplitImages
from datamodules.images.prepared import float_rows
from datamodules.images.sizes import Heads
from datamodules.segmentation.dataset import (
    CropBatches,
    MaskBatch,
    MaskedImages,
    Rows,
    SameSizeBatches,
)
from datamodules.segmentation.prepared import PreparedMasks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_DRAWN = 36


class SegmentationDataModule(SplitImages[MaskedImages], PreparedMasks):
    """A data set of images with masks and three disjoint splits.

    In training each image is a random part of ``image_size`` pixels, a side or ``[H, W]``; a
    smaller image is padded in black, and its mask by 255, which losses and metrics leave out. In
    evaluation images are whole, and only images of one size share a batch, so that nothing is
    padded; large ones come in smaller batches, of at most as many pixels as a training batch has.

    A subclass calls ``_set_facts`` in its constructor and implements ``load_fit`` and
    ``load_test``.

    Args:
        batch_size: Samples in a batch, over all processes together.
        crops: How many random crops of each training image an epoch has: more than 1 where images
            are few and large, so that an epoch is more than a step.

    Raises:
        OptionError: If an option's value is not possible.
    """

    counted = "pixel"
    train_order = CropBatches

    def __init__(
        self,
        *,
        batch_size: int = 16,
        crops: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, **kwargs)
        self.crops = at_least("crops", crops, 1)
        self._turns = self._geometry()
        self._colours = self._changes()

    def _add(self, stage: Stage, dataset: MaskedImages) -> None:
        dataset.channels = self.in_channels
        super()._add(stage, dataset)

    def _load_fit(self) -> None:
        super()._load_fit()
        self.split("train").crop(self.sides, self.order_seed, self.crops)

    def _train_size(self) -> int:
        return self.crops * len(self.split("train"))

    def _order(self) -> Callable[[int], Rows] | None:
        """Return an order in which each image comes ``crops`` times, each time cut anew."""
        if self.crops == 1:
            return None
        count = len(self.split("train"))

        def order(epoch: int) -> Rows:
            drawn: Rows = permutation(self.crops * count, self.order_seed, epoch).numpy()
            return drawn % count + drawn // count * REPEAT

        return order

    def _evaluation_loader(
        self, dataset: MaskedImages, *, spread: bool = False
    ) -> PositionedLoader:
        # As for `EpochBatches`: Lightning cannot tell that every index is returned.
        warnings.filterwarnings("ignore", message=".*batch sampler `SameSizeBatches` for pred.*")
        rank, world_size = self._shard()
        batches = SameSizeBatches(
            dataset.sides,
            self.batch_size,
            most_pixels=max(1, self.batch_size // world_size) * math.prod(self.sides),
            rank=rank,
            world_size=world_size,
            spread=spread,
        )
        return self._loader(dataset, batches)

    def prepare_batch(  # type: ignore[override]
        self, batch: MaskBatch, *, training: bool, epoch: int
    ) -> MaskBatch:
        """Augment (in training), cast and normalise a batch where it lies.

        Args:
            batch: What a loader gave, moved to any device.
            training: Whether to augment.
            epoch: The epoch, from 0; augmentation is a function of it, the seed and the sample's
                index.

        Returns:
            The batch with floats (B, C, H, W), channels_last, of the trained module's type or
            float32, and masks int64 (B, H, W).
        """
        if not training:
            return super().prepare_batch(batch, training=False, epoch=epoch)
        seed, index = self.order_seed, batch.index
        image, mask = self._turns.apply(batch.image, batch.mask, index, seed=seed, epoch=epoch)
        draw = self._colours.draw(*self.sides, index, seed=seed, epoch=epoch)
        if draw is not None:
            rows = draw.color_jitter(float_rows(image), self.in_channels)
            image = rows.view(*rows.shape[:2], -1, self.in_channels).permute(0, 3, 1, 2)
        if self._transforms:
            image, mask = self._transforms.apply(image, mask, index, seed=seed, epoch=epoch)
        assert mask is not None  # it goes along
        return self._to_masks(float_rows(image), MaskBatch(image, mask, index % REPEAT))

    _brought = "training crops"

    def _heads(self) -> Heads:
        sides = np.concatenate([dataset.sides for dataset in self._splits.values()])
        return Heads(sides, are_grey=False)

    def _part(self, stage: Stage, dataset: MaskedImages) -> Part:
        no_labels = np.zeros(len(dataset), dtype=np.int64)
        name = partial(self._sample_name, dataset)
        return Part(array_keys(dataset.images), no_labels, name, lambda label: "")

    def _sample_name(self, dataset: MaskedImages, place: int) -> str:
        """Return what a sample is called, here its number in its split."""
        return str(place)

    def _class_counts(self, dataset: MaskedImages) -> Rows:
        return dataset.pixels_of_classes[: self.num_classes]

    def draw_batch(self, stage: Stage = "train") -> "Figure":
        """Draw a prepared batch as the network sees it, up to 36 images under their masks.

        Args:
            stage: The split; "train" shows augmented images, others those of the first one's size.
        """
        from datamodules.core.plot import draw_images

        dataset = self.split(stage)
        if stage == "train":
            batches = self._train_batches()
            batches.position = None
            numbers = next(iter(batches))
        else:
            numbers = next(iter(self._evaluation_loader(dataset).batch_sampler or []))
        batch = dataset.__getitems__(numbers[:_MOST_DRAWN])
        prepared = self.prepare_batch(batch, training=stage == "train", epoch=0)
        pictures = overlay(self.denormalize(prepared.image), prepared.mask)
        return draw_images(pictures, [str(number) for number in prepared.index.tolist()])


def default_names(class_names: list[str] | None) -> list[str]:
    """Return the classes' names, those of a binary mask where none are given."""
    return ["background", "foreground"] if class_names is None else list(class_names)
