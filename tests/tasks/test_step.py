"""An optimiser step: its mean is over all its samples, however they are spread; its randomness."""

from __future__ import annotations

from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor, distributed, nn
from torch.utils.data import DataLoader

from zoo.callbacks.train_log import TrainLog
from zoo.tasks.base import Task
from zoo.tasks.classifier import Classifier
from zoo.tasks.image_segmenter import ImageSegmenter
from zoo.tasks.meters import TrainSums
from zoo.tasks.regressor import Regressor

OPTIONS: dict[str, Any] = {
    "optimizer": "sgd",
    "lr": 1.0,
    "momentum": 0.0,
    "weight_decay": 0.0,
    "schedule": "constant",
}
WEIGHTS = [1.0, 2.0, 9.0]
#: 23 samples: three batches of 6 and one of 5 make two steps; or, in two processes, 14 and 9.
SAMPLES = 23


def classifier(**options: Any) -> Task:
    return Classifier(nn.Linear(4, 3), num_classes=3, **options, **OPTIONS)


def segmenter(loss: Any) -> Task:
    net = nn.Conv2d(4, 3, 1)
    return ImageSegmenter(
        net, num_classes=3, loss=loss, class_weights=WEIGHTS, channels_last=False, **OPTIONS
    )


def rows() -> tuple[Tensor, Tensor]:
    return torch.randn(SAMPLES, 4), torch.arange(SAMPLES) % 3 % 2 * torch.arange(SAMPLES) % 3


def labels_of_several() -> tuple[Tensor, Tensor]:
    return torch.randn(SAMPLES, 4), torch.rand(SAMPLES, 3).round()


def numbers() -> tuple[Tensor, Tensor]:
    return torch.randn(SAMPLES, 4), torch.randn(SAMPLES)


def masks() -> tuple[Tensor, Tensor]:
    """Of which some pixels do not count, of each image more, and of one image none."""
    masks = torch.randint(0, 3, (SAMPLES, 5, 6))
    places = torch.arange(30).view(5, 6)
    ignored = places < torch.linspace(0, 30, SAMPLES).round().view(-1, 1, 1)
    return torch.randn(SAMPLES, 4, 5, 6), masks.where(~ignored, 255)


CASES: dict[str, tuple[Any, Any]] = {
    "classes": (lambda: classifier(), rows),
    "weighted classes": (lambda: classifier(class_weights=WEIGHTS), rows),
    "focal": (lambda: classifier(class_weights=WEIGHTS, loss="focal"), rows),
    "several labels": (lambda: classifier(label_kind="multilabel"), labels_of_several),
    "numbers": (lambda: Regressor(nn.Linear(4, 1), **OPTIONS), numbers),
    **{
        f"masks, {loss}": (lambda loss=loss: segmenter(loss), masks)
        for loss in ("cross_entropy", "focal", "dice", "dice_cross_entropy")
    },
}


class Shares(L.LightningDataModule):
    """The samples in batches of a size; of two processes the first has many more."""

    def __init__(self, samples: tuple[Tensor, Tensor], size: int) -> None:
        super().__init__()
        self.samples, self.size = samples, size

    def train_dataloader(self) -> DataLoader[Any]:
        samples, size = self.samples, self.size
        if self.trainer is not None and self.trainer.world_size == 2:
            of_first = 14
            cut = slice(0, of_first) if self.trainer.global_rank == 0 else slice(of_first, None)
            samples = tuple(part[cut] for part in samples)
            size = 7 if self.trainer.global_rank == 0 else 5  # two batches each, of 7, 7 and 5, 4
        batches = list(zip(*(part.split(size) for part in samples), strict=True))
        return DataLoader(batches, batch_size=None)


class Losses(L.Callback):
    """Remembers the logged loss, in the process that asks."""

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        log = next(c for c in trainer.callbacks if isinstance(c, TrainLog))
        trainer.callback_metrics["loss"] = torch.tensor(log.latest["train/loss_epoch"])


def alone(values: Tensor, op: str) -> Tensor:
    """What one process reduces to."""
    return values


def trained(make: Any, samples: tuple[Tensor, Tensor], size: int, runner: L.Trainer) -> Task:
    torch.manual_seed(0)
    task: Task = make().double()
    runner.fit(task, Shares(samples, size))
    return task


def doubles(make_samples: Any) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    first, second = make_samples()
    return first.double(), second.double() if second.is_floating_point() else second


