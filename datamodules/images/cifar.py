"""CIFAR-10 and CIFAR-100, in whichever form they lie on the disk."""

import pickle
import socket
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from datamodules.core.download import PROBE_S, unreachable
from datamodules.core.errors import DataError, at_least, shown
from datamodules.core.files import check_md5
from datamodules.images.base import ImageDataModule
from datamodules.images.cache import decoded
from datamodules.images.dataset import ArrayImages
from datamodules.images.decode import read_image

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


class Release(NamedTuple):
    """A set as its authors published it.

    Attributes:
        name: What the authors call it.
        folder: What the archive unpacks to.
        url: Where the archive is.
        train: The training files and their md5 sums.
        test: The test file and its md5 sum.
        pickled_label: The labels' key in those files.
        labels: The labels' column in a parquet file.
        class_names: The classes in the order of their numbers.
    """

    name: str
    folder: str
    url: str
    train: dict[str, str]
    test: dict[str, str]
    pickled_label: bytes
    labels: str
    class_names: tuple[str, ...]


TEN = "airplane automobile bird cat deer dog frog horse ship truck"
FINE = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""

RELEASE_10 = Release(
    name="CIFAR-10",
    folder="cifar-10-batches-py",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    train={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    },
    test={"test_batch": "40351d587109b95175f43aff81a1287e"},
    pickled_label=b"labels",
    labels="label",
    class_names=tuple(TEN.split()),
)

RELEASE_100 = Release(
    name="CIFAR-100",
    folder="cifar-100-python",
    url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    train={"train": "16019d7e3df5f24257cddd939b257f8d"},
    test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    pickled_label=b"fine_labels",
    labels="fine_label",
    class_names=tuple(FINE.split()),
)


class _Cifar(ImageDataModule):
    """What the two sets share.

    Args:
        root: The folder.
        val_size: How many training images serve for validation.
        download: Fetch the set (170 MB) if the folder lacks it.
        verify: Compare the original files with their published md5 sums.

    Raises:
        OptionError: If an option's value is not possible.
    """

    release: Release

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
        self._set_facts(self.release.class_names, in_channels=3, image_size=32)

    def _pickles(self) -> Path | None:
        """Return the folder of the original files."""
        root = Path(self.root).expanduser()
        wanted = [*self.release.train, *self.release.test]
        for folder in (root / self.release.folder, root):
            present = [name for name in wanted if (folder / name).is_file()]
            if len(present) == len(wanted):
                return folder
            if present and folder.name == self.release.folder:
                missing = next(name for name in wanted if name not in present)
                raise DataError(
                    f"{shown(folder / missing)} is missing beside {present[0]}; unpack the archive "
                    "again"
                )
        return None

    def _parquets(self) -> tuple[list[Path], list[Path]] | None:
        """Return the training and test files of the hub's layout."""
        root = Path(self.root).expanduser()
        if not root.is_dir():
            return None
        for folder in [root, *_subfolders(root)]:
            train, test = (
                sorted(folder.glob("train*.parquet")),
                sorted(folder.glob("test*.parquet")),
            )
            # A folder may hold other sets beside; the columns tell them apart.
            if train and test and all(self._columns(path) is not None for path in train + test):
                return train, test
        return None

    def _columns(self, path: Path) -> tuple[str, str] | None:
        """Return the image and the label column, if the file is of this set."""
        import pyarrow.parquet as pq

        try:
            names = pq.read_schema(path).names
        except (OSError, ValueError) as error:
            raise DataError(
                f"{shown(path)} cannot be read as parquet ({error}); fetch it again"
            ) from None
        image = next((name for name in ("img", "image") if name in names), None)
        if image is None or self.release.labels not in names:
            return None
        return image, self.release.labels

    def prepare_data(self) -> None:
        """Download the set if ``root`` lacks it and ``download`` allows; decode parquet files.

        Raises:
            DataError: If it is not there and cannot be had.
        """
        if self._pickles() is None and self._parquets() is None:
            if not self.download:
                raise self._absent("download is false")
            self._fetch()
        parquets = None if self._pickles() is not None else self._parquets()
        if parquets is not None and self.trainer is not None:
            # Decoded here by one process, so that the others find it done.
            stage = self.trainer.state.fn
            self._decode(parquets[1] if stage in ("test", "predict") else parquets[0])

    def _absent(self, why: str) -> DataError:
        release, archive = self.release, self.release.url.rsplit("/", 1)[1]
        wanted = Path(self.root) / release.folder / next(iter(release.train))
        return DataError(
            f"{self.root!r} holds no {release.name} and {why}; unpack {archive} "
            f"(from {release.url}) so that {wanted} exists, or put the hub's "
            "train*.parquet and test*.parquet there"
        )

    def _fetch(self) -> None:
        from torchvision import datasets

        root = Path(self.root).expanduser()
        if not (root / self.release.url.rsplit("/", 1)[1]).is_file():
            why = unreachable(self.release.url, PROBE_S)
            if why is not None:
                raise self._absent(why)
        timeout = socket.getdefaulttimeout()
        # torchvision sets none: a download that dries up would hang for ever.
        socket.setdefaulttimeout(60)
        try:
            getattr(datasets, type(self).__name__)(root=str(root), download=True)
        except (OSError, RuntimeError) as error:
            raise self._absent(f"the download failed ({error})") from None
        finally:
            socket.setdefaulttimeout(timeout)

    def _read(self, *, train: bool) -> tuple[Images, Labels, npt.NDArray[np.int64] | None]:
        """Return images (N, 32, 32, 3), labels and, where known, each image's sums."""
        folder = self._pickles()
        if folder is not None:
            files = self.release.train if train else self.release.test
            parts = [self._unpickle(folder / name, md5) for name, md5 in files.items()]
            images, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
            return images, labels, None
        parquets = self._parquets()
        if parquets is None:
            raise self._absent("it has not been downloaded (prepare_data() does)")
        return self._decode(parquets[0] if train else parquets[1])

    def _unpickle(self, path: Path, md5: str) -> tuple[Images, Labels]:
        if self.verify:
            check_md5(path, md5)
        try:
            entry = load_arrays(path.read_bytes())
            data, labels = entry[b"data"], entry[self.release.pickled_label]
            # 1,024 red values, then green, then blue
            planes = np.asarray(data, dtype=np.uint8).reshape(-1, 3, 32, 32)
            images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
            numbers = np.asarray(labels, dtype=np.int64)
        except Exception as error:  # a damaged pickle raises nearly anything
            raise DataError(
                f"{shown(path)} is no {self.release.name} file ({error}); fetch it again"
            ) from None
        if len(images) != len(numbers):
            raise DataError(
                f"{shown(path)} holds {len(images)} images but {len(numbers)} labels; fetch it "
                "again"
            )
        return images, numbers

    def _decode(self, paths: list[Path]) -> tuple[Images, Labels, npt.NDArray[np.int64]]:
        import pyarrow.parquet as pq

        labels: list[Labels] = []
        key: list[list[str | int]] = []
        for path in paths:
            columns = self._columns(path)
            assert columns is not None  # _parquets has looked
            labels.append(pq.read_table(path, columns=[columns[1]]).column(0).to_numpy())
            key.append([str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns])
        numbers = np.concatenate(labels).astype(np.int64)
        result = decoded(key, len(numbers), 32, 3, lambda: self._reader(paths))
        if result.broken:
            raise DataError(f"{next(iter(result.broken.values()))}; fetch the file again")
        return result.images, numbers, result.sums

    def _reader(self, paths: list[Path]) -> Callable[[int], Images]:
        """Return what decodes image i of the files."""
        import pyarrow.parquet as pq

        encoded: list[tuple[str, bytes | None]] = []
        for path in paths:
            columns = self._columns(path)
            assert columns is not None
            for row, image in enumerate(
                pq.read_table(path, columns=[columns[0]]).column(0).to_pylist()
            ):
                encoded.append(
                    (f"{path}, row {row}", image["bytes"] if image is not None else None)
                )

        def read(row: int) -> Images:
            name, content = encoded[row]
            if content is None:
                raise DataError(f"{name!r} holds no image")
            return read_image(content, size=32, channels=3, name=name)

        return read

    def load_fit(self) -> tuple[ArrayImages, ArrayImages]:
        """Read the training and the validation split, both from the training files."""
        images, labels, sums = self._read(train=True)
        rows = self._draw(np.arange(len(labels)), labels, {"val_size": self.val_size})
        return (
            ArrayImages(images, labels, rows["train"], sums=sums),
            ArrayImages(images, labels, rows["val"], sums=sums),
        )

    def load_test(self) -> ArrayImages:
        """Read the test split, numbered on from the 50,000 training images."""
        images, labels, sums = self._read(train=False)
        return ArrayImages(images, labels, first=50_000, source="test", sums=sums)


