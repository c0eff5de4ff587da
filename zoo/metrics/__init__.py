"""Figures, and what pictures are drawn from."""

from zoo.metrics.calibration import (
    calibration_error,
    entropy,
    fit_temperature,
    reliability_bins,
    scores,
)
from zoo.metrics.classes import Confusion, confusion_counts, f1, iou, mean_over_classes, recall
from zoo.metrics.collectors import Collected, MostWrong, auc_and_accuracy
from zoo.metrics.regression import regression_figures

__all__ = [
    "Collected",
    "Confusion",
    "MostWrong",
    "auc_and_accuracy",
    "calibration_error",
    "confusion_counts",
    "entropy",
    "f1",
    "fit_temperature",
    "iou",
    "mean_over_classes",
    "recall",
    "regression_figures",
    "reliability_bins",
    "scores",
]
