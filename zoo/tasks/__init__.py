"""Tasks: what is learnt from which loss, and how it is measured."""

from zoo.tasks.base import Task
from zoo.tasks.image_classifier import ImageClassifier
from zoo.tasks.regressor import Regressor

__all__ = ["ImageClassifier", "Regressor", "Task"]
