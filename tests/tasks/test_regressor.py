"""Regression in the target's own unit, whatever scale the net learns on."""

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from sklearn.metrics import (
    mean_absolute_error,
    mean_pinball_loss,
    mean_squared_error,
    r2_score,
)
from torch.utils.data import DataLoader, TensorDataset

from datamodules import Diabetes
from zoo import MLP, Regressor
from zoo.errors import OptionError, UserError


def loader(features: torch.Tensor, target: torch.Tensor, batch_size: int = 7) -> DataLoader:
    return DataLoader(TensorDataset(features, target), batch_size=batch_size)


@pytest.fixture
def line() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(40, 3, generator=generator)
    noise = torch.randn(40, generator=generator)
    return features, 500 + 100 * (features @ torch.tensor([1.0, -2.0, 0.5])) + 5 * noise


ORIGINS = [0.0, 1e4, 1e6, 1e9]
UNITS = [1e-6, 1.0, 1e6]


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("unit", UNITS)
def test_figures_are_those_of_scikit_learn(trainer, line, origin, unit):
    features, _ = line
    generator = torch.Generator().manual_seed(1)
    relative = unit * torch.randn(40, generator=generator, dtype=torch.float64)
    target = origin + relative
    torch.manual_seed(0)
    net = MLP(3, 1, widths=[8])
    task = Regressor(net, loss="quantile", quantile=0.9, target_mean=origin, target_std=2 * unit)
    (found,) = trainer().test(task, loader(features, target), verbose=False)
    with torch.no_grad():
        outputs = net(features)[:, 0].double() * 2 * unit
        predicted = task(features)
    relative = target - origin  # what a float64 at that origin keeps of it
    expected = {
        "test/mse": mean_squared_error(relative, outputs),
        "test/mae": mean_absolute_error(relative, outputs),
        "test/r2": r2_score(relative, outputs),
        "test/pearson": pearsonr(relative, outputs).statistic,
        "test/loss": mean_pinball_loss(relative, outputs, alpha=0.9) / (2 * unit),
    }
    assert found == pytest.approx(expected, rel=1e-5)
    assert predicted.dtype == torch.float64
    near = {"rtol": 0, "atol": 1e-6 * unit + 2 * float(np.spacing(origin))}
    torch.testing.assert_close(predicted, outputs + origin, **near)
    drawn = torch.stack(task.test_artifacts["scatter"])
    torch.testing.assert_close(drawn, torch.stack([predicted, target]), **near)


def test_targets_that_float32_cannot_tell_apart_are_learnt(trainer, line):
    """Of seconds since 1970, 1.7e9, float32 knows every 128th."""
    features, target = line
    data = loader(features, 1.7e9 + (target.double() - 500) / 100, batch_size=40)
    torch.manual_seed(0)
    task = Regressor(MLP(3, 1, widths=[32]), lr=0.05, target_mean=1.7e9, target_std=2.0)
    runner = trainer(max_epochs=40)
    untrained = runner.test(task, data, verbose=False)[0]["test/r2"]
    runner.fit(task, data)
    trained = runner.test(task, data, verbose=False)[0]["test/r2"]
    assert untrained < 0.5
    assert 0.95 < trained < 1
    assert len(set(task(features).tolist())) == 40


def test_half_precision_is_refused_where_it_would_round_targets(trainer, line):
    task = Regressor(MLP(3, 1, widths=[4]), target_mean=500.0, target_std=200.0)
    with pytest.raises(OptionError, match="precision is 'bf16-true'; give 32 or bf16-mixed"):
        trainer(precision="bf16-true").fit(task, loader(*line))
    (found,) = trainer(precision="bf16-mixed").test(task, loader(*line), verbose=False)
    assert 0 < found["test/mae"] < 1000


def test_the_unit_of_the_target_does_not_matter(trainer, line):
    features, target = line
    predictions = []
    for factor in (1.0, 1000.0):
        torch.manual_seed(0)
        mean, std = target.mean().item() * factor, target.std().item() * factor
        net = MLP(3, 1, widths=[8])
        task = Regressor(net, lr=0.01, target_mean=mean, target_std=std)
        trainer(max_epochs=5).fit(task, loader(features, target * factor))
        predictions.append(task.eval()(features).detach() / factor)
    torch.testing.assert_close(predictions[0], predictions[1], rtol=1e-3, atol=1e-2)


def test_learns_diabetes_better_than_the_mean(trainer):
    data = Diabetes(batch_size=32)
    torch.manual_seed(0)
    net = MLP(data.in_channels, data.num_classes, widths=[32])
    task = Regressor(net, lr=0.01, target_mean=data.target_mean, target_std=data.target_std)
    runner = trainer(max_epochs=15)
    runner.fit(task, data)
    (found,) = runner.test(task, data, verbose=False)
    assert found["test/r2"] > 0.3
    predictions = torch.cat([batch["prediction"] for batch in runner.predict(task, data)])
    assert 50 < predictions.mean() < 250


def test_a_net_with_several_outputs_is_refused(trainer, line):
    with pytest.raises(UserError, match=r"gives \(7, 2\) for 7 samples.*\(B, 1\)"):
        trainer().fit(Regressor(MLP(3, 2, widths=[4])), loader(*line))


@pytest.mark.parametrize(
    ("options", "said"),
    [({"target_std": 0.0}, "target_std is 0.0"), ({"quantile": 1.5}, "quantile")],
)
def test_options_out_of_range(options, said):
    with pytest.raises(ValueError, match=said):
        Regressor(MLP(3, 1), loss="quantile", **options)
