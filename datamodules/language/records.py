"""Rows of any shape, as they lie on the disk or on the Hugging Face hub."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from datamodules.core.errors import DataError, refuse
from datamodules.core.json_file import json_rows
from datamodules.core.private import dataset_fingerprint
from datamodules.core.split_names import Split
from datamodules.core.text_file import check_encoding, check_kind, form_of, kind, table_words
from datamodules.text.files import CHUNK_ROWS, parquet_file, stamp
from datamodules.text.sources import (
    check_splits,
    chosen_paths,
    hub_splits,
    split_of_stem,
    splits_of_file,
)

_SUFFIXES = (".json", ".jsonl", ".parquet")


class Record(NamedTuple):
    """A row.

    Attributes:
        place: Where it stands, as messages say it: "'a.json' in row 3".
        values: Its values by their columns.
    """

    place: str
    values: dict[str, Any]


class Records(Protocol):
    """Rows that belong to one split, or are to be split."""

    name: str
    """What messages call them."""

    @property
    def form(self) -> str:
        """How they are written, in words."""
        ...

    def key(self) -> object:
        """Return what the rows depend on, as JSON."""
        ...

    def rows(self) -> Iterator[Record]:
        """Yield all rows in order."""
        ...


class RecordFiles:
    """Files of json, a list of objects or an object a line, or of parquet.

    Args:
        paths: The files.
        encoding: What those of json are in; by default what their bytes tell.
    """

    def __init__(self, paths: Sequence[Path], encoding: str | None = None) -> None:
        self.paths, self.encoding = list(paths), encoding
        self.name = repr(str(self.paths[0]))

    @property
    def form(self) -> str:
        """How they are written, in words."""
        first = self.paths[0]
        if kind(first) == ".parquet":
            return "parquet"
        return table_words("json", form_of(first, self.encoding), None)

    def key(self) -> object:
        """Return what the rows depend on, as JSON."""
        asked = [] if self.encoding is None else [self.encoding]
        return [*asked, *(stamp(path) for path in self.paths)]

    def rows(self) -> Iterator[Record]:
        """Yield all rows in order."""
        for path in self.paths:
            for place, values in _read(path, self.encoding):
                yield Record(f"{str(path)!r} in {place}", values)


class HubRecords:
    """A split of a data set on the hub, which lies in the cache of ``datasets``."""

    form = "a data set of the hub"

    def __init__(self, name: str, dataset: Any) -> None:
        self.name, self.dataset = repr(name), dataset

    def key(self) -> object:
        """Return what the rows depend on, as JSON."""
        return [self.name, dataset_fingerprint(self.dataset), len(self.dataset)]

    def rows(self) -> Iterator[Record]:
        """Yield all rows in order."""
        for number, values in enumerate(self.dataset, 1):
            yield Record(f"{self.name} in row {number}", values)


def _read(path: Path, encoding: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    if kind(path) != ".parquet":
        yield from json_rows(path, encoding)
        return
    batches = parquet_file(path).iter_batches(batch_size=CHUNK_ROWS)
    rows = (values for batch in batches for values in batch.to_pylist())
    for number, values in enumerate(rows, 1):
        yield f"row {number}", values


def find_records(
    path: str,
    *,
    config: str | None = None,
    revision: str | None = None,
    splits: Mapping[str, str] | None = None,
    encoding: str | None = None,
) -> dict[Split, Records]:
    """Return the rows of a data set: "train" alone, or several splits.

    Args:
        path: A file, a folder or a name on the hub.
        config: The hub data set's configuration.
        revision: Its branch, tag or commit.
        splits: Which of its splits, or of the folder's files, is "train", "val" and "test".
        encoding: What files of json are in; by default what their bytes tell.

    Raises:
        UserError: If there are none, or Python knows no such encoding.
    """
    check_encoding(encoding)
    check_splits(splits)
    place = Path(path).expanduser()
    kinds = ", ".join(_SUFFIXES)
    if place.is_dir():
        found_files = _folder(place, splits)
        return {split: RecordFiles(files, encoding) for split, files in found_files.items()}
    if place.is_file():
        check_kind(place)
        if kind(place) not in _SUFFIXES:
            raise refuse("path", path, f"give a file of {kinds}")
        if splits is not None:
            raise splits_of_file(splits, path)
        return {"train": RecordFiles([place], encoding)}
    if kind(place) in _SUFFIXES or path.startswith((".", "/", "~")):
        raise refuse("path", path, "give a file or folder that exists, or a hub data set")
    found = hub_splits(path, config, revision, splits)
    return {split: HubRecords(name, dataset) for split, (name, dataset) in found.items()}


def _folder(folder: Path, splits: Mapping[str, str] | None) -> dict[Split, list[Path]]:
    """Return the files of each split in a folder."""
    files = sorted(path for path in folder.iterdir() if kind(path) in _SUFFIXES)
    named = ", ".join(repr(path.name) for path in files)
    found: dict[Split, list[Path]] = {}
    order: tuple[Split, ...] = ("train", "val", "test")
    if splits is not None:
        chosen = chosen_paths(splits, files, folder)
        return {split: [chosen[split]] for split in order if split in chosen}
    if len(files) == 1:
        return {"train": files}
    for split in order:
        own = [path for path in files if split_of_stem(path.stem) == split]
        if own:
            found[split] = own
    if "train" not in found:
        what = f"holds {named}, none of which is named train" if files else "holds no rows"
        raise DataError(
            f"{str(folder)!r} {what}; give a file of {', '.join(_SUFFIXES)}, or say by "
            "splits which is which"
        )
    return found
