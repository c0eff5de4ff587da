"""Fashion-MNIST, as its authors' files have it."""

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.core.download import download
from datamodules.core.errors import DataError, at_least, shown
from datamodules.core.files import check_md5
from datamodules.images.base import ImageDataModule
from datamodules.images.dataset import ArrayImages

URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
#: The files' names as they are fetched, and their md5 sums.
FILES = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
CLASS_NAMES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
#: Where the files lie below ``root``: as fetched here, and as torchvision fetches them.
_FOLDERS = (".", "FashionMNIST/raw", "fashion-mnist")

Array = npt.NDArray[np.uint8]


class FashionMNIST(ImageDataModule):
    """Fashion-MNIST: 70,000 grey photos of clothes, 28x28 pixels, 10 classes, 10,000 for the test.

    H. Xiao, K. Rasul and R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking
    machine learning algorithms", arXiv 1708.07747,
    https://github.com/zalandoresearch/fashion-mnist (MIT licence). Validation comes out of the
    60,000 training images, stratified and chosen by ``split_seed``.

    ``root`` may hold the four original files (``train-images-idx3-ubyte.gz`` and so on), packed or
    unpacked, or be the root of torchvision's class of this name; else they are downloaded.

    Args:
        root: The folder.
        val_size: How many training images serve for validation.
        download: Fetch the set (31 MB) if the folder lacks it.
        verify: Compare the packed files with their published md5 sums.

    Raises:
        OptionError: If an option's value is not possible.
    """

    def __init__(
        self,
        root: str = "data",
        *,
        val_size: int = 5000,
        download: bool = True,
        verify: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root = str(root)
        self.val_size = at_least("val_size", val_size, 1)
        self.download = download
        self.verify = verify
        self._set_facts(CLASS_NAMES, in_channels=1, image_size=28)

    def prepare_data(self) -> None:
        """Download the files that ``root`` lacks, if ``download`` allows.

        Raises:
            DataError: If one is not there and cannot be had.
        """
        for name, md5 in FILES.items():
            if self._find(name) is not None:
                continue
            if not self.download:
                raise self._absent(name, "download is false")
            try:
                download(f"{URL}/{name}", Path(self.root).expanduser() / name, md5)
            except OSError as error:
                raise self._absent(name, f"the download failed ({error})") from None

    def _find(self, name: str) -> Path | None:
        """Return a file, packed or unpacked."""
        root = Path(self.root).expanduser()
        paths = [root / folder / each for folder in _FOLDERS for each in (name, name[:-3])]
        return next((path for path in paths if path.is_file()), None)

    def _absent(self, name: str, why: str) -> DataError:
        return DataError(
            f"{self.root!r} holds no {name} and {why}; put the four files of Fashion-MNIST (from "
            f"{URL}) there"
        )

    def _read(self, name: str, count: int) -> Array:
        """Read an array of the format idx: 0, 0, 8 (bytes), its dimensions, and their sizes."""
        path = self._find(name)
        if path is None:
            raise self._absent(name, "it has not been downloaded (prepare_data() does)")
        packed = path.suffix == ".gz"
        if packed and self.verify:
            check_md5(path, FILES[name])
        try:
            content = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
            shape = np.frombuffer(content, ">u4", count=content[3], offset=4)
            if content[:3] != b"\0\0\x08" or len(shape) != count:
                raise ValueError("its head is that of another file")
            pixels = np.frombuffer(content, np.uint8, offset=4 + 4 * count)
            return pixels.reshape(shape)
        except (OSError, EOFError, IndexError, ValueError, zlib.error) as error:
            raise DataError(
                f"{shown(path)} is no file of Fashion-MNIST ({error}); fetch it again"
            ) from None

    def _images(self, part: str) -> tuple[Array, npt.NDArray[np.int64]]:
        images = self._read(f"{part}-images-idx3-ubyte.gz", 3)
        labels = self._read(f"{part}-labels-idx1-ubyte.gz", 1).astype(np.int64)
        if len(images) != len(labels) or images.shape[1:] != (28, 28):
            raise DataError(
                f"{self.root!r} holds images {images.shape} and {len(labels)} labels of {part}, "
                "which do not fit each other; fetch the files again"
            )
        return np.array(images)[..., None], labels

    def load_fit(self) -> tuple[ArrayImages, ArrayImages]:
        """Read the training and the validation split, both from the training files."""
        images, labels = self._images("train")
        rows = self._draw(np.arange(len(labels)), labels, {"val_size": self.val_size})
        return ArrayImages(images, labels, rows["train"]), ArrayImages(images, labels, rows["val"])

    def load_test(self) -> ArrayImages:
        """Read the test split, numbered on from the 60,000 training images."""
        images, labels = self._images("t10k")
        return ArrayImages(images, labels, first=60_000, source="test")
