"""MedMNIST, and one's own images in the same kind of file."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from datamodules.core.download import PROBE_S, download
from datamodules.core.drawn import EveryClass
from datamodules.core.errors import DataError, known, one_of, refuse
from datamodules.core.files import check_md5
from datamodules.core.split_names import Split
from datamodules.images.base import ImageDataModule
from datamodules.images.cache import DAMAGED, unpacked
from datamodules.images.dataset import ArrayImages
from datamodules.images.medmnist_sets import CITATION, RECORD, SETS, LabelKind
from datamodules.images.npz import NpzFile, existing_npz

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

#: Bytes up to which a split's images are read into memory; larger ones are mapped from a cache.
IN_MEMORY = 2**30

_KEYS = [f"{split}_{what}" for split in ("train", "val", "test") for what in ("images", "labels")]


class _NpzImages(EveryClass[ArrayImages], ImageDataModule):
    """Images and labels of the three splits in one npz file."""

    label_kind: LabelKind

    def _file(self) -> Path:
        """Return the file; it exists."""
        raise NotImplementedError

    def _npz(self) -> NpzFile:
        return NpzFile(self._file(), _KEYS)

    def _read(self, split: str) -> tuple[Images, Labels]:
        """Return images (N, H, W, C) and labels (N,) or (N, C) of a split."""
        npz, key = self._npz(), f"{split}_images"
        size = npz.image_shape(key)[1:]
        expected = (*self.sides, self.own_channels)
        if size != expected:
            raise DataError(
                f"{npz.name}: {key} holds images of {_by(size)} values, but {_by(expected)} are "
                "expected; give the file that fits"
            )
        images, labels = _read_images(npz, key), self._labels(npz, f"{split}_labels")
        if len(labels) != len(images):
            raise DataError(
                f"{npz.name}: {key} holds {len(images)} images but {split}_labels {len(labels)} "
                "labels; mend the file"
            )
        return images, labels

    def _labels(self, npz: NpzFile, key: str) -> Labels:
        labels = _read_labels(npz, key)
        expected = (self.num_classes,) if self.label_kind == "multilabel" else ()
        if labels.shape[1:] != expected:
            raise DataError(
                f"{npz.name}: {key} has the shape {labels.shape}, but {self.label_kind} labels of "
                f"{self.num_classes} classes want {(len(labels), *expected)}; give the file that "
                "fits"
            )
        if self.label_kind == "multilabel" and not np.isin(labels, (0, 1)).all():
            raise DataError(
                f"{npz.name}: {key} holds {labels.max()}, but multilabel labels are 0 or 1; mend "
                "them"
            )
        return labels

    def _source_name(self) -> str:
        return str(self._file())

    def _source(self) -> str | None:
        return self._source_name()

    def _given_by(self, split: Split) -> str:
        return f"{split}_images in the file"

    def load_fit(self) -> tuple[ArrayImages, ArrayImages]:
        """Read the training and the validation split."""
        train, val = self._read("train"), self._read("val")
        return ArrayImages(*train), ArrayImages(*val, first=len(train[0]), source="val")

    def load_test(self) -> ArrayImages:
        """Read the test split, numbered on from the other two."""
        first = sum(self._npz().image_shape(f"{split}_images")[0] for split in ("train", "val"))
        return ArrayImages(*self._read("test"), first=first, source="test")


class ImageNpz(_NpzImages):
    """Your own images in one npz file that has MedMNIST's keys, with splits of your own.

    Size and licence are the file's own. It holds ``train_images``, ``val_images`` and
    ``test_images``, uint8 (N, H, W) for grey or (N, H, W, 3) for colour, and ``train_labels``,
    ``val_labels`` and ``test_labels``: the classes' numbers from 0, (N,) or (N, 1), or, where a
    sample may have several, zeros and ones (N, C). The splits are taken as they are.

    Args:
        path: The file.
        class_names: The classes in the order of their numbers; by default the numbers.
        label_kind: What the labels are; by default multilabel where they have several columns, else
            multiclass.

    Raises:
        UserError: If the file lacks a key or holds something else, or an option's value is not
            possible.
    """

    def __init__(
        self,
        path: str,
        class_names: list[str] | None = None,
        *,
        label_kind: LabelKind | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path = str(path)
        npz = self._npz()
        height, width, channels = npz.image_shape("train_images")[1:]
        labels = _read_labels(npz, "train_labels")
        self.label_kind = label_kind or ("multilabel" if labels.ndim == 2 else "multiclass")
        count = labels.shape[1] if labels.ndim == 2 else int(labels.max(initial=0)) + 1
        if class_names is not None and len(class_names) < count:
            remedy = f"name all {count} classes that the labels of {self.path!r} take"
            raise refuse("class_names", class_names, remedy)
        names = class_names if class_names is not None else [str(i) for i in range(count)]
        if self.label_kind == "binary" and len(names) != 2:
            remedy = f"give another, as {self.path!r} has {count} classes, not 2"
            raise refuse("label_kind", label_kind, remedy)
        self._set_facts(names, channels, [height, width])

    def _file(self) -> Path:
        return existing_npz(self.path)


class MedMNIST(_NpzImages):
    """MedMNIST, 12 sets of medical images by ``name``; CC BY 4.0, dermamnist CC BY-NC 4.0.

    J. Yang et al., "MedMNIST v2 - A large-scale lightweight benchmark for 2D and 3D biomedical
    image classification", Scientific Data 10, 41, 2023, https://doi.org/10.1038/s41597-022-01721-8
    (arXiv 2110.14795). The splits are the official ones. Their authors ask that the paper of a
    set's own source, which https://medmnist.com names, be cited, too.

    ``zoo list data MedMNIST`` shows the sets with their labels, sizes, classes and licences.

    ``root`` holds the official file, `<name>.npz` for 28 pixels and `<name>_<size>.npz` for more;
    else it is downloaded.

    Args:
        name: Which set.
        root: The folder.
        size: Height and width in pixels.
        download: Fetch the file if the folder lacks it.
        verify: Compare the file with its published md5 sum.

    Raises:
        OptionError: If an option's value is not possible.
    """

    name: str
    #: Under which the set may be used.
    licence: str
    #: What to cite.
    citation: str = CITATION

    def __init__(
        self,
        name: str,
        *,
        root: str = "data",
        size: Literal[28, 64, 128, 224] = 28,
        download: bool = True,
        verify: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if name not in SETS:
            remedy = f"give a 2-D set of MedMNIST; {known(name.lower(), SETS)}"
            raise refuse("name", name, remedy)
        self.name = name
        self.root = str(root)
        self.size = size
        self.download = download
        self.verify = verify
        self._verified = False
        facts = SETS[name]
        one_of("size", size, facts.md5)
        self.label_kind = facts.kind
        self.licence = facts.licence
        self._set_facts(facts.classes, facts.channels, size)

    @property
    def _path(self) -> Path:
        suffix = "" if self.size == 28 else f"_{self.size}"
        return Path(self.root).expanduser() / f"{self.name}{suffix}.npz"

    @property
    def url(self) -> str:
        """Where the file is."""
        return f"{RECORD}/{self._path.name}?download=1"

    def prepare_data(self) -> None:
        """Download the file if ``root`` lacks it and ``download`` allows.

        Raises:
            DataError: If it is not there and cannot be had.
        """
        if self._path.is_file():
            return
        if not self.download:
            raise self._absent("download is false")
        md5 = SETS[self.name].md5[self.size] if self.verify else None
        try:
            download(self.url, self._path, md5, probe_s=PROBE_S)
        except OSError as error:
            raise self._absent(str(error)) from None

    def _absent(self, why: str) -> DataError:
        return DataError(
            f"{self.root!r} holds no {self._path.name} and {why}; put the file from "
            f"{self.url} there as {self._path}"
        )

    def _file(self) -> Path:
        path = self._path
        if not path.is_file():
            raise self._absent("it has not been downloaded (prepare_data() does)")
        if self.verify and not self._verified:
            check_md5(path, SETS[self.name].md5[self.size])
            self._verified = True
        return path


def _read_images(npz: NpzFile, key: str) -> Images:
    """Return images (N, H, W, C), mapped from the cache if they are many."""
    shape = npz.image_shape(key)
    if np.prod(shape) > IN_MEMORY:
        try:
            images = unpacked(npz.path, f"{key}.npy", shape)
        except DAMAGED as error:
            raise npz.damaged(error) from None
        if images is not None:
            return images
    return npz.read(key).reshape(shape)


def _read_labels(npz: NpzFile, key: str) -> Labels:
    """Return labels (N,), or (N, C) where the array has several columns."""
    labels = npz.read(key)
    if labels.dtype.kind not in "biu" or labels.ndim not in (1, 2):
        raise DataError(
            f"{npz.name}: {key} is {labels.dtype} of the shape {labels.shape}; give whole numbers "
            "(N,) or, for several labels a sample, (N, C)"
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    return labels.astype(np.int64)


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
