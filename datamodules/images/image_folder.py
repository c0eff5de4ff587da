"""Your own images: in a folder per class, or in a folder with a table of labels."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from datamodules.core.copies import near_groups
from datamodules.core.description import Fact
from datamodules.core.errors import DataError, listed, refuse
from datamodules.core.labels import LabelKind, check_columns, rarest_labels
from datamodules.core.split_names import Split, Stage
from datamodules.core.splits import Keys, composed
from datamodules.images.base import ImageDataModule
from datamodules.images.cache import DecodedImages, decoded
from datamodules.images.dataset import ArrayImages
from datamodules.images.decode import Resize, check_resize, read_image
from datamodules.images.dicom import is_dicom, need_pydicom
from datamodules.images.folder import FolderDataModule, Rows
from datamodules.images.labels import Columns
from datamodules.images.layout import ClassNames, Labelled, list_folder


@dataclass
class _Part:
    """Files that are decoded together, each with its class's folder, and its class or classes."""

    files: list[Path]
    folders: list[Path]
    labels: Rows


def _counted(number: int, reason: str) -> str:
    """Return how many files or folders are passed over, in words.

    >>> _counted(2, "other files"), _counted(1, "links to nothing")
    ('2 other files', '1 link to nothing')
    """
    one = re.sub("(file|folder|link|image)s", r"\1", reason, count=1)
    return f"{number:,} {one if number == 1 else reason}"


