"""Texts to predict on."""

import os
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from datamodules.core.errors import DataError, one_of, refuse
from datamodules.core.inputs import Inputs, described
from datamodules.core.labels import LabelKind
from datamodules.core.sampling import PositionedLoader
from datamodules.core.text_file import check_encoding, check_kind, kind, read_text
from datamodules.text.columns import Layout, text_columns
from datamodules.text.dataset import ArrayTexts, PreparedText
from datamodules.text.files import CHUNK_ROWS, TABLES, Table, is_fasttext
from datamodules.text.token_store import TokenStore, Truncate
from datamodules.text.tokenizer import TextTokenizer

#: What one text of a .txt file is.
TextUnit = Literal["auto", "file", "line"]

#: Characters of a raw text that stand for it in a report.
_NAME_LENGTH = 60
#: Inputs without a text that are named.
_BLANK_NAMED = 10


class TextInputs(PreparedText, Inputs):
    """Texts to predict on, prepared as a trained net's own texts were.

    Any number of texts, of your own and under your own licence. Labels are -1. In Python mappings
    of columns to texts are taken, too, and of a net for pairs, tuples of two.

    Args:
        inputs: Texts as they are; paths of .txt files; and paths of csv (with a header), tsv, json,
            jsonl, parquet, xlsx or fastText files, of which each row is one text.
        class_names: The classes that the net tells apart.
        tokenizer: The tokenizer as JSON text.
        max_length: Tokens that a text has at most, special ones included; a longer one is cut.
        truncate: Which end of a longer text is kept: the head, the tail, or half of both.
        text_column: The column of the text in a file of rows, or a list of two for pairs.
        delimiter: The character between two values of a csv file; by default what fits.
        quoted: Whether values in a csv file may stand in double quotes.
        encoding: What the files are in, by Python's name; by default what their bytes tell.
        text_unit: Whether a .txt file is one text, or each of its lines that is not blank; auto
            guesses, and says what: a line where there are several, none of them blank, and they do
            not look wrapped.
        batch_size: Texts in a batch, over all processes together.
        label_kind: Whether the net gives a text one class, or any number of labels.

    Raises:
        DataError: If a file or its column is not there or will not do.
    """

    def __init__(
        self,
        inputs: list[str] | None,
        class_names: list[str],
        tokenizer: str,
        max_length: int = 512,
        truncate: Truncate = "head",
        text_column: str | list[str] = "text",
        delimiter: str | None = None,
        quoted: bool = True,
        encoding: str | None = None,
        text_unit: TextUnit = "auto",
        batch_size: int = 128,
        label_kind: LabelKind = "multiclass",
    ) -> None:
        super().__init__(batch_size=batch_size, max_length=max_length, truncate=truncate)
        self.label_kind = label_kind
        self.inputs = None if inputs is None else [str(given) for given in inputs]
        self.text_column = text_column
        self.delimiter = delimiter
        self.quoted = quoted
        self.encoding = check_encoding(encoding)
        one_of("text_unit", text_unit, get_args(TextUnit))
        self.text_unit = text_unit
        self._set_facts(class_names, TextTokenizer(tokenizer))
        self._layout = Layout(
            text_columns(text_column),
            None,
            delimiter=delimiter,
            quoted=quoted,
            encoding=encoding,
        )
        self.names: list[str] = []
        """What each text is called, ``reviews.csv:2`` or its own beginning.

        ``index`` numbers them.
        """
        self._texts: list[list[str]] = []
        if self.inputs == []:
            raise refuse("inputs", [], "give texts or files")
        if self.inputs is not None:
            self._take(self.inputs)

    def _wanted(self) -> str:
        columns = self._layout.text_columns
        if len(columns) == 1:
            return "texts or files"
        return f"pairs of texts, (one, another), or files with the columns {' and '.join(columns)}"

    def _apart(self, given: Any) -> tuple[list[Any], bool]:
        if isinstance(given, tuple) and self._is_pair(given):
            return [given], True
        return super()._apart(given)

    def _is_pair(self, given: Sequence[Any]) -> bool:
        is_two = len(given) == len(self._layout.text_columns) == 2
        return is_two and all(isinstance(each, str) for each in given)

    def _take(self, inputs: Sequence[Any]) -> None:
        self.names, self._texts = [], []
        for given in inputs:
            if isinstance(given, str | os.PathLike):
                self._add_input(os.fspath(given))
            else:
                self._add_object(given)
        self._tell_blank()

    def _add_object(self, given: Any) -> None:
        """Take one of Python's texts that is no plain one.

        Raises:
            DataError: If it is none.
        """
        columns = self._layout.text_columns
        number, texts = len(self.names), None
        if isinstance(given, Mapping):
            missing = [column for column in columns if column not in given]
            if missing:
                raise DataError(
                    f"input {number} has no column {missing[0]!r}; give {self._wanted()}"
                )
            texts = [given[column] for column in columns]
        elif isinstance(given, tuple | list) and self._is_pair(given):
            texts = list(given)
        if texts is None or not all(isinstance(text, str) for text in texts):
            raise DataError(
                f"input {number} is {described(given)}, which is no text; give {self._wanted()}"
            )
        self.names.append(_named(texts[0]))
        self._texts.append(texts)

    def _tell_blank(self) -> None:
        """Say which inputs have no text; a net predicts something of them, too."""
        blank = [
            repr(name)
            for name, texts in zip(self.names, self._texts, strict=True)
            if not any(map(str.strip, texts))
        ]
        if blank:
            more = f" and {len(blank) - _BLANK_NAMED} more" if len(blank) > _BLANK_NAMED else ""
            have = "has" if len(blank) == 1 else "have"
            self._tell(
                f"{len(blank)} of {len(self.names)} inputs {have} no text, "
                f"{', '.join(blank[:_BLANK_NAMED])}{more}: what is predicted for them says nothing"
            )

    def _add_input(self, given: str) -> None:
        path = Path(given).expanduser()
        is_path = kind(path) in (*TABLES, ".txt") and not any(map(str.isspace, given))
        if not is_path and not _is_file(path):
            self._add_text(_named(given), given)
        elif not path.is_file():
            raise DataError(f"{given!r} does not exist; give texts or files")
        elif kind(path) in TABLES or is_fasttext(path, self.encoding):
            self.of_several = True
            table = Table([path], self._layout, "inputs")
            self._tell(f"{given!r} is read as {table.form}")
            for place, texts in table.rows():
                self.names.append(f"{given}:{place.rpartition(' ')[2]}")
                self._texts.append(texts)
        else:
            check_kind(path)
            self._add_text_file(given, read_text(path, self.encoding))

    def _add_text_file(self, given: str, text: str) -> None:
        lines = text.split("\n")
        filled = {number: line for number, line in enumerate(lines, 1) if line.strip()}
        unit = self.text_unit
        if unit == "auto":
            unit = "line" if _is_list(lines) else "file"
        if self.text_unit == "auto" and len(filled) > 1:
            others = "file" if unit == "line" else "line"
            count = f"its {len(filled)} lines are a text each" if unit == "line" else "one text"
            self._tell(f"{given!r}: {count}; text_unit: {others} takes it otherwise")
        if unit == "file":
            self._add_text(given, text)
            return
        self.of_several = True
        for number, line in filled.items():
            self._add_text(f"{given}:{number}", line.rstrip("\r"))

    def _add_text(self, name: str, text: str) -> None:
        columns = self._layout.text_columns
        if len(columns) > 1:
            raise DataError(
                f"{name!r} is one text where the net takes pairs; give a csv file with the "
                f"columns {' and '.join(map(repr, columns))}"
            )
        self.names.append(name)
        self._texts.append([text])

    def predict_dataloader(self) -> PositionedLoader:
        """Return the texts in the order of ``names``."""
        tokens, lengths = [], [np.zeros(1, dtype=np.int64)]
        for first in range(0, len(self._texts), CHUNK_ROWS):
            rows = self._texts[first : first + CHUNK_ROWS]
            encoded = self.text_tokenizer.encode(list(zip(*rows, strict=True)))
            tokens.append(encoded.tokens)
            lengths.append(encoded.lengths)
        store = TokenStore(np.concatenate(tokens), np.cumsum(np.concatenate(lengths)))
        rows_in_order = np.arange(len(store))
        unknown = np.full(len(store), -1, dtype=np.int64)
        dataset = ArrayTexts(
            store, unknown, rows_in_order, self.text_tokenizer, self.max_length, self.truncate
        )
        return self._prediction_loader(dataset)


def _named(text: str) -> str:
    """Return what a raw text is called: its beginning."""
    return textwrap.shorten(text, _NAME_LENGTH, placeholder=" ...")


def _is_list(lines: Sequence[str]) -> bool:
    """Whether the lines of a file look like a text each, not like the lines of one text.

    Paragraphs have blank lines between, and the lines of a wrapped text end where the next word
    does not fit: they are nearly as long as the longest.
    """
    while lines and not lines[-1].strip():
        lines = lines[:-1]
    if len(lines) < 2 or not all(map(str.strip, lines)):
        return False
    lengths = [len(line) for line in lines[:-1]]
    longest = max(map(len, lines))
    return len(lines) < 4 or longest > 120 or statistics.median(lengths) < 0.85 * longest


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a text longer than a name may be
        return False
