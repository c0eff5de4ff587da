"""Freezing, the backbone's learning rate, adaptive clipping, compilation."""

import re

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from datamodules.core.errors import OptionError
from zoo import GoogLeNet, ImageClassifier, ImageSegmenter, Regressor, UNet
from zoo.optim.optimizers import build_optimizer, clip_adaptively


@pytest.fixture
def digits() -> DataLoader:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(32, 1, 8, 8, generator=generator)
    return DataLoader(TensorDataset(images, torch.arange(32) % 10), batch_size=16)


def small_net() -> GoogLeNet:
    torch.manual_seed(0)
    return GoogLeNet(1, 10, image_size=8)


def test_a_frozen_backbone_keeps_weights_and_running_averages(trainer, digits):
    task = ImageClassifier(small_net(), freeze="backbone", lr=0.1)
    before = {name: value.clone() for name, value in task.net.state_dict().items()}
    trainer(max_epochs=2).fit(task, digits, digits)
    changed = {n for n, value in task.net.state_dict().items() if not torch.equal(value, before[n])}
    assert changed == {"fc.weight", "fc.bias"}


UNUSED = {
    "focal_gamma": (ImageClassifier, {"focal_gamma": 3.0}, {"loss": "focal"}),
    "gce_q": (ImageClassifier, {"gce_q": 0.5}, {"loss": "generalized_cross_entropy"}),
    "focal_gamma of masks": (ImageSegmenter, {"focal_gamma": 3.0}, {"loss": "focal"}),
    "huber_delta": (Regressor, {"huber_delta": 2.0}, {"loss": "pseudo_huber"}),
    "quantile": (Regressor, {"quantile": 0.9}, {"loss": "quantile"}),
    "gamma": (ImageClassifier, {"gamma": 0.2}, {"schedule": "step"}),
    "milestones": (ImageClassifier, {"milestones": [0.3]}, {"schedule": "step"}),
    "beta2": (ImageClassifier, {"beta2": 0.95, "optimizer": "sgd"}, {"optimizer": "muon"}),
}


@pytest.mark.parametrize("case", UNUSED)
def test_an_option_without_effect_is_refused(case):
    task, option, user = UNUSED[case]
    net = UNet(1, 10) if task is ImageSegmenter else nn.Linear(4, 10)
    own = {} if task is Regressor else {"num_classes": 10}
    name, value = next(iter(option.items()))
    with pytest.raises(OptionError, match=re.escape(f"option {name} is {value}; leave it out, as")):
        task(net, **own, **option)
    task(net, **own, **{**option, **user})


def test_freezing_needs_to_know_the_last_layer():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(
        ValueError,
        match=r"freeze is 'backbone'; .* Sequential has no last layer named fc, classifier",
    ):
        ImageClassifier(net, num_classes=10, freeze="backbone")


def test_the_backbone_learns_at_its_own_rate(trainer, digits):
    task = ImageClassifier(
        small_net(), optimizer="sgd", lr=0.2, backbone_lr_factor=0.1, schedule="linear"
    )
    runner = trainer(max_epochs=1)
    runner.fit(task, digits)
    (optimizer,) = runner.optimizers
    rate_of = {id(p): g["initial_lr"] for g in optimizer.param_groups for p in g["params"]}
    rates = {name: rate_of[id(p)] for name, p in task.net.named_parameters()}
    expected = {name: 0.2 if name.startswith("fc.") else 0.02 for name in rates}
    assert rates == pytest.approx(expected)
    decays = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert decays[id(task.net.fc.bias)] == 0
    assert decays[id(task.net.fc.weight)] == 5e-4


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_every_optimizer_takes_the_factor(name):
    net = small_net()
    optimizer = build_optimizer(net, name, lr=1.0, lr_factors={"conv1.conv.weight": 0.5})
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates[id(net.fc.weight)] == 1.0
    assert rates[id(net.conv1.conv.weight)] == 0.5


def test_clipping_follows_its_formula():
    torch.manual_seed(0)
    matrix, vector = nn.Parameter(torch.randn(5, 3, 2, 2)), nn.Parameter(torch.zeros(4))
    matrix.grad = torch.randn(5, 3, 2, 2) * torch.logspace(-4, 1, 5).view(-1, 1, 1, 1)
    vector.grad = torch.ones(4)
    expected = matrix.grad.clone()
    for unit in range(5):
        limit = 0.01 * max(matrix[unit].norm().item(), 1e-3)
        norm = expected[unit].norm().item()
        expected[unit] *= min(1.0, limit / norm)
    clip_adaptively([matrix, vector], 0.01)
    torch.testing.assert_close(matrix.grad, expected)
    assert torch.equal(matrix.grad[0], expected[0])  # the small one as it was
    torch.testing.assert_close(vector.grad.norm().item(), 0.01 * 1e-3)


def test_clipping_spares_the_last_layer(trainer, digits):
    norms = {}
    for clip in (None, 1e-4):
        task = ImageClassifier(small_net(), optimizer="sgd", lr=0.0, adaptive_clip=clip)
        trainer(limit_train_batches=1).fit(task, digits)
        norms[clip] = {n: p.grad.norm().item() for n, p in task.net.named_parameters()}
    assert norms[1e-4]["conv1.conv.weight"] < 0.1 * norms[None]["conv1.conv.weight"]
    assert norms[1e-4]["fc.weight"] == pytest.approx(norms[None]["fc.weight"])


def test_compile_compiles_the_net_and_leaves_its_names(trainer, digits, monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))
    task = ImageClassifier(small_net(), compile=True)
    names = set(task.state_dict())
    trainer(limit_train_batches=1).fit(task, digits)
    assert compiled == [task.net]
    assert set(task.state_dict()) == names
