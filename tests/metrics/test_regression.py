"""Figures of numbers against scikit-learn and scipy, whatever the numbers' origin and unit."""

import warnings

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from zoo.metrics import regression_figures


def by_libraries(predicted, target) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        correlation = pearsonr(target, predicted).statistic
    return {
        "mse": mean_squared_error(target, predicted),
        "mae": mean_absolute_error(target, predicted),
        "r2": r2_score(target, predicted),
        "pearson": correlation,
    }


SAME = [0.5, 0.5, 0.5, 0.5]
CASES = {
    "swapped": ([5001, 5000], [5000, 5001]),
    "swapped, small": ([0.001, 0.0], [0.0, 0.001]),
    "constant": ([0.5, 1.5, 0.25, 1.0], SAME),
    "constant, predicted": (SAME, SAME),
    "constant predictions": (SAME, [0.5, 1.5, 0.25, 1.0]),
    "near constant": ([1.0, 2.0, 0.0, 3.0], [1.0, 1.0, 1.0, 1 + 2**-40]),
}


@pytest.mark.parametrize("case", CASES)
def test_figures(case) -> None:
    predicted, target = (torch.tensor(values, dtype=torch.float64) for values in CASES[case])
    expected = by_libraries(predicted.numpy(), target.numpy())
    assert regression_figures(predicted, target) == pytest.approx(expected, rel=1e-9, nan_ok=True)


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e6, 1e9])
@pytest.mark.parametrize("unit", [1e-6, 1e-3, 1.0, 1e3, 1e6])
def test_figures_at_any_origin_and_unit(offset, unit) -> None:
    rng = np.random.default_rng(0)
    target = rng.standard_normal(40)
    predicted = target + rng.standard_normal(40)
    target, predicted = (offset + unit * values for values in (target, predicted))
    found = regression_figures(torch.from_numpy(predicted), torch.from_numpy(target))
    # Far from 0 the libraries' own means are rounded, which a small unit shows.
    expected = by_libraries(predicted - offset, target - offset)
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_sum_that_rounds_is_no_spread() -> None:
    """Three tenths over three are not quite a tenth; scikit-learn alone gives -6e32 here."""
    target = torch.full((3,), 0.1, dtype=torch.float64)
    found = regression_figures(target + torch.tensor([1.0, -1.0, 0.0]), target)
    assert (found["r2"], np.isnan(found["pearson"])) == (0.0, True)


def test_one_sample_has_errors_alone() -> None:
    found = regression_figures(torch.tensor([3.0]), torch.tensor([1.0]))
    assert (found["mse"], found["mae"]) == (4.0, 2.0)
    assert np.isnan([found["r2"], found["pearson"]]).all()
