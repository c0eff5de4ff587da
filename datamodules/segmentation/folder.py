"""Images and masks in two folders, paired by name."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from datamodules.core.base import Stage
from datamodules.core.errors import DataError, refuse, shown
from datamodules.core.splits import composed
from datamodules.images.decode import list_images, no_images
from datamodules.images.folder import FolderDataModule
from datamodules.segmentation.base import SegmentationDataModule, default_names
from datamodules.segmentation.dataset import Array, MaskedImages, Rows
from datamodules.segmentation.mask_files import MaskReader, read_whole_image


@dataclass
class _Part:
    """Files of one folder that holds images and masks, in the same order."""

    names: list[str] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)
    masks: list[Path] = field(default_factory=list)


class SegmentationFolder(FolderDataModule[MaskedImages], SegmentationDataModule):
    """Your own images and masks: ``root/images/x.png`` with ``root/masks/x.png``.

    The size is whatever the folder holds, and the licence is the images' own. An image and its mask
    have the same name, whatever their extensions. A folder for each split,
    ``root/{train,val,test}/{images,masks}``, is taken as it is; a split without a folder is cut out
    of the training images, chosen by ``split_seed``. Any size and kind of image will do: grey,
    palette, RGBA, CMYK, 1 bit, 16 bits (scaled over the whole range or ``window``), EXIF
    orientation; a TIFF of several pages is refused. Sizes may differ from image to image; each mask
    has the size of its image. Hidden files and files without an image's extension are ignored.

    A mask's values are class numbers: of grey masks the values (0 and 1 or 0 and 255 where there
    are two classes), of palette masks the entries' numbers. Masks in colours need ``palette``.

    Several images of one patient (or slide, or machine) must not stand in two splits, or a net is
    tested on what it has learnt by heart: ``groups`` names a csv file that says whose each image
    is.

    Images are decoded once and kept in memory: a pixel takes ``in_channels`` + 1 bytes.

    Args:
        root: The folder.
        image_size: Pixels of the random part that training crops from an image, a side or
            ``[H, W]``.
        in_channels: 1 for grey, 3 for colour.
        class_names: The classes in the order of their numbers; by default background and
            foreground.
        ignore_value: The value in a mask that means: no class. Often 255 where there are more
            than two classes. With ``palette`` it is a colour, such as [224, 224, 192].
        palette: The colour of each class, such as [[0, 0, 0], [255, 0, 0]], to read masks by their
            colours.

    Raises:
        UserError: If images and masks do not pair, or an option's value is not possible.
    """

    def __init__(
        self,
        root: str,
        *,
        image_size: int | list[int] = 256,
        in_channels: Literal[1, 3] = 3,
        class_names: list[str] | None = None,
        ignore_value: int | list[int] | None = None,
        palette: list[list[int]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, **kwargs)
        self.ignore_value = ignore_value
        self.palette = palette
        names = default_names(class_names)
        _check_colours(palette, ignore_value, names)
        self._set_facts(names, in_channels, image_size)
        self._reader = MaskReader(self.num_classes, ignore_value, palette)
        self._list_files()

    @property
    def names(self) -> list[str]:
        """The images' paths; ``batch.index`` numbers them."""
        return [str(path) for path in self._files.images]

    def _list_files(self) -> None:
        """List and pair the files, and share them out; nothing is read."""
        root = self._found_root()
        split = (root / "train").is_dir()
        if not split and not (root / "images").is_dir():
            raise DataError(
                f"{self.root!r} holds neither a folder 'images' nor a folder 'train'; put "
                "the images into one and their masks into a folder 'masks' beside it"
            )
        folders = {"train": root / "train" if split else root}
        folders |= {name: root / name for name in ("val", "test") if split}
        self._files = _Part()
        rows: dict[str, Rows] = {}
        for name, folder in folders.items():
            if not folder.is_dir():
                continue
            part, first = _pair(folder), len(self._files.images)
            rows[name] = np.arange(first, first + len(part.images))
            self._files.names += part.names
            self._files.images += part.images
            self._files.masks += part.masks
        self._look_up_groups(self._files.images, rows)
        no_labels = np.zeros(len(self._files.images), dtype=np.int64)
        names = [self._files.names[row] for row in rows["train"]]
        self._rows = self._share_out(rows, names, no_labels)

    def _read(self, stage: Stage) -> MaskedImages:
        """Decode a split by threads; on large images decoders release the interpreter's lock."""
        from tqdm import tqdm

        rows = self._rows[stage]
        images: list[Array] = []
        masks: list[Array] = []
        kept: list[int] = []
        broken: list[DataError] = []
        # The bar shows only on a terminal, when the work takes longer than 2 s.
        bar = tqdm(
            total=len(rows), desc="decoding images", unit="", delay=2, leave=False, disable=None
        )
        with bar, ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as threads:
            for row, read in zip(rows, threads.map(self._read_pair, rows), strict=True):
                bar.update()
                if isinstance(read, DataError):
                    broken.append(read)
                    continue
                images.append(read[0])
                masks.append(read[1])
                kept.append(row)
        if broken:
            whys = [str(error) for error in broken]
            if len(broken) == len(rows):
                raise DataError(
                    f"{self.root!r} holds no readable pair of image and mask for the {stage} "
                    f"split, though it lists {len(rows)}: the first of them is {whys[0]}"
                )
            self._report_broken(whys, len(rows), f" of the {stage} split")
        return MaskedImages(images, masks, np.array(kept, dtype=np.int64))

    def _read_pair(self, row: int) -> tuple[Array, Array] | DataError:
        """Return an image and its mask; the error, where one of them cannot be read.

        Raises:
            DataError: If both can be read but do not fit each other or the classes.
        """
        path, mask_path = self._files.images[row], self._files.masks[row]
        try:
            image = read_whole_image(path, self.in_channels, self.window)
            values = self._reader.read(mask_path)
        except DataError as error:
            return error
        if image.shape[:2] != values.shape[:2]:
            sizes = [f"{array.shape[1]}x{array.shape[0]}" for array in (values, image)]
            raise DataError(
                f"{shown(mask_path)} has {sizes[0]} pixels, and its image {shown(path)} has "
                f"{sizes[1]} (width x height); bring them to one size"
            )
        return image, self._reader.classes(values, mask_path)

    def load_fit(self) -> tuple[MaskedImages, MaskedImages]:
        """Read the training and the validation split."""
        return self._read("train"), self._read("val")

    def load_test(self) -> MaskedImages:
        """Read the test split."""
        return self._read("test")


