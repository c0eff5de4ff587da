"""``zoo check``: one batch through net and loss, a few steps on it, and what a run would cost."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor, nn

from datamodules.core.errors import refuse
from datamodules.core.protocols import data_of
from zoo.nets.outputs import main_logits
from zoo.nets.protocols import IsPretrained, KnowsVocabulary
from zoo.report.understood import Length, in_lines, length_of, readable
from zoo.run.memory import clear_peak, peak_memory, whole_memory
from zoo.tasks.base import Task
from zoo.tasks.classifier import Classifier
from zoo.tasks.language_model import LanguageModel

#: Steps on one batch, over how many of them the rate rises where the recipe has a warm-up, and how
#: many at their beginning are left out of the time, as buffers are made in them.
STEPS, _RISE, _START = 20, 10, 3
#: Seconds after which no further step is begun, and how many are made in any case.
_LONGEST, _FEWEST = 60.0, 4
#: Batches of which the largest is tried.
_LOOKED_AT = 8
#: By which share of itself the loss has to fall: less than the slowest sound recipe's.
_FALLS = 0.005


class TrialOver(Exception):
    """Ends the Trainer's training, which was to begin after the trial."""


@dataclass
class Findings:
    """What a trial has found.

    Attributes:
        batch: The tensors of the batch, by name with shape.
        outputs: The shape of the net's output; None where the net is not called as a whole.
        losses: The loss before each step, and after the last.
        cross_entropy: That of the first step, where its start is known.
        chance: What it is of a net that finds all classes equally likely: the logarithm of this.
        seconds: Of a step, with the making of its batch.
        memory: Bytes at the peak.
        room: Bytes that there are.
        length: How long the run would be.
        is_cut_short: Whether the steps took so long that some were left out.
        problems: What is wrong.
    """

    batch: dict[str, tuple[int, ...]] = field(default_factory=dict)
    outputs: tuple[int, ...] | None = None
    losses: list[float] = field(default_factory=list)
    cross_entropy: float | None = None
    chance: int | None = None
    seconds: float = 0.0
    memory: int | None = None
    room: int | None = None
    length: Length | None = None
    is_cut_short: bool = False
    problems: list[str] = field(default_factory=list)

    def table(self) -> str:
        """Return the findings in lines, the problems last."""
        shapes = ", ".join(f"{name} {_shape(shape)}" for name, shape in self.batch.items())
        gives = f"; the net gives {_shape(self.outputs)}" if self.outputs is not None else ""
        rows = [("batch", shapes + gives)]
        if self.losses:
            rows.append(("start", self._start()))
        if len(self.losses) > 1:
            steps = len(self.losses) - 1
            ends = f"loss {self.losses[0]:.4g} to {self.losses[-1]:.4g}"
            few = f", as {STEPS} take over {_duration(_LONGEST)}" if self.is_cut_short else ""
            rows.append(("steps", f"{steps} on this batch alone{few}: {ends}"))
        if self.memory is not None:
            of = f", of {_bytes(self.room)}" if self.room else ""
            rows.append(("memory", f"{_bytes(self.memory)} at its peak{of}"))
        if self.seconds:
            rows.append(("time", self._time()))
        rows += [("wrong", problem) for problem in self.problems] or [("right", "nothing is wrong")]
        return "\n".join(in_lines(rows))

    def _start(self) -> str:
        text = f"loss {self.losses[0]:.4g}"
        if self.chance is None or self.cross_entropy is None or not math.isfinite(self.losses[0]):
            return text
        if not math.isclose(self.cross_entropy, self.losses[0], rel_tol=1e-3):
            text += f", cross-entropy {self.cross_entropy:.4g}"
        expected = math.log(self.chance)
        text += f"; a net that knows nothing has log({self.chance:,}) = {expected:.4g}"
        far = self.cross_entropy > 2 * expected
        return text + (": look at how weights start and inputs are scaled" if far else "")

    def _time(self) -> str:
        text = f"{_duration(self.seconds)} a step"
        if self.length is None:
            return text
        text += f", {_duration(self.seconds * self.length.batches)} an epoch"
        if self.length.steps is not None:
            batches = self.length.steps * self.length.accumulated
            text += f", {_duration(self.seconds * batches)} the run"
        return f"{text}, about, and without validation"