@pytest.mark.parametrize("case", CASES)
def test_accumulated_batches_have_the_gradient_and_the_loss_of_one(trainer, case):
    make, make_samples = CASES[case]
    inputs, targets = doubles(make_samples)
    # The same two steps with one batch each.
    first, last = slice(0, 12), slice(12, None)
    torch.manual_seed(0)
    expected: Task = make().double()
    for part in (first, last):
        outputs = expected.net(inputs[part])
        wanted = targets[part]
        outputs = outputs[:, 0] if isinstance(expected, Regressor) else outputs
        loss = expected.loss(outputs, wanted)
        gradients = torch.autograd.grad(loss, list(expected.net.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(expected.net.parameters(), gradients, strict=True):
                parameter -= gradient
    options = {"accumulate_grad_batches": 2, "precision": "64-true"}
    task = trained(make, (inputs, targets), 6, trainer(**options))
    for got, want in zip(task.net.parameters(), expected.net.parameters(), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", ["weighted classes", "numbers", "masks, cross_entropy"])
def test_uneven_shards_have_the_gradient_and_the_loss_of_one_process(trainer, case):
    make, make_samples = CASES[case]
    samples = doubles(make_samples)
    results = []
    for devices in (1, 2):
        options: dict[str, Any] = {"devices": devices, "precision": "64-true"}
        if devices == 2:
            options |= {"strategy": "ddp_fork", "accumulate_grad_batches": 2}
        runner = trainer(**options, callbacks=[Losses()])
        results.append((trained(make, samples, SAMPLES, runner), runner.callback_metrics["loss"]))
    (one, loss_of_one), (two, loss_of_two) = results
    for got, want in zip(two.net.parameters(), one.net.parameters(), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(loss_of_two, loss_of_one)


def test_a_step_draws_by_its_place_in_the_run_alone(trainer, monkeypatch):
    seen = []

    class Drawing(Regressor):
        def training_step(self, batch, batch_idx):
            seen.append(torch.rand(()).item())
            return super().training_step(batch, batch_idx)

    task = Drawing(nn.Linear(4, 1), **OPTIONS)
    # It formats stack traces for kinds of devices that are not there, at a small net's whole cost.
    monkeypatch.setattr(torch, "manual_seed", lambda seed: pytest.fail("seeds what is not used"))
    trainer(max_epochs=2).fit(task, Shares(numbers(), 12))
    places = [(0, epoch, batch, 0) for epoch in range(2) for batch in range(2)]
    words = [np.random.SeedSequence(place).generate_state(1, np.uint64)[0] for place in places]
    generators = [torch.Generator().manual_seed(int(word)) for word in words]
    assert seen == [torch.rand((), generator=generator).item() for generator in generators]


def test_sums_are_added_up_over_processes_without_being_changed(monkeypatch):
    class OfTwo(Task):
        trainer = type("Trainer", (), {"world_size": 2, "global_step": 0})()

    task = OfTwo(nn.Linear(2, 2))
    calls = []
    monkeypatch.setattr(
        distributed, "all_reduce", lambda total, op: calls.append(op) or total.mul_(2)
    )
    monkeypatch.setattr(distributed, "barrier", lambda *_, **__: pytest.fail("waits"))
    for loss in (1.0, 2.0):
        task.log_training(torch.tensor(loss), 3, acc=torch.tensor(2))
    for _ in range(3):
        state = task.train_sums.state(task._over_processes)
        assert state["sums"]["epoch"].tolist() == [12.0, 12.0, 18.0, 8.0]
        figures, count = task.train_figures("epoch")
        assert (figures, count) == ({"train/loss": 1.5, "train/acc": 4 / 6}, 12.0)
    assert {str(op) for op in calls} == {"RedOpType.SUM", "RedOpType.MIN"}


def test_sums_do_not_depend_on_when_they_are_asked_for():
    torch.manual_seed(0)
    losses = (torch.rand(300, dtype=torch.float64) * 10 ** torch.randn(300)).tolist()
    always, seldom = TrainSums(), TrainSums()
    for step, loss in enumerate(losses):
        for sums in (always, seldom):
            sums.add(torch.tensor(loss, dtype=torch.float64), 3, 7, step, {})
        always.figures("log", alone)
    assert (
        always.state(alone)["sums"]["epoch"].tolist()
        == seldom.state(alone)["sums"]["epoch"].tolist()
    )
    mean = seldom.figures("epoch", alone)[0]["loss"]
    assert mean == pytest.approx(sum(losses) / 300, rel=1e-12)


def test_a_loss_that_was_not_finite_is_known_by_its_first_step():
    sums = TrainSums()
    for step in range(1, 200):
        sums.add(torch.tensor(float("nan") if step in (150, 151) else 1.0), 1, 1, step, {})
    assert sums.figures("log", alone)[2] == 150
    sums.restart("log")
    assert sums.figures("log", alone) == ({}, 0.0, 150)
