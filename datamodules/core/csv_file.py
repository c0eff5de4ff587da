"""Reading a csv file or a spreadsheet: what is wrong is said by column, count and line."""

import csv
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from datamodules.core.errors import DataError, known, many, refuse, shown
from datamodules.core.splits import composed
from datamodules.core.spreadsheet import is_spreadsheet, sheet_rows, sheet_words
from datamodules.core.text_file import (
    check_encoding,
    check_kind,
    form_of,
    not_text,
    open_bytes,
    open_text,
    sniff_delimiter,
    table_words,
)

Numbers = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$|^[+-]?(?i:inf|infinity)$"
#: What no category is, and what may be done about it.
_WRITTEN = {
    "numbers with a comma": (
        r"^[+-]?[0-9 .']*,[0-9 .,']*[0-9]([eE][+-]?[0-9]+)?$",
        "write a decimal point and no separators of thousands",
    ),
    "dates or times": (
        r"^([0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}|[0-9]{1,2}[-/.][0-9]{1,2}[-/.][0-9]{2,4}"
        r"|[0-9]{1,2}:[0-9]{2})($|[T :.].*$)",
        "turn them into numbers, such as days since the first, month or hour",
    ),
}
#: Columns of which it is said what is wrong with them, where there are more.
_FAULTS_TOLD = 5
_LARGEST = float(np.finfo(np.float32).max)


class Texts(NamedTuple):
    """A column of texts.

    Attributes:
        values: The different texts.
        codes: Int64 (N,), which of them stands in each row.
    """

    values: list[str]
    codes: npt.NDArray[np.int64]


class ColumnError(DataError):
    """A column that cannot be used: ``column NAME of FILE FAULT; REMEDY``.

    Args:
        column: Its name.
        source: The file.
        fault: What is wrong with it.
        remedy: What would do.
        called: What the sentence calls it; by default its name.
    """

    def __init__(
        self, column: str, source: str, fault: str, remedy: str, called: str | None = None
    ) -> None:
        self.column, self.fault, self.called = column, fault, called or repr(column)
        super().__init__(f"column {self.called} of {source} {fault}; {remedy}")


class ColumnFaults:
    """What is wrong with the columns of a file, to be said in one sentence.

    Args:
        source: The file.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._found: list[ColumnError] = []

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep what is wrong with a column for later."""
        try:
            yield
        except ColumnError as error:
            self._found.append(error)

    def refuse(self, ignorable: Collection[str] = ()) -> None:
        """Refuse the file if something is wrong with it.

        Args:
            ignorable: The columns that the option ``ignore`` may leave out.

        Raises:
            DataError: Naming all columns, and what is wrong with each of the first five.
        """
        if len(self._found) == 1:
            raise self._found[0]
        if self._found:
            faults = [f"{error.called} {error.fault}" for error in self._found]
            if len(faults) > _FAULTS_TOLD:
                others = ", ".join(error.called for error in self._found[_FAULTS_TOLD:])
                faults[_FAULTS_TOLD:] = [f"likewise {others}"]
            names = [error.column for error in self._found if error.column in ignorable]
            them = "them" if len(names) == len(self._found) else "the others"
            remedy = f", or leave {them} out by ignore: {shown(names)}" if names else ""
            raise DataError(
                f"{len(self._found)} columns of {self.source} cannot be used: {'; '.join(faults)}; "
                f"mend them{remedy}"
            )


