"""Images and masks in one npz file."""

from typing import Any

import numpy as np

from datamodules.core.drawn import EveryClass
from datamodules.core.errors import DataError
from datamodules.core.split_names import Split
from datamodules.images.npz import NpzFile, existing_npz
from datamodules.segmentation.base import SegmentationDataModule, default_names
from datamodules.segmentation.dataset import MaskedImages, to_classes

_SPLITS = ("train", "val", "test")
_KEYS = [f"{split}_{kind}" for split in _SPLITS for kind in ("images", "masks")]


class SegmentationNpz(EveryClass[MaskedImages], SegmentationDataModule):
    """Your own images with masks in one npz file, with its own splits.

    Six arrays, ``{train,val,test}_{images,masks}``: images uint8 (N, H, W) or (N, H, W, C) with C 1
    or 3, masks whole numbers (N, H, W), a class each; all of one height and width. With two
    classes, 255 may stand for class 1.

    Args:
        path: The file.
        image_size: Pixels of the random part that training crops, a side or ``[H, W]``; by default
            a square of the images' shorter side, all of an image that is a square.
        class_names: The classes in the order of their numbers; by default background and
            foreground.
        ignore_value: The value in a mask that means: no class.

    Raises:
        UserError: If the file does not hold such arrays, or an option's value is not possible.
    """

    def __init__(
        self,
        path: str,
        *,
        image_size: int | list[int] | None = None,
        class_names: list[str] | None = None,
        ignore_value: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path = str(path)
        self.ignore_value = ignore_value
        npz = self._checked_npz()
        shapes = [npz.image_shape(f"{split}_images") for split in _SPLITS]
        self._counts = [shape[0] for shape in shapes]
        _, height, width, channels = shapes[0]
        if image_size is None:
            image_size = min(height, width)
        names = default_names(class_names)
        self._set_facts(names, channels, image_size)

    def _source_name(self) -> str:
        return self.path

    def _given_by(self, split: Split) -> str:
        return f"{split}_images in the file"

    def _checked_npz(self) -> NpzFile:
        """Return the file, if its arrays go together; only their headers are read."""
        npz = NpzFile(existing_npz(self.path), _KEYS)
        size = npz.image_shape("train_images")[1:]
        for split in _SPLITS:
            images, masks = f"{split}_images", f"{split}_masks"
            count = npz.image_shape(images)[0]
            mask_shape, dtype = npz.headers[masks]
            if dtype.kind not in "uib":
                raise DataError(f"{npz.name}: {masks} is of type {dtype}; save it as whole numbers")
            for key, found, expected in (
                (images, npz.image_shape(images), (count, *size)),
                (masks, mask_shape, (count, *size[:2])),
            ):
                if found != expected:
                    raise DataError(
                        f"{npz.name}: {key} has shape {found}, which does not go with the others; "
                        f"it should be {expected}"
                    )
        return npz

    def _load(self, split: str) -> MaskedImages:
        npz = NpzFile(existing_npz(self.path), _KEYS)
        images, masks = npz.read(f"{split}_images"), npz.read(f"{split}_masks")
        name = f"{npz.name}: {split}_masks"
        classes = to_classes(masks, self.num_classes, self.ignore_value, name)
        index = np.arange(len(images)) + sum(self._counts[: _SPLITS.index(split)])
        return MaskedImages(images.reshape(*masks.shape, self.in_channels), classes, index)

    def load_fit(self) -> tuple[MaskedImages, MaskedImages]:
        """Read the training and the validation split."""
        return self._load("train"), self._load("val")

    def load_test(self) -> MaskedImages:
        """Read the test split."""
        return self._load("test")
