import math
from typing import Any, get_args

import pytest
import torch
from torch import nn

from zoo.catalog.other_names import NOT_OFFERED
from zoo.optim.muon import MuonAdamW, orthogonalise
from zoo.optim.optimizers import (
    DEFAULTS,
    OptimizerName,
    build_optimizer,
    parameter_groups,
)
from zoo.optim.schedules import lr_factor


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 36, 5),
    )


def test_norms_and_biases_do_not_decay() -> None:
    net = small_net()
    decay, keep = parameter_groups(net, 0.1)
    assert (decay["weight_decay"], keep["weight_decay"]) == (0.1, 0.0)
    assert {id(p) for p in decay["params"]} == {id(net[0].weight), id(net[4].weight)}
    assert len(keep["params"]) == 3


def test_frozen_parameters_are_left_out() -> None:
    net = small_net()
    net[0].requires_grad_(False)
    params = [p for group in parameter_groups(net, 0.1) for p in group["params"]]
    assert len(params) == 4


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_each_optimizer_has_its_own_defaults(name: str) -> None:
    optimizer = build_optimizer(small_net(), name)  # type: ignore[arg-type]
    decays = {group["weight_decay"] for group in optimizer.param_groups}
    assert decays == {0.0, DEFAULTS[name]["weight_decay"]}
    assert name not in NOT_OFFERED
    assert {group["lr"] for group in optimizer.param_groups} == {DEFAULTS[name]["lr"]}


def test_sgd_is_nesterov() -> None:
    optimizer = build_optimizer(small_net(), "sgd", lr=0.1, momentum=0.8)
    assert all(group["nesterov"] and group["momentum"] == 0.8 for group in optimizer.param_groups)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("adam", lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.9))),
        ("rmsprop", lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.8, alpha=0.9)),
    ],
)
def test_adam_and_rmsprop_are_torchs(name: Any, reference: Any) -> None:
    ours, theirs = small_net(), small_net()
    theirs.load_state_dict(ours.state_dict())
    optimizer = build_optimizer(ours, name, lr=0.01, momentum=0.8, beta2=0.9)
    train(ours, optimizer, 2)
    train(theirs, reference(theirs.parameters()), 2)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    torch.manual_seed(1)
    images, labels = torch.randn(16, 3, 8, 8), torch.randint(5, (16,))
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()


def test_beta2_is_adamws_and_that_of_muons_rest() -> None:
    for name in ("adamw", "muon"):
        for beta2 in (None, 0.95):
            optimizer = build_optimizer(small_net(), name, beta2=beta2)
            found = {group["betas"] for group in optimizer.param_groups}
            assert found == {(0.9, beta2 or 0.999)}


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_muon_equals_torch_muon_and_adamw(
    memory_format: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Filters as matrices by torch.optim.Muon, everything else by torch.optim.AdamW."""
    monkeypatch.setattr(
        "zoo.optim.muon.ITERATION_TYPE", {"cpu": torch.bfloat16}
    )  # torch's everywhere
    ours, reference = small_net().to(memory_format=memory_format), small_net()
    optimizer = build_optimizer(ours, "muon", lr=0.01, weight_decay=0.1, momentum=0.9)
    assert isinstance(optimizer, MuonAdamW)
    train(ours, optimizer, 3)

    class FlatConv(nn.Conv2d):
        """A convolution whose filter is kept as a matrix, so that torch's Muon takes it."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self._conv_forward(x, self.weight.view(4, 3, 3, 3), self.bias)

    conv = FlatConv(3, 4, 3, bias=False)
    conv.load_state_dict(reference[0].state_dict())
    conv.weight = nn.Parameter(conv.weight.detach().flatten(1))
    reference[0] = conv
    matrices = [conv.weight, reference[4].weight]
    rest = [p for p in reference.parameters() if p.ndim == 1]
    muon = torch.optim.Muon(
        matrices, lr=0.01, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw"
    )
    adamw = torch.optim.AdamW(rest, lr=0.01, weight_decay=0.0)
    torch.manual_seed(1)
    images, labels = torch.randn(16, 3, 8, 8), torch.randint(5, (16,))
    for _ in range(3):
        muon.zero_grad()
        adamw.zero_grad()
        nn.functional.cross_entropy(reference(images), labels).backward()
        muon.step()
        adamw.step()
    for p, q in zip(ours.parameters(), reference.parameters(), strict=True):
        # Muon's iterations are in bfloat16, whose rounding the memory order may touch.
        torch.testing.assert_close(p.flatten(), q.flatten(), atol=2e-3, rtol=0)


@pytest.mark.parametrize("shape", [(20, 33), (33, 20), (16, 16)])
def test_orthogonalise_keeps_the_singular_vectors(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(3, *shape)
    result = orthogonalise(matrices)
    for matrix, near in zip(matrices, result, strict=True):
        u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
        values = u.mT @ near @ vh.mT
        off = values - values.diagonal().diag()
        assert float(off.abs().max()) < 1e-4
        assert float(values.diagonal().min()) > 0.3
        assert float(values.diagonal().max()) < 1.3


def test_muon_state_survives_a_checkpoint() -> None:
    whole, pieces = small_net(), small_net()
    first = build_optimizer(whole, "muon")
    train(whole, first, 4)
    second = build_optimizer(pieces, "muon")
    train(pieces, second, 2)
    third = build_optimizer(pieces, "muon")
    third.load_state_dict(second.state_dict())
    train(pieces, third, 2)
    for p, q in zip(whole.parameters(), pieces.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("warmup", [0, 20])
def test_one_cycle_is_torchs(warmup: int) -> None:
    total = 100
    optimizer = torch.optim.SGD(small_net().parameters(), lr=0.3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.3, total_steps=total, pct_start=(warmup or 30) / total, cycle_momentum=False
    )
    for step in range(total):
        ours = 0.3 * lr_factor("one_cycle", step, total_steps=total, warmup_steps=warmup)
        assert math.isclose(ours, optimizer.param_groups[0]["lr"], rel_tol=1e-9, abs_tol=1e-12)
        optimizer.step()
        if step < total - 1:
            schedule.step()


@pytest.mark.parametrize("name", ["constant", "cosine", "linear", "step", "one_cycle"])
def test_every_schedule_warms_up_and_ends_as_it_says(name: str) -> None:
    factors = [
        lr_factor(name, step, total_steps=100, warmup_steps=10)  # type: ignore[arg-type]
        for step in range(100)
    ]
    assert factors[:10] == sorted(factors[:10])
    assert 0 < factors[0] < 0.2
    assert max(factors) == pytest.approx(1.0)
    assert factors.index(max(factors)) in (9, 10)
    end = {"constant": 1.0, "cosine": 0.0, "linear": 0.0, "step": 0.01, "one_cycle": 0.0}[name]
    assert factors[-1] == pytest.approx(end, abs=0.012)


def test_step_falls_at_the_milestones() -> None:
    factors = [
        lr_factor("step", step, total_steps=100, milestones=(0.3, 0.6), gamma=0.5)
        for step in (29, 30, 59, 60, 99)
    ]
    assert factors == [1.0, 0.5, 0.5, 0.25, 0.25]
