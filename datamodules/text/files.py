"""Texts and labels as they lie on the disk or on the Hugging Face hub, read in chunks."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from datamodules.core.errors import DataError, refuse
from datamodules.core.json_file import json_rows
from datamodules.core.splits import composed
from datamodules.core.spreadsheet import is_spreadsheet, sheet_rows, sheet_words
from datamodules.core.text_file import (
    SPREADSHEETS,
    check_kind,
    form_of,
    kind,
    lines,
    open_text,
    reading,
    sniff_delimiter,
    table_words,
)
from datamodules.text.columns import Label, Layout, label_of, text_of

#: Rows that are in memory at once.
CHUNK_ROWS = 1000

TABLES = (".csv", ".tsv", ".json", ".jsonl", ".parquet", *SPREADSHEETS)

_LABEL = "__label__"


class Chunk(NamedTuple):
    """Some rows.

    Attributes:
        columns: For each text column the rows' texts; an absent one is "".
        labels: The rows' labels, as they would be written; empty where no column was asked for.
        unlabelled: Where the rows stand whose value in the one column of labels holds none, as
            "column 'label' of 't.csv' is empty in line 3".
    """

    columns: list[list[str]]
    labels: list[Label]
    unlabelled: list[str]


class SplitSource(Protocol):
    """Texts with labels that belong to one split, or are to be split."""

    name: str
    """What messages call it."""
    label_names: list[str] | None
    """The classes in the order of their numbers, where the source names them."""
    layout: Layout
    """Which columns the texts and labels are in."""
    has_columns: bool
    """Whether labels stand in columns, which an option may choose."""

    @property
    def form(self) -> str:
        """How they lie there, in words."""
        ...

    def key(self) -> object:
        """Return what the texts depend on, as JSON."""
        ...

    def chunks(self) -> Iterator[Chunk]:
        """Yield all rows in order."""
        ...


class Table:
    """Files of one table: csv, tsv, json, jsonl, parquet or xlsx by extension, or fastText's.

    Of fastText's lines, ``__label__good A fine film``, the columns are ``label`` and ``text``.

    Args:
        paths: The files, perhaps packed by gzip; any other extension is read as csv.
        layout: Where the texts and labels are.
        option: The option that the files were named by.

    Raises:
        DataError: If there is no such file or column.
    """

    has_columns = True

    def __init__(self, paths: Sequence[Path], layout: Layout, option: str = "path") -> None:
        self.paths = list(paths)
        for path in paths:
            if not path.is_file():
                raise DataError(f"{str(path)!r} does not exist; give a file of texts")
            check_kind(path, spreadsheets=True)
        self.name = repr(str(self.paths[0]))
        self.label_names: list[str] | None = None
        self._kinds = {path: _kind(path, layout.encoding) for path in paths}
        self._delimiters = {path: self._delimiter(path, layout) for path in paths}
        self.layout = layout
        for path in paths:
            names = self._columns(path)
            self.layout = self.layout.found(names, repr(str(path)), partial(self._sample, path))
        if self._kinds[self.paths[0]] == ".parquet":
            schema = parquet_file(self.paths[0]).schema_arrow
            self.label_names = _label_names(schema.metadata, self.layout.label_columns)

    @property
    def form(self) -> str:
        """How the texts lie there, in words."""
        path = self.paths[0]
        texts = " and ".join(map(repr, self.layout.text_columns))
        labels = named_labels(self.layout.label_columns)
        written = self._kinds[path].strip(".")
        if is_spreadsheet(path):
            written = sheet_words(path)
        elif written != "parquet":
            written = table_words(
                written, form_of(path, self.layout.encoding), self._delimiters[path]
            )
        return f"{written}; texts in {texts}{labels}"

    def _delimiter(self, path: Path, layout: Layout) -> str | None:
        """Return what stands between values; None in what is no csv file."""
        if layout.delimiter is not None and (
            len(layout.delimiter) != 1 or layout.delimiter in '"\r\n'
        ):
            raise refuse("delimiter", layout.delimiter, "give one character")
        if self._kinds[path] not in (".csv", ".tsv"):
            return None
        columns = None if layout.columns is None else len(layout.columns)
        return layout.delimiter or sniff_delimiter(
            path, layout.encoding, columns=columns, quoted=layout.quoted
        )

    def _columns(self, path: Path) -> list[str]:
        """Return the names of a file's columns."""
        if self._kinds[path] == ".parquet":
            return [*map(composed, parquet_file(path).schema_arrow.names)]
        if self._kinds[path] == ".json":
            for _, row in json_rows(path, self.layout.encoding):
                return [*map(composed, row)]
            raise _empty(path)
        if self._kinds[path] == "fastText":
            return ["text", "label"]
        for _, record in self._csv_records(path):
            return [composed(name.strip()) for name in self.layout.columns or record]
        raise _empty(path)

    def _sample(self, path: Path) -> dict[str, list[Any]]:
        """Return the first values of all columns; of rows that lack one, None."""
        names = list(dict.fromkeys(self._columns(path)))
        if self._kinds[path] == ".json":
            written = islice(json_rows(path, self.layout.encoding), CHUNK_ROWS)
            rows = [{composed(name): value for name, value in row.items()} for _, row in written]
            return {name: [row.get(name) for row in rows] for name in names}
        cells = [values for _, values in islice(self._read(path, names), CHUNK_ROWS)]
        return dict(zip(names, map(list, zip(*cells, strict=True)), strict=False))

    def key(self) -> object:
        """Return what the texts depend on, as JSON."""
        layout = self.layout
        asked = [*layout.wanted(), layout.only, layout.columns, layout.quoted, layout.encoding]
        if len(layout.label_columns) > 1:
            asked.append(layout.label_columns)
        files = [[stamp(path), self._delimiters[path]] for path in self.paths]
        return [asked, files]

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
        if self._kinds[path] == ".parquet":
            yield from _parquet_rows(path, wanted)
        elif self._kinds[path] == ".json":
            for place, written in json_rows(path, self.layout.encoding):
                row = {composed(name): value for name, value in written.items()}
                absent = [name for name in wanted if name not in row]
                if absent:
                    raise DataError(
                        f"{str(path)!r} lacks {absent[0]!r} in {place}, which has "
                        f"{', '.join(map(repr, row)) or 'nothing'}; add it or remove the "
                        f"{place.split()[0]}"
                    )
                yield place, [row[name] for name in wanted]
        elif self._kinds[path] == "fastText":
            for number, labelled in enumerate(lines(path, self.layout.encoding), 1):
                if labelled.strip():
                    labels, text = _fasttext(labelled)
                    yield f"line {number}", [{"text": text, "label": labels}[n] for n in wanted]
        else:
            names = self._columns(path)
            places = [names.index(name) for name in wanted]
            records = self._csv_records(path)
            if self.layout.columns is None:
                next(records)
            for line, record in records:
                is_sheet = is_spreadsheet(path)
                where = f"row {line}" if is_sheet else f"line {line}"
                if len(record) != len(names):
                    values = "1 value" if len(record) == 1 else f"{len(record)} values"
                    raise DataError(
                        f"{str(path)!r} has {values} in {where} but {len(names)} columns; mend the "
                        "row" + ("" if is_sheet else ", or set delimiter or quoted")
                    )
                yield where, [record[place] for place in places]

    def _csv_records(self, path: Path) -> Iterator[tuple[int, list[str]]]:
        """Yield each record that is not blank, and the line that it starts in."""
        if is_spreadsheet(path):
            yield from sheet_rows(path)
            return
        # A text may be longer than the module's limit of 128 kB, which all readers share.
        csv.field_size_limit(2**31 - 1)
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if self.layout.quoted else csv.QUOTE_NONE
        delimiter = self._delimiters[path] or ","
        with open_text(path, self.layout.encoding) as file:
            reader, line = csv.reader(file, delimiter=delimiter, quoting=quoting), 1
            try:
                for record in reader:
                    if record:
                        yield line, record
                    line = reader.line_num + 1
            except csv.Error as error:
                raise DataError(
                    f"{str(path)!r} cannot be read as csv in line {line} ({error}); mend the line, "
                    "or set delimiter or quoted"
                ) from None


