"""Text files in whatever encoding they are, packed by gzip or not; what a csv file's delimiter is.

Encodings are told by rules of our own: charset-normalizer 3.5 took one of five short Korean texts
in cp949 for UTF-16, and German in latin-1 for Big5.
"""

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, TextIO, cast

from datamodules.core.errors import DataError, refuse

#: Bytes of a text that are in memory at once, and those by which its encoding is told.
_BLOCK_BYTES = _SAMPLE_BYTES = 2**20
_GZIP = b"\x1f\x8b"
# UTF-32's little-endian mark begins as UTF-16's does.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: Spreadsheets that openpyxl reads.
SPREADSHEETS = (".xlsx", ".xlsm")
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]+")
_NAMES = {"utf-8-sig": "utf-8 with a byte order mark", "cp1252": "cp1252 (latin-1)"}

#: Records of a csv file by which its delimiter is told.
_SAMPLE_RECORDS = 200


class Form(NamedTuple):
    """How the bytes of a file are to be read.

    Attributes:
        encoding: Python's name of the encoding; None where no guess fits.
        packed: Whether gzip has packed it.
    """

    encoding: str | None
    packed: bool

    def __str__(self) -> str:
        """Return it in words."""
        name = _NAMES.get(str(self.encoding), str(self.encoding))
        return f"{name}, packed by gzip" if self.packed else name


def check_encoding(encoding: str | None) -> str | None:
    """Return the encoding, if Python knows one of that name.

    Raises:
        OptionError: If it does not.
    """
    try:
        "".encode(encoding or "utf-8")
    except (LookupError, UnicodeError):
        remedy = "give utf-8, utf-16, cp949, latin-1 or another that Python knows"
        raise refuse("encoding", encoding, remedy) from None
    return encoding


def kind(path: Path) -> str:
    """Return a file's extension in small letters, less one that says that gzip has packed it.

    >>> kind(Path("reviews.CSV.gz"))
    '.csv'
    """
    unpacked = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return unpacked.suffix.lower()


def check_kind(path: Path, *, spreadsheets: bool = False) -> None:
    """Refuse a file that holds no plain text, by its extension.

    Args:
        path: The file.
        spreadsheets: Whether one that openpyxl reads will do, where that is installed.

    Raises:
        DataError: Saying what to do with it.
    """
    suffix, extra = kind(path), ""
    is_packed = suffix in SPREADSHEETS and path.suffix.lower() == ".gz"
    if spreadsheets and suffix in SPREADSHEETS and not is_packed:
        try:
            import openpyxl  # noqa: F401
        except ImportError:
            extra = ", or pip install 'lightning-zoo[excel]'"
        else:
            return
    if is_packed or suffix in (".zip", ".bz2", ".xz", ".zst", ".7z", ".tar"):
        raise DataError(f"{str(path)!r} is packed; unpack it first and give that")
    if suffix in (*SPREADSHEETS, ".xls", ".ods"):
        raise DataError(f"{str(path)!r} is a spreadsheet; save it as csv and give that{extra}")


