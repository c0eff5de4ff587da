"""Regression in the target's own unit, whatever scale the net learns on."""

import pytest
import torch
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from datamodules import Diabetes
from zoo import MLP, Regressor
from zoo.errors import UserError


def loader(features: torch.Tensor, target: torch.Tensor, batch_size: int = 7) -> DataLoader:
    return DataLoader(TensorDataset(features, target), batch_size=batch_size)


@pytest.fixture
def line() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(40, 3, generator=generator)
    noise = torch.randn(40, generator=generator)
    return features, 500 + 100 * (features @ torch.tensor([1.0, -2.0, 0.5])) + 5 * noise


def test_figures_are_those_of_scikit_learn(trainer, line):
    features, target = line
    torch.manual_seed(0)
    task = Regressor(MLP(3, 1, widths=[8]), loss="huber", target_mean=480.0, target_std=200.0)
    (found,) = trainer().test(task, loader(features, target), verbose=False)
    with torch.no_grad():
        predicted = task(features)
        scaled = (predicted - target) / 200
    assert found["test/mse"] == pytest.approx(mean_squared_error(target, predicted), rel=1e-5)
    assert found["test/mae"] == pytest.approx(mean_absolute_error(target, predicted), rel=1e-5)
    assert found["test/r2"] == pytest.approx(r2_score(target, predicted), rel=1e-4)
    correlation = torch.corrcoef(torch.stack([target, predicted]))[0, 1].item()
    assert found["test/pearson"] == pytest.approx(correlation, rel=1e-4)
    huber = nn.functional.huber_loss(scaled, torch.zeros_like(scaled)).item()
    assert found["test/loss"] == pytest.approx(huber, rel=1e-5)


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
