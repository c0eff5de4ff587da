"""How near predicted numbers are to the true ones, as scikit-learn and scipy count it."""

from __future__ import annotations

import warnings

from torch import Tensor


def regression_figures(predicted: Tensor, target: Tensor) -> dict[str, float]:
    """Return mean squared and absolute error, R² and Pearson's correlation, in float64.

    Where all targets are the same, R² is 1 if they are what was predicted, else 0; the correlation
    is not a number there, nor where all predictions are the same. A single sample has neither.

    Args:
        predicted: ``(N,)``.
        target: ``(N,)``.

    >>> import torch
    >>> regression_figures(torch.tensor([5001.0, 5000.0]), torch.tensor([5000.0, 5001.0]))
    {'mse': 1.0, 'mae': 1.0, 'r2': -3.0, 'pearson': -1.0}
    """
    from scipy.stats import pearsonr
    from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

    truth, guess = target.double().cpu().numpy(), predicted.double().cpu().numpy()
    # R² and correlation are those of any origin: from this one, equal targets are 0 to the digit.
    truth, guess = truth - truth[0], guess - truth[0]
    figures = {
        "mse": float(mean_squared_error(truth, guess)),
        "mae": float(mean_absolute_error(truth, guess)),
        "r2": float("nan"),
        "pearson": float("nan"),
    }
    if len(truth) > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of scipy's, where all values are the same, or nearly
            figures |= {
                "r2": float(r2_score(truth, guess)),
                "pearson": float(pearsonr(truth, guess).statistic),
            }
    return figures