class CIFAR10(_Cifar):
    """CIFAR-10: 60,000 colour photos of 32x32 pixels in 10 classes, 10,000 of them for the test.

    A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009,
    https://www.cs.toronto.edu/~kriz/cifar.html. The authors state no licence and ask to be cited.
    Validation comes out of the 50,000 training images, stratified and chosen by ``split_seed``.

    ``root`` may hold the original files (``cifar-10-batches-py``, or be that folder) or the hub's
    parquet files (``train*.parquet`` and ``test*.parquet``, also in a folder below); else they are
    downloaded.
    """

    release = RELEASE_10


class CIFAR100(_Cifar):
    """CIFAR-100: 60,000 colour photos of 32x32 pixels in 100 classes, 10,000 of them for the test.

    A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009,
    https://www.cs.toronto.edu/~kriz/cifar.html. The authors state no licence and ask to be cited.
    The classes are the fine ones. Validation comes out of the 50,000 training images, stratified
    and chosen by ``split_seed``.

    ``root`` may hold the original files (``cifar-100-python``, or be that folder) or the hub's
    parquet files (``train*.parquet`` and ``test*.parquet``, also in a folder below); else they are
    downloaded.
    """

    release = RELEASE_100


def _subfolders(root: Path) -> list[Path]:
    """Return the folders below, one and two levels down; a hub's set lies no deeper."""
    below = [path for path in sorted(root.iterdir()) if path.is_dir()]
    return below + [
        deeper for path in below for deeper in sorted(path.iterdir()) if deeper.is_dir()
    ]


def _latin1(text: str, encoding: str) -> bytes:
    """Do all that a pickle of arrays needs of ``_codecs.encode``."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding!r}")
    return text.encode("latin1")


class _ArrayUnpickler(pickle.Unpickler):
    """Rebuilds arrays, lists, dicts, numbers and strings.

    An ordinary unpickler calls whatever function a file names: a set from a stranger could run
    anything.
    """

    _reconstruct = np.empty(0).__reduce__()[0]
    _allowed: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,  # numpy 1
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,  # numpy 2
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _latin1,  # how Python 3 writes bytes by the old protocol
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._allowed[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which no array needs"
            ) from None


def load_arrays(content: bytes) -> Any:
    """Unpickle arrays and plain containers, strings as bytes, and nothing that could run code.

    Raises:
        pickle.UnpicklingError: if the pickle names anything else.
    """
    return _ArrayUnpickler(BytesIO(content), encoding="bytes").load()