def _kind(path: Path, encoding: str | None) -> str:
    """Return how a file's rows are written: its extension, or "fastText"."""
    if kind(path) == ".parquet":
        return ".parquet"
    if kind(path) in (".json", ".jsonl"):
        return ".json"
    if is_spreadsheet(path):
        return kind(path)
    if is_fasttext(path, encoding):
        return "fastText"
    return ".tsv" if kind(path) == ".tsv" else ".csv"


def is_fasttext(path: Path, encoding: str | None = None) -> bool:
    """Whether the first line that is not blank begins with a label, ``__label__good``."""
    return next(filter(str.strip, lines(path, encoding)), "").lstrip().startswith(_LABEL)


def _fasttext(line: str) -> tuple[list[str], str]:
    """Return the labels that a line begins with, and the rest."""
    labels, rest = [], line.strip()
    while rest.startswith(_LABEL):
        label, _, rest = rest.partition(" ")
        labels.append(label.removeprefix(_LABEL))
        rest = rest.lstrip()
    return labels, rest


def _parquet_rows(path: Path, wanted: list[str]) -> Iterator[tuple[str, list[Any]]]:
    first = 1
    with reading(path):
        file = parquet_file(path)
        written = {composed(name): name for name in file.schema_arrow.names}
        names = [written[name] for name in wanted]
        for batch in file.iter_batches(batch_size=CHUNK_ROWS, columns=names):
            columns = [batch.column(name).to_pylist() for name in names]
            for number, values in enumerate(zip(*columns, strict=True), first):
                yield f"row {number}", list(values)
            first += batch.num_rows


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
    width, labels = len(layout.text_columns), layout.label_columns
    chunk = Chunk([[] for _ in range(width)], [], [])
    for source, place, values in rows:
        for column, text in zip(chunk.columns, _texts(values, layout, source, place), strict=True):
            column.append(text)
        if labels:
            held = values[width : width + len(labels)]
            chunk.labels.append(label_of(held, labels, source, place))
            if chunk.labels[-1] == () and len(labels) == 1:
                chunk.unlabelled.append(f"column {labels[0]!r} of {source!r} is empty in {place}")
        if len(chunk.columns[0]) == CHUNK_ROWS:
            yield chunk
            chunk = Chunk([[] for _ in range(width)], [], [])
    if chunk.columns[0]:
        yield chunk


