"""Texts and labels as they lie on the disk or on the Hugging Face hub, read in chunks."""

import codecs
import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from datamodules.core.errors import DataError, OptionError, did_you_mean, refuse
from datamodules.core.splits import composed

Split = Literal["train", "val", "test"]

#: Rows that are in memory at once.
CHUNK_ROWS = 1000

_BLOCK_BYTES = 2**20

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")


class Chunk(NamedTuple):
    """Some rows.

    Attributes:
        columns: For each text column the rows' texts; an absent one is "".
        labels: The rows' labels, as they would be written; empty where no column was asked for.
    """

    columns: list[list[str]]
    labels: list[str]


class SplitSource(Protocol):
    """Texts with labels that belong to one split, or are to be split."""

    name: str
    """What messages call it."""
    label_names: list[str] | None
    """The classes in the order of their numbers, where the source names them."""

    def key(self) -> object:
        """Return what the texts depend on, as JSON."""
        ...

    def chunks(self) -> Iterator[Chunk]:
        """Yield all rows in order."""
        ...


@dataclass(frozen=True)
class Layout:
    """How texts and labels lie in a table; columns are compared in one form of Unicode.

    Attributes:
        text_columns: The column of the text, or those of a pair.
        label_column: The labels' column; None reads none.
        columns: The columns' names in a csv file without a header.
        delimiter: What separates two values of a csv file; by default the comma, or the tabulator
            in a .tsv file.
        quoted: Whether a value in a csv file may stand in double quotes.
        only: A column and the value that it must have for a row to count.
    """

    text_columns: tuple[str, ...]
    label_column: str | None
    columns: tuple[str, ...] | None = None
    delimiter: str | None = None
    quoted: bool = True
    only: tuple[str, str] | None = None

    def wanted(self) -> dict[str, str]:
        """Return the columns that are read, each with the option that names it."""
        names = dict.fromkeys(self.text_columns, "text_column")
        if self.label_column is not None:
            names.setdefault(self.label_column, "label_column")
        if self.only is not None:
            names.setdefault(self.only[0], "only")
        return {composed(name): option for name, option in names.items()}


class Table:
    """Files of one table: csv, tsv, jsonl or parquet by their extension.

    Args:
        paths: The files; any other extension is read as csv.
        layout: Where the texts and labels are.
        option: The option that the files were named by.

    Raises:
        DataError: If there is no such file or column.
    """

    def __init__(self, paths: Sequence[Path], layout: Layout, option: str = "path") -> None:
        self.paths = list(paths)
        self.layout = layout
        for path in paths:
            if not path.is_file():
                raise DataError(f"{str(path)!r} does not exist; give a file of texts")
        self.name = repr(str(self.paths[0]))
        self.label_names: list[str] | None = None
        for path in paths:
            columns = self._columns(path)
            for column, named_by in layout.wanted().items():
                if column not in columns:
                    raise no_column(named_by, column, repr(str(path)), columns)

    def _columns(self, path: Path) -> list[str]:
        """Return the names of a file's columns."""
        if path.suffix == ".parquet":
            schema = parquet_file(path).schema_arrow
            self.label_names = self.label_names or _label_names(
                schema.metadata, self.layout.label_column
            )
            return [*map(composed, schema.names)]
        if path.suffix == ".jsonl":
            for _, row in json_lines(path):
                return [*map(composed, row)]
            raise _empty(path)
        for _, record in _csv_records(path, self.layout):
            return [composed(name.strip()) for name in self.layout.columns or record]
        raise _empty(path)

    def key(self) -> object:
        """Return what the texts depend on, as JSON."""
        layout = self.layout
        asked = [*layout.wanted(), layout.only, layout.columns, layout.delimiter, layout.quoted]
        return [asked, [stamp(path) for path in self.paths]]

    def chunks(self) -> Iterator[Chunk]:
        """Yield all rows in order."""
        return gather(self._cells(), self.layout)

    def rows(self) -> Iterator[tuple[str, list[str]]]:
        """Return the place of each row, as "line 3", and its texts; of a file without labels."""
        for path, place, values in self._cells():
            yield place, _texts(values, self.layout, path, place)

    def _cells(self) -> "Iterator[Row]":
        """Return the values of each row's columns, in the order in which they are wanted."""
        wanted = list(self.layout.wanted())
        for path in self.paths:
            count = 0
            for place, values in self._read(path, wanted):
                count += 1
                if self.layout.only is None or values.pop() == self.layout.only[1]:
                    yield Row(str(path), place, values)
            if count == 0:
                raise _empty(path)

    def _read(self, path: Path, wanted: list[str]) -> Iterator[tuple[str, list[Any]]]:
        if path.suffix == ".parquet":
            first = 1
            with _reading(path):
                file = parquet_file(path)
                written = {composed(name): name for name in file.schema_arrow.names}
                names = [written[name] for name in wanted]
                for batch in file.iter_batches(batch_size=CHUNK_ROWS, columns=names):
                    columns = [batch.column(name).to_pylist() for name in names]
                    for number, values in enumerate(zip(*columns, strict=True), first):
                        yield f"row {number}", list(values)
                    first += batch.num_rows
        elif path.suffix == ".jsonl":
            for line, written in json_lines(path):
                row = {composed(name): value for name, value in written.items()}
                absent = [name for name in wanted if name not in row]
                if absent:
                    raise DataError(
                        f"{str(path)!r} lacks {absent[0]!r} in line {line}, which has "
                        f"{', '.join(map(repr, row)) or 'nothing'}; add it or remove the line"
                    )
                yield f"line {line}", [row[name] for name in wanted]
        else:
            names = self._columns(path)
            places = [names.index(name) for name in wanted]
            records = _csv_records(path, self.layout)
            if self.layout.columns is None:
                next(records)
            for line, record in records:
                if len(record) != len(names):
                    raise DataError(
                        f"{str(path)!r} has {len(record)} values in line {line} but "
                        f"{len(names)} columns; mend the row, or set delimiter or quoted"
                    )
                yield f"line {line}", [record[place] for place in places]


