"""Texts with labels."""

from typing import TYPE_CHECKING, Any

from datamodules.core.lazy import attribute

if TYPE_CHECKING:
    from datamodules.text.classification import TextClassification
    from datamodules.text.inputs import TextInputs
    from datamodules.text.sets import IMDB, NSMC, SST2, YNAT, AGNews, KoreanIntents, MovieReviews

__all__ = [
    "IMDB",
    "NSMC",
    "SST2",
    "YNAT",
    "AGNews",
    "KoreanIntents",
    "MovieReviews",
    "TextClassification",
    "TextInputs",
]

#: In which module each of them is.
_HOMES = {
    "TextClassification": "classification",
    "TextInputs": "inputs",
    "IMDB": "sets",
    "NSMC": "sets",
    "SST2": "sets",
    "YNAT": "sets",
    "AGNews": "sets",
    "KoreanIntents": "sets",
    "MovieReviews": "sets",
}


def __getattr__(name: str) -> Any:
    return attribute(__name__, _HOMES, name)
