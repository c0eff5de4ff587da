"""Images and masks in files, paired by name."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn

from datamodules.core.copies import file_keys
from datamodules.core.errors import DataError, at_least, refuse, shown
from datamodules.core.split_names import Split, Stage
from datamodules.images.decode import is_image
from datamodules.images.folder import FolderDataModule
from datamodules.images.layout import split_folders
from datamodules.segmentation.base import SegmentationDataModule, default_names
from datamodules.segmentation.dataset import Array, MaskedImages, Rows
from datamodules.segmentation.mask_files import MaskReader, read_whole_image
from datamodules.segmentation.pairs import NamePattern, Pairs, pair


class SegmentationFolder(FolderDataModule[MaskedImages], SegmentationDataModule):
    """Your own images and masks: ``root/images/x.png`` with ``root/masks/x.png``.

    The size is whatever the folder holds, and the licence is the images' own. An image and its mask
    have the same name, whatever their extensions, or names that differ in what they begin or end
    with (``21_training.tif`` and ``21_manual1.gif``), which is guessed and told unless
    ``mask_pattern`` says it, for each split on its own; so are masks that lie beside their images,
    ``root/x.png`` and ``root/x_mask.png``. A folder for each split,
    ``root/{train,val,test}/{images,masks}`` (``valid``, ``Training`` and the like will do), is
    taken as it is; a split without a folder is cut out of the training images, chosen by
    ``split_seed``. Any size and kind of image will do: grey, palette, RGBA, CMYK, 1 bit, 16 bits
    (scaled over the whole range or ``window``), EXIF orientation; a TIFF of several pages is
    refused. Sizes may differ from image to image; each mask has the size of its image. Hidden files
    and files without an image's extension are ignored.

    A mask's values are class numbers: of grey masks the values (0 and 1 or 0 and 255 where there
    are two classes), of palette masks the entries' numbers. Masks in colours need ``palette``, and
    those of which every value from some number on is foreground ``threshold``: probabilities,
    instances that are numbered. JPEG masks of two classes, whose values are blurred, are divided at
    128.

    Several images of one patient (or slide, or machine) must not stand in two splits, or a net is
    tested on what it has learnt by heart: ``groups`` names a csv file that says whose each image
    is.

    Images are decoded once and kept in memory: a pixel takes ``in_channels`` + 1 bytes.

    Args:
        root: The folder.
        image_size: Pixels of the random part that training crops from an image, a side or
            ``[H, W]``.
        in_channels: What files are read as: 1 for grey, 3 for colour. Set this to what they are,
            and ``channels`` where the net takes the other, as a pretrained one does.
        class_names: The classes in the order of their numbers; by default background and
            foreground.
        ignore_value: The value in a mask that means: no class. Often 255 where there are more
            than two classes. With ``palette`` it is a colour, such as [224, 224, 192].
        palette: The colour of each class, such as [[0, 0, 0], [255, 0, 0]], to read masks by their
            colours.
        threshold: The lowest value of a mask that is foreground, where there are two classes; of
            masks in colours, of the brightest of the three. 1 makes one foreground of numbered
            instances.
        mask_pattern: A mask's name, less its extension, with * for its image's, such as '*_mask';
            or both names with * for what they share, such as '*_training -> *_manual1'.

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
        threshold: int | None = None,
        mask_pattern: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, **kwargs)
        self.ignore_value = ignore_value
        self.palette = palette
        names = default_names(class_names)
        _check_colours(palette, ignore_value, names)
        self._set_facts(names, in_channels, image_size)
        self.threshold = _check_threshold(threshold, palette, ignore_value, names)
        self._reader = MaskReader(self.num_classes, ignore_value, palette, threshold)
        self.mask_pattern = mask_pattern
        self._list_files()

    @property
    def names(self) -> list[str]:
        """The images' paths; ``batch.index`` numbers them."""
        return [str(path) for path in self._files.images]

    def _list_files(self) -> None:
        """List and pair the files, and share them out; copies of a file share a split."""
        root = self._found_root()
        found = split_folders(root, bare=True)
        split = "train" in found
        side_by_side = any(is_image(path) for path in root.iterdir())
        if not split and not side_by_side and not (root / "images").is_dir():
            raise DataError(
                f"{self.root!r} holds neither a folder 'images' nor a folder 'train'; put "
                "the images into one and their masks into a folder 'masks' beside it"
            )
        self._folders = {"train": root}
        if split:
            self._folders = {
                name: found[name] for name in ("train", "val", "test") if name in found
            }
        self._files = Pairs()
        rows: dict[str, Rows] = {}
        for name, part in self._paired().items():
            first = len(self._files.images)
            rows[name] = np.arange(first, first + len(part.images))
            self._files.names += part.names
            self._files.images += part.images
            self._files.masks += part.masks
        self._look_up_groups(self._files.images, rows)
        no_labels = np.zeros(len(self._files.images), dtype=np.int64)
        names = [self._files.names[row] for row in rows["train"]]
        self._given_rows = dict(rows)
        # Only of files that are divided, or to train on, by which a checkpoint knows them again.
        contents = np.zeros(len(self._files.images), dtype=np.int64)
        contents[rows["train"]] = file_keys([self._files.images[row] for row in rows["train"]])
        self._rows = self._share_out(rows, names, no_labels, contents)

    def _paired(self) -> dict[str, Pairs]:
        """Return each split's images with their masks, and tell how their names were guessed."""
        if self.mask_pattern is not None:
            pattern = NamePattern.parse(self.mask_pattern)
            return {name: pair(folder, pattern)[0] for name, folder in self._folders.items()}
        found: dict[str, Pairs] = {}
        patterns: dict[str, NamePattern] = {}
        for name, folder in self._folders.items():
            found[name], patterns[name] = _pair_as(folder, patterns.get("train"))
        first = found["train"]
        how = ", ".join(f"'{pattern}' in {name}" for name, pattern in patterns.items())
        if len({*patterns.values()}) == 1:
            pattern = patterns["train"]
            if pattern == NamePattern():
                return found
            # Kept, so that a checkpoint's data are paired alike.
            self.mask_pattern = str(pattern)
            how = f"'{pattern}'"
        rank_zero_warn(
            f"{self.root!r}: names are paired as {how}, {first.images[0].name} with "
            f"{first.masks[0].name}; if that is wrong, give mask_pattern"
        )
        return found

    def _given_by(self, split: Split) -> str:
        return f"folder {self._folders[split].name}"

    def _read(self, stage: Stage, rows: Rows) -> MaskedImages:
        """Decode a split by threads; on large images decoders release the interpreter's lock."""
        from tqdm import tqdm

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
        return self._read("train", self._rows["train"]), self._read("val", self._rows["val"])

    def load_test(self) -> MaskedImages:
        """Read the test split."""
        return self._read("test", self._rows["test"])

    def load_all(self, stage: Stage) -> MaskedImages:
        """Read all images; those of the split, where the folder has it."""
        given = self._given_rows
        every = given[stage] if stage in given else np.concatenate([*given.values()])
        return self._read(stage, every)

    def _sample_name(self, dataset: MaskedImages, place: int) -> str:
        path = self._files.images[int(dataset.index[place])]
        return path.relative_to(Path(self.root).expanduser()).as_posix()


def _pair_as(folder: Path, known: NamePattern | None) -> tuple[Pairs, NamePattern]:
    """Pair images with masks as those of another folder, or else by what their own names say.

    Few names, which say little, are paired as many others are.
    """
    if known is not None:
        with suppress(DataError):
            return pair(folder, known)
    return pair(folder, None)


def _check_threshold(
    threshold: int | None,
    palette: list[list[int]] | None,
    ignore_value: int | list[int] | None,
    class_names: list[str],
) -> int | None:
    if threshold is None:
        return None
    if len(class_names) != 2:
        remedy = f"leave it out, as it makes two classes, and class_names has {len(class_names)}"
        raise refuse("threshold", threshold, remedy)
    if palette is not None:
        raise refuse("threshold", threshold, "give it or palette, not both")
    if ignore_value is not None and isinstance(ignore_value, int) and ignore_value >= threshold:
        remedy = f"give more than {ignore_value}, which is the ignore_value"
        raise refuse("threshold", threshold, remedy)
    return at_least("threshold", threshold, 1)


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
