"""Figures, and what pictures are drawn from."""

from zoo.metrics.calibration import entropy, fit_temperature, scores
from zoo.metrics.collectors import Collected, MostWrong, auc_and_accuracy, reliability_bins
from zoo.metrics.regression import regression_figures

__all__ = [
    "Collected",
    "MostWrong",
    "auc_and_accuracy",
    "entropy",
    "fit_temperature",
    "regression_figures",
    "reliability_bins",
    "scores",
]
