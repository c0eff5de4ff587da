"""What folders of one's own files share: splits, by folder or cut out, and whose each file is."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.core.base import DatasetT, EveryClass
from datamodules.core.errors import DataError, between, refuse
from datamodules.core.options import some
from datamodules.images.base import PreparedImages
from datamodules.images.decode import check_window
from datamodules.images.groups import Groups, split_groups

Rows = npt.NDArray[np.int64]


class FolderDataModule(EveryClass[DatasetT], PreparedImages):
    """Files in a folder: a split is what a folder of its name holds, or cut out of the training.

    A subclass lists its files, and calls ``_look_up_groups`` with them in its constructor and
    ``_share_out`` once it knows which of them are usable.

    Args:
        root: The folder.
        val_fraction: Share of the images for validation, where there is no folder ``val``.
        test_fraction: Share of the images for the test, where there is no folder ``test``.
        skip_broken: Leave out images that cannot be read, or whose masks cannot, instead of
            stopping at the first.
        window: Two percentiles, such as [0.5, 99.5], of each image's values that become 0 and 255,
            for grey files of more than 8 bits; by default their whole range does.
        groups: A csv file with each image's patient; all images of one patient get into one split,
            the classes, where a file has one, as evenly as that allows.
        file_column: The csv file's column with the image's path below ``root``, or its name alone.
        group_column: The csv file's column with the patient.
        delimiter: The csv file's character between two values.
        allow_missing_classes: Let the validation or the test split lack a class.

    Raises:
        OptionError: If an option's value is not possible.
    """

    def __init__(
        self,
        root: str,
        *,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        skip_broken: bool = False,
        window: list[float] | None = None,
        groups: str | None = None,
        file_column: str = "file",
        group_column: str = "patient",
        delimiter: str = ",",
        allow_missing_classes: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(allow_missing_classes=allow_missing_classes, **kwargs)
        self.root = str(root)
        self.val_fraction = between("val_fraction", val_fraction, inclusive=False)
        self.test_fraction = between("test_fraction", test_fraction, inclusive=False)
        self.skip_broken = skip_broken
        self.window = check_window(window)
        self.groups = None if groups is None else str(groups)
        self.file_column = file_column
        self.group_column = group_column
        self.delimiter = delimiter
        self._groups: Groups | None = None

    def inputs_spec(self) -> dict[str, Any]:
        """Return what prepares raw files as this object does its own, less ``inputs``."""
        spec = super().inputs_spec()
        spec["init_args"]["window"] = self.window
        return spec

    def _source_name(self) -> str:
        return self.root

    def _found_root(self) -> Path:
        """Return ``root``, if it is a folder."""
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise refuse("root", self.root, "give a folder that exists")
        return root

    def _report_broken(self, whys: Sequence[str], count: int, place: str = "") -> None:
        """Refuse, or warn of, files that cannot be read.

        Args:
            whys: What is wrong with each, the first one first.
            count: How many files there are.
            place: Where, for a warning.
        """
        if not self.skip_broken:
            others = f" ({len(whys) - 1} more cannot be read either)" if len(whys) > 1 else ""
            raise DataError(f"{whys[0]}{others}, or leave such images out by skip_broken: true")
        warnings.warn(
            f"skip_broken: left out {len(whys)} of {count} images{place}, the first being "
            f"{whys[0]}",
            stacklevel=3,
        )

    def _look_up_groups(self, files: Sequence[Path], given: Mapping[str, Rows]) -> None:
        """Look up whose each file is; no one's may stand in two of the splits with folders."""
        if self.groups is None:
            return
        root = Path(self.root).expanduser()
        names = [path.relative_to(root).as_posix() for path in files]
        self._groups = Groups(
            self.groups, names, self.file_column, self.group_column, self.delimiter
        )
        self._groups.check_apart(given, names)

    def _share_out(self, given: Mapping[str, Rows], labels: Rows) -> dict[str, Rows]:
        """Return each split's rows, with those that have no folder cut out of the training files.

        Args:
            given: The rows of each split that has a folder, and those to train on.
            labels: Each file's class, by which a cut is stratified.
        """
        pool = given["train"]
        fractions = {"test": self.test_fraction, "val": self.val_fraction}
        sizes = {
            f"{split}_fraction": some(fraction, len(pool))
            for split, fraction in fractions.items()
            if split not in given
        }
        if self._groups is None:
            cut = self._split_rows(labels[pool], sizes)
        else:
            self._check_sizes(sizes, len(pool))
            codes = self._groups.codes[pool]
            cut = split_groups(labels[pool], codes, sizes, self.split_seed, self.group_column)
        names = [*(option.removesuffix("_fraction") for option in sizes), "train"]
        return {**given, **{name: pool[part] for name, part in zip(names, cut, strict=True)}}