def _texts(values: list[Any], layout: Layout, source: str, place: str) -> list[str]:
    pairs = zip(layout.text_columns, values, strict=False)
    return [text_of(value, column, source, place) for column, value in pairs]


def parquet_file(path: Path) -> Any:
    """Return a parquet file, opened.

    Raises:
        DataError: If it is none.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with reading(path):
            return parquet.ParquetFile(path)
    except pa.ArrowInvalid as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{str(path)!r} is no parquet file ({reason}); save it again") from None


def _label_names(
    metadata: Mapping[bytes, bytes] | None, columns: Sequence[str]
) -> list[str] | None:
    """Return the classes' names that ``datasets`` writes into its parquet files."""
    written = json.loads((metadata or {}).get(b"huggingface", b"{}"))
    features = written.get("info", {}).get("features", {})
    feature = features.get(columns[0]) if len(columns) == 1 else None
    if isinstance(feature, dict) and isinstance(feature.get("feature"), dict):
        feature = feature["feature"]  # of a list's elements
    names = feature.get("names") if isinstance(feature, dict) else None
    return list(names) if names else None


def named_labels(columns: Sequence[str]) -> str:
    """Say which columns hold the labels.

    >>> named_labels(("label",)), named_labels(("toxic", "obscene", "insult"))
    (", labels in 'label'", ", labels in 'toxic' to 'insult'")
    """
    ends = dict.fromkeys([columns[0], columns[-1]]) if columns else ()
    return f", labels in {' to '.join(map(repr, ends))}" if ends else ""


def _empty(path: Path) -> DataError:
    return DataError(f"{str(path)!r} is empty; give a file with texts and labels")


def stamp(path: Path) -> list[object]:
    """Return what says whether a file is another one than before, as JSON."""
    with reading(path):
        stat = path.stat()
    return [str(path.resolve()), stat.st_size, stat.st_mtime_ns]