class ClassFolder:
    """A folder with a folder for each class, a text in each file; or with a file for each class.

    Texts are .txt files; a class's file holds one text per line, and blank lines are passed over.

    Args:
        folder: The folder.
        ignored: Folders in it that are no classes.

    Raises:
        DataError: If it holds no texts.
    """

    def __init__(self, folder: Path, ignored: Sequence[str] = ()) -> None:
        self.folder = folder
        self.name = repr(str(folder))
        self.label_names: list[str] | None = None
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        self.files: list[tuple[str, Path]] = []
        self.by_line = False
        for path in entries:
            if path.is_dir() and path.name not in ignored:
                texts = sorted(path.glob("*.txt"))
                if not texts:
                    raise DataError(f"{str(path)!r} holds no .txt files; add some or remove it")
                self.files += [(path.name, text) for text in texts]
        if not self.files:
            self.by_line = True
            self.files = [(path.stem, path) for path in entries if path.suffix == ".txt"]
        if not self.files:
            raise DataError(
                f"{self.name} holds no texts; give a file of {', '.join(TABLES)}, a folder of them "
                "named train, val and test, or a folder with a folder of .txt files per class"
            )

    def key(self) -> object:
        """Return what the texts depend on, as JSON."""
        return [self.by_line, [[label, stamp(path)] for label, path in self.files]]

    def chunks(self) -> Iterator[Chunk]:
        """Yield all rows in order."""
        return gather(self._rows(), Layout(("text",), "folder"))

    def _rows(self) -> "Iterator[Row]":
        for label, path in self.files:
            if not self.by_line:
                yield Row(str(path), "the file", [read_text(path), label])
                continue
            for number, line in enumerate(_lines(path), 1):
                if line.strip():
                    yield Row(str(path), f"line {number}", [line.rstrip("\r\n"), label])


class Row(NamedTuple):
    """A row's values and where it stands."""

    source: str
    place: str
    values: list[Any]


def gather(rows: Iterable[Row], layout: Layout) -> Iterator[Chunk]:
    """Gather rows into chunks.

    Raises:
        DataError: If a text is none, or a label is neither an integer nor a name.
    """
    width = len(layout.text_columns)
    chunk = Chunk([[] for _ in range(width)], [])
    for source, place, values in rows:
        for column, text in zip(chunk.columns, _texts(values, layout, source, place), strict=True):
            column.append(text)
        if layout.label_column is not None:
            chunk.labels.append(_label(values[-1], layout.label_column, source, place))
        if len(chunk.columns[0]) == CHUNK_ROWS:
            yield chunk
            chunk = Chunk([[] for _ in range(width)], [])
    if chunk.columns[0]:
        yield chunk


def _texts(values: list[Any], layout: Layout, source: str, place: str) -> list[str]:
    texts = []
    for column, value in zip(layout.text_columns, values, strict=False):
        if value is not None and not isinstance(value, str):
            raise DataError(
                f"column {column!r} of {source!r} holds {str(value)[:60]!r} in "
                f"{place}, which is no text; choose another by text_column"
            )
        texts.append(value or "")
    return texts


