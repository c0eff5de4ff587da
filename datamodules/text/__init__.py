"""Texts with labels."""

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
