"""Images in folders, one folder per class."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from datamodules.core.errors import DataError, refuse, shown
from datamodules.core.splits import composed
from datamodules.images.base import ImageDataModule
from datamodules.images.cache import DecodedImages, decoded
from datamodules.images.dataset import ArrayImages
from datamodules.images.decode import (
    Resize,
    check_resize,
    list_images,
    no_images,
    read_image,
)
from datamodules.images.folder import FolderDataModule, Rows, same_name


@dataclass
class _Part:
    """Files that are decoded together, each with its class's folder and number."""

    files: list[Path]
    folders: list[Path]
    labels: Rows


class ImageFolder(FolderDataModule[ArrayImages], ImageDataModule):
    """Your own images: a folder with one folder per class, `root/<class>/*.png`.

    The size is whatever the folder holds, and the licence is the images' own. A folder for each
    split, `root/{train,val,test}/<class>/*.png`, is taken as it is; a split without a folder is cut
    out of the training images, stratified and chosen by ``split_seed``. Any size and kind of image
    will do: grey, palette, RGBA, CMYK, 1 bit, 16 bits (scaled over the whole range or ``window``),
    EXIF orientation. ``resize`` says how an image is brought to ``image_size``. A TIFF of several
    pages is refused; of an animation the first picture is taken. Hidden files and files without an
    image's extension are ignored.

    Several images of one patient (or slide, or machine) must not stand in two splits, or a net is
    tested on what it has learnt by heart: ``groups`` names a csv file that says whose each image
    is.

    Images are decoded once into ``$ZOO_CACHE`` (by default ``~/.cache/lightning_zoo``) and mapped
    from there, so that a second run starts at once and a set may be larger than the memory.

    Args:
        root: The folder.
        image_size: Height and width in pixels to which each image is brought, a number for both or
            ``[H, W]``.
        resize: How an image of another shape is brought to it: its shorter side is resized and the
            middle of the longer one kept (``crop``), its longer side is and black bars are put
            beside it (``pad``), or it is stretched (``squash``).
        in_channels: 1 for grey, 3 for colour.
        class_names: The classes in the order of their numbers; by default the folders' names,
            sorted.

    Raises:
        UserError: If the folder does not hold classes with images, or an option's value is not
            possible.
    """

    def __init__(
        self,
        root: str,
        *,
        image_size: int | list[int] = 224,
        resize: Resize = "crop",
        in_channels: Literal[1, 3] = 3,
        class_names: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, **kwargs)
        self.resize = check_resize(resize)
        self._list_files(class_names)
        self._set_facts(self.class_names, in_channels, image_size)

    def inputs_spec(self) -> dict[str, Any]:
        """Return what prepares raw files as this object does its own, less ``inputs``."""
        spec = super().inputs_spec()
        spec["init_args"]["resize"] = self.resize
        return spec

    @property
    def names(self) -> list[str]:
        """The files' paths; ``batch.index`` numbers them."""
        files = [*self._fit.files, *(self._test.files if self._test is not None else [])]
        return [str(path) for path in files]

    def _list_files(self, class_names: list[str] | None) -> None:
        """List the files; nothing is read."""
        root = self._found_root()
        folders = _folders(root)
        split = "train" in folders
        if folders and not split and set(folders) <= {"val", "test"}:
            raise DataError(
                f"{self.root!r} holds {' and '.join(folders)} but no folder 'train'; add it"
            )
        train = root / "train" if split else root
        found = _folders(train)
        if not found:
            raise DataError(
                f"{shown(train)} holds no class folders; put each class's images in one"
            )
        self.class_names = [*found] if class_names is None else [*map(composed, class_names)]
        self._match_folders(found, train)
        fit = self._list_split(train, every=True)
        self._val_rows: Rows | None = None
        self._test: _Part | None = None
        given = {"train": np.arange(len(fit.files))}
        if split and "val" in folders:
            val = self._list_split(root / "val")
            given["val"] = np.arange(len(fit.files), len(fit.files) + len(val.files))
            self._val_rows = given["val"]
            fit = _Part(
                [*fit.files, *val.files],
                [*fit.folders, *val.folders],
                np.concatenate([fit.labels, val.labels]),
            )
        if split and "test" in folders:
            self._test = self._list_split(root / "test")
            given["test"] = len(fit.files) + np.arange(len(self._test.files))
        self._fit, self._train_folder = fit, train
        self._look_up_groups([Path(name) for name in self.names], given)

    def _match_folders(self, found: Collection[str], folder: Path) -> None:
        """Compare the classes with the folders."""
        unnamed = [name for name in found if name not in self.class_names]
        if unnamed:
            remedy = f"add {unnamed[0]!r}, which {shown(folder)} holds"
            raise refuse("class_names", self.class_names, remedy)
        absent = [name for name in self.class_names if name not in found]
        if absent:
            remedy = f"remove {absent[0]!r}, which has no folder in {shown(folder)}"
            raise refuse("class_names", self.class_names, remedy)

    def _list_split(self, folder: Path, *, every: bool = False) -> _Part:
        """List the files of a folder that holds classes, or a part of them unless ``every``."""
        files: list[Path] = []
        folders: list[Path] = []
        labels: list[int] = []
        found = _folders(folder)
        for name, own in found.items():
            if name not in self.class_names:
                raise DataError(
                    f"{shown(own)} is a class that the training images lack; add some or remove it"
                )
        for label, name in enumerate(self.class_names):
            images = list_images(found[name], some=every) if name in found else []
            files += images
            folders += [found[name]] * len(images) if images else []
            labels += [label] * len(images)
        if not files:
            raise no_images(folder)
        return _Part(files, folders, np.array(labels, dtype=np.int64))

    def prepare_data(self) -> None:
        """Decode what the run will read, in one process while the others wait."""
        stage = None if self.trainer is None else self.trainer.state.fn
        if stage in ("fit", "validate"):
            self._decode(self._fit)
        elif stage in ("test", "predict"):
            self._decode(self._test if self._test is not None else self._fit)

    def _decode(self, part: _Part) -> DecodedImages:
        root = Path(self.root).expanduser()
        stats = [path.stat() for path in part.files]
        key = [
            str(root.resolve()),
            [
                [str(path.relative_to(root)), stat.st_size, stat.st_mtime_ns]
                for path, stat in zip(part.files, stats, strict=True)
            ],
            self.window,
            # a set that an earlier version decoded is found again
            *([self.resize] if self.resize != "crop" else []),
        ]
        return decoded(
            key,
            len(part.files),
            self.image_size,
            self.in_channels,
            lambda: (
                lambda row: read_image(
                    part.files[row],
                    self.image_size,
                    self.in_channels,
                    window=self.window,
                    resize=self.resize,
                )
            ),
        )

    def _usable(self, part: _Part) -> tuple[DecodedImages, Rows]:
        """Return the images and the rows that could be read."""
        images = self._decode(part)
        if not images.broken:
            return images, np.arange(len(part.files))
        files = Counter(part.folders)
        for folder, count in Counter(part.folders[row] for row in images.broken).items():
            if count == files[folder]:
                why = next(why for row, why in images.broken.items() if part.folders[row] == folder)
                raise DataError(
                    f"{shown(folder)} holds broken files alone ({count} of {count}), the first "
                    f"being {why}"
                )
        self._report_broken([*images.broken.values()], len(part.files))
        rows = np.setdiff1d(np.arange(len(part.files)), list(images.broken))
        return images, rows

    def _split_usable(self, usable: Rows) -> dict[str, Rows]:
        """Return each split's rows among the files that are not in a folder ``test``."""
        given = {"train": usable}
        if self._val_rows is not None:
            given["train"] = np.setdiff1d(usable, self._val_rows)
            given["val"] = np.intersect1d(usable, self._val_rows)
        if self._test is not None:
            given["test"] = usable[:0]
        names = [
            self._fit.files[row].relative_to(self._train_folder).as_posix()
            for row in given["train"]
        ]
        return self._share_out(given, names, self._fit.labels)

    def load_fit(self) -> tuple[ArrayImages, ArrayImages]:
        """Read the training and the validation split."""
        images, usable = self._usable(self._fit)
        rows, labels = self._split_usable(usable), self._fit.labels
        return (
            ArrayImages(images.images, labels, rows["train"], sums=images.sums),
            ArrayImages(images.images, labels, rows["val"], sums=images.sums),
        )

    def load_test(self) -> ArrayImages:
        """Read the test split."""
        if self._test is None:
            images, usable = self._usable(self._fit)
            return ArrayImages(images.images, self._fit.labels, self._split_usable(usable)["test"])
        images, usable = self._usable(self._test)
        first = len(self._fit.files)
        return ArrayImages(images.images, self._test.labels, usable, first=first, source="test")


def _folders(root: Path) -> dict[str, Path]:
    """Return the folders in a folder by their names, sorted, in one form of Unicode."""
    found: dict[str, Path] = {}
    for path in sorted(root.iterdir()):
        if path.is_dir() and not path.name.startswith("."):
            other = found.setdefault(composed(path.name), path)
            if other != path:
                raise same_name(other, path)
    return dict(sorted(found.items()))