def _label(value: Any, column: str, source: str, place: str) -> str:
    """Return a label as it would be written."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # as pandas writes integers beside a missing one
    if isinstance(value, str | int) and (text := str(value).strip()) and not _is_fraction(text):
        return composed(text)
    if value is None or value == "":
        raise DataError(
            f"column {column!r} of {source!r} is empty in {place}; fill it or remove the row"
        )
    raise DataError(
        f"column {column!r} of {source!r} holds {str(value)[:60]!r} in {place}, which is "
        "neither an integer nor a name; choose another by label_column or mend the labels"
    )


def _is_fraction(text: str) -> bool:
    if re.fullmatch(r"[+-]?[0-9]+", text):
        return False
    try:
        float(text)
    except ValueError:
        return False
    return True


def _csv_records(path: Path, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """Yield each record that is not blank, and the line that it starts in."""
    # A text may be longer than the module's limit of 128 kB; it cannot be set for one reader alone.
    csv.field_size_limit(2**31 - 1)
    delimiter = layout.delimiter or ("\t" if path.suffix == ".tsv" else ",")
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise refuse("delimiter", delimiter, "give one character")
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if layout.quoted else csv.QUOTE_NONE
    with _reading(path), path.open(encoding="utf-8-sig", newline="") as file:
        reader, line = csv.reader(file, delimiter=delimiter, quoting=quoting), 1
        try:
            for record in reader:
                if record:
                    yield line, record
                line = reader.line_num + 1
        except UnicodeDecodeError:
            raise _not_utf8(path) from None
        except csv.Error as error:
            raise DataError(
                f"{str(path)!r} cannot be read as csv in line {line} ({error}); mend the line, or "
                "set delimiter or quoted"
            ) from None


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Return the number and the object of each line that is not blank.

    Raises:
        DataError: If a line is no object.
    """
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{str(path)!r} cannot be read as json in line {number} ({error.msg}); give one "
                "object per line"
            ) from None
        if not isinstance(row, dict):
            raise DataError(f"{str(path)!r} has no object in line {number}; give one per line")
        yield number, row


def _lines(path: Path) -> Iterator[str]:
    # A file in text mode would also end lines elsewhere than a line feed does.
    with _reading(path), path.open("rb") as file:
        for number, line in enumerate(file):
            try:
                yield line.decode("utf-8-sig" if number == 0 else "utf-8")
            except UnicodeDecodeError:
                raise _not_utf8(path) from None


def read_text(path: Path) -> str:
    """Return a file as one text.

    Raises:
        DataError: If it cannot be read or is not in UTF-8.
    """
    try:
        with _reading(path):
            return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _not_utf8(path) from None


def text_blocks(path: Path) -> Iterator[str]:
    """Return a file as one text, in pieces of any size.

    Raises:
        DataError: If it cannot be read or is not in UTF-8.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    with _reading(path), path.open("rb") as file:
        try:
            while block := file.read(_BLOCK_BYTES):
                yield decoder.decode(block)
            yield decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            raise _not_utf8(path) from None


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say which file it is that cannot be read; else a cache's folder would be blamed."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{str(path)!r} cannot be read ({error.strerror or error}); see that it is "
            "there and that you may read it"
        ) from None


def _not_utf8(path: Path) -> DataError:
    """Return the first byte of a file that is not UTF-8."""
    before = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return DataError(
                    f"{str(path)!r} is not text in UTF-8: byte {before + error.start} "
                    f"(0x{line[error.start]:02x}) in line {number}; save it as UTF-8"
                )
            before += len(line)
    return DataError(f"{str(path)!r} is not text in UTF-8; save it as UTF-8")


def parquet_file(path: Path) -> Any:
    """Return a parquet file, opened.

    Raises:
        DataError: If it is none.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with _reading(path):
            return parquet.ParquetFile(path)
    except pa.ArrowInvalid as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{str(path)!r} is no parquet file ({reason}); save it again") from None


def _label_names(metadata: Mapping[bytes, bytes] | None, column: str | None) -> list[str] | None:
    """Return the classes' names that ``datasets`` writes into its parquet files."""
    written = json.loads((metadata or {}).get(b"huggingface", b"{}"))
    feature = written.get("info", {}).get("features", {}).get(column, {})
    names = feature.get("names") if isinstance(feature, dict) else None
    return list(names) if names else None


def _empty(path: Path) -> DataError:
    return DataError(f"{str(path)!r} is empty; give a file with texts and labels")


def no_column(option: str, column: str, source: str, columns: Sequence[str]) -> OptionError:
    """Return the error for an option that names no column of a source."""
    held = ", ".join(map(repr, columns))
    near = did_you_mean(column, columns)
    return refuse(option, column, f"give a column of {source}, which has {held}{near}")


def stamp(path: Path) -> list[object]:
    """Return what says whether a file is another one than before, as JSON."""
    with _reading(path):
        stat = path.stat()
    return [str(path.resolve()), stat.st_size, stat.st_mtime_ns]