class Trial(Callback):
    """Tries one batch where a training would begin, and ends the training there.

    What is random in a step (dropout, mixing) is drawn alike in each, so that the loss is a
    function of the weights and falls unless something is wrong. The learning rate is the recipe's
    highest; where the recipe has a warm-up, it rises over the first steps.
    """

    def __init__(self) -> None:
        self.findings = Findings()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Try.

        Raises:
            TrialOver: Always, at the end.
            OptionError: If the task is somebody else's.
        """
        if not isinstance(pl_module, Task):
            raise refuse("model", type(pl_module).__name__, "check takes a task of the zoo")
        self.findings.length = length_of(trainer)
        trainer.accumulate_grad_batches = 1
        pl_module.on_train_epoch_start()
        self._try(trainer, pl_module)
        raise TrialOver

    def _try(self, trainer: Trainer, task: Task) -> None:
        found = self.findings
        batch, making, share = _largest_batch(trainer)
        found.batch = _shapes(batch)
        device = trainer.strategy.root_device
        clear_peak(device)
        before = {name: weight.detach().clone() for name, weight in _trained(task)}
        steps = _Steps(trainer, task, batch)
        seconds: list[float] = []
        while len(seconds) < STEPS and all(map(math.isfinite, steps.losses)):
            if len(seconds) >= _FEWEST and sum(seconds) > _LONGEST:
                found.is_cut_short = True
                break
            seconds.append(steps.step(len(seconds)))
        found.losses = [*steps.losses, steps.loss()]
        found.outputs = None if steps.logits is None else tuple(steps.logits.shape)
        found.seconds = statistics.median(seconds[_START:] or seconds) * share + making
        found.memory, found.room = peak_memory(device), whole_memory(device)
        found.chance = _chance(task)
        found.cross_entropy = steps.cross_entropy()
        found.problems += steps.problems(found.losses, too_few=found.is_cut_short)
        found.problems += _unmoved(task, before, steps.highest_lr, len(seconds))


class _Steps:
    """Steps of the optimiser on one batch, as the Trainer makes them.

    Args:
        trainer: The Trainer, whose training has begun.
        task: The task.
        batch: The batch, on the device.
    """

    def __init__(self, trainer: Trainer, task: Task, batch: Any) -> None:
        self.trainer, self.task, self.batch = trainer, task, batch
        self.losses: list[float] = []
        self.logits: Tensor | None = None
        self.optimizer = trainer.optimizers[0]
        self._without: set[str] = {name for name, _ in _trained(task)}
        self._hook = task.net.register_forward_hook(self._look)

    @property
    def highest_lr(self) -> float:
        """The highest learning rate of all groups."""
        return max(float(group["initial_lr"]) for group in self.optimizer.param_groups)

    def step(self, number: int) -> float:
        """Make a step; return the seconds that it took."""
        started = time.perf_counter()
        rising = (number + 1) / _RISE if self.task.warmup_steps else 1.0
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * min(rising, 1.0)
        self.trainer.strategy.optimizer_step(self.optimizer, self._closure)
        _wait(self.trainer)
        return time.perf_counter() - started

    def loss(self) -> float:
        """Return the loss with the weights as they are, drawn as in each step."""
        with torch.no_grad():
            return float(self._forward())

    def _forward(self) -> Tensor:
        self.task.on_train_batch_start(self.batch, 0)
        loss: Any = self.trainer.strategy.training_step(self.batch, 0)
        self._hook.remove()
        assert isinstance(loss, Tensor)
        return loss

    def _closure(self) -> Tensor:
        loss = self._forward()
        self.losses.append(float(loss.detach()))
        self.optimizer.zero_grad()
        self.trainer.strategy.backward(loss, self.optimizer)
        if self._without:
            named = dict(_trained(self.task))
            self._without = {name for name in self._without if not _has_gradient(named[name])}
        return loss

    def _look(self, net: nn.Module, inputs: Any, outputs: Any) -> None:
        self.logits = main_logits(outputs, net).detach()

    def cross_entropy(self) -> float:
        """Return the cross-entropy before the first step, or else the loss."""
        if not isinstance(self.task, Classifier) or self.logits is None:
            return self.losses[0]
        return float(self.task.plain_loss(self.logits.float(), self.batch[1]))

    def problems(self, losses: list[float], *, too_few: bool) -> list[str]:
        """Return what is wrong with the losses and the gradients.

        Args:
            losses: Before each step, and after the last.
            too_few: Whether there are fewer than a sound loss needs to fall.
        """
        found = []
        bad = next((at for at, loss in enumerate(losses) if not math.isfinite(loss)), None)
        if bad == 0:
            return [
                "the loss is not finite before the first step: look for numbers in the data that "
                "are not finite or very large, or give trainer.precision 32"
            ]
        if bad is not None:
            after = "1 step" if bad == 1 else f"{bad} steps"
            return [f"the loss is not finite after {after}: give a lower model.lr"]
        if self._without:
            first, *others = sorted(self._without)
            more = f" (nor {len(others)} more)" if others else ""
            found.append(
                f"{first} gets no gradient{more}: the loss does not depend on it, or its layer is "
                "dead"
            )
        first_loss, last = losses[0], min(losses[-3:])
        if too_few:
            return found
        if self.highest_lr > 0 and last > first_loss - _FALLS * abs(first_loss):
            what, remedy = ("rises", "lower") if losses[-1] > first_loss else ("hardly falls", "")
            found.append(
                f"the loss {what} on one batch, from {first_loss:.4g} to {losses[-1]:.4g}: give a "
                f"{remedy or 'higher'} model.lr, or look at the loss and the labels"
            )
        return found


def _largest_batch(trainer: Trainer) -> tuple[Any, float, float]:
    """Return the largest of some training batches, on the device and prepared.

    Returns:
        The batch, the seconds to make one, and the mean size of a batch as a share of its size.
    """
    loader: Any = trainer.train_dataloader
    ready = [time.perf_counter()]
    batches = []
    for batch in islice(loader, _LOOKED_AT):
        batches.append(batch)
        ready.append(time.perf_counter())
    # The median, as the first batch waits for the epoch's order.
    making = statistics.median(after - before for before, after in pairwise(ready))
    sizes = [sum(each.numel() for _, each in tensors_of(batch)) for batch in batches]
    raw = batches[sizes.index(max(sizes))]
    # As Lightning's loop does: the data's hook, where they have one, else the task's.
    data: Any = data_of(trainer)
    own = is_overridden("on_before_batch_transfer", data) if data is not None else False
    raw = (data if own else trainer.lightning_module).on_before_batch_transfer(raw, 0)
    batch = trainer.strategy.batch_to_device(raw, dataloader_idx=0)
    return batch, making, statistics.mean(sizes) / max(sizes)


def tensors_of(batch: Any) -> list[tuple[str, Tensor]]:
    """Return a batch's tensors with their names; without a name, their place."""
    if isinstance(batch, dict):
        pairs = list(batch.items())
    elif hasattr(batch, "_fields"):
        pairs = list(zip(batch._fields, batch, strict=True))
    else:
        given = batch if isinstance(batch, list | tuple) else [batch]
        pairs = [(str(place), value) for place, value in enumerate(given)]
    return [(str(name), value) for name, value in pairs if isinstance(value, Tensor)]


