"""Samples that belong together, such as one patient's images: they share a split."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from datamodules.core.csv_file import CsvFile
from datamodules.core.errors import DataError, refuse
from datamodules.core.randomness import permutation

Rows = npt.NDArray[np.int64]


class Groups:
    """Which group each file belongs to, by a csv file.

    Args:
        path: The csv file, UTF-8 with a header; rows of other files do no harm.
        files: The files' paths below the data set's folder, with ``/`` between folders. A row may
            also give the name alone where only one file has it.
        file_column: The column that names the file.
        group_column: The column that names the group.
        delimiter: The character between two values.

    Raises:
        DataError: If the csv file cannot be read, lacks a column or a file, or gives a file two
            groups.
    """

    def __init__(
        self, path: str, files: Sequence[str], file_column: str, group_column: str, delimiter: str
    ) -> None:
        table = CsvFile(path, delimiter, "groups")
        table.check_column("file_column", file_column)
        table.check_column("group_column", group_column)
        table.read([file_column, group_column])
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
    times = Counter(file.rsplit("/", 1)[-1] for file in files)
    found: list[int] = []
    lacking: list[str] = []
    for file in files:
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


def split_groups(
    labels: Rows, groups: Rows, sizes: Mapping[str, int], seed: int, column: str
) -> list[Rows]:
    """Return disjoint splits of about the given sizes and, last, the rest; no group stands in two.

    Groups come in falling order of their size (by powers of two; by the seed within one), and each
    goes to the split s with the greatest sum over classes of g_c p_s / (n_sc + g_c / 2), where the
    group has g_c samples of class c, the split n_sc so far, and p_s is the split's share. For
    groups of one sample that is Sainte-Laguë's apportionment of every class. scikit-learn's
    StratifiedGroupKFold stratifies as well, but into parts of one size alone.

    Args:
        labels: The classes' numbers, (N,).
        groups: The groups' numbers, (N,).
        sizes: How many samples each split shall have, by the option that says so; some are left.
        seed: Chooses among groups of like size.
        column: What a group is called in a message.

    Returns:
        Ascending rows of each split.

    Raises:
        OptionError: If there are too few groups.
    """
    numbers, members = np.unique(groups, return_inverse=True)
    wanted = [*sizes.values(), len(labels) - sum(sizes.values())]
    splits = sum(size > 0 for size in wanted)
    if len(numbers) < splits:
        values = f"{len(numbers)} different value{'s' * (len(numbers) != 1)}"
        lower = f"lower {' or '.join(sizes)} to 0, or add some"
        raise refuse("group_column", column, f"{lower}: {splits} splits cannot share {values}")
    _, classes = np.unique(labels, return_inverse=True)
    table = np.zeros((len(numbers), int(classes.max()) + 1))
    np.add.at(table, (members, classes), 1)
    homes = _apportion(table, np.array(wanted) / len(labels), seed)
    return [np.flatnonzero(homes[members] == split) for split in range(len(wanted))]


def _apportion(table: npt.NDArray[np.float64], shares: npt.NDArray[np.float64], seed: int) -> Rows:
    """Return each group's split, given its samples per class (G, K) and the splits' shares (S,)."""
    shuffled = permutation(len(table), seed, 0).numpy()
    magnitude = np.floor(np.log2(table.sum(axis=1)))
    order = shuffled[np.argsort(-magnitude[shuffled], kind="stable")]
    have = np.zeros((len(shares), table.shape[1]))
    homes = np.zeros(len(table), dtype=np.int64)
    last = len(shares) - 1
    for group in order:
        own = np.flatnonzero(table[group])
        brought = table[group, own]
        gain = (brought * shares[:, None] / (have[:, own] + brought / 2)).sum(axis=1)
        # Of equals the rest, which is to train on, comes first.
        homes[group] = last - int(np.argmax(gain[::-1]))
        have[homes[group], own] += brought
    for split in np.flatnonzero(shares > 0):
        if not (homes == split).any():  # a small one gets at least the smallest group
            spare = [group for group in order if (homes == homes[group]).sum() > 1]
            homes[spare[-1]] = split
    return homes
