"""Images and masks in one npz file."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.core.base import EveryClass
from datamodules.core.errors import DataError, at_least, refuse
from datamodules.images.cache import DAMAGED, npy_header
from datamodules.segmentation.base import _KINDS, _SPLITS, SegmentationDataModule, default_names
from datamodules.segmentation.dataset import MaskedImages, to_classes


class SegmentationNpz(EveryClass[MaskedImages], SegmentationDataModule):
    """Your own images with masks in one npz file, with its own splits.

    Six arrays, ``{train,val,test}_{images,masks}``: images uint8 (N, H, W) or (N, H, W, C) with C 1
    or 3, masks whole numbers (N, H, W), a class each; all of one height and width. With two
    classes, 255 may stand for class 1.

    Args:
        path: The file.
        image_size: Side of the random square that training crops; by default the shorter side of
            the images, all of an image that is a square.
        class_names: The classes in the order of their numbers; by default background and
            foreground.
        ignore_value: The value in a mask that means: no class.
        allow_missing_classes: Let the validation or the test split lack a class.

    Raises:
        DataError: If the file does not hold such arrays, or an option's value is not possible.
    """

    def __init__(
        self,
        path: str,
        *,
        image_size: int | None = None,
        class_names: list[str] | None = None,
        ignore_value: int | None = None,
        allow_missing_classes: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(allow_missing_classes=allow_missing_classes, **kwargs)
        self.path = str(path)
        self.ignore_value = ignore_value
        shapes = self._check()
        shape = shapes["train_images"]
        self._counts = [shapes[f"{split}_images"][0] for split in _SPLITS]
        side = min(shape[1:3]) if image_size is None else at_least("image_size", image_size, 1)
        self._set_facts(default_names(class_names), shape[3] if len(shape) == 4 else 1, side)

    def _source_name(self) -> str:
        return self.path

    def _check(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays; only their headers are read."""
        headers = _headers(self.path)
        keys = [f"{split}_{kind}" for split in _SPLITS for kind in _KINDS]
        missing = [key for key in keys if key not in headers]
        if missing:
            raise DataError(
                f"{self.path!r} holds {', '.join(headers) or 'nothing'}; add {', '.join(missing)}"
            )
        first = headers["train_images"][0]
        for key in keys:
            shape, dtype = headers[key]
            whole = dtype == np.uint8 if key.endswith("images") else dtype.kind in "uib"
            if not whole:
                wanted = "uint8" if key.endswith("images") else "whole numbers"
                raise DataError(f"{self.path!r}: {key} is of type {dtype}; save it as {wanted}")
            wanted_shape = first[1:] if key.endswith("images") else first[1:3]
            if len(first) not in (3, 4) or (len(first) == 4 and first[3] not in (1, 3)):
                raise DataError(
                    f"{self.path!r}: train_images has shape {first}; give (N, H, W) or (N, H, W, "
                    "C) with C 1 or 3"
                )
            partner = headers[key.replace("masks", "images")][0]
            if shape[1:] != wanted_shape or shape[0] != partner[0]:
                expected = (partner[0], *wanted_shape)
                raise DataError(
                    f"{self.path!r}: {key} has shape {shape}, which does not go with the others; "
                    f"it should be {expected}"
                )
        return {key: headers[key][0] for key in keys}

    def _load(self, split: str) -> MaskedImages:
        number = _SPLITS.index(split)
        try:
            with np.load(Path(self.path).expanduser()) as file:
                images, masks = (file[f"{split}_{kind}"] for kind in _KINDS)
        except DAMAGED as error:
            raise DataError(f"{self.path!r} cannot be read ({error}); save it again") from None
        name = f"{self.path!r}: {split}_masks"
        classes = to_classes(masks, self.num_classes, self.ignore_value, name)
        index = np.arange(len(images)) + sum(self._counts[:number])
        return MaskedImages(images.reshape(*masks.shape, self.in_channels), classes, index)

    def load_fit(self) -> tuple[MaskedImages, MaskedImages]:
        """Read the training and the validation split."""
        return self._load("train"), self._load("val")

    def load_test(self) -> MaskedImages:
        """Read the test split."""
        return self._load("test")


def _headers(path: str) -> dict[str, tuple[tuple[int, ...], "np.dtype[Any]"]]:
    """Shape and type of each array in an npz file, without reading the arrays."""
    headers = {}
    try:
        with zipfile.ZipFile(Path(path).expanduser()) as archive:
            for name in archive.namelist():
                headers[name.removesuffix(".npy")] = npy_header(archive, name)
    except FileNotFoundError:
        raise refuse("path", path, "give an npz file that exists") from None
    except DAMAGED as error:
        raise DataError(f"{path!r} cannot be read as npz ({error}); save it again") from None
    return headers
