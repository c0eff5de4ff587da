"""A trained net as one uses it in Python: ``zoo.load``, and what it answers."""

from zoo.model.loading import load
from zoo.model.model import Model
from zoo.model.results import (
    ClassResult,
    LabelsResult,
    MaskResult,
    NumberResult,
    Result,
    TextResult,
)

__all__ = [
    "ClassResult",
    "LabelsResult",
    "MaskResult",
    "Model",
    "NumberResult",
    "Result",
    "TextResult",
    "load",
]
