"""A table that says which class, or classes, each image of a folder has."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.core.csv_file import CsvFile
from datamodules.core.errors import DataError, shown
from datamodules.core.labels import (
    LabelKind,
    check_kind_of,
    check_recurring,
    flag_columns,
    flagged,
    guess_separator,
    in_order,
    is_label_name,
    parts,
    whole,
)
from datamodules.core.split_names import split_of
from datamodules.core.splits import composed

_SPLIT_COLUMNS = {"split", "subset", "set", "partition", "fold"}


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are what; None are guessed.

    Attributes:
        file: The column of the images' names or paths.
        label: The column of labels, or several of zeros and ones, one a class.
        separator: What parts several labels of a row.
        delimiter: The character between two values.
        kind: Whether a sample has one class, or any number of labels.
    """

    file: str | None = None
    label: str | list[str] | None = None
    separator: str | None = None
    delimiter: str | None = None
    kind: LabelKind | None = None


class LabelTable:
    """A csv file of names and labels, matched with the files of a folder.

    A row names its image by its path, by the end of that, or by its name alone, with its extension
    or without. Labels are one text a row, several that a character parts, or a column of zeros and
    ones for each class.

    Args:
        path: The csv file.
        root: The folder of the images.
        files: The images in it.
        columns: Which columns are what.

    Attributes:
        class_names: The classes, sorted; of columns of zeros and ones in their order.
        classes: Those of each file; None for the files of a folder that has no rows at all.
        splits: The split that the row of each file names; empty where there is no such column.
        several: Whether an image may have several classes.
        read_from: Which column the labels are, in words.

    Raises:
        UserError: If it lacks columns or rows, or it cannot be told which columns are meant.
    """

    def __init__(self, path: Path, root: Path, files: Sequence[Path], columns: Columns) -> None:
        table = CsvFile(str(path), columns.delimiter, "labels")
        self.name = shown(path)
        self.path, self.root, self.files = path, root, files
        if len(table.columns) < 2:
            raise DataError(
                f"{self.name} has one column, {table.columns[0]!r}, where names and labels need "
                "two; add the other, or set delimiter"
            )
        self._rows = table.peek()
        self._lines = table
        self._index = _by_ending(root, files)
        file_column = self._file_column(table, columns.file)
        rest = {name: own for name, own in self._rows.items() if name != file_column}
        self.split_column = self._find_split_column(rest)
        if self.split_column is not None:
            del rest[self.split_column]
        chosen = self._label_columns(table, rest, columns.label)
        self._check_complete([file_column])
        labels = self._labels(chosen, columns)
        self._match(file_column, labels)

    # ------------------------------------------------------------ columns

    def _file_column(self, table: CsvFile, given: str | None) -> str:
        """Return the column most of whose values name images."""
        if given is not None:
            table.check_column("file_column", given)
            return composed(given)
        counts = {
            name: sum(value is not None and self._find(value) is not None for value in values)
            for name, values in self._rows.items()
        }
        best = max(counts, key=counts.__getitem__)
        if counts[best] == 0:
            example = self.files[0].relative_to(self.root).as_posix()
            raise DataError(
                f"{self.name} has no column that names the images of {shown(self.root)}, "
                f"{example!r} for one; add it, or give root and labels that go together"
            )
        return best

    def _find_split_column(self, rest: Mapping[str, list[str | None]]) -> str | None:
        for name, values in rest.items():
            if name.lower() in _SPLIT_COLUMNS and all(split_of(str(value)) for value in values):
                return name
        return None

    def _label_columns(
        self, table: CsvFile, rest: Mapping[str, list[str | None]], given: str | list[str] | None
    ) -> list[str]:
        """Return the column of labels, or those of zeros and ones."""
        if given is not None:
            names = [given] if isinstance(given, str) else given
            for name in names:
                table.check_column("label_column", name)
            return [composed(name) for name in names]
        by_name = [name for name in rest if is_label_name(name)]
        if len(by_name) == 1:
            return by_name
        if not by_name and (flags := flag_columns(rest)):
            return flags
        likely = by_name
        if not likely:
            able = [name for name, own in rest.items() if _may_be_labels(own)]
            likely = [name for name in able if None not in rest[name]] or able
        likely = [
            name
            for place, name in enumerate(likely)
            if not any(_say_the_same(rest[name], rest[other]) for other in likely[:place])
        ]
        if len(likely) == 1:
            return likely
        if not likely:
            raise DataError(
                f"{self.name} has no column that could be the label beside the images' names; "
                "name it by label_column"
            )
        raise DataError(
            f"{self.name} has {len(likely)} columns that could be the label, "
            f"{', '.join(map(repr, likely[:5]))}; name one by label_column"
        )

    def _check_complete(self, columns: Sequence[str], or_else: str = "") -> None:
        for column in columns:
            values = self._rows[column]
            if None in values:
                place = self._lines.place(self._lines.lines()[values.index(None)])
                count = values.count(None)
                raise DataError(
                    f"column {column!r} of {self.name} has {count} missing "
                    f"value{'s' * (count > 1)}, the first in {place}; fill or remove such "
                    f"rows{or_else}"
                )

    # ------------------------------------------------------------ labels

    def _labels(self, chosen: Sequence[str], columns: Columns) -> list[tuple[str, ...]]:
        """Return the classes of each row; note the classes, and whether they are several."""
        if len(chosen) > 1:
            rows = zip(*(self._rows[name] for name in chosen), strict=True)
            numbers = self._lines.lines()
            labels = [
                flagged(chosen, row, self.name, self._lines.place(number))
                for number, row in zip(numbers, rows, strict=True)
            ]
            self.class_names = list(chosen)
            self.read_from = f"columns {chosen[0]} to {chosen[-1]}"
        else:
            written = self._rows[chosen[0]]
            values = [None if value is None else whole(value) for value in written]
            separator = columns.separator
            if separator is None and columns.kind != "multiclass":
                separator = guess_separator(filter(None, values))
            labels = [() if value is None else parts(value, separator) for value in values]
            if max(map(len, labels)) < (1 if columns.kind == "multilabel" else 2):
                unless = ", or set label_kind: multilabel" if columns.kind is None else ""
                self._check_complete(chosen, unless)
            self.class_names = in_order(name for own in labels for name in own)
            parted = "" if separator is None else f", parted by {separator!r}"
            self.read_from = f"column {chosen[0]}{parted}"
        several = any(len(own) != 1 for own in labels)
        check_kind_of(columns.kind, self.name, several=several)
        self.several = several or columns.kind == "multilabel"
        if not self.several and len(chosen) == 1:
            counts = Counter(name for own in labels for name in own)
            check_recurring([*counts.values()], chosen[0], self.name, "images")
        return labels

    # ------------------------------------------------------------ files

    def _find(self, value: str) -> list[int] | None:
        """Return the numbers of the files that a row's value may mean; None if there are none."""
        name = composed(value.replace("\\", "/")).removeprefix("./").lstrip("/")
        if name in self._index:
            return self._index[name]
        # It may begin with the way to the folder.
        parts, way = name.split("/"), self.root.resolve().parts
        for count in range(len(parts) - 1, 0, -1):
            if way[-count:] == tuple(parts[:count]):
                return self._index.get("/".join(parts[count:]))
        return None

    def _match(self, file_column: str, labels: Sequence[tuple[str, ...]]) -> None:
        """Give each file its row's classes and split."""
        names = [str(value) for value in self._rows[file_column]]
        rows: dict[int, int] = {}
        lacking = []
        for row, name in enumerate(names):
            numbers = self._find(name)
            if numbers is None:
                lacking.append(row)
            elif len(numbers) > 1:
                raise DataError(
                    f"{self.name} names {name!r}, but {len(numbers)} files are called so; write "
                    f"the path instead, such as {self._path(numbers[0])!r}"
                )
            else:
                first = rows.setdefault(numbers[0], row)
                if labels[first] != labels[row]:
                    raise DataError(
                        f"{self.name} gives {name!r} two labels, {'; '.join(labels[first])!r} and "
                        f"{'; '.join(labels[row])!r}; keep one, or write both in one row"
                    )
        if lacking:
            place = self._lines.place(self._lines.lines()[lacking[0]])
            more = f" and {len(lacking) - 1} more files" if len(lacking) > 1 else ""
            raise DataError(
                f"{self.name} names {names[lacking[0]]!r} in {place}{more}, which "
                f"{shown(self.root)} does not hold; add them or remove the rows"
            )
        splits = self._rows[self.split_column] if self.split_column is not None else None
        self.classes = [
            labels[rows[number]] if number in rows else None for number in range(len(self.files))
        ]
        self.splits = [
            str(splits[rows[number]]) if splits is not None and number in rows else ""
            for number in range(len(self.files))
        ]
        self._check_labelled(rows)

    def _path(self, number: int) -> str:
        return self.files[number].relative_to(self.root).as_posix()

    def _check_labelled(self, rows: Mapping[int, int]) -> None:
        """Refuse files without a row beside others, in their folder, that have one."""
        labelled = {self.files[number].parent for number in rows}
        without = [
            number
            for number, file in enumerate(self.files)
            if number not in rows and file.parent in labelled
        ]
        if without:
            more = f" and {len(without) - 1} more images" if len(without) > 1 else ""
            raise DataError(
                f"{self.name} has no row for {self._path(without[0])!r}{more}; add their labels, "
                "or remove the images"
            )