def _pair(folder: Path) -> _Part:
    """Return the images of a folder with their masks, sorted by name."""
    images = _by_name(folder / "images")
    masks = _by_name(folder / "masks")
    if not images:
        raise no_images(folder / "images")
    for ours, theirs, one, other in (
        (images, masks, "image", "mask"),
        (masks, images, "mask", "image"),
    ):
        lonely = sorted(ours.keys() - theirs.keys())
        if lonely:
            where = folder / f"{other}s" / lonely[0]
            more = f" ({len(lonely) - 1} more {one}s have none either)" if lonely[1:] else ""
            raise DataError(
                f"{shown(ours[lonely[0]])} has no {other}{more}; add {where}.png or remove the "
                f"{one}"
            )
    names = sorted(images)
    return _Part(names, [images[name] for name in names], [masks[name] for name in names])


def _by_name(folder: Path) -> dict[str, Path]:
    """Return the images of a folder by their path in it, less the extension.

    In one form of Unicode, as an image and its mask may come from two systems.
    """
    if not folder.is_dir():
        raise DataError(
            f"{shown(folder)} is not a folder; images go into a folder 'images', their masks into "
            "a folder 'masks' beside it"
        )
    found: dict[str, Path] = {}
    for path in list_images(folder):
        name = composed(path.relative_to(folder).with_suffix("").as_posix())
        if name in found:
            raise DataError(
                f"{shown(path)} has the same name as {shown(found[name])}, so that no mask belongs "
                "to one of them alone; rename one"
            )
        found[name] = path
    return found


def _check_colours(
    palette: list[list[int]] | None, ignore_value: int | list[int] | None, class_names: list[str]
) -> None:
    if palette is None:
        if isinstance(ignore_value, list):
            raise refuse("ignore_value", ignore_value, "give a number; a colour goes with palette")
        return
    if isinstance(ignore_value, int):
        remedy = "give a colour, such as [224, 224, 192], as palette reads masks by their colours"
        raise refuse("ignore_value", ignore_value, remedy)
    _check_each("palette", palette)
    if ignore_value is not None:
        _check_each("ignore_value", [ignore_value])
        if ignore_value in palette:
            remedy = "give another colour; this one is a class's in palette"
            raise refuse("ignore_value", ignore_value, remedy)
    if len({tuple(colour) for colour in palette}) < len(palette):
        raise refuse("palette", palette, "give each class a colour of its own")
    if len(palette) != len(class_names):
        remedy = f"give a colour for each of the {len(class_names)} class_names"
        raise refuse("palette", palette, remedy)


def _check_each(option: str, colours: list[list[int]]) -> None:
    for colour in colours:
        if len(colour) != 3 or not all(0 <= part <= 255 for part in colour):
            remedy = "give three numbers from 0 to 255 for a colour, red, green and blue"
            raise refuse(option, colour, remedy)
