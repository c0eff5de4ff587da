"""Documents as they lie on the disk or on the hub, read chunk by chunk: a text need not fit."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from datamodules.core.cache import cached
from datamodules.core.errors import DataError
from datamodules.core.files import is_shown
from datamodules.core.split_names import Split
from datamodules.core.text_file import form_of, kind, text_blocks
from datamodules.text.columns import Layout
from datamodules.text.files import TABLES, SplitSource, stamp
from datamodules.text.sources import (
    check_splits,
    find_sources,
    split_of_stem,
    splits_of_file,
    tables,
)
from datamodules.text.survey import Rows

#: A longer text comes in chunks, which are tokenised side by side.
CHUNK_CHARACTERS = 2**16

# Where a text may be cut without any tokenizer noticing: words begin behind a single line feed,
# and with a single space.
_SEAM = re.compile(r"(?<=\S)(?:\n(?=\S)|(?= \S))")

T = TypeVar("T")


class DocumentChunk(NamedTuple):
    """A document, or a part of a long one.

    Attributes:
        text: Never blank, but for the last chunk of several.
        last: Whether the document ends here.
    """

    text: str
    last: bool


class Documents(Protocol):
    """Documents that belong to one split, or are to be split."""

    name: str
    """What messages call them."""

    @property
    def form(self) -> str:
        """How they are written, in words."""
        ...

    def key(self) -> object:
        """Return what the documents depend on, as JSON."""
        ...

    def chunks(self) -> Iterator[DocumentChunk]:
        """Yield all documents in order; blank ones are passed over."""
        ...


class TextFiles:
    """Text files, each of them a document, or several with a separator between.

    Args:
        paths: The files.
        separator: What stands between two documents of a file.
        encoding: What the files are in; by default what their bytes tell.
    """

    def __init__(
        self, paths: Sequence[Path], separator: str | None, encoding: str | None = None
    ) -> None:
        self.paths, self.separator, self.encoding = list(paths), separator, encoding
        self.name = repr(str(self.paths[0]))

    @property
    def form(self) -> str:
        """How they are written, in words."""
        count = f"{len(self.paths):,} text files" if len(self.paths) > 1 else "a text file"
        return f"{count} in {form_of(self.paths[0], self.encoding)}"

    def key(self) -> object:
        """Return what the documents depend on, as JSON."""
        asked = [self.separator] if self.encoding is None else [self.separator, self.encoding]
        return [*asked, [stamp(path) for path in self.paths]]

    def chunks(self) -> Iterator[DocumentChunk]:
        """Yield all documents in order."""
        for path in self.paths:
            yield from _documents(text_blocks(path, self.encoding), self.separator)


class TableDocuments:
    """The rows of a table or of a hub data set, each of them a document, or several.

    Args:
        part: The rows.
        separator: What stands between two documents of a row.
    """

    def __init__(self, part: SplitSource, separator: str | None) -> None:
        self.part, self.separator = part, separator
        self.name, self.form = part.name, part.form

    def key(self) -> object:
        """Return what the documents depend on, as JSON."""
        return [self.separator, self.part.key()]

    def chunks(self) -> Iterator[DocumentChunk]:
        """Yield all documents in order."""
        for chunk in self.part.chunks():
            for text in chunk.columns[0]:
                yield from _documents(iter([text]), self.separator)


def _documents(blocks: Iterator[str], separator: str | None) -> Iterator[DocumentChunk]:
    """Cut a text that comes in blocks into its documents, and these into chunks."""
    rest, begun = "", False
    for block in blocks:
        rest += block
        if separator is not None:
            *whole, rest = rest.split(separator)
            for document in whole:
                if begun or not _is_blank(document):
                    yield from _whole(document)
                begun = False
        # A separator of which only the beginning has been read stays in one chunk.
        end = len(rest) - len(separator or "")
        start = 0
        while (seam := _SEAM.search(rest, start + CHUNK_CHARACTERS)) and seam.end() <= end:
            yield DocumentChunk(rest[start : seam.end()], last=False)
            start, begun = seam.end(), True
        rest = rest[start:]
    if begun or not _is_blank(rest):
        yield from _whole(rest)


def _whole(document: str) -> Iterator[DocumentChunk]:
    start = 0
    while seam := _SEAM.search(document, start + CHUNK_CHARACTERS):
        yield DocumentChunk(document[start : seam.end()], last=False)
        start = seam.end()
    yield DocumentChunk(document[start:], last=True)


def _is_blank(text: str) -> bool:
    return not text or text.isspace()


@dataclass
class Survey:
    """What is known of all documents, one source after the other.

    Attributes:
        digests: Uint64 (N, 2), a hash of each document; equal for equal ones.
        characters: Int64 (N,), how long each is.
        sizes: How many documents each source has.
    """

    digests: npt.NDArray[np.uint64]
    characters: Rows
    sizes: list[int]


def survey(sources: Sequence[Documents]) -> Survey:
    """Read all documents once, or find what an earlier run has noted of them."""
    key = [source.key() for source in sources]
    return cached("text/documents", key, _load_survey, partial(_survey, sources))


def _survey(sources: Sequence[Documents], folder: Path) -> None:
    digests = bytearray()
    characters: list[int] = []
    sizes = []
    for source in sources:
        before, count, digest = len(characters), 0, hashlib.blake2b(digest_size=16)
        for chunk in counted(source.chunks(), "reading documents"):
            digest.update(chunk.text.encode("utf-8", "surrogatepass"))
            count += len(chunk.text)
            if chunk.last:
                digests += digest.digest()
                characters.append(count)
                count, digest = 0, hashlib.blake2b(digest_size=16)
        sizes.append(len(characters) - before)
    np.save(folder / "digests.npy", np.frombuffer(bytes(digests), np.uint64).reshape(-1, 2))
    np.save(folder / "characters.npy", np.array(characters, dtype=np.int64))
    (folder / "facts.json").write_text(json.dumps({"sizes": sizes}), encoding="utf-8")


def _load_survey(folder: Path) -> Survey:
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    found = Survey(np.load(folder / "digests.npy"), np.load(folder / "characters.npy"), **facts)
    if not len(found.digests) == len(found.characters) == sum(found.sizes):
        raise ValueError("not whole")
    return found


def counted(pieces: Iterator[T], what: str) -> Iterator[T]:
    """Return the pieces, and a bar that counts them; only on a terminal, and after 2 s."""
    from tqdm import tqdm

    yield from tqdm(pieces, desc=what, unit="", delay=2, leave=False, disable=None)


def find_documents(
    path: str,
    layout: Layout,
    separator: str | None,
    *,
    config: str | None = None,
    revision: str | None = None,
    splits: Mapping[str, str] | None = None,
) -> dict[Split, Documents]:
    """Return the documents of a corpus: "train" alone, or several splits.

    Args:
        path: A text file, a table, a folder of either, or a name on the hub.
        layout: Where the texts are in tables, and what files are in.
        separator: What stands between two documents of a text.
        config: The hub data set's configuration.
        revision: Its branch, tag or commit.
        splits: Which of its splits, or of the folder's files, is "train", "val" and "test".

    Raises:
        DataError: If there are none.
    """
    check_splits(splits)
    place = Path(path).expanduser()
    if splits is None:
        texts = _text_files(place)
    else:
        texts = {
            split: _text_files(place / name).get("train", []) for split, name in splits.items()
        }
    if texts.get("train") and all(texts.values()):
        return {
            s: TextFiles(texts[s], separator, layout.encoding)
            for s in get_args(Split)
            if s in texts
        }
    if place.is_file() and kind(place) not in TABLES:
        raise splits_of_file(splits or {}, path)
    if place.is_dir() and splits is None and not tables(place):
        raise DataError(
            f"{str(place)!r} holds no texts; give a folder with .txt files, or with files of "
            f"{', '.join(TABLES)}"
        )
    parts = find_sources(path, layout, config=config, revision=revision, splits=splits)
    return {split: TableDocuments(part, separator) for split, part in parts.items()}


def _text_files(place: Path) -> dict[str, list[Path]]:
    """Return the text files of each split in a place, "train" alone or several.

    None in one of tables.
    """
    if place.is_file():
        return {} if kind(place) in TABLES else {"train": [place]}
    if not place.is_dir() or tables(place):
        return {}
    files = [p for p in sorted(place.rglob("*.txt")) if p.is_file() and is_shown(p)]
    first = {path: path.relative_to(place).parts[0].removesuffix(".txt") for path in files}
    found: dict[str, list[Path]] = {}
    for path in files:
        split = split_of_stem(first[path])
        if split is not None:
            found.setdefault(split, []).append(path)
    return found if "train" in found else {"train": files} if files else {}