def form_of(path: Path, encoding: str | None = None) -> Form:
    """Return how a file is to be read.

    A byte order mark decides. Otherwise it is UTF-8 if its first MB that is not ASCII alone is, or
    would be but for a few bytes; UTF-16 if every other byte of its ASCII letters is 0; cp949 if
    nearly all other letters are Hangul in use; and latin-1, as cp1252 has it, if these are few
    and stand alone.

    Args:
        path: The file.
        encoding: What it is said to be in, which is not questioned.

    Raises:
        DataError: If it cannot be read.
    """
    with reading(path):
        stat = path.stat()
        return _form_of(path, encoding, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def _form_of(path: Path, encoding: str | None, _size: int, _time: int) -> Form:
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
    with open_bytes(path, packed=packed) as file:
        block = file.read(_SAMPLE_BYTES)
        mark = next((name for mark, name in _MARKS if block.startswith(mark)), None)
        if encoding is not None:
            is_utf8 = codecs.lookup(encoding).name == "utf-8"
            return Form("utf-8-sig" if is_utf8 and mark == "utf-8-sig" else encoding, packed)
        if mark is not None:
            return Form(mark, packed)
        while block.isascii() and b"\0" not in block:
            if not (block := file.read(_SAMPLE_BYTES)):
                return Form("utf-8", packed)
        # A letter that the block's end cuts is no fault.
        return Form(guess_encoding(block + file.readline(_SAMPLE_BYTES)), packed)


def guess_encoding(content: bytes) -> str | None:
    """Return the encoding of some text without a byte order mark; None if no guess fits.

    >>> guess_encoding("좋은 영화".encode("cp949")), guess_encoding("schön".encode("latin-1"))
    ('cp949', 'cp1252')
    """
    if b"\0" in content:
        even, odd = content[::2].count(0), content[1::2].count(0)
        guess = "utf-16-le" if odd > even else "utf-16-be"
        return guess if min(even, odd) == 0 and _decodes(content, guess) else None
    text = content.decode("utf-8", "replace")
    faults = text.count("\N{REPLACEMENT CHARACTER}")
    others = sum(not character.isascii() for character in text) - faults
    if 2 * faults <= others:
        return "utf-8"
    if _decodes(content, "cp949") and _is_korean(content.decode("cp949", "ignore")):
        return "cp949"
    if _decodes(content, "cp1252"):
        others = sum(map(len, _BEYOND_ASCII.findall(content)))
        in_runs = sum(len(run) for run in _BEYOND_ASCII.findall(content) if len(run) > 2)
        letters = [letter for letter in content.decode("cp1252") if letter.isalpha()]
        foreign = sum(not letter.isascii() for letter in letters)
        # Letters of other alphabets stand beside each other.
        if 3 * foreign <= len(letters) and 4 * in_runs <= others:
            return "cp1252"
    return None


def _is_korean(text: str) -> bool:
    """Whether what is not ASCII is nearly all Hangul in use, and much of it syllables.

    Hangul that EUC-KR lacks is rare; other encodings' letters would be taken for it, and the kana
    of EUC-JP for single letters of Hangul.
    """
    others = [character for character in text[: _SAMPLE_BYTES // 16] if not character.isascii()]
    # EUC-KR's own letters have no byte below 0xa1; of these, ideographs are rare in Korean.
    usual = [character for character in others if min(character.encode("cp949")) >= 0xA1]
    ideographs = sum("\u4e00" <= character <= "\u9fff" for character in usual)
    syllables = sum("가" <= character <= "힣" for character in usual)
    return len(usual) - ideographs >= 0.8 * len(others) and 2 * syllables >= len(others)


def _decodes(content: bytes, encoding: str) -> bool:
    whole = len(content) < _SAMPLE_BYTES  # else the end may cut a letter
    try:
        codecs.getincrementaldecoder(encoding)().decode(content, final=whole)
    except UnicodeDecodeError:
        return False
    return True


@contextmanager
def open_bytes(path: Path, *, packed: bool) -> Iterator[BinaryIO]:
    """Open a file; what gzip has packed is unpacked."""
    if not packed:
        with path.open("rb") as file:
            yield file
    else:
        with gzip.open(path, "rb") as unpacked:
            yield cast(BinaryIO, unpacked)


@contextmanager
def open_text(path: Path, encoding: str | None = None, *, newline: str = "") -> Iterator[TextIO]:
    """Open a text file, whose line breaks stay as they are.

    Args:
        path: The file.
        encoding: What it is in; by default what ``form_of`` finds.
        newline: What ends a line; by default whatever may.

    Raises:
        DataError: If it cannot be read, is in no encoding that is known, or not in that.
    """
    form = form_of(path, encoding)
    if form.encoding is None:
        raise _unknown(path, form)
    with (
        reading(path),
        open_bytes(path, packed=form.packed) as file,
        io.TextIOWrapper(file, form.encoding, newline=newline) as text,
    ):
        try:
            yield text
        except UnicodeError:
            raise not_text(path, form) from None


def lines(path: Path, encoding: str | None = None) -> Iterator[str]:
    """Yield each line, which a line feed alone ends.

    Raises:
        DataError: As ``open_text``.
    """
    with open_text(path, encoding, newline="\n") as file:
        yield from file


def read_text(path: Path, encoding: str | None = None) -> str:
    """Return a file as one text.

    Raises:
        DataError: As ``open_text``.
    """
    with open_text(path, encoding) as file:
        return file.read()


def text_blocks(path: Path, encoding: str | None = None) -> Iterator[str]:
    """Return a file as one text, in pieces of any size.

    Raises:
        DataError: As ``open_text``.
    """
    with open_text(path, encoding) as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Say which file it is that cannot be read; else a cache's folder would be blamed.

    Raises:
        DataError: If it cannot.
    """
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{str(path)!r} cannot be read ({reason}); see that it is there, whole, and that you "
            "may read it"
        ) from None


def _unknown(path: Path, form: Form) -> DataError:
    where = _fault(path, form._replace(encoding="utf-8"))
    return DataError(
        f"{str(path)!r} is not text in UTF-8{where}, nor in UTF-16, cp949 or latin-1; save it as "
        "UTF-8, or say by encoding what it is in"
    )


def not_text(path: Path, form: Form) -> DataError:
    """Return the error for a file that is not in an encoding, with the first byte that is not."""
    name = "UTF-8" if str(form.encoding).startswith("utf-8") else form._replace(packed=False)
    return DataError(
        f"{str(path)!r} is not text in {name}{_fault(path, form)}; save it as UTF-8, or say by "
        "encoding what it is in"
    )


def _fault(path: Path, form: Form) -> str:
    """Return which byte it is that an encoding does not have; nothing where it is of no line."""
    encoding, before = str(form.encoding), 0
    if codecs.lookup(encoding).name.startswith(("utf-16", "utf-32")):
        return ""
    with open_bytes(path, packed=form.packed) as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError as error:
                byte = f"byte {before + error.start} (0x{line[error.start]:02x})"
                return f": {byte} in line {number}"
            before += len(line)
    return ""


def sniff_delimiter(
    path: Path,
    encoding: str | None = None,
    *,
    columns: int | None = None,
    quoted: bool = True,
) -> str:
    """Return the character between two values of a csv file.

    It is the comma, the semicolon, the tabulator or the bar: the one that gives the most records as
    many values as the header has, more than one. A file of one column has the comma, or the
    tabulator if it is a .tsv file.

    Args:
        path: The file.
        encoding: What it is in, if that is known.
        columns: How many values a record has; by default as many as the first.
        quoted: Whether values may stand in double quotes.

    Raises:
        DataError: As ``open_text``.
    """
    tabs_first = kind(path) == ".tsv"
    candidates = "\t,;|" if tabs_first else ",;\t|"
    with open_text(path, encoding) as file:
        sample = file.read(_SAMPLE_BYTES)
    best, most = candidates[0], 0.0
    for candidate in candidates:
        widths = _widths(sample, candidate, quoted=quoted)
        width = columns or next(iter(widths), 0)
        fitting = widths.count(width) / max(len(widths), 1)
        if width > 1 and fitting > most:
            best, most = candidate, fitting
    return best


def table_words(written: str, form: Form, delimiter: str | None) -> str:
    """Say how a file of rows is read.

    >>> table_words("csv", Form("cp949", packed=False), ";")
    'csv in cp949, semicolons between values'
    """
    names = {"\t": "tabulators", ",": "commas", ";": "semicolons", "|": "bars"}
    words = f"{written} in {form}"
    if delimiter is not None:
        words += f", {names.get(delimiter, repr(delimiter))} between values"
    return words


def _widths(sample: str, delimiter: str, *, quoted: bool) -> Sequence[int]:
    """Return how many values each of the first records has."""
    # A text may be longer than the module's limit of 128 kB; it cannot be set for one reader alone.
    csv.field_size_limit(2**31 - 1)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    widths: list[int] = []
    try:
        for record in csv.reader(io.StringIO(sample), delimiter=delimiter, quoting=quoting):
            if record:
                widths.append(len(record))
            if len(widths) == _SAMPLE_RECORDS:
                return widths
    except csv.Error:
        return widths
    # The sample may end within the last.
    return widths[:-1] if len(sample) >= _SAMPLE_BYTES and len(widths) > 1 else widths
