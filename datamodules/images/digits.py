"""Handwritten digits that come with scikit-learn."""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.core.errors import between
from datamodules.images.base import ImageDataModule
from datamodules.images.dataset import ArrayImages


@lru_cache(maxsize=1)
def _read() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    data = load_digits()
    # The set's grey values go from 0 to 16.
    images = np.round(data.images * (255 / 16)).astype(np.uint8)[..., None]
    return images, data.target.astype(np.int64)


class Digits(ImageDataModule):
    """Handwritten digits: 1,797 grey images of 8x8 pixels in 10 classes, without a download.

    The test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, UCI
    Machine Learning Repository, 1998, https://doi.org/10.24432/C50P49; CC BY 4.0), as scikit-learn
    ships it. It has no official splits; ours are stratified and chosen by ``split_seed``.

    Args:
        val_fraction: Share of all images for validation.
        test_fraction: Share of all images for the test.

    Raises:
        OptionError: If an option's value is not possible.
    """

    def __init__(
        self, *, val_fraction: float = 0.1, test_fraction: float = 0.2, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.val_fraction = between("val_fraction", val_fraction, inclusive=False)
        self.test_fraction = between("test_fraction", test_fraction, inclusive=False)
        self._set_facts([str(digit) for digit in range(10)], in_channels=1, image_size=8)

    def _rows(self, labels: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
        sizes = {
            "test_fraction": round(self.test_fraction * len(labels)),
            "val_fraction": round(self.val_fraction * len(labels)),
        }
        return self._split_rows(labels, sizes)

    def load_fit(self) -> tuple[ArrayImages, ArrayImages]:
        """Read the training and the validation split."""
        images, labels = _read()
        _, val, train = self._rows(labels)
        return ArrayImages(images, labels, train), ArrayImages(images, labels, val)

    def load_test(self) -> ArrayImages:
        """Read the test split."""
        images, labels = _read()
        test, _, _ = self._rows(labels)
        return ArrayImages(images, labels, test)
