"""Norms of layers: the formula, and that without W&B nothing is computed."""

from typing import Any

import pytest
import torch
from torch import nn

import zoo.callbacks.layer_norms as module
from zoo.callbacks.layer_norms import layer_norms


def test_a_layers_norm_is_that_of_all_its_parameters() -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1, bias=False))
    net(torch.ones(4, 3)).sum().backward()
    net[2].weight.grad = None
    first = net[0]
    weights = torch.cat([first.weight.flatten(), first.bias])
    grads = torch.cat([first.weight.grad.flatten(), first.bias.grad])
    found = layer_norms(net)
    assert set(found) == {"grad_norm/0", "weight_norm/0", "weight_norm/2"}
    assert found["weight_norm/0"] == pytest.approx(weights.norm().item(), rel=1e-6)
    assert found["grad_norm/0"] == pytest.approx(float(grads.norm()), rel=1e-6)


def test_without_wandb_nothing_is_computed(zoo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[nn.Module] = []
    monkeypatch.setattr(module, "layer_norms", asked.append)
    fit = "fit --config r.yaml --model.net MLP --trainer.log_every_n_steps 1"
    assert zoo(f"{fit} --wandb off --wandb_watch true").code == 0
    assert asked == []
