"""What is known of a set of texts once it has been read: labels, repetitions, sizes."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from datamodules.core.cache import cached
from datamodules.core.errors import DataError, refuse
from datamodules.core.splits import composed
from datamodules.text.files import Chunk, SplitSource

Rows = npt.NDArray[np.int64]

#: More than these, and a column of labels is taken for texts or identifiers.
MOST_CLASSES = 1000


@dataclass
class Corpus:
    """What is known of all rows of some sources, one source after the other.

    Attributes:
        digests: Uint64 (N, 2), a hash of each row's text in NFC; equal for equal texts.
        codes: Int64 (N,), which of ``values`` is the row's label.
        values: The labels, as they are written, in the order in which they come.
        sizes: How many rows each source has.
        text_bytes: How long all texts are together.
        blank: How many rows have no text, or blanks alone.
    """

    digests: npt.NDArray[np.uint64]
    codes: Rows
    values: list[str]
    sizes: list[int]
    text_bytes: int
    blank: int


def survey(sources: Sequence[SplitSource]) -> Corpus:
    """Read all rows once, or find what an earlier run has noted of them."""
    return cached(
        "text/corpora", [*source_keys(sources), "blank"], _load_corpus, partial(_survey, sources)
    )


def source_keys(sources: Sequence[SplitSource]) -> list[object]:
    """Return what the rows depend on, as JSON."""
    return [source.key() for source in sources]


def _survey(sources: Sequence[SplitSource], folder: Path) -> None:
    numbers: dict[str, int] = {}
    sizes, text_bytes, blank = [], 0, 0
    with (folder / "digests.bin").open("wb") as digests, (folder / "codes.bin").open("wb") as codes:
        for source in sources:
            count = 0
            for chunk in progress(source.chunks(), "reading texts", None):
                for texts in zip(*chunk.columns, strict=True):
                    joined = composed("\0".join(texts))
                    content = joined.encode("utf-8", "surrogatepass")
                    digests.write(hashlib.blake2b(content, digest_size=16).digest())
                    text_bytes += len(content)
                    blank += not any(map(str.strip, texts))
                found = [numbers.setdefault(label, len(numbers)) for label in chunk.labels]
                codes.write(np.array(found, dtype=np.int64).tobytes())
                count += len(found)
            sizes.append(count)
    facts = {"values": list(numbers), "sizes": sizes, "text_bytes": text_bytes, "blank": blank}
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


def _load_corpus(folder: Path) -> Corpus:
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    digests = np.fromfile(folder / "digests.bin", dtype=np.uint64).reshape(-1, 2)
    codes = np.fromfile(folder / "codes.bin", dtype=np.int64)
    if not len(digests) == len(codes) == sum(facts["sizes"]):
        raise ValueError("not whole")
    return Corpus(digests, codes, **facts)


def classes(corpus: Corpus, names: Sequence[str] | None, source: str) -> tuple[list[str], Rows]:
    """Return the classes' names, and the number of each of the corpus's labels; -1 for none."""
    seen = [corpus.values[code] for code in np.unique(corpus.codes[: corpus.sizes[0]])]
    if len(seen) > MOST_CLASSES:
        raise DataError(
            f"{source} has {len(seen)} different labels, {seen[0][:40]!r} for one, "
            f"where {MOST_CLASSES} are possible; choose another label_column"
        )
    if len(seen) < 2:
        raise DataError(
            f"all texts of {source} have the label {seen[0]!r}, which leaves nothing "
            "to learn; give texts of two classes at least"
        )
    if names is None:
        is_number = all(re.fullmatch("[+-]?[0-9]+", value) for value in seen)
        names = sorted(seen, key=int) if is_number else sorted(seen)
    names = [composed(str(name)) for name in names]
    if len(set(names)) < len(names):
        raise refuse("class_names", names, "name each class once")
    places = {name: number for number, name in enumerate(names)}
    if not set(seen) & set(names):
        places = {str(number): number for number in range(len(names))}
    unnamed = [value for value in seen if value not in places]
    if unnamed:
        raise refuse("class_names", names, f"add {unnamed[0]!r}, which {source} holds")
    numbers = np.array([places.get(value, -1) for value in corpus.values], dtype=np.int64)
    return names, numbers


def selected(sources: Sequence[SplitSource], rows: Rows, what: str) -> Iterator[list[str]]:
    """Return the text of each of some ascending rows, or both of a pair."""
    first = 0
    chunks = (chunk for source in sources for chunk in source.chunks())
    for chunk in progress(chunks, what, None):
        count = len(chunk.columns[0])
        start, stop = np.searchsorted(rows, (first, first + count))
        for row in rows[start:stop]:
            yield [column[row - first] for column in chunk.columns]
        first += count
        if first > rows[-1]:
            return


def progress(chunks: Iterator[Chunk], what: str, total: int | None) -> Iterator[Chunk]:
    """Return the chunks, and a bar that counts their rows; only on a terminal, and after 2 s."""
    from tqdm import tqdm

    bar = tqdm(total=total, desc=what, unit="", delay=2, leave=False, disable=None)
    with bar:
        for chunk in chunks:
            yield chunk
            bar.update(len(chunk.columns[0]))
