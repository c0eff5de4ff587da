"""Handwritten digits that come with scikit-learn."""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.core.drawn import FractionSplits
from datamodules.images.base import ImageDataModule
from datamodules.images.dataset import ArrayImages


@lru_cache(maxsize=1)
def _read() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    data = load_digits()
    # The set's grey values go from 0 to 16.
    images = np.round(data.images * (255 / 16)).astype(np.uint8)[..., None]
    return images, data.target.astype(np.int64)


class Digits(FractionSplits[ArrayImages], ImageDataModule):
    """Handwritten digits: 1,797 grey images of 8x8 pixels in 10 classes, without a download.

    The test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, UCI
    Machine Learning Repository, 1998, https://doi.org/10.24432/C50P49; CC BY 4.0), as scikit-learn
    ships it. It has no official splits; ours are stratified and chosen by ``split_seed``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._set_facts([str(digit) for digit in range(10)], in_channels=1, image_size=8)

    def load_splits(self) -> dict[str, ArrayImages]:
        """Read "test", "val" and "train"."""
        images, labels = _read()
        drawn = self._draw_missing(np.arange(len(labels)), labels)
        return {split: ArrayImages(images, labels, rows) for split, rows in drawn.items()}
