"""A folder of text files whose folders, or whose names, are their classes."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from datamodules.core.errors import DataError, listed
from datamodules.core.files import is_shown
from datamodules.core.text_file import form_of, guess_encoding, kind, lines, read_text
from datamodules.text.columns import Layout
from datamodules.text.files import TABLES, Chunk, Row, gather, stamp

#: Names of folders whose texts have no label, as IMDB's has 50,000.
_UNLABELLED = ("unsup", "unlabeled", "unlabelled", "unsupervised")
#: Files by which their common encoding is told, and how many bytes of them.
_SAMPLE_FILES, _SAMPLE_BYTES = 500, 2**20


class ClassFolder:
    """A folder with a folder for each class, a text in each file; or with a file for each class.

    Texts are .txt files; a class's file holds one text per line, and blank lines are passed over.
    Folders of texts without a label (``unsup``, ``unlabeled``) are no classes. Files whose bytes
    alone do not tell their encoding have what all such files together look like.

    Args:
        folder: The folder.
        encoding: What the files are in; by default what their bytes tell.

    Raises:
        DataError: If it holds no texts.
    """

    has_columns = False

    def __init__(self, folder: Path, encoding: str | None = None) -> None:
        self.folder = folder
        self.encoding = encoding
        self.name = repr(str(folder))
        self.label_names: list[str] | None = None
        self.layout = Layout(("text",), "folder", encoding=encoding)
        entries = sorted(path for path in folder.iterdir() if is_shown(path))
        self.files: list[tuple[str, Path]] = []
        self.by_line, empty = False, []
        self.left_out = [path.name for path in entries if path.name.lower() in _UNLABELLED]
        for path in entries:
            if path.is_dir() and path.name not in self.left_out:
                texts = sorted(text for text in path.iterdir() if _is_text(text))
                self.files += [(path.name, text) for text in texts]
                if not texts:
                    empty.append(str(path))
        if empty:
            hold, them = ("holds", "it") if len(empty) == 1 else ("hold", "them")
            raise DataError(f"{listed(empty)} {hold} no .txt files; add some or remove {them}")
        if not self.files:
            self.by_line = True
            self.files = [(_class_of(path), path) for path in entries if _is_text(path)]
        if not self.files:
            raise DataError(
                f"{self.name} holds no texts; give a file of {', '.join(TABLES)}, a folder of them "
                "named train, val and test, or a folder with a folder of .txt files per class"
            )

    @property
    def form(self) -> str:
        """How the texts lie there, in words."""
        of_class, of_text = ("file", "line") if self.by_line else ("folder", "file")
        first = form_of(self.files[0][1], self._encoding(self.files[0][1]))
        left_out = f", without {', '.join(map(repr, self.left_out))}" if self.left_out else ""
        return f"a {of_class} a class, a {of_text} a text, in {first}{left_out}"

    def key(self) -> object:
        """Return what the texts depend on, as JSON."""
        files = [[label, stamp(path)] for label, path in self.files]
        return [self.by_line, self.encoding, files]

    def chunks(self) -> Iterator[Chunk]:
        """Yield all rows in order."""
        return gather(self._rows(), self.layout)

    def _rows(self) -> Iterator[Row]:
        for label, path in self.files:
            encoding = self._encoding(path)
            if not self.by_line:
                yield Row(str(path), "the file", [read_text(path, encoding), label])
                continue
            for number, line in enumerate(lines(path, encoding), 1):
                if line.strip():
                    yield Row(str(path), f"line {number}", [line.rstrip("\r\n"), label])

    def _encoding(self, path: Path) -> str | None:
        """Return what a file is in; None if its own bytes tell."""
        if self.encoding is None and not str(form_of(path).encoding).startswith("utf"):
            return self._common_encoding
        return self.encoding

    @cached_property
    def _common_encoding(self) -> str | None:
        """What the files together look like, but for those that are UTF-8 or UTF-16."""
        content = b""
        for _, path in self.files[:: len(self.files) // _SAMPLE_FILES + 1]:
            form = form_of(path)
            if not form.packed and not str(form.encoding).startswith("utf"):
                content += path.read_bytes() + b"\n"
            if len(content) > _SAMPLE_BYTES:
                break
        return guess_encoding(content)


def _is_text(path: Path) -> bool:
    return is_shown(path) and kind(path) == ".txt" and path.is_file()


def _class_of(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".txt")
