"""Data sets of images in three splits, and what is done to training images on the device."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from datamodules.core.balance import balanced_rows, class_counts, class_weights
from datamodules.core.base import GatheredDataset, Rows, SplitDataModule
from datamodules.core.copies import Part
from datamodules.core.description import Fact
from datamodules.core.errors import DataError, at_least, between, refuse, shown
from datamodules.core.options import plain
from datamodules.core.randomness import REPEAT
from datamodules.core.sampling import EpochBatches
from datamodules.core.split_names import Split, Stage
from datamodules.images.augment import Augmentation, ResidentImages
from datamodules.images.dataset import ArrayImages, ImageBatch, ResidentBatch, to_channels
from datamodules.images.geometry import Geometry
from datamodules.images.prepared import PreparedImages, float_rows
from datamodules.images.sizes import NO_HEADS, Heads, images_fact
from datamodules.images.transforms import SeededTransforms, policy_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class MeasuredDataset(GatheredDataset, Protocol):
    """A dataset of images whose mean and standard deviation can be had."""

    def moments(self) -> tuple[list[float], list[float]]:
        """Return mean and standard deviation per channel, on the scale 0 to 1."""
        ...


MeasuredT = TypeVar("MeasuredT", bound=MeasuredDataset)


class SplitImages(SplitDataModule[MeasuredT], PreparedImages):
    """Images in three disjoint splits, normalised by the training split's mean and deviation.

    Training images are changed at random on the device that they lie on; what happens to one is a
    function of (seed, epoch, its number), whatever the batch.

    Args:
        horizontal_flip: Mirror half of the training images left to right, chosen anew in each
            epoch; ``alternate`` chooses once and mirrors the other half in every other epoch (arXiv
            2404.00498).
        vertical_flip: Mirror half of the training images upside down.
        rotate90: Turn each training image by 0, 90, 180 or 270 degrees.
        rotation: Turn each training image about its middle by up to so many degrees, either way;
            what comes into it from outside is black.
        scale: Enlarge each training image about its middle by a factor from 1 - scale to 1 + scale.
        brightness: Scale each training image by a factor from 1 - brightness to 1 + brightness.
        contrast: Scale each training image's distance to its mean likewise.
        saturation: Scale each training image's distance to its own grey likewise.
        hue: Turn the colours of each training image by up to this share of the circle, either way;
            0.5 at most.
        transform: Random transforms of ``torchvision.transforms.v2`` for training images, as they
            are after the options above: uint8, before they are normalised. Each is drawn by the
            sample alone, too, and takes longer than the options above.

    Raises:
        OptionError: If an option's value is not possible.
    """

    samples = "images"

    def __init__(
        self,
        *,
        horizontal_flip: bool | Literal["alternate"] = False,
        vertical_flip: bool = False,
        rotate90: bool = False,
        rotation: float = 0.0,
        scale: float = 0.0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
        transform: list[torch.nn.Module] | torch.nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if horizontal_flip not in (True, False, "alternate"):
            raise refuse("horizontal_flip", horizontal_flip, "give true, false or 'alternate'")
        self.horizontal_flip = horizontal_flip
        self.vertical_flip = vertical_flip
        self.rotate90 = rotate90
        self.rotation = between("rotation", rotation, 0, 180)
        self.scale = between("scale", scale, inclusive=False)
        self.brightness = between("brightness", brightness)
        self.contrast = between("contrast", contrast)
        self.saturation = between("saturation", saturation)
        self.hue = between("hue", hue, 0, 0.5)
        self.transform = transform
        self._transforms = SeededTransforms(
            transform if isinstance(transform, list) else [transform] if transform else []
        )

    def _set_facts(
        self, class_names: Sequence[str], in_channels: int, image_size: int | list[int]
    ) -> None:
        super()._set_facts(class_names, in_channels, image_size)
        self._check_colours()
        if self.rotate90 and len(set(self.sides)) > 1:
            remedy = f"set it to false, as a quarter turn of {shown(image_size)} has other sides"
            raise refuse("rotate90", True, remedy)

    def _changes(self, **own: Any) -> Augmentation:
        """Return what is done to colours, and what a subclass does besides."""
        names = ("brightness", "contrast", "saturation", "hue")
        return Augmentation(**own, **{name: getattr(self, name) for name in names})

    def _geometry(self, **instead: Any) -> Geometry:
        """Return what is done to pixels' places."""
        names = ("horizontal_flip", "vertical_flip", "rotate90", "rotation", "scale")
        return Geometry(**{**{name: getattr(self, name) for name in names}, **instead})

    def _spec(self, class_path: str, names: Iterable[str]) -> dict[str, Any]:
        names = list(names)
        spec = super()._spec(class_path, [name for name in names if name != "transform"])
        # A transform says not how it was made; what a recipe says of it is recorded.
        recorded = self.hparams.get("transform")
        if "transform" in names and _is_plain(recorded):
            spec["init_args"]["transform"] = plain(recorded)
        return spec

    def fit_channels(self, net: torch.nn.Module) -> None:
        """Take as many channels as a net's first convolution does, where they are ``auto``."""
        super().fit_channels(net)
        self._check_colours()

    def _check_colours(self) -> None:
        """Refuse options that change colours where there are none."""
        for name in ("saturation", "hue"):
            if 1 in (self.own_channels, self.in_channels) and getattr(self, name):
                remedy = "leave it out, as grey images have no colours to change"
                raise refuse(name, getattr(self, name), remedy)

    def setup(self, stage: str | None = None) -> None:
        """Load what a stage needs; None loads everything.

        Args:
            stage: "fit", "validate", "test" or "predict". Only the last two read the test split.

        Raises:
            DataError: If a split is empty, or holds something else than images with answers.
        """
        module = getattr(self.trainer, "lightning_module", None)
        if isinstance(module, torch.nn.Module):
            self.fit_channels(module)
        if self.mean is None:
            self._load_fit()
        super().setup(stage)

    def _load_fit(self) -> None:
        super()._load_fit()
        if self.mean is None:
            self.mean, std = self.split("train").moments()
            # A channel without any contrast has nothing to divide by.
            self.std = [value if value > 0 else 1.0 for value in std]

    def show_batch(self, stage: Stage = "train") -> "Figure":
        """Return a picture of a batch, which a notebook shows; sets up what has not been yet.

        Args:
            stage: The split; "train" shows images as training changes them.
        """
        split = "test" if stage == "predict" else stage
        if split not in self._splits:
            self.prepare_data()
            self.setup("test" if split == "test" else "fit")
        return self.draw_batch(stage)

    def draw_batch(self, stage: Stage = "train") -> "Figure":
        """Draw a batch as the net sees it."""
        raise NotImplementedError

    def class_weights(self) -> list[float]:
        """Return a weight for each class, inverse to its share of the training split."""
        return class_weights(self._class_counts(self.split("train")), self.class_names)

    #: What becomes of images of another size than ``image_size``.
    _brought: ClassVar[str] = "brought to"

    def _heads(self) -> Heads:
        """Return what some images are as files; none if all are alike."""
        return NO_HEADS

    def _facts(self) -> list[Fact]:
        heads = self._heads()
        count = max(sum(map(len, self._splits.values())), len(heads.sides))
        channels = self.in_channels, self.own_channels
        fact = images_fact(self.image_size, *channels, heads, count, self._brought)
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
        cutout: Side in pixels of a square set to the mean colour at a random place; 0 for none.
        random_erasing: Probability that a rectangle of 2 to 33 % of a training image, at a random
            place, is set to the mean colour (arXiv 1708.04896).
        policy: Operations that are drawn from a list for each training image, before ``transform``:
            ``randaugment``, two of magnitude 9 (arXiv 1909.13719), or ``trivialaugment``, one of
            any magnitude (arXiv 2103.10158). It takes longer than what is done to a batch at once.
        near_copies: In how many of 64 bits the perceptual hashes (pHash) of two images may differ
            that count as copies of each other, 2 say; by default only those of equal pixels do.

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
        cutout: int = 0,
        random_erasing: float = 0.0,
        policy: Literal["randaugment", "trivialaugment"] | None = None,
        near_copies: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if near_copies is not None and not 0 <= near_copies <= 16:
            raise refuse("near_copies", near_copies, "give 0 to 16 of the hash's 64 bits")
        self.near_copies = near_copies
        self.resident = resident
        self.balanced = balanced
        self.crop_padding = at_least("crop_padding", crop_padding, 0)
        self.cutout = at_least("cutout", cutout, 0)
        self.random_erasing = between("random_erasing", random_erasing)
        self.policy = policy
        self._augmentation = self._changes(
            crop_padding=crop_padding,
            horizontal_flip=self.horizontal_flip,
            cutout=cutout,
            random_erasing=random_erasing,
        )
        self._turns = self._geometry(horizontal_flip=False)  # is a matter of where a crop is read
        self._transforms = SeededTransforms([*policy_of(policy), *self._transforms.transforms])
        self._shelves: dict[tuple[str, torch.device], tuple[ResidentImages, int]] = {}

    def _set_facts(
        self, class_names: Sequence[str], in_channels: int, image_size: int | list[int]
    ) -> None:
        super()._set_facts(class_names, in_channels, image_size)
        for name in ("crop_padding", "cutout"):
            if getattr(self, name) > min(self.sides):
                remedy = f"give at most {min(self.sides)}, the image's side"
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
        dataset.channels = self.in_channels
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

    def _part(self, stage: Stage, dataset: ArrayImages) -> Part:
        return Part(
            dataset.contents(),
            dataset.labels[dataset.rows],
            partial(self._sample_name, dataset),
            lambda label: self.label_text(torch.as_tensor(label)).replace("\n", "; "),
            None if self.near_copies is None else dataset.looks(),
        )

    def _sample_name(self, dataset: ArrayImages, place: int) -> str:
        """Return what a sample is called, here its number in its array."""
        return str(dataset.rows[place])

    def label_text(self, label: Tensor) -> str:
        """Return a sample's class name, or those of its several classes."""
        if label.ndim == 0:
            return self.class_names[int(label)]
        return "\n".join(self.class_names[i] for i in label.nonzero().flatten().tolist())

    def _shelf(self, source: str, device: torch.device) -> tuple[ResidentImages, int]:
        """Return the resident images of a source and the number of the first."""
        if (source, device) not in self._shelves:
            dataset = next(data for data in self._splits.values() if data.source == source)
            taken = to_channels(np.asarray(dataset.images), self.in_channels)
            images = torch.from_numpy(taken).to(device)
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
                *self.sides, batch.index, seed=self.order_seed, epoch=epoch
            )
        index = batch.index % REPEAT
        if isinstance(batch, ResidentBatch):
            shelf, first = self._shelf(batch.source, index.device)
            rows = index - first
            images = shelf.gather(rows) if draw is None else draw.gather(shelf, rows)
        else:
            images = batch.image.permute(0, 2, 3, 1)
            images = images if draw is None else draw.move(images)
        if training:
            moved, _ = self._turns.apply(
                images.permute(0, 3, 1, 2), None, batch.index, seed=self.order_seed, epoch=epoch
            )
            images = moved.permute(0, 2, 3, 1)
        floats = images.flatten(2).to(torch.float32)
        if draw is not None:
            floats = draw.color_jitter(floats, self.in_channels)
        if training and self._transforms:
            floats = self._transformed(floats, batch.index, epoch)
        floats = self._normalise(floats)
        if draw is not None:
            floats = draw.erase(draw.cut(floats, self.in_channels), self.in_channels)
        return ImageBatch(self._as_images(floats), batch.label, index)

    def _transformed(self, rows: Tensor, index: Tensor, epoch: int) -> Tensor:
        """Pass floats from 0 to 255, (B, H, W * C), through the transforms of torchvision."""
        images = rows.view(*rows.shape[:2], -1, self.in_channels).permute(0, 3, 1, 2)
        moved, _ = self._transforms.apply(images, None, index, seed=self.order_seed, epoch=epoch)
        return float_rows(moved)

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


def _is_plain(value: Any) -> bool:
    """Return whether a value is of plain types alone."""
    if isinstance(value, dict | list):
        return all(map(_is_plain, value.values() if isinstance(value, dict) else value))
    return value is None or isinstance(value, str | int | float)
