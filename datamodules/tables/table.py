"""Tables to learn a number from."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from datamodules.core.csv_file import ColumnError, ColumnFaults, CsvFile, Numbers, Texts
from datamodules.core.description import Fact
from datamodules.core.drawn import FractionSplits
from datamodules.core.errors import DataError, refuse
from datamodules.core.options import some
from datamodules.core.split_names import Stage
from datamodules.core.splits import composed, name_keys, row_keys
from datamodules.tables.prepared import ArrayTable, PreparedTable, Rows

#: More than these, and a column of texts is taken for names or identifiers.
MOST_CATEGORIES = 1000


class TableDataModule(FractionSplits[ArrayTable], PreparedTable):
    """A table with three disjoint splits.

    A subclass calls ``_encode_splits`` at the end of its constructor. Whatever is found out of the
    data (means and standard deviations, which categories there are) is the training split's.
    """

    samples = "rows"
    _read_as: str | None = None
    """How the file is written, where there is one."""

    def _encode_splits(
        self,
        numbers: Mapping[str, Numbers],
        texts: Mapping[str, Texts],
        target_name: str,
        target: Numbers,
        source: str,
    ) -> None:
        """Split, find the statistics and encode.

        Args:
            numbers: The numeric columns.
            texts: The columns of categories.
            target_name: The target's column.
            target: Its values (N,).
            source: What messages call the table.
        """
        codes = {column: name_keys(of.values)[of.codes] for column, of in texts.items()}
        keys = row_keys({**numbers, **codes, target_name: target})
        fractions = [each for each in (self.val_fraction, self.test_fraction) if each > 0]
        # No more parts than the smallest split has rows, so that each can have its share of it.
        parts = min([10, *(some(fraction, len(target)) for fraction in fractions)])
        drawn = self._draw_missing(keys, _strata(target, parts), needed=2)
        train = drawn["train"]
        if not self._given:
            for column, values in numbers.items():
                self.means[column], self.stds[column] = _moments(values[train])
            for column, of in texts.items():
                self.categories[column] = sorted(
                    of.values[code] for code in np.unique(of.codes[train])
                )
        if self.target_mean is None:
            self.target_mean, self.target_std = _moments(target[train])
            if self.target_std == 0:
                raise DataError(
                    f"column {target_name!r} of {source} has one value, {self.target_mean:g}, in "
                    f"all {len(train)} training rows, which leaves nothing to learn; choose "
                    "another target"
                )
        self._set_facts(target_name)
        features = self._encode(numbers, texts, len(target), source)
        self._parts = {split: ArrayTable(features, target, rows) for split, rows in drawn.items()}
        self._all = ArrayTable(features, target)

    def load_splits(self) -> dict[str, ArrayTable]:
        """Return "test", "val" and "train"."""
        return self._parts

    def _facts(self) -> list[Fact]:
        numeric, texts = len(self.means), len(self.categories)
        columns = f"{numeric} of numbers, {texts} of categories: {self.in_channels} inputs"
        values = self._parts["train"].target
        target = {
            "name": self.target_name,
            "mean": self.target_mean,
            "std": self.target_std,
            "lowest": float(values.min()),
            "highest": float(values.max()),
        }
        # As many digits as tell the lowest from the highest.
        large, wide = np.abs(values).max(), np.ptp(values)
        places = min(17, 4 + max(0, math.floor(math.log10(large / wide)))) if wide else 4
        span = f"{values.min():.{places}g} to {values.max():.{places}g}"
        mean, deviation = f"{self.target_mean:.{places}g}", f"{self.target_std:.4g}"
        moments = f"mean {mean} and deviation {deviation} in training"
        read_as = [Fact("read_as", self._read_as, {"form": self._read_as})] if self._read_as else []
        return [
            *read_as,
            Fact(
                "columns",
                columns,
                {"numeric": numeric, "categorical": texts, "inputs": self.in_channels},
            ),
            Fact("target", f"{self.target_name!r}, {span}, {moments}", target),
        ]

    def load_all(self, stage: Stage) -> ArrayTable:
        """Return all rows."""
        return self._all


class CSVTable(TableDataModule):
    """Your own table: a csv or xlsx file with a header, of which one column is to be predicted.

    Any number of rows that fit into memory, under the file's own licence. A column at least half of
    whose values are numbers is numeric, and standardised; any other one is categorical, and one-hot
    encoded. Numbers have a decimal point and nothing between thousands: those with a comma, dates
    and times are refused, unless ``categorical`` names their columns. Values must not be missing:
    an empty value is, and so are NA, N/A, NaN, null and their like. Training, validation and test
    rows are chosen by ``split_seed``, stratified by the tenth
    of all values that the target lies in.

    Args:
        path: The file; gzip may have packed it. Of an xlsx file, which needs ``pip install
            'lightning-zoo[excel]'``, the first sheet is read.
        target: The column to be predicted, of numbers.
        categorical: The column, or a list of those, whose values are categories, numbers or not,
            and no others; by default all columns of texts.
        ignore: A column, or a list of those, to leave out.
        delimiter: The character between two values; by default the comma, semicolon, tabulator or
            bar that gives each row as many values as the header has.
        encoding: What the file is in, by Python's name, such as cp949; by default what its bytes
            tell: UTF-8 with or without a byte order mark, UTF-16, cp949 or latin-1.

    Raises:
        UserError: If the file or one of its columns will not do, or an option's value is not
            possible.
    """

    inputs_options = (*TableDataModule.inputs_options, "delimiter")

    def __init__(
        self,
        path: str,
        *,
        target: str,
        categorical: str | list[str] | None = None,
        ignore: str | list[str] | None = None,
        delimiter: str | None = None,
        encoding: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path = str(path)
        self.target = target = composed(target)
        self.categorical = _names(categorical)
        self.ignore = _names(ignore)
        self.delimiter = delimiter
        self.encoding = encoding
        file = CsvFile(self.path, delimiter, "path", encoding)
        self._read_as = file.words
        columns = self._columns(file)
        file.read([*columns, target])
        numbers, texts = {}, {}
        faults = ColumnFaults(file.name)
        for name in columns:
            with faults.kept():
                self._check_name(file, name)
                file.check_complete(name, ", or list the column in ignore")
                if self._is_categorical(file, name):
                    texts[name] = self._categories_of(file, name)
                else:
                    remedy = "mend them, or list the column in categorical or in ignore"
                    numbers[name] = file.numbers(name, remedy)
        with faults.kept():
            file.check_complete(target)
            numbers[target] = file.numbers(target, "mend them, or choose another target")
        faults.refuse([] if self._given else columns)
        values = numbers.pop(target)
        self._encode_splits(numbers, texts, target, values, file.name)

    def _columns(self, file: CsvFile) -> list[str]:
        """Return the columns to predict from."""
        file.check_column("target", self.target)
        categorical, ignore = self.categorical or [], self.ignore or []
        for option, names in (("categorical", categorical), ("ignore", ignore)):
            for column in names:
                file.check_column(option, column)
            if self.target in names:
                raise refuse(option, names, f"remove the target, {self.target!r}")
        both = [column for column in categorical if column in ignore]
        if both:
            raise refuse("categorical", categorical, f"remove {both[0]!r} there or from ignore")
        if self._given:
            return self._given_columns()
        columns = [name for name in file.columns if name != self.target and name not in ignore]
        if not columns:
            raise DataError(
                f"{file.name} has no column to predict {self.target!r} from; add one or ignore less"
            )
        return columns

    def _check_name(self, file: CsvFile, column: str) -> None:
        if column == "":
            raise ColumnError(
                column,
                file.name,
                "has no name, as a table's index has that pandas wrote",
                "name it, or leave it out by ignore: ['']",
                called=str(file.columns.index("") + 1),
            )

    def _given_columns(self) -> list[str]:
        """Return the columns that are given, if no other option contradicts them."""
        refused = {
            "target": {self.target} & {*self.means, *self.categories},
            "categorical": {*self.means} & {*(self.categorical or [])},
            "ignore": {*self.means, *self.categories} & {*(self.ignore or [])},
        }
        for option, names in refused.items():
            for column in sorted(names):
                raise refuse(
                    option,
                    getattr(self, option),
                    f"give another column than {column!r}, an input by means or categories, or "
                    "leave means, stds and categories to be found",
                )
        return [*self.means, *self.categories]

    def _categories_of(self, file: CsvFile, column: str) -> Texts:
        """Return a column of categories; one that nobody chose must look like categories."""
        texts = file.texts(column)
        if not self._given and len(texts.values) > MOST_CATEGORIES:
            fault = (
                f"has {len(texts.values)} categories in its {len(texts.codes)} rows, where "
                f"{MOST_CATEGORIES} are possible"
            )
            raise ColumnError(column, file.name, fault, "list it in ignore")
        if not self._given and self.categorical is None:
            file.check_categories(column, "list the column in categorical or in ignore")
            if 2 * len(texts.values) > len(texts.codes):
                self._tell(
                    f"column {column!r} of {file.name} has {len(texts.values)} categories in "
                    f"{len(texts.codes)} rows, too many to learn much from; list it in ignore"
                )
        return texts

    def _is_categorical(self, file: CsvFile, column: str) -> bool:
        if self._given:
            return column in self.categories
        if self.categorical is not None:
            return column in self.categorical
        return not file.is_numeric(column)


class Diabetes(TableDataModule):
    """Diabetes: 442 patients, 10 columns, and how far the disease is a year on; no download.

    Age, sex (1 or 2), body mass index, mean blood pressure and six measurements of the blood serum,
    in their own units; the target is a measure of the disease's progression from 25 to 346. From
    B. Efron, T. Hastie, I. Johnstone and R. Tibshirani, "Least Angle Regression", Annals of
    Statistics 32 (2004) 407-499 (arXiv math/0406456), whose authors' page states no licence;
    scikit-learn ships it under its own, BSD-3-Clause. It has no official splits; ours are chosen by
    ``split_seed``.

    Raises:
        OptionError: If an option's value is not possible.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        from sklearn.datasets import load_diabetes

        data = load_diabetes(scaled=False)
        columns = dict(zip(data.feature_names, data.data.T, strict=True))
        absent = [name for name in self.means if name not in columns] + [*self.categories]
        if absent:
            remedy = f"remove {absent[0]!r}, which is no numeric column of Diabetes"
            raise refuse("means", self.means, remedy)
        self._encode_splits(columns, {}, "progression", data.target, "the diabetes data")


def _names(given: str | list[str] | None) -> list[str] | None:
    """Return the columns that an option names, one or several."""
    if given is None:
        return None
    return [*map(composed, [given] if isinstance(given, str) else given)]


def _strata(target: Numbers, count: int) -> Rows:
    """Return in which of so many equal parts of all values each one lies."""
    edges = np.quantile(target, np.arange(1, count) / count)
    strata: Rows = np.searchsorted(edges, target, side="right")
    return strata


def _moments(values: Numbers) -> tuple[float, float]:
    """Return mean and standard deviation (of the population)."""
    if values.min() == values.max():
        return float(values[0]), 0.0  # which rounding would make a little more
    return float(values.mean()), float(values.std())
