"""Rows to predict on."""

import os
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.core.csv_file import ColumnFaults, CsvFile, Numbers, Texts
from datamodules.core.errors import DataError, refuse
from datamodules.core.inputs import Inputs, described
from datamodules.core.sampling import PositionedLoader
from datamodules.core.splits import composed
from datamodules.tables.prepared import ArrayTable, PreparedTable


class TableInputs(PreparedTable, Inputs):
    """Rows to predict on, prepared as a trained net's own table was.

    Any number of csv or xlsx files, of your own and under your own licence. Columns are found by
    name, in any order; others, the target's among them, are passed over. Targets are NaN. In Python
    rows are taken, too: mappings of columns to values, values in the order of ``columns``, and
    frames of pandas.

    Args:
        inputs: The files; gzip may have packed them.
        means: Mean of each numeric column.
        stds: Standard deviation of each numeric column.
        categories: The categories of each other column.
        target_name: What is predicted.
        target_mean: The target's mean in training.
        target_std: The target's standard deviation in training.
        delimiter: The character between two values; by default what fits.
        encoding: What the files are in, by Python's name; by default what their bytes tell.
        batch_size: Samples in a batch, over all processes together.

    Raises:
        DataError: If a file or one of its columns will not do.
    """

    def __init__(
        self,
        inputs: list[str] | None,
        means: dict[str, float],
        stds: dict[str, float],
        categories: dict[str, list[str]],
        target_name: str,
        target_mean: float,
        target_std: float,
        delimiter: str | None = None,
        encoding: str | None = None,
        batch_size: int = 128,
    ) -> None:
        super().__init__(
            means=means,
            stds=stds,
            categories=categories,
            target_mean=target_mean,
            target_std=target_std,
            batch_size=batch_size,
        )
        self.inputs = None if inputs is None else [str(path) for path in inputs]
        self.delimiter = delimiter
        self.encoding = encoding
        self._set_facts(target_name)
        if self.inputs == []:
            raise refuse("inputs", inputs, "give csv files")
        #: File and line of each row, as ``table.csv:2``; ``batch.index`` numbers them.
        self.names: list[str] = []
        if self.inputs is not None:
            self._take(self.inputs)

    @property
    def columns(self) -> list[str]:
        """The columns that are read, those of numbers first."""
        return [*self.means, *self.categories]

    def _wanted(self) -> str:
        return f"rows with the columns {', '.join(map(repr, self.columns))}, or csv files"

    def _apart(self, given: Any) -> tuple[list[Any], bool]:
        if hasattr(given, "to_dict") and getattr(given, "ndim", 0) == 2:  # a frame of pandas
            return given.to_dict("records"), False
        shape = getattr(given, "shape", None)
        if shape is not None and hasattr(given, "tolist") and len(shape) in (1, 2):
            return ([given] if len(shape) == 1 else [*given]), len(shape) == 1
        values = given if isinstance(given, list | tuple) else ()
        are_files = all(isinstance(each, str | os.PathLike) for each in values)
        is_row = not are_files and not any(map(_may_be_row, values))
        return ([given], True) if is_row else super()._apart(given)

    def _take(self, inputs: Sequence[Any]) -> None:
        self.names, features = [], []
        for are_files, group in groupby(inputs, lambda each: isinstance(each, str | os.PathLike)):
            if are_files:
                self.of_several = True
                features += [self._read(os.fspath(path)) for path in group]
                continue
            first = len(self.names)
            rows = [self._row(given, first + place) for place, given in enumerate(group)]
            self.names += [f"row {first + place}" for place in range(len(rows))]
            features.append(self._encoded(rows))
        together = np.concatenate(features)
        self._table = ArrayTable(together, np.full(len(together), np.nan))

    def _row(self, given: Any, number: int) -> Mapping[Any, Any]:
        """Return one of Python's rows as a mapping of columns to values.

        Raises:
            DataError: If it is no row, or lacks a column.
        """
        if hasattr(given, "to_dict"):  # a series of pandas
            given = given.to_dict()
        if hasattr(given, "tolist"):
            given = given.tolist()
        if isinstance(given, Mapping):
            row: Mapping[Any, Any] = {composed(str(key)): value for key, value in given.items()}
            missing = [name for name in self.columns if composed(name) not in row]
            if missing:
                raise DataError(f"row {number} has no column {missing[0]!r}; give {self._wanted()}")
            return row
        if not isinstance(given, list | tuple):
            raise DataError(
                f"row {number} is {described(given)}, which is no row; give {self._wanted()}"
            )
        if len(given) != len(self.columns):
            raise DataError(
                f"row {number} has {len(given)} values, where {len(self.columns)} are needed; give "
                f"{self._wanted()}"
            )
        return dict(zip(map(composed, self.columns), given, strict=True))

    def _encoded(self, rows: Sequence[Mapping[Any, Any]]) -> npt.NDArray[np.float32]:
        first = len(self.names) - len(rows)
        numbers: dict[str, Numbers] = {
            column: np.array(
                [
                    _number(row[composed(column)], column, first + place)
                    for place, row in enumerate(rows)
                ],
                dtype=np.float64,
            )
            for column in self.means
        }
        texts = {
            column: _texts(
                [
                    _text(row[composed(column)], known, column, first + place)
                    for place, row in enumerate(rows)
                ]
            )
            for column, known in self.categories.items()
        }
        return self._encode(numbers, texts, len(rows), "the inputs")

    def _read(self, path: str) -> npt.NDArray[np.float32]:
        file = CsvFile(path, self.delimiter, "inputs", self.encoding)
        file.read([*self.means, *self.categories])
        lines = file.lines()
        self.names += [f"{path}:{line}" for line in lines]
        numbers, texts = {}, {}
        faults = ColumnFaults(file.name)
        for name in (*self.means, *self.categories):
            with faults.kept():
                file.check_complete(name)
                if name in self.means:
                    numbers[name] = file.numbers(name, "mend them")
                else:
                    texts[name] = file.texts(name)
        faults.refuse()
        return self._encode(numbers, texts, len(lines), file.name)

    def predict_dataloader(self) -> PositionedLoader:
        """Return the rows in the order of ``names``."""
        return self._prediction_loader(self._table)


def _may_be_row(given: object) -> bool:
    """Return whether what stands in a list may be a row of its own, and not a value."""
    return isinstance(given, Mapping | list | tuple) or getattr(given, "shape", ()) != ()


def _number(value: Any, column: str, row: int) -> float:
    """Return a value of a column of numbers.

    Raises:
        DataError: If it is none, or is missing.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if isinstance(value, bool) or not np.isfinite(number):
        raise DataError(f"row {row} has {value!r} in column {column!r}; give a finite number")
    return number


def _text(value: Any, known: Sequence[str], column: str, row: int) -> str:
    """Return a value of a column of categories; a whole number is one however Python holds it.

    Raises:
        DataError: If it is missing.
    """
    if value is None or value != value or value == "":
        raise DataError(f"row {row} has {value!r} in column {column!r}; give a category")
    text = str(value)
    is_whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if is_whole and text not in known else composed(text)


def _texts(values: list[str]) -> Texts:
    different = {value: code for code, value in enumerate(dict.fromkeys(values))}
    return Texts([*different], np.array([different[each] for each in values], dtype=np.int64))
