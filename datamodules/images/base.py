"""Data sets of images: splits, and preparation on the device."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from datamodules.core.balance import balanced_rows, class_counts, class_weights
from datamodules.core.base import (
    ArrayDataModule,
    GatheredDataset,
    Rows,
    Split,
    SplitDataModule,
    Stage,
)
from datamodules.core.description import Fact
from datamodules.core.errors import DataError, at_least, between, refuse, shown
from datamodules.core.randomness import REPEAT
from datamodules.core.sampling import EpochBatches
from datamodules.images.augment import Augmentation, ResidentImages
from datamodules.images.dataset import ArrayImages, ImageBatch, ResidentBatch
from datamodules.images.sizes import images_fact

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class PreparedImages(ArrayDataModule):
    """Images that are cast and normalised on the device, batch by batch.

    The facts ``num_classes``, ``class_names``, ``in_channels``, ``image_size`` and ``input_shape``
    are right as soon as the object is built.

    Args:
        mean: Mean per channel on the scale 0 to 1; by default the training split's.
        std: Standard deviation per channel on the scale 0 to 1; by default the training split's.

    Raises:
        OptionError: If an option's value is not possible.
    """

    inputs_class = "ImageInputs"
    inputs_options: ClassVar[tuple[str, ...]] = (
        "class_names",
        "image_size",
        "in_channels",
        "mean",
        "std",
        "batch_size",
        "label_kind",
    )
    #: What a loader gives.
    batch_types: ClassVar[tuple[type, ...]] = (ImageBatch, ResidentBatch)
    label_kind: str = "multiclass"
    num_classes: int
    class_names: list[str]
    in_channels: int
    image_size: int

    def __init__(
        self, *, mean: list[float] | None = None, std: list[float] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if (mean is None) != (std is None):
            remedy = f"give both or neither of it and std, which is {shown(std)}"
            raise refuse("mean", mean, remedy)
        if std is not None and min(std, default=1.0) <= 0:
            raise refuse("std", std, "give numbers above 0, one for each channel")
        self.mean = mean
        self.std = std
        self._affines: dict[tuple[torch.device, int], tuple[Tensor, Tensor]] = {}

    def _set_facts(self, class_names: Sequence[str], in_channels: int, image_size: int) -> None:
        if len(set(class_names)) < len(class_names):
            raise refuse("class_names", list(class_names), "name each class once")
        self.class_names = list(class_names)
        self.num_classes = len(self.class_names)
        self.in_channels = in_channels
        self.image_size = image_size
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) != in_channels:
                raise refuse(name, values, f"give one number for each of {in_channels} channels")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape (C, H, W) of a sample as the net takes it."""
        return self.in_channels, self.image_size, self.image_size

    def _moments(self) -> tuple[list[float], list[float]]:
        if self.mean is None or self.std is None:
            raise DataError("mean and std are not known yet; call setup() first, or give both")
        return self.mean, self.std

    def _affine(self, device: torch.device, width: int) -> tuple[Tensor, Tensor]:
        """Return scale and shift for a whole pixel row, float32 (W * C,)."""
        if (device, width) not in self._affines:
            mean, std = (torch.tensor(values, dtype=torch.float64) for values in self._moments())
            scale = (1 / (255 * std)).repeat(width).float().to(device)
            shift = (-mean / std).repeat(width).float().to(device)
            self._affines[device, width] = scale, shift
        return self._affines[device, width]

    def _normalise(self, rows: Tensor) -> Tensor:
        """Normalise floats from 0 to 255, (B, H, W * C), in place."""
        scale, shift = self._affine(rows.device, rows.shape[2] // self.in_channels)
        return torch.addcmul(shift, rows, scale, out=rows)  # one pass over memory

    def _dtype(self) -> torch.dtype:
        module = None if self.trainer is None else self.trainer.lightning_module
        if module is None or not isinstance(module.dtype, torch.dtype):
            return torch.float32
        return module.dtype if module.dtype.is_floating_point else torch.float32

    def _as_images(self, rows: Tensor) -> Tensor:
        """Lay (B, H, W * C) out as images (B, C, H, W) of the trained module's type."""
        width = rows.shape[2] // self.in_channels
        image = rows.view(*rows.shape[:2], width, self.in_channels)
        return image.permute(0, 3, 1, 2).to(self._dtype())

    def prepare_batch(
        self, batch: ImageBatch | ResidentBatch, *, training: bool, epoch: int
    ) -> ImageBatch:
        """Cast and normalise a batch where it lies.

        Args:
            batch: What a loader gave, moved to any device.
            training: Whether to augment; without effect here.
            epoch: The epoch, from 0; without effect here.

        Returns:
            The batch with floats (B, C, H, W), channels_last, of the trained module's type or
            float32.
        """
        assert isinstance(batch, ImageBatch)
        return batch._replace(image=self._as_images(self._normalise(float_rows(batch.image))))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Prepare the batch on the device that it has just reached."""
        if type(batch) not in self.batch_types:
            return batch
        training = self.trainer is not None and self.trainer.training
        epoch = 0 if self.trainer is None else self.trainer.current_epoch
        return self.prepare_batch(batch, training=training, epoch=epoch)

    def denormalize(self, images: Tensor) -> Tensor:
        """Turn normalised images (B, C, H, W) back into uint8 of the same shape."""
        mean, std = (
            torch.tensor(values, device=images.device).view(1, -1, 1, 1)
            for values in self._moments()
        )
        return ((images.float() * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)


def float_rows(images: Tensor) -> Tensor:
    """Return images (B, C, H, W) in channels_last memory as rows of floats (B, H, W * C)."""
    return images.permute(0, 2, 3, 1).flatten(2).to(torch.float32)


class MeasuredDataset(GatheredDataset, Protocol):
    """A dataset of images whose mean and standard deviation can be had."""

    def moments(self) -> tuple[list[float], list[float]]:
        """Return mean and standard deviation per channel, on the scale 0 to 1."""
        ...


MeasuredT = TypeVar("MeasuredT", bound=MeasuredDataset)


class SplitImages(SplitDataModule[MeasuredT], PreparedImages):
    """Images in three disjoint splits, normalised by the training split's mean and deviation.

    Args:
        brightness: Scale each training image by a factor from 1 - brightness to 1 + brightness.
        contrast: Scale each training image's distance to its mean likewise.

    Raises:
        OptionError: If an option's value is not possible.
    """

    samples = "images"

    def __init__(self, *, brightness: float = 0.0, contrast: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.brightness = between("brightness", brightness)
        self.contrast = between("contrast", contrast)

    def setup(self, stage: str | None = None) -> None:
        """Load what a stage needs; None loads everything.

        Args:
            stage: "fit", "validate", "test" or "predict". Only the last two read the test split.

        Raises:
            DataError: If a split is empty, or holds something else than images with answers.
        """
        if self.mean is None:
            self._load_fit()
        super().setup(stage)

    def _load_fit(self) -> None:
        super()._load_fit()
        if self.mean is None:
            self.mean, std = self.split("train").moments()
            # A channel without any contrast has nothing to divide by.
            self.std = [value if value > 0 else 1.0 for value in std]

    def class_weights(self) -> list[float]:
        """Return a weight for each class, inverse to its share of the training split."""
        return class_weights(self._class_counts(self.split("train")))

    #: What becomes of images of another size than ``image_size``.
    _brought: ClassVar[str] = "brought to"

    def _sides(self) -> Rows:
        """Return height and width of some images as they are, (N, 2); none if all are alike."""
        return np.zeros((0, 2), dtype=np.int64)

    def _facts(self) -> list[Fact]:
        count = sum(map(len, self._splits.values()))
        sides = self._sides()
        fact = images_fact(self.image_size, self.in_channels, sides, count, self._brought)
        return [fact, *super()._facts()]

    def _classes(self, split: Split) -> dict[str, int] | None:
        counts = self._class_counts(self.split(split))
        return dict(zip(self.class_names, counts.tolist(), strict=True))


class ImageDataModule(SplitImages[ArrayImages]):
    """A data set of images with three disjoint splits.

    A subclass calls ``_set_facts`` in its constructor and implements ``load_fit`` and
    ``load_test``.

    Args:
        resident: Keep all images on the device, so that a batch costs no transfer. On a CPU, where
            they are, it changes nothing.
        balanced: Draw every class equally often in training; an epoch has as many draws as there
            are training samples, so rare ones come several times, each time augmented anew, and
            others wait for a later epoch.
        crop_padding: Black pixels added on each side before a random crop of the original size.
        horizontal_flip: Mirror half of the training images, chosen anew in each epoch;
            ``alternate`` chooses once and mirrors the other half in every other epoch (arXiv
            2404.00498).
        cutout: Side in pixels of a square set to the mean colour at a random place; 0 for none.

    Raises:
        OptionError: If an option's value is not possible.
    """

    counted = "image"

    def __init__(
        self,
        *,
        resident: bool = False,
        balanced: bool = False,
        crop_padding: int = 0,
        horizontal_flip: bool | Literal["alternate"] = False,
        cutout: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.resident = resident
        self.balanced = balanced
        self.crop_padding = at_least("crop_padding", crop_padding, 0)
        if horizontal_flip not in (True, False, "alternate"):
            raise refuse("horizontal_flip", horizontal_flip, "give true, false or 'alternate'")
        self.horizontal_flip = horizontal_flip
        self.cutout = at_least("cutout", cutout, 0)
        self._augmentation = Augmentation(
            crop_padding, horizontal_flip, cutout, self.brightness, self.contrast
        )
        self._shelves: dict[tuple[str, torch.device], tuple[ResidentImages, int]] = {}

    def _set_facts(self, class_names: Sequence[str], in_channels: int, image_size: int) -> None:
        super()._set_facts(class_names, in_channels, image_size)
        for name in ("crop_padding", "cutout"):
            if getattr(self, name) > image_size:
                remedy = f"give at most {image_size}, the image's side"
                raise refuse(name, getattr(self, name), remedy)

    def _add(self, stage: Stage, dataset: ArrayImages) -> None:
        labels = dataset.labels[dataset.rows]
        wrong = labels[(labels < 0) | (labels >= self.num_classes)]
        if len(wrong):
            raise DataError(
                f"{type(self).__name__}'s {stage} split holds {len(wrong)} labels outside its "
                f"{self.num_classes} classes, which are numbered 0 to {self.num_classes - 1}: "
                f"{wrong[0]} for one; mend the labels"
            )
        super()._add(stage, dataset)
        # On a CPU they are where they would be kept: a second copy would cost memory alone.
        trainer = self.trainer
        on_cpu = trainer is not None and trainer.strategy.root_device.type == "cpu"
        dataset.resident = self.resident and not on_cpu

    def _order(self) -> Callable[[int], Rows] | None:
        if not self.balanced:
            return None
        dataset = self.split("train")
        return partial(balanced_rows, dataset.labels[dataset.rows], self.order_seed)

    def _class_counts(self, dataset: ArrayImages) -> Rows:
        return class_counts(dataset.labels[dataset.rows], self.num_classes)

    def label_text(self, label: Tensor) -> str:
        """Return a sample's class name, or those of its several classes."""
        if label.ndim == 0:
            return self.class_names[int(label)]
        return "\n".join(self.class_names[i] for i in label.nonzero().flatten().tolist())

    def _shelf(self, source: str, device: torch.device) -> tuple[ResidentImages, int]:
        """Return the resident images of a source and the number of the first."""
        if (source, device) not in self._shelves:
            dataset = next(data for data in self._splits.values() if data.source == source)
            images = torch.from_numpy(np.asarray(dataset.images)).to(device)
            # Only training moves images about.
            options = self._augmentation if source == "fit" else Augmentation()
            self._shelves[source, device] = ResidentImages(images, options), dataset.first
        return self._shelves[source, device]

    def prepare_batch(
        self, batch: ImageBatch | ResidentBatch, *, training: bool, epoch: int
    ) -> ImageBatch:
        """Augment (in training), cast and normalise a batch where it lies.

        Args:
            batch: What a loader gave, moved to any device.
            training: Whether to augment.
            epoch: The epoch, from 0; augmentation is a function of it, the seed, the sample's
                index and how often the sample has come before in the epoch.

        Returns:
            The batch with floats (B, C, H, W), channels_last, of the trained module's type or
            float32, and with the index alone.
        """
        draw = None
        if training:
            draw = self._augmentation.draw(
                self.image_size, batch.index, seed=self.order_seed, epoch=epoch
            )
        index = batch.index % REPEAT
        if isinstance(batch, ResidentBatch):
            shelf, first = self._shelf(batch.source, index.device)
            rows = index - first
            images = shelf.gather(rows) if draw is None else draw.gather(shelf, rows)
        else:
            images = batch.image.permute(0, 2, 3, 1)
            images = images if draw is None else draw.move(images)
        floats = images.flatten(2).to(torch.float32)
        if draw is None:
            floats = self._normalise(floats)
        else:
            floats = draw.cut(self._normalise(draw.color_jitter(floats)), self.in_channels)
        return ImageBatch(self._as_images(floats), batch.label, index)

    def sample_images(self, count: int) -> Tensor:
        """Return some training images as validation would see them, the same in every process.

        Args:
            count: How many; all of them if there are fewer.

        Returns:
            Normalised floats (count, C, H, W).
        """
        dataset = self.split("train")
        count = min(count, len(dataset))
        rows = next(iter(EpochBatches(len(dataset), count, training=True, seed=self.order_seed)))
        return self.prepare_batch(dataset.__getitems__(rows), training=False, epoch=0).image

    def draw_batch(self, stage: Stage = "train") -> "Figure":
        """Draw a prepared batch as the network sees it, up to 36 images with their class names.

        Args:
            stage: The split; "train" shows augmented images.
        """
        from datamodules.core.plot import draw_images

        dataset = self.split(stage)
        if stage == "train":
            batches = EpochBatches(len(dataset), 36, training=True, seed=self.order_seed)
        else:
            batches = EpochBatches(len(dataset), 36, training=False)
        batch = dataset.__getitems__(next(iter(batches))[:36])
        prepared = self.prepare_batch(batch, training=stage == "train", epoch=0)
        titles = [self.label_text(label) for label in prepared.label]
        return draw_images(self.denormalize(prepared.image), titles)
