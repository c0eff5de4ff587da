"""Samples that belong together, such as one patient's images: they share a split."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from datamodules.core.csv_file import CsvFile
from datamodules.core.errors import DataError
from datamodules.core.splits import composed

Rows = npt.NDArray[np.int64]


class Groups:
    """Which group each file belongs to, by a csv file.

    Args:
        path: The csv file, UTF-8 with a header; rows of other files do no harm.
        files: The files' paths below the data set's folder, with ``/`` between folders. A row may
            also give the name alone where only one file has it.
        file_column: The column that names the file.
        group_column: The column that names the group.
        delimiter: The character between two values; None for a guess.

    Raises:
        DataError: If the csv file cannot be read, lacks a column or a file, or gives a file two
            groups.
    """

    def __init__(
        self,
        path: str,
        files: Sequence[str],
        file_column: str,
        group_column: str,
        delimiter: str | None,
    ) -> None:
        table = CsvFile(path, delimiter, "groups")
        table.check_column("file_column", file_column)
        table.check_column("group_column", group_column)
        table.read([file_column, group_column])
        for column in (file_column, group_column):
            table.check_complete(column)
        named, groups = table.texts(file_column), table.texts(group_column)
        #: The groups' names.
        self.names = groups.values
        self.column = group_column
        codes: dict[str, int] = {}
        for file, code in zip(named.codes.tolist(), groups.codes.tolist(), strict=True):
            if codes.setdefault(named.values[file], code) != code:
                raise DataError(
                    f"{path!r} gives {named.values[file]!r} two values of {group_column!r},"
                    f" {self.names[codes[named.values[file]]]!r} and {self.names[code]!r}; keep one"
                )
        #: The number of each file's group, (N,).
        self.codes = np.array(_look_up(path, files, codes), dtype=np.int64)

    def check_apart(self, parts: Mapping[str, Rows], files: Sequence[str]) -> None:
        """Refuse a group that stands in two splits.

        Args:
            parts: The rows of each split that is given.
            files: As in the constructor.

        Raises:
            DataError: Naming the group, the splits and a file.
        """
        home: dict[int, tuple[str, int]] = {}
        for split, rows in parts.items():
            for row in rows.tolist():
                code = int(self.codes[row])
                first_split, first_row = home.setdefault(code, (split, row))
                if first_split != split:
                    raise DataError(
                        f"{self.column} {self.names[code]!r} stands in two splits, with "
                        f"{files[first_row]!r} in {first_split} and {files[row]!r} in {split}; "
                        "move its images into one"
                    )


def _look_up(path: str, files: Sequence[str], codes: Mapping[str, int]) -> list[int]:
    """Return each file's code, by its path or its name alone."""
    times = Counter(composed(file).rsplit("/", 1)[-1] for file in files)
    found: list[int] = []
    lacking: list[str] = []
    for file in map(composed, files):
        name = file.rsplit("/", 1)[-1]
        if file in codes:
            found.append(codes[file])
        elif name not in codes:
            lacking.append(file)
        elif times[name] > 1:
            raise DataError(
                f"{path!r} names {name!r}, but {times[name]} files are called so; write "
                f"the path instead, such as {file!r}"
            )
        else:
            found.append(codes[name])
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise DataError(f"{path!r} has no row for {lacking[0]!r}{more}; add it")
    return found
