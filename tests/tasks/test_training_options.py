"""Freezing, the backbone's learning rate, adaptive clipping, compilation."""

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import FSDPStrategy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision import models

from datamodules.core.errors import OptionError
from datamodules.language.batch import TokenBatch
from zoo import (
    GPT,
    GoogLeNet,
    ImageClassifier,
    ImageSegmenter,
    LanguageModel,
    Regressor,
    RNNLanguageModel,
    TransformerClassifier,
    UNet,
)
from zoo.optim.optimizers import build_optimizer, clip_adaptively
from zoo.tasks.classifier import Classifier


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


@pytest.fixture
def compiled(monkeypatch) -> list[tuple[nn.Module, dict[str, Any]]]:
    """What is compiled, and how; of which nothing comes."""
    seen: list[tuple[nn.Module, dict[str, Any]]] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **how: seen.append((self, how)))
    return seen


def test_compile_compiles_the_net_and_leaves_its_names(trainer, digits, compiled):
    task = ImageClassifier(small_net(), compile=True, compile_mode="max-autotune")
    names = set(task.state_dict())
    trainer(limit_train_batches=1).fit(task, digits)
    assert compiled == [(task.net, {"mode": "max-autotune", "dynamic": False})]
    assert set(task.state_dict()) == names


@pytest.fixture
def tokens() -> DataLoader:
    rows = torch.arange(40).view(4, 10) % 9
    batch = TokenBatch(rows[:, :-1], rows[:, 1:], torch.arange(4))
    return DataLoader([batch] * 2, batch_size=None)


def test_compile_compiles_the_blocks_of_a_language_model(trainer, tokens, compiled):
    net = GPT(9, 16, embedding_dim=8, num_layers=3, num_heads=2)
    trainer().fit(LanguageModel(net, compile=True, sample_tokens=0), tokens)
    assert [module for module, _ in compiled] == list(net.blocks)


def test_compiled_blocks_are_what_training_runs(trainer, tokens, monkeypatch):
    ran = []

    def backend(module, inputs):
        return lambda *args: ran.append(1) or module(*args)

    run = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, **_: run(self, backend=backend))
    losses = []
    for compile in (False, True):
        torch.manual_seed(0)
        task = LanguageModel(
            GPT(9, 16, embedding_dim=8, num_layers=3, num_heads=2), compile=compile, sample_tokens=5
        )
        trainer().fit(task, tokens)
        losses.append(task.train_figures("epoch"))
        assert bool(ran) is compile
        before = len(ran)
        assert len(list(task.write([1, 2]))) == 5
        assert len(ran) == before  # each step would compile anew
    assert losses[0] == losses[1]


def test_compile_says_where_there_is_nothing_to_compile():
    with pytest.raises(OptionError, match=r"compile is true; .*RNNLanguageModel has no blocks"):
        LanguageModel(RNNLanguageModel(9, embedding_dim=8), compile=True)


@pytest.mark.parametrize(
    ("net", "left"),
    [
        (
            lambda: TransformerClassifier(50, 3, embedding_dim=8, num_heads=2, pooling="cls"),
            {"embedding.weight", "position", "cls", "fc.weight"},
        ),
        (small_net, {"fc.weight"}),
        (
            lambda: models.VisionTransformer(8, 4, 1, 2, 8, 16, num_classes=3),
            {"class_token", "encoder.pos_embedding", "heads.head.weight"},
        ),
    ],
)
def test_muon_leaves_positions_class_tokens_and_heads_to_adamw(net, left):
    net = net()
    task = Classifier(net, num_classes=3, optimizer="muon")
    matrices = {name for name, parameter in net.named_parameters() if parameter.ndim > 1}
    assert task.exclude_from_muon() & matrices == left
    assert matrices - left


class WithAuxiliaryHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.aux = nn.Linear(64, 10), nn.Linear(64, 10)

    def forward(self, x):
        x = x.flatten(1)
        return (self.fc(x), self.aux(x)) if self.training else self.fc(x)


def test_auxiliary_heads_without_weight_train_in_two_processes(trainer, digits):
    task = ImageClassifier(WithAuxiliaryHead(), num_classes=10, aux_weight=0.0, weight_decay=0.0)
    before = {name: value.clone() for name, value in task.net.state_dict().items()}
    trainer(devices=2, strategy="ddp_fork").fit(task, digits)
    changed = {n for n, value in task.net.state_dict().items() if not torch.equal(value, before[n])}
    assert changed == {"fc.weight", "fc.bias"}


def test_a_sharded_net_is_refused(digits):
    task = ImageClassifier(small_net())
    task._trainer = SimpleNamespace(strategy=FSDPStrategy())
    with pytest.raises(OptionError, match="strategy is 'FSDPStrategy'; give ddp, as each process"):
        task.setup("fit")
