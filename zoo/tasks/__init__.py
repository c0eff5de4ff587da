"""Tasks: what is learnt from which loss, and how it is measured."""

from zoo.tasks.base import Task
from zoo.tasks.image_classifier import ImageClassifier
from zoo.tasks.image_segmenter import ImageSegmenter
from zoo.tasks.language_model import LanguageModel
from zoo.tasks.preference import PreferenceTuning
from zoo.tasks.regressor import Regressor
from zoo.tasks.text_classifier import TextClassifier

__all__ = [
    "ImageClassifier",
    "ImageSegmenter",
    "LanguageModel",
    "PreferenceTuning",
    "Regressor",
    "Task",
    "TextClassifier",
]