class CsvFile:
    """A csv file, or a spreadsheet read as one: a header of column names, then rows.

    Blank lines are passed over and blanks around a value removed. Empty values are missing, and so
    are NA, N/A, NaN, null and their like (pyarrow's list). Quoted values may hold the delimiter and
    line breaks. Columns' names and texts come in Unicode's composed form, and may be asked for in
    any.

    Args:
        path: The file.
        delimiter: The character between two values; by default what fits (``sniff_delimiter``).
        option: The option that the file was named by.
        encoding: What the file is in; by default what its bytes tell (``form_of``).

    Raises:
        DataError: If the file cannot be read or has no rows.
    """

    def __init__(
        self, path: str, delimiter: str | None, option: str, encoding: str | None = None
    ) -> None:
        if delimiter is not None and not _can_part(delimiter):
            raise refuse("delimiter", delimiter, "give one ASCII character")
        self.path = Path(path).expanduser()
        self.name = repr(str(path))
        self.encoding = check_encoding(encoding)
        if not self.path.is_file():
            fault = "is a folder" if self.path.is_dir() else "does not exist"
            raise refuse(option, str(path), f"give a csv file: this {fault}")
        check_kind(self.path, spreadsheets=True)
        self._is_sheet = is_spreadsheet(self.path)
        self._place = "row" if self._is_sheet else "line"
        self.words = sheet_words(self.path) if self._is_sheet else ""
        """How the file is read, for people."""
        if not self._is_sheet:
            self.delimiter = delimiter or sniff_delimiter(self.path, encoding)
            self.form = form_of(self.path, encoding)
            self.words = table_words("csv", self.form, self.delimiter)
        self._texts: dict[str, Any] = {}
        self._parsed: dict[str, tuple[Numbers, Mask]] = {}
        self._read_header()

    def _read_header(self) -> None:
        records = self._records()
        self._header_line, header = next(records, (0, []))
        self.columns = [composed(name.strip()) for name in header]
        """The columns' names."""
        if not header:
            raise DataError(f"{self.name} is empty; give a file with a header and rows")
        if next(records, None) is None:
            raise DataError(f"{self.name} has a header but no rows; add some")

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each record that is not blank and the line that it starts in, the header first."""
        if self._is_sheet:
            yield from sheet_rows(self.path)
            return
        with open_text(self.path, self.encoding) as file:
            reader, line = csv.reader(file, delimiter=self.delimiter), 1
            try:
                for record in reader:
                    if record:
                        yield line, record
                    line = reader.line_num + 1
            except csv.Error as error:
                raise self._unreadable(error) from None

    def lines(self) -> list[int]:
        """Return the line that each row starts in, from 1; of a spreadsheet its number."""
        return [line for line, _ in islice(self._records(), 1, None)]

    def place(self, line: int) -> str:
        """Return where a row stands that starts in some line, in words."""
        return f"{self._place} {line}"

    def _line(self, rows: Mask) -> str:
        """Return where the first of some rows stands, "line 3"."""
        row = int(rows.argmax())
        return self.place(next(islice(self._records(), row + 1, None))[0])

    def _unreadable(self, error: Exception) -> DataError:
        reason = " ".join(str(error).split())[:200]
        return DataError(f"{self.name} cannot be read as csv ({reason}); save it as csv again")

    def check_column(self, option: str, column: str) -> None:
        """Refuse a name that is no column.

        Raises:
            OptionError: If it is none; names the nearest column.
        """
        if composed(column) not in self.columns:
            remedy = f"give a column of {self.name} ({self._nearest(column)})"
            raise refuse(option, column, remedy)

    def _nearest(self, column: str) -> str:
        if len(self.columns) == 1 and not self._is_sheet:
            return f"delimiter {self.delimiter!r} finds one column only: set delimiter"
        return known(column, self.columns)

    def read(self, columns: Sequence[str]) -> None:
        """Read some columns.

        Raises:
            DataError: If a column is absent or named twice.
        """
        columns = [*map(composed, columns)]
        present = set(self.columns)
        absent = [column for column in columns if column not in present]
        if absent:
            others = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
            raise DataError(
                f"{self.name} lacks the column {absent[0]!r}{others} of the net's inputs; "
                f"{self._nearest(absent[0])}"
            )
        counts = Counter(self.columns)
        for column in columns:
            if counts[column] > 1:
                raise DataError(
                    f"{self.name} has {counts[column]} columns named {column!r}; rename all but one"
                )
        for column, texts in zip(columns, self._read_texts(columns), strict=True):
            self._texts[column] = texts

    def peek(self) -> dict[str, list[str | None]]:
        """Return all columns as they are written, None where a value is missing.

        Of two columns with one name the first.
        """
        names = list(dict.fromkeys(self.columns))
        columns = self._read_texts(names)
        return {name: own.to_pylist() for name, own in zip(names, columns, strict=True)}

    def _read_texts(self, columns: Sequence[str]) -> list[Any]:
        import pyarrow as pa
        import pyarrow.compute as pc
        from pyarrow import csv as arrow_csv

        # By number, since of two columns with one name pyarrow would take the last.
        numbers = [self.columns.index(column) for column in columns]
        missing = pa.array(arrow_csv.ConvertOptions().null_values)
        columns_of_text = []
        for column in self._sheet(numbers) if self._is_sheet else self._parted(numbers):
            trimmed = pc.utf8_trim_whitespace(column)
            is_missing = pc.is_in(trimmed, value_set=missing)
            columns_of_text.append(pc.if_else(is_missing, None, trimmed))
        return columns_of_text

    def _sheet(self, numbers: Sequence[int]) -> list[Any]:
        """Return some columns of a spreadsheet."""
        import pyarrow as pa

        if (fault := self._wrong_width()) is not None:
            raise fault
        rows = [record for _, record in islice(self._records(), 1, None)]
        return [
            pa.chunked_array([[row[number] for row in rows]], pa.string()) for number in numbers
        ]

    def _parted(self, columns: Sequence[int]) -> list[Any]:
        """Return some columns of a csv file."""
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        numbers = [*map(str, columns)]
        # pyarrow itself passes over a byte order mark, and says where UTF-8 has faults.
        encoding = str(self.form.encoding).replace("utf-8-sig", "utf-8").replace("utf-8", "utf8")
        try:
            with open_bytes(self.path, packed=self.form.packed) as file:
                table = arrow_csv.read_csv(
                    file,
                    read_options=arrow_csv.ReadOptions(
                        encoding=encoding,
                        column_names=[str(number) for number in range(len(self.columns))],
                        skip_rows_after_names=self._header_line,  # blank lines count here
                    ),
                    parse_options=arrow_csv.ParseOptions(
                        delimiter=self.delimiter, newlines_in_values=True
                    ),
                    convert_options=arrow_csv.ConvertOptions(
                        include_columns=numbers, column_types=dict.fromkeys(numbers, pa.string())
                    ),
                )
        except UnicodeError:
            raise not_text(self.path, self.form) from None
        except pa.ArrowInvalid as error:
            raise self._fault(error) from None
        return [table[number] for number in numbers]

    def _fault(self, error: Exception) -> DataError:
        """Return what is wrong with a file that pyarrow refuses."""
        if "UTF8" in str(error):
            return not_text(self.path, self.form)
        return self._wrong_width() or self._unreadable(error)

    def _wrong_width(self) -> DataError | None:
        """Return which rows have more or fewer values than the header; None if none has."""
        width = len(self.columns)
        wrong = [(line, len(record)) for line, record in self._records() if len(record) != width]
        if not wrong:
            return None
        line, found = wrong[0]
        return DataError(
            f"{self.name} has {many(len(wrong), 'row')} whose number of values is not the "
            f"header's {width}, the first in {self.place(line)} with {found}; mend them"
            + ("" if self._is_sheet else " or set delimiter")
        )

    def check_complete(self, column: str, or_else: str = "") -> None:
        """Refuse a column some of whose rows have no value.

        Args:
            column: One that was read.
            or_else: What else would do.

        Raises:
            ColumnError: If some have none.
        """
        texts = self._texts[composed(column)]
        if texts.null_count:
            missing = many(texts.null_count, "missing value")
            first = self._line(texts.is_null().to_numpy())
            fault = f"has {missing}, the first in {first}"
            raise ColumnError(column, self.name, fault, f"fill or remove such rows{or_else}")

    def _parse(self, column: str) -> tuple[Numbers, Mask]:
        """Return a column's numbers, of which some mean nothing.

        And which of its values are texts.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        column = composed(column)
        if column not in self._parsed:
            texts = self._texts[column]
            try:
                values = pc.cast(texts, pa.float64())
                is_text = np.zeros(len(texts), dtype=np.bool_)
            except pa.ArrowInvalid:
                # `cast` has not said which it could not take, and takes no leading plus.
                is_number = pc.match_substring_regex(texts, _NUMBER)
                plain = pc.utf8_ltrim(texts, characters="+")
                values = pc.cast(pc.if_else(is_number, plain, "0"), pa.float64())
                is_text = ~is_number.to_numpy()
            self._parsed[column] = values.to_numpy(), is_text
        return self._parsed[column]

    def is_numeric(self, column: str) -> bool:
        """Whether at least half of a column's values are numbers."""
        _, is_text = self._parse(column)
        return float(is_text.mean()) <= 0.5

    def check_categories(self, column: str, remedy: str) -> None:
        """Refuse a column at least half of whose texts are numbers or dates in some other form.

        Args:
            column: One that was read.
            remedy: What else to do with it.

        Raises:
            ColumnError: If it is one.
        """
        import pyarrow.compute as pc

        texts, (_, is_text) = self._texts[column], self._parse(column)
        for things, (pattern, how) in _WRITTEN.items():
            found = pc.match_substring_regex(texts, pattern).to_numpy()
            if found.any() and 2 * found.sum() >= is_text.sum():
                first = texts[int(found.argmax())].as_py()[:60]
                fault = (
                    f"has {things}, {found.sum()} of {len(texts)} values, the first being "
                    f"{first!r} in {self._line(found)}"
                )
                raise ColumnError(column, self.name, fault, f"{how}, or {remedy}")

    def numbers(self, column: str, remedy: str) -> Numbers:
        """Return the values of a column of numbers, (N,).

        Args:
            column: One that was read.
            remedy: What to do where it holds texts.

        Raises:
            ColumnError: If some are no numbers, not finite, or too large for float32.
        """
        values, is_text = self._parse(column)
        if is_text.any():
            raise self._wrong(column, is_text, "text", "among its numbers", remedy)
        extreme = ~(np.abs(values) <= _LARGEST)
        if extreme.any():
            raise self._wrong(
                column, extreme, "number", "that float32 cannot hold", "mend or remove such rows"
            )
        return values

    def _wrong(self, column: str, rows: Mask, noun: str, which: str, remedy: str) -> ColumnError:
        first = self._texts[composed(column)][int(rows.argmax())].as_py()[:60]
        fault = (
            f"has {many(int(rows.sum()), noun)} {which}, the first being {first!r} in "
            f"{self._line(rows)}"
        )
        return ColumnError(column, self.name, fault, remedy)

    def texts(self, column: str) -> Texts:
        """Return the values of a column that was read, as they are written."""
        import pyarrow as pa
        import pyarrow.compute as pc

        texts = pc.utf8_normalize(self._texts[composed(column)], form="NFC")
        values = pc.unique(texts)
        codes = pc.index_in(texts, value_set=values)
        return Texts(values.to_pylist(), pc.cast(codes, pa.int64()).to_numpy())


def _can_part(delimiter: str) -> bool:
    return len(delimiter) == 1 and delimiter.isascii() and delimiter not in '"\r\n'