def _by_ending(root: Path, files: Sequence[Path]) -> dict[str, list[int]]:
    """Return the files that each ending of their paths means, with an extension and without."""
    index: dict[str, list[int]] = defaultdict(list)
    for number, file in enumerate(files):
        path = file.relative_to(root)
        for name in (path.as_posix(), path.with_suffix("").as_posix()):
            parts = composed(name).split("/")
            for start in range(len(parts)):
                own = index["/".join(parts[start:])]
                if number not in own:
                    own.append(number)
    # The path itself means one file, whatever others end so.
    for number, file in enumerate(files):
        index[composed(file.relative_to(root).as_posix())] = [number]
    return dict(index)


def _may_be_labels(values: Sequence[str | None]) -> bool:
    """Return whether a column has two values at least, most of which come more than once.

    Rows without a value may be those of none of several labels.
    """
    known = [value for value in values if value is not None]
    different = len(set(known))
    numbers = all(_is_fraction(value) for value in known)
    return 2 <= different <= max(2, len(known) // 2) and not numbers


def _is_fraction(text: str) -> bool:
    """Return whether a text is a number with a decimal point that counts."""
    try:
        return not float(text).is_integer()
    except (ValueError, OverflowError):
        return False


def _say_the_same(one: Sequence[str | None], other: Sequence[str | None]) -> bool:
    """Return whether two columns part the rows alike, as numbers and names of classes do."""
    pairs = set(zip(one, other, strict=True))
    return len(pairs) == len(set(one)) == len(set(other))