def _shapes(batch: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in tensors_of(batch) if name != "index"}


def _trained(task: Task) -> list[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in task.net.named_parameters() if p.requires_grad]


def _has_gradient(parameter: nn.Parameter) -> bool:
    return parameter.grad is not None and bool(parameter.grad.any())


def _unmoved(task: Task, before: dict[str, Tensor], lr: float, steps: int) -> list[str]:
    """Return what is wrong where no weight was changed by the steps."""
    if any(not torch.equal(before[name], weight) for name, weight in _trained(task)):
        return []
    return [f"no weight moves in {steps} steps: model.lr is {lr:g}; give a higher one"]


def _chance(task: Task) -> int | None:
    """Return of how many equally likely answers the net has to find one, where that is known."""
    if isinstance(task, Classifier):
        return 2 if task.multilabel else task.num_classes
    net = task.net
    if not isinstance(task, LanguageModel) or not isinstance(net, KnowsVocabulary):
        return None
    return None if isinstance(net, IsPretrained) and net.is_pretrained else net.vocab_size


def _wait(trainer: Trainer) -> None:
    device = trainer.strategy.root_device
    if device.type != "cpu":
        torch.get_device_module(device).synchronize()


def _bytes(number: float) -> str:
    return f"{readable(number).rstrip()}B"


def _shape(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})"


def _duration(seconds: float) -> str:
    """Return seconds, minutes or hours, in two digits.

    >>> [_duration(seconds) for seconds in (0.0123, 4.56, 90, 5000, 360000)]
    ['0.012 s', '4.6 s', '1.5 min', '1.4 h', '1e+02 h']
    """
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:.2g} s"
