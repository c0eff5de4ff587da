"""Images with masks as a net takes them: cast and normalised, of any size."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from datamodules.core.errors import refuse
from datamodules.core.protocols import MASK_IGNORE_INDEX
from datamodules.images.prepared import PreparedImages, float_rows
from datamodules.segmentation.dataset import MaskBatch


class PreparedMasks(PreparedImages):
    """Images of any size with masks, which are cast and normalised on the device, batch by batch.

    ``image_size`` is that of a training crop; in evaluation images are whole.
    """

    inputs_class = "MaskInputs"
    inputs_options = ("class_names", "image_size", "in_channels", "mean", "std")
    batch_types = (MaskBatch,)
    label_kind = "mask"
    #: What a mask holds where there is no answer.
    ignore_index: ClassVar[int] = MASK_IGNORE_INDEX

    def _set_facts(
        self, class_names: Sequence[str], in_channels: int, image_size: int | list[int]
    ) -> None:
        if not 1 <= len(class_names) <= MASK_IGNORE_INDEX:
            raise refuse("class_names", list(class_names), "give 1 to 255 names")
        super()._set_facts(class_names, in_channels, image_size)

    def prepare_batch(  # type: ignore[override]
        self, batch: MaskBatch, *, training: bool, epoch: int
    ) -> MaskBatch:
        """Cast and normalise a batch where it lies.

        Args:
            batch: What a loader gave, moved to any device.
            training: Whether to augment; without effect here.
            epoch: The epoch, from 0; without effect here.

        Returns:
            The batch with floats (B, C, H, W), channels_last, of the trained module's type or
            float32, and masks int64 (B, H, W).
        """
        return self._to_masks(float_rows(batch.image), batch)

    def _to_masks(self, rows: Tensor, batch: MaskBatch) -> MaskBatch:
        """Return the batch with images of floats from 0 to 255, (B, H, W * C), normalised."""
        image = self._as_images(self._normalise(rows))
        return batch._replace(image=image, mask=batch.mask.long())
