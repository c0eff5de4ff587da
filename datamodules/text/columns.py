"""Which columns of a table hold the texts and the labels, and what a label is."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from datamodules.core.errors import DataError, OptionError, did_you_mean, refuse
from datamodules.core.labels import flag_columns, flagged, is_label_name, whole
from datamodules.core.splits import composed

#: Names that columns of texts have.
_TEXTS = (
    *("text", "texts", "sentence", "document", "review", "content", "comment", "comment_text"),
    "utterance",
    *("question", "query", "tweet", "message", "body", "title", "headline", "description"),
    *("텍스트", "문장", "문서", "본문", "내용", "리뷰", "댓글", "질문", "발화", "제목"),
)


@dataclass(frozen=True)
class Layout:
    """How texts and labels lie in a table; columns are compared in one form of Unicode.

    Attributes:
        text_columns: The column of the text, or those of a pair; none where it is to be guessed.
        label_column: The labels' column, or several of zeros and ones, one a class; "" where it is
            to be guessed; None reads none.
        columns: The columns' names in a csv file without a header.
        delimiter: What separates two values of a csv file; by default what fits.
        quoted: Whether a value in a csv file may stand in double quotes.
        only: A column and the value that it must have for a row to count.
        encoding: What text files are in; by default what their bytes tell.
    """

    text_columns: tuple[str, ...]
    label_column: str | tuple[str, ...] | None
    columns: tuple[str, ...] | None = None
    delimiter: str | None = None
    quoted: bool = True
    only: tuple[str, str] | None = None
    encoding: str | None = None

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns of the labels; none where they are to be guessed, or are not read."""
        given = self.label_column or ()
        return (given,) if isinstance(given, str) else given

    def wanted(self) -> dict[str, str]:
        """Return the columns that are read, each with the option that names it."""
        names = dict.fromkeys(self.text_columns, "text_column")
        for name in self.label_columns:
            names.setdefault(name, "label_column")
        if self.only is not None:
            names.setdefault(self.only[0], "only")
        return {composed(name): option for name, option in names.items()}

    def found(
        self,
        columns: Sequence[str],
        source: str,
        sample: Callable[[], Mapping[str, Sequence[object]]],
    ) -> "Layout":
        """Return the same with the columns that were to be guessed.

        Args:
            columns: All that there are.
            source: What messages call the table.
            sample: Gives the first values of all columns, where their names alone tell too little.

        Raises:
            DataError: If there is one column alone where two are wanted.
            OptionError: If no column, or more than one, could be meant, or one that is named is
                not there.
        """
        named = [*filter(None, columns)]  # pandas writes its index under no name
        if self.label_column is not None and len(named) < 2:
            raise DataError(
                f"{source} has one column, {''.join(named)[:60]!r}, where a text and its label are "
                "two; add the other, or set delimiter to what stands between them"
            )
        texts, label = self.text_columns, self.label_column
        for column, option in self.wanted().items():
            if column not in columns:
                raise no_column(option, column, source, columns)
        given = {composed(name) for name in (*texts, *self.label_columns)}
        free = [name for name in named if composed(name) not in given]
        if label == "":
            others = free if texts else [name for name in free if not _is_text_name(name)] or free
            flags: Sequence[str] = ()
            if len(others) > 1 and not any(map(is_label_name, free)):
                flags = flag_columns({name: own for name, own in sample().items() if name in free})
            label = tuple(flags) or _guess("label_column", free, others, is_label_name, source)
            free = [name for name in free if name not in flags and name != label]
        if not texts:
            if composed("text") in free:
                texts = ("text",)
            else:
                texts = (_guess("text_column", free, free, _is_text_name, source),)
        return replace(self, text_columns=texts, label_column=label)


def _is_text_name(column: str) -> bool:
    return composed(column).strip().casefold() in _TEXTS


def _guess(
    option: str,
    free: Sequence[str],
    others: Sequence[str],
    is_usual: Callable[[str], bool],
    source: str,
) -> str:
    """Return the column of a usual name, or else the only one of the others."""
    named = [column for column in free if is_usual(column)]
    if len(named) == 1:
        return named[0]
    if len(named) > 1:
        both = f"{', '.join(map(repr, named[:-1]))} and {named[-1]!r}"
        remedy = f"say which column of {source} it is, as {both} could be"
        raise refuse(option, None, remedy)
    if len(others) == 1:
        return others[0]
    held = ", ".join(repr(name[:40]) for name in others[:20])
    raise refuse(
        option,
        None,
        f"say which column of {source} it is: {held or 'none is left'}; where that is a row and no "
        "header, name all columns by columns",
    )


def no_column(option: str, column: str, source: str, columns: Sequence[str]) -> OptionError:
    """Return the error for an option that names no column of a source."""
    held = ", ".join(map(repr, columns))
    near = did_you_mean(column, columns)
    return refuse(option, column, f"give a column of {source}, which has {held}{near}")


def text_of(value: Any, column: str, source: str, place: str) -> str:
    """Return a text; an absent one is "".

    Raises:
        DataError: If it is no text.
    """
    if value is not None and not isinstance(value, str):
        raise DataError(
            f"column {column!r} of {source!r} holds {str(value)[:60]!r} in {place}, which is no "
            "text; choose another by text_column"
        )
    return value or ""


#: What a row's labels are: one as it would be written, or those of a list.
Label = str | tuple[str, ...]


def label_of(values: Sequence[Any], columns: Sequence[str], source: str, place: str) -> Label:
    """Return a row's label as it would be written; those of a list unless it is one.

    Whole numbers are written without a point. Of an empty value there are none.

    Args:
        values: What the row holds in the columns of labels.
        columns: These columns; where they are several they hold zeros and ones.
        source: The file.
        place: Where in it the row stands.

    Raises:
        DataError: If a label is a fraction, or one of a list is empty.
    """
    if len(columns) > 1:
        return flagged(columns, values, repr(source), place)
    (value,) = values
    if isinstance(value, list | tuple):
        several = dict.fromkeys(_one_label(each, columns[0], source, place) for each in value)
        return next(iter(several)) if len(several) == 1 else tuple(several)
    return () if _is_empty(value) else _one_label(value, columns[0], source, place)


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _one_label(value: Any, column: str, source: str, place: str) -> str:
    if _is_empty(value):
        raise DataError(
            f"column {column!r} of {source!r} has an empty label in {place}; fill or remove it"
        )
    if isinstance(value, str | int | float):
        text = whole(str(value).strip())
        if re.fullmatch(r"[+-]?[0-9]+", text) or not _is_fraction(text):
            return composed(text)
    raise DataError(
        f"column {column!r} of {source!r} holds {str(value)[:60]!r} in {place}, "
        "which is neither an integer nor a name; choose another by label_column or mend the labels"
    )


def _is_fraction(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def text_columns(given: str | Sequence[str]) -> tuple[str, ...]:
    """Return the columns of a text or a pair.

    Raises:
        DataError: If there are neither one nor two.
    """
    columns = (given,) if isinstance(given, str) else tuple(given)
    if len(columns) not in (1, 2) or len(set(columns)) < len(columns):
        raise refuse("text_column", list(columns), "give one column, or two")
    return columns