class ImageFolder(FolderDataModule[ArrayImages], ImageDataModule):
    """Your own images: a folder with one folder per class, `root/<class>/*.png`, or a table.

    The size is whatever the folder holds, and the licence is the images' own. A folder for each
    split, `root/{train,val,test}/<class>/*.png`, is taken as it is, be it called training, valid,
    validation, dev or testing, in any case of letters; a split without a folder is cut out of the
    training images, stratified and chosen by ``split_seed``. A folder around all of it does no
    harm. With ``test`` alone there is nothing to train on, but ``zoo test`` takes it.

    Without class folders a csv or xlsx file names the images and their labels: the only one beside
    them, or ``labels``. It names an image by its path, the end of that, or its name, with its
    extension or without. Its labels are one a row, several that a character parts, or a column of
    zeros and ones for each class. A column ``split`` of train, val and test, or folders of these
    names, say the splits.

    Any size and kind of image will do: grey, palette, RGBA, CMYK, 1 bit, 16 bits (scaled over the
    whole range or ``window``), EXIF orientation; DICOM files by ``pip install
    'lightning-zoo[dicom]'``. ``resize`` says how an image is brought to
    ``image_size``. A TIFF of several pages is refused; of an animation the first picture is
    taken. Hidden files, ``__MACOSX``, links to nothing and files without an image's extension are
    passed over, and counted.

    Images of equal pixels share a split where it is drawn; between splits that are given they are
    counted and told.

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
        in_channels: What files are read as: 1 for grey, 3 for colour. Set this to what they are,
            and ``channels`` where the net takes the other, as a pretrained one does.
        class_names: The classes in the order of their numbers; by default the folders' names,
            or the labels, sorted.
        labels: A csv or xlsx file with each image's name and label or labels; by default the only
            one in the folder, where that has no class folders.
        file_column: The column with the image's name or path, of ``labels`` and ``groups``; by
            default the one that names most images.
        label_column: The column with the labels, where an empty value is none of several, or a list
            of columns of zeros and ones; by default the one that can be it.
        label_separator: The character between several labels of a row; by default ``|``, ``;`` or
            a comma where labels recur so.
        label_kind: Whether an image has one label (multiclass) or may have several (multilabel);
            by default what the table shows.

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
        labels: str | None = None,
        file_column: str | None = None,
        label_column: str | list[str] | None = None,
        label_separator: str | None = None,
        label_kind: LabelKind | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, file_column=file_column, **kwargs)
        self.resize = check_resize(resize)
        self.labels = None if labels is None else str(labels)
        self.label_column = label_column
        self.label_separator = label_separator
        check_columns(label_column, label_separator)
        columns = Columns(file_column, label_column, label_separator, self.delimiter, label_kind)
        self._list_files(columns, class_names)
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

    def _list_files(self, columns: Columns, class_names: list[str] | None) -> None:
        """List the files; nothing is read."""
        root = self._found_root()
        names = None if class_names is None else [*map(composed, class_names)]
        if names is not None and len(set(names)) < len(names):
            raise refuse("class_names", names, "name each class once")
        known = None if names is None else ClassNames(names, of_net=self.partition is not None)
        beside = [] if self.groups is None else [Path(self.groups).expanduser()]
        listing = list_folder(root, self._labels_file(root), columns, known, beside)
        self.listing = listing
        self.class_names = listing.class_names
        self.label_kind = "multilabel" if listing.several else "multiclass"
        if "train" in listing.splits:
            self._need_two_classes()
        splits = listing.splits
        train = splits.get("train", Labelled())
        val = splits.get("val", Labelled())
        self._fit = self._as_part(train, val)
        self._test = self._as_part(splits["test"]) if "test" in splits else None
        counts = np.cumsum([0, len(train.files), len(val.files)])
        given = {"train": np.arange(counts[1])}
        self._val_rows = np.arange(counts[1], counts[2]) if "val" in splits else None
        if self._val_rows is not None:
            given["val"] = self._val_rows
        if self._test is not None:
            given["test"] = counts[2] + np.arange(len(self._test.files))
        files = [Path(name) for name in self.names]
        for path in [file for file in files if is_dicom(file)][:1]:
            need_pydicom(path)
        self._look_up_groups(files, given)

    def _labels_file(self, root: Path) -> Path | None:
        """Return the table that the user named, from here or from the folder."""
        if self.labels is None:
            return None
        path = Path(self.labels).expanduser()
        return path if path.is_file() or not (root / path).is_file() else root / path

    def _as_part(self, *listed: Labelled) -> _Part:
        places = {name: number for number, name in enumerate(self.class_names)}
        classes = [own for each in listed for own in each.classes]
        if self.listing.several:
            labels = np.zeros((len(classes), len(places)), dtype=np.int64)
            for row, names in enumerate(classes):
                labels[row, [places[name] for name in names]] = 1
        else:
            labels = np.array([places[name] for (name,) in classes], dtype=np.int64)
        return _Part(
            [file for each in listed for file in each.files],
            [folder for each in listed for folder in each.folders],
            labels,
        )

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
        broken = Counter(part.folders[row] for row in images.broken)
        whole = [folder for folder, count in broken.items() if count == files[folder]]
        if whole:
            lost = [row for row in images.broken if part.folders[row] in whole]
            hold = "holds" if len(whole) == 1 else "hold"
            raise DataError(
                f"{listed([*map(str, whole)])} {hold} broken files alone ({len(lost)} of "
                f"{sum(files[folder] for folder in whole)}), the first being "
                f"{images.broken[min(lost)]}"
            )
        self._report_broken([*images.broken.values()], len(part.files))
        rows = np.setdiff1d(np.arange(len(part.files)), list(images.broken))
        return images, rows

    def _contents(self, images: DecodedImages, usable: Rows) -> Keys:
        """Return a hash of each image's pixels, equal for near copies where these count."""
        if self.near_copies is None:
            return images.keys
        looks = ArrayImages(images.images, self._fit.labels, usable).looks()
        groups = near_groups(looks, self.near_copies)
        lowest = np.full(groups.max(initial=0) + 1, np.iinfo(np.int64).max)
        np.minimum.at(lowest, groups, images.keys[usable])
        contents = images.keys.copy()
        contents[usable] = lowest[groups]
        return contents

    def _split_usable(self, images: DecodedImages, usable: Rows) -> dict[str, Rows]:
        """Return each split's rows among the files that are not the test split's."""
        given = {"train": usable}
        if self._val_rows is not None:
            given["train"] = np.setdiff1d(usable, self._val_rows)
            given["val"] = np.intersect1d(usable, self._val_rows)
        if self._test is not None:
            given["test"] = usable[:0]
        base = self.listing.base
        names = [self._fit.files[row].relative_to(base).as_posix() for row in given["train"]]
        strata = rarest_labels(self._fit.labels)
        return self._share_out(given, names, strata, self._contents(images, usable))

    def load_fit(self) -> tuple[ArrayImages, ArrayImages]:
        """Read the training and the validation split."""
        if "train" not in self.listing.splits:
            held = " and ".join(self.listing.splits)
            raise DataError(
                f"{self.root!r} holds images for {held} but none to train on; add a folder 'train'"
            )
        images, usable = self._usable(self._fit)
        rows = self._split_usable(images, usable)
        return self._images(images, rows["train"]), self._images(images, rows["val"])

    def _images(self, images: DecodedImages, rows: Rows) -> ArrayImages:
        labels = self._fit.labels
        return ArrayImages(images.images, labels, rows, sums=images.sums, keys=images.keys)

    def load_test(self) -> ArrayImages:
        """Read the test split."""
        if self._test is None:
            images, usable = self._usable(self._fit)
            return self._images(images, self._split_usable(images, usable)["test"])
        images, usable = self._usable(self._test)
        return ArrayImages(
            images.images,
            self._test.labels,
            usable,
            first=len(self._fit.files),
            source="test",
            sums=images.sums,
            keys=images.keys,
        )

    def load_all(self, stage: Stage) -> ArrayImages:
        """Read all images; those of the split, where the folder has it."""
        if stage == "test" and self._test is not None:
            return self.load_test()
        images, usable = self._usable(self._fit)
        if stage == "val" and self._val_rows is not None:
            usable = np.intersect1d(usable, self._val_rows)
        return self._images(images, usable)

    def _are_all_others(self, split: Stage) -> bool:
        if self._holds_others or self.partition is None:
            return self._holds_others
        in_its_place = self.partition["train"].get("source") == self._source()
        if in_its_place and split == "test" and self._test is not None:
            return False  # it is whole, whoever they are, and no other image need be read
        if not self._fit.files:
            return not in_its_place
        images, usable = self._usable(self._fit)
        return self._are_others(self._contents(images, usable)[usable])

    def _held_as(self) -> str:
        options = ("image_size", "in_channels", "window", "resize")
        return ", ".join(f"{option} {getattr(self, option)}" for option in options)

    def _given_by(self, split: Split) -> str:
        return self.listing.splits[split].given or "the rest"

    def _facts(self) -> list[Fact]:
        listing = self.listing
        counts = {why: listing.skipped[why] for why in sorted(listing.skipped)}
        passed_over = ", ".join(_counted(count, why) for why, count in counts.items())
        return [
            *super()._facts(),
            Fact("labels", listing.labelled_by, {"by": listing.labelled_by}),
            Fact("passed_over", passed_over, counts),
        ]

    def _sample_name(self, dataset: ArrayImages, place: int) -> str:
        path = self.names[dataset.first + int(dataset.rows[place])]
        return Path(path).relative_to(Path(self.root).expanduser()).as_posix()
