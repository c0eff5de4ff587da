"""What is known of a set of texts once it has been read: labels, repetitions, sizes."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from datamodules.core.cache import cached
from datamodules.core.errors import DataError, listed, many, refuse
from datamodules.core.labels import (
    LabelKind,
    check_kind_of,
    check_known,
    check_recurring,
    guess_separator,
    in_order,
    parts,
)
from datamodules.core.splits import composed
from datamodules.text.columns import Label
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
        values: The labels, as they are written, in the order in which they come; of a row with
            several, or without any, all that it has.
        sizes: How many rows each source has.
        text_bytes: How long all texts are together.
        blank: How many rows have no text, or blanks alone.
    """

    digests: npt.NDArray[np.uint64]
    codes: Rows
    values: list[Label]
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
    numbers: dict[Label, int] = {}
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
    values = facts.pop("values")
    values = [value if isinstance(value, str) else tuple(value) for value in values]
    digests = np.fromfile(folder / "digests.bin", dtype=np.uint64).reshape(-1, 2)
    codes = np.fromfile(folder / "codes.bin", dtype=np.int64)
    if not len(digests) == len(codes) == sum(facts["sizes"]):
        raise ValueError("not whole")
    return Corpus(digests, codes, values, **facts)


class Classes(NamedTuple):
    """What the labels of a corpus mean.

    Attributes:
        names: The C classes.
        of_value: Int64 (V,), the class of each of the corpus's values; where a text may have
            several, zeros and ones (V, C). -1 where training does not know a label.
        separator: What parts several labels of a value.
    """

    names: list[str]
    of_value: Rows
    separator: str | None

    @property
    def are_several(self) -> bool:
        """Whether a text may have several."""
        return self.of_value.ndim == 2


def classes(
    corpus: Corpus,
    names: Sequence[str] | None,
    sources: Sequence[SplitSource],
    *,
    kind: LabelKind | None = None,
    separator: str | None = None,
    of_net: bool = False,
) -> Classes:
    """Return what the labels mean.

    Args:
        corpus: The labels, of the training texts first.
        names: The classes in the order of their numbers, if they are known.
        sources: Where the texts come from, those to train on from the first.
        kind: Whether a text may have several labels; by default what they show.
        separator: What parts several labels of a value; by default what they show, unless it is
            known that there is one each.
        of_net: Whether the names are those that a net has learnt: some may be absent then.

    Raises:
        UserError: If the labels are no classes, or are not among the names.
    """
    source = sources[0]
    columns, where = source.layout.label_columns, source.name
    counts = np.bincount(corpus.codes[: corpus.sizes[0]], minlength=len(corpus.values))
    seen: dict[Label, int] = {
        corpus.values[code]: int(counts[code]) for code in counts.nonzero()[0]
    }
    whole = [value for value in seen if isinstance(value, str)]
    if separator is None and kind != "multiclass" and not set(whole) <= set(names or ()):
        separator = guess_separator(whole)

    def labels_of(value: Label) -> tuple[str, ...]:
        return parts(value, separator) if isinstance(value, str) else value

    most = max(len(labels_of(value)) for value in seen)
    several = most > 1 or (len(columns) > 1 and () in seen)
    if not several and kind != "multilabel" and len(columns) == 1 and () in corpus.values:
        raise _unlabelled(corpus, sources, kind)
    check_kind_of(kind, where, several=several)
    several = several or kind == "multilabel"
    held = in_order(name for value in seen for name in labels_of(value))
    found = list(columns) if len(columns) > 1 and held else held
    _check_classes(found, where, one_will_do=several or of_net)
    if not (several or of_net) and source.has_columns:
        check_recurring(list(seen.values()), columns[0], where, "texts")
    known = [composed(str(name)) for name in (found if names is None else names)]
    if len(set(known)) < len(known):
        raise refuse("class_names", known, "name each class once")
    places = {name: number for number, name in enumerate(known)}
    if not set(found) & set(known):
        places = {str(number): number for number in range(len(known))}
    unnamed = [name for name in found if name not in places]
    if unnamed and of_net:
        check_known(where, found, known, "the net knows", "texts")
    if unnamed:
        raise refuse("class_names", known, f"add {listed(unnamed)}, which {where} holds")
    rows = [[places.get(name, -1) for name in labels_of(value)] for value in corpus.values]
    if not several:
        own = [row[0] if len(row) == 1 else -1 for row in rows]
        return Classes(known, np.array(own, dtype=np.int64), None)
    table = np.zeros((len(rows), len(known)), dtype=np.int64)
    for own_row, numbers in zip(table, rows, strict=True):
        own_row[numbers] = 1
        if -1 in numbers:
            own_row[:] = -1
    return Classes(known, table, separator)


def _unlabelled(
    corpus: Corpus, sources: Sequence[SplitSource], kind: LabelKind | None
) -> DataError:
    """Return the error to raise where a text has one label and some rows have none."""
    chunks = chain.from_iterable(source.chunks() for source in sources)
    first = next(chunk.unlabelled[0] for chunk in chunks if chunk.unlabelled)
    others = int((corpus.codes == corpus.values.index(())).sum()) - 1
    remedy = "fill it or remove the row"
    if others:
        first += f", and in {many(others, 'other row')}"
        remedy = "fill them or remove the rows"
    unless = ", or set label_kind: multilabel" if kind is None else ""
    return DataError(f"{first}; {remedy}{unless}")


def _check_classes(found: Sequence[str], where: str, *, one_will_do: bool) -> None:
    """Refuse labels of which there are too many or too few."""
    if len(found) > MOST_CLASSES:
        raise DataError(
            f"{where} has {len(found)} different labels, {found[0][:40]!r} for one, "
            f"where {MOST_CLASSES} are possible; choose another label_column"
        )
    if not found:
        raise DataError(f"no text of {where} has a label; choose another label_column")
    if len(found) < 2 and not one_will_do:
        raise DataError(
            f"all texts of {where} have the label {found[0]!r}, which leaves nothing "
            "to learn; give texts of two classes at least"
        )


def selected(
    sources: Sequence[SplitSource], sizes: Sequence[int], rows: Rows, what: str
) -> Iterator[list[str]]:
    """Return the text of each of some ascending rows, or both of a pair.

    Args:
        sources: Where texts come from; one that has none of the rows is not read.
        sizes: How many rows each of them has.
        rows: The rows, counted over all sources.
        what: What is done, for a progress bar.
    """
    for source, (begin, end) in zip(sources, pairwise(np.cumsum([0, *sizes])), strict=True):
        start, stop = np.searchsorted(rows, (begin, end))
        if start < stop:
            yield from _rows_of(source, rows[start:stop] - begin, what)


def _rows_of(source: SplitSource, rows: Rows, what: str) -> Iterator[list[str]]:
    first = 0
    for chunk in progress(source.chunks(), what, None):
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
