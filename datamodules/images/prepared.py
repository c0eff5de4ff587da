"""Images as a net takes them: cast, normalised, of known size and channels."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from datamodules.core.arrays import ArrayData
from datamodules.core.errors import DataError, at_least, refuse, shown
from datamodules.core.options import height_and_width
from datamodules.images.dataset import ImageBatch, ResidentBatch


class PreparedImages(ArrayData):
    """Images that are cast and normalised on the device, batch by batch.

    The facts ``num_classes``, ``class_names``, ``in_channels``, ``image_size`` and ``input_shape``
    are right as soon as the object is built.

    Args:
        mean: Mean per channel on the scale 0 to 1; by default the training split's.
        std: Standard deviation per channel on the scale 0 to 1; by default the training split's.
        channels: 1 or 3 for what the net gets of images of the other kind: the luminance of
            colours, or grey three times; ``auto`` for what the net's first convolution takes. By
            default images keep their own.

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
    image_size: int | list[int]

    def __init__(
        self,
        *,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        channels: Literal[1, 3, "auto"] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (mean is None) != (std is None):
            remedy = f"give both or neither of it and std, which is {shown(std)}"
            raise refuse("mean", mean, remedy)
        if std is not None and min(std, default=1.0) <= 0:
            raise refuse("std", std, "give numbers above 0, one for each channel")
        if channels not in (None, 1, 3, "auto"):
            raise refuse("channels", channels, "give 1 for grey, 3 for colour, or auto")
        self.mean = mean
        self.std = std
        self.channels = channels
        self._affines: dict[tuple[torch.device, int], tuple[Tensor, Tensor]] = {}

    def _set_facts(
        self, class_names: Sequence[str], in_channels: int, image_size: int | list[int]
    ) -> None:
        if len(set(class_names)) < len(class_names):
            raise refuse("class_names", list(class_names), "name each class once")
        self.class_names = list(class_names)
        self.num_classes = len(self.class_names)
        #: What the files have, whatever the net gets.
        self.own_channels = in_channels
        self.in_channels = self.channels if isinstance(self.channels, int) else in_channels
        self.image_size = check_image_size(image_size)
        if self.channels != "auto":
            self._check_moments()

    def _check_moments(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) != self.in_channels:
                remedy = f"give one number for each of {self.in_channels} channels"
                raise refuse(name, values, remedy)

    def fit_channels(self, net: torch.nn.Module) -> None:
        """Take as many channels as a net's first convolution does, where they are ``auto``."""
        if self.channels != "auto":
            return
        convolutions = (each for each in net.modules() if isinstance(each, torch.nn.Conv2d))
        first = next(convolutions, None)
        if first is not None and first.in_channels in (1, 3):
            self.in_channels = first.in_channels
        self._check_moments()

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of a sample as the net takes it."""
        return height_and_width(self.image_size)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape (C, H, W) of a sample as the net takes it."""
        return self.in_channels, *self.sides

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
        prepared = self.prepare_batch(batch, training=training, epoch=epoch)
        return super().on_after_batch_transfer(prepared, dataloader_idx)

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


def check_image_size(image_size: int | Sequence[int]) -> int | list[int]:
    """Return the size as a side, or as ``[H, W]`` where they differ.

    Raises:
        OptionError: If it is no size.
    """
    if not isinstance(image_size, int):
        if len(image_size) != 2:
            remedy = "give a side in pixels, or [H, W], height and width"
            raise refuse("image_size", list(image_size), remedy)
        height, width = (at_least("image_size", side, 1) for side in image_size)
        return height if height == width else [height, width]
    return at_least("image_size", image_size, 1)
