"""What folders of one's own files share: splits, by folder or cut out, and whose each file is."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.core.base import DatasetT
from datamodules.core.drawn import DrawnSplits, EveryClass
from datamodules.core.errors import DataError, refuse, shown
from datamodules.core.split_names import Split
from datamodules.core.splits import Keys, name_keys
from datamodules.images.decode import check_window
from datamodules.images.groups import Groups
from datamodules.images.prepared import PreparedImages
from datamodules.images.sizes import Heads, heads_of_files

Rows = npt.NDArray[np.int64]


class FolderDataModule(DrawnSplits[DatasetT], EveryClass[DatasetT], PreparedImages):
    """Files in a folder: a split is what a folder of its name holds, or cut out of the training.

    A subclass lists its files, and calls ``_look_up_groups`` with them in its constructor and
    ``_share_out`` once it knows which of them are usable.

    Args:
        root: The folder.
        skip_broken: Leave out images that cannot be read, or whose masks cannot, instead of
            stopping at the first.
        window: Two percentiles, such as [0.5, 99.5], of each image's values that become 0 and 255,
            for grey files of more than 8 bits; by default their whole range does.
        groups: A csv file with each image's patient; all images of one patient get into one split,
            the classes, where a file has one, as evenly as that allows.
        file_column: The csv file's column with the image's path below ``root``, or its name alone;
            by default ``file`` of ``groups``.
        group_column: The csv file's column with the patient.
        delimiter: The csv file's character between two values; by default the one that gives the
            most records as many values as the header.
        allow_missing_classes: Let the validation or the test split lack a class.

    Raises:
        OptionError: If an option's value is not possible.
    """

    def __init__(
        self,
        root: str,
        *,
        skip_broken: bool = False,
        window: list[float] | None = None,
        groups: str | None = None,
        file_column: str | None = None,
        group_column: str = "patient",
        delimiter: str | None = None,
        allow_missing_classes: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(allow_missing_classes=allow_missing_classes, **kwargs)
        self.root = str(root)
        self.skip_broken = skip_broken
        self.window = check_window(window)
        self.groups = None if groups is None else str(groups)
        self.file_column = file_column
        self.group_column = group_column
        self.delimiter = delimiter
        self._groups: Groups | None = None
        self._told: set[str] = set()

    @property
    def names(self) -> list[str]:
        """The files' paths; ``batch.index`` numbers them."""
        raise NotImplementedError

    def inputs_spec(self) -> dict[str, Any]:
        """Return what prepares raw files as this object does its own, less ``inputs``."""
        spec = super().inputs_spec()
        spec["init_args"]["window"] = self.window
        return spec

    def _source_name(self) -> str:
        return self.root

    def _heads(self) -> Heads:
        return heads_of_files(self.names)

    def _given_by(self, split: Split) -> str:
        return f"folder {split}"

    def _found_root(self) -> Path:
        """Return ``root``, if it is a folder."""
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise refuse("root", self.root, "give a folder that exists")
        return root

    def _report_broken(self, whys: Sequence[str], count: int, place: str = "") -> None:
        """Refuse, or warn once of, files that cannot be read.

        Args:
            whys: What is wrong with each, and what would do after a semicolon, the first one first.
            count: How many files there are.
            place: Where, for a warning.
        """
        if not self.skip_broken:
            others = f" ({len(whys) - 1} more cannot be read either)" if len(whys) > 1 else ""
            raise DataError(f"{whys[0]}{others}, or leave such images out by skip_broken: true")
        fault, first = whys[0].rpartition("; ")[0], ", the first" if len(whys) > 1 else ""
        told = f"skip_broken: left out {len(whys)} of {count} images{place}{first}: {fault}"
        if told not in self._told:
            self._told.add(told)
            warnings.warn(told, stacklevel=2)

    def _look_up_groups(self, files: Sequence[Path], given: Mapping[str, Rows]) -> None:
        """Look up whose each file is; no one's may stand in two of the splits with folders."""
        if self.groups is None:
            return
        root = Path(self.root).expanduser()
        names = [path.relative_to(root).as_posix() for path in files]
        self._groups = Groups(
            self.groups, names, self.file_column or "file", self.group_column, self.delimiter
        )
        self._groups.check_apart(given, names)

    def _share_out(
        self,
        given: Mapping[str, Rows],
        names: Sequence[str],
        labels: Rows,
        contents: Keys | None = None,
    ) -> dict[str, Rows]:
        """Return each split's rows, with those that have no folder cut out of the training files.

        Args:
            given: The rows of each split that has a folder, and those to train on.
            names: What each training file is called, wherever the folder lies.
            labels: Each file's class, by which a cut is stratified.
            contents: A hash of what each file holds, where copies share a split.
        """
        pool = given["train"]
        options: dict[str, Any] = {"contents": None if contents is None else contents[pool]}
        if self._groups is not None:
            codes = self._groups.codes[pool]
            self._check_group_count(len(np.unique(codes)), given)
            options |= {
                "groups": name_keys(self._groups.names)[codes],
                "grouped_by": self.group_column,
            }
        drawn = self._draw_missing(name_keys(names), labels[pool], given, **options)
        return {**given, **{split: pool[rows] for split, rows in drawn.items()}}

    def _check_group_count(self, count: int, given: Mapping[str, Rows]) -> None:
        """Refuse fewer groups than there are splits that each need one."""
        fractions = {"test": self.test_fraction, "val": self.val_fraction}
        wanted = [s for s, fraction in fractions.items() if s not in given and fraction > 0]
        if count <= len(wanted):
            values = f"{count} different value{'s' * (count != 1)}"
            lower = " or ".join(f"{split}_fraction" for split in wanted)
            raise refuse(
                "group_column",
                self.group_column,
                f"lower {lower} to 0, or add some: {len(wanted) + 1} splits cannot share {values}",
            )


def same_name(one: Path, other: Path) -> DataError:
    """Return the error to raise where two paths differ in Unicode's form alone."""
    return DataError(
        f"{shown(other)} and {shown(one)} have one name, which Unicode can write in two forms; "
        "merge them or rename one"
    )
