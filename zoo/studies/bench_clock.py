"""A clock inside the Trainer: where the time of a training step goes.

Lightning tells its profiler when each action of a step begins and ends. Actions lie within each
other (the optimiser's step holds the forward and the backward pass), and time counts for the
innermost one that is known: each moment of a step belongs to one part.

Half of the steps are timed as a whole, by two looks at the clock; in the other half each change
from part to part is noted. So the parts can be held against a step that nobody looked into.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Literal, Protocol, get_args

import torch
from lightning.pytorch.profilers import Profiler
from torch import Tensor

from datamodules.core.protocols import HasLengths, PackedTokens
from zoo.cli.trial import tensors_of
from zoo.nets.cost import flop_counter

Part = Literal["data", "forward", "backward", "optimizer", "logging", "trainer"]

#: The parts of a step: the batch until it is prepared on the device; the loss; its gradients; the
#: step of the weights with clipping, schedule and moving average; all other callbacks, which hold
#: the loggers; and what Lightning's loop takes for itself.
PARTS: tuple[Part, ...] = get_args(Part)

_PART_OF_HOOK: dict[str, Part] = {
    "train_dataloader_next": "data",
    "on_before_batch_transfer": "data",
    "batch_to_device": "data",
    "transfer_batch_to_device": "data",
    "on_after_batch_transfer": "data",
    "on_train_batch_start": "forward",
    "training_step": "forward",
    "backward": "backward",
    "optimizer_step": "optimizer",
    "on_before_optimizer_step": "optimizer",
    "configure_gradient_clipping": "optimizer",
    "on_before_zero_grad": "optimizer",
    "optimizer_zero_grad": "optimizer",
    "lr_scheduler_step": "optimizer",
}
#: The action that a step begins with.
_FIRST = "[_TrainingEpochLoop].train_dataloader_next"
#: Steps before those that count; in the second of them operations are counted, where asked for.
_WARM_UP, _COUNTED = 3, 1


@cache
def part_of(action: str) -> Part | None:
    """Return the part of a step that an action is, if it is one.

    >>> part_of("[Strategy]SingleDeviceStrategy.backward")
    'backward'
    >>> part_of("[Callback]TrainLog.on_before_backward")
    'logging'
    """
    if action.startswith("[Callback]WeightAverage."):
        return "optimizer"
    if action.startswith("[Callback]"):
        return "logging"
    return _PART_OF_HOOK.get(action.rpartition(".")[2])


@cache
def _follows_last(action: str) -> bool:
    """Tell whether an action comes after an epoch's last step."""
    return action.endswith(".on_train_epoch_end")


class Timer(Protocol):
    """Marks moments, which are turned into seconds later."""

    def now(self) -> Any:
        """Return a mark of this moment."""

    def seconds(self, marks: Sequence[Any]) -> list[float]:
        """Return the seconds from each mark to the next."""


class HostTimer:
    """The host's clock: on a CPU the work is done when a call returns."""

    def now(self) -> float:
        """Return the seconds since some moment."""
        return time.perf_counter()

    def seconds(self, marks: Sequence[float]) -> list[float]:
        """Return the differences."""
        return [after - before for before, after in pairwise(marks)]


class DeviceTimer:
    """Events in a device's queue: it is waited for once, when the seconds are asked for.

    Args:
        event: Makes an event that knows its time, such as ``torch.cuda.Event``.
    """

    def __init__(self, event: Callable[[], Any]) -> None:
        self.event = event

    def now(self) -> Any:
        """Queue an event behind the work that has been queued."""
        event = self.event()
        event.record()
        return event

    def seconds(self, marks: Sequence[Any]) -> list[float]:
        """Wait for the last event; return the seconds between them."""
        marks[-1].synchronize()
        return [before.elapsed_time(after) / 1000 for before, after in pairwise(marks)]


def timer_of(device: torch.device) -> Timer:
    """Return the clock by which a device's work is timed."""
    if device.type == "cpu":
        return HostTimer()
    return DeviceTimer(lambda: torch.Event(device, enable_timing=True))


@dataclass
class _Step:
    """A step that is timed.

    Attributes:
        marks: Of its beginning, of each change of part where these are noted, and of its end.
        parts: What follows each mark but the last.
        samples: Samples in its batch.
        tokens: Tokens in it, without padding; None where it holds none.
    """

    marks: list[Any]
    parts: list[Part]
    samples: int = 0
    tokens: Tensor | None = None


@dataclass(frozen=True)
class Window:
    """What the steps of a while took on average.

    Attributes:
        steps: How many were timed.
        samples: Samples in a batch.
        tokens: Tokens in a batch, without padding; None where it holds none.
        seconds: Of a step, by those that were timed as a whole.
        parts: Seconds of a step by part, by the others.
    """

    steps: int
    samples: float
    tokens: float | None
    seconds: float
    parts: dict[Part, float]

    @property
    def unit(self) -> str:
        """What a batch's size is told in."""
        return "samples" if self.tokens is None else "tokens"

    @property
    def size(self) -> float:
        """A batch's size in that unit."""
        return self.samples if self.tokens is None else self.tokens

    @property
    def rate(self) -> float:
        """Samples, or tokens, a second."""
        return self.size / self.seconds

    @property
    def sum_of_parts(self) -> float:
        """What the parts add up to, as a share of the step."""
        return sum(self.parts.values()) / self.seconds


class WindowOver(Exception):
    """Ends the Trainer's training once enough of its steps are timed."""


class StepClock(Profiler):
    """Times the steps of a training, and ends it when they are enough.

    Whoever gives it to a Trainer also sets ``batch`` to the batch of each step, before its end.

    Args:
        timer: The device's clock.
        batch_size: Samples in a batch that counts, so that an epoch's rest does not; None where
            each counts. If an epoch has none of that size, each of the next does.
        seconds: How long the steps that count have to last together.
        steps: How many there have to be of those timed as a whole, and of the others.
        accumulated: Batches of an optimiser step, which are timed alike.
        pad_id: The token that stands for none.
        counts: Whether operations are counted, in a step before those that count.

    Attributes:
        batch: The batch of the step.
        flops: The operations of a step's forward and backward pass over its samples, or tokens; a
            multiply-add counts as two. None where they are not counted, or were not found.
    """

    def __init__(
        self,
        timer: Timer,
        batch_size: int | None = None,
        *,
        seconds: float = 0.6,
        steps: int = 3,
        accumulated: int = 1,
        pad_id: int | None = None,
        counts: bool = False,
    ) -> None:
        super().__init__()
        self.timer, self.batch_size, self.pad_id = timer, batch_size, pad_id
        self.at_least = (seconds, steps)
        self.accumulated = accumulated
        self.batch: Any = None
        self.flops: float | None = None
        self._counts, self._counter = counts, flop_counter()
        self._counting = False
        self._step: _Step | None = None
        self._number = -1
        self._divides = False
        self._stack: list[Part] = []
        self._whole: list[_Step] = []
        self._divided: list[_Step] = []
        self._began = self._lasted = 0.0
        self._had_full: bool | None = None  # whether this epoch had a batch of that size, if any

    # ---------------------------------------------------------------- what Lightning tells

    def start(self, action_name: str) -> None:
        """Note that an action begins.

        Raises:
            WindowOver: If enough steps are timed.
        """
        if action_name == _FIRST:
            self._end_step()
            self._begin_step()
        elif _follows_last(action_name):
            self._end_step()
            self._end_epoch()
        if self._divides:
            part = part_of(action_name) or self._stack[-1]
            if part != self._stack[-1]:
                self._mark(part)
            self._stack.append(part)
        elif self._counts and not self._counting:
            is_due = self._number == _COUNTED and part_of(action_name) == "forward"
            if is_due and action_name.endswith(".training_step"):
                self._counting = True
                self._counter.__enter__()  # type: ignore[no-untyped-call]

    def stop(self, action_name: str) -> None:
        """Note that an action ends."""
        if self._divides:
            if len(self._stack) > 1:
                part = self._stack.pop()
                if part != self._stack[-1]:
                    self._mark(self._stack[-1])
        elif self._counting and action_name.endswith(".backward"):
            self.close()

    def close(self) -> None:
        """End what has begun, where a step was broken off."""
        if self._counting:
            self._counting = self._counts = False
            self._counter.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    # ---------------------------------------------------------------- steps

    def _begin_step(self) -> None:
        self._number += 1
        # In the order of Thue and Morse, so that both kinds get their share of what comes up every
        # so many steps, such as a log point. Operations are counted in one that is not divided.
        group = max(0, self._number - _WARM_UP) // self.accumulated
        self._divides = group.bit_count() % 2 == 1
        self._stack = ["trainer"]
        self._began = time.perf_counter()
        self._step = _Step([self.timer.now()], ["trainer"])

    def _mark(self, part: Part) -> None:
        if self._step is not None:
            self._step.marks.append(self.timer.now())
            self._step.parts.append(part)

    def _end_step(self) -> None:
        if self._step is None:
            return
        step, self._step = self._step, None
        step.marks.append(self.timer.now())
        seconds, divides = time.perf_counter() - self._began, self._divides
        self._divides = False
        step.samples, step.tokens = rows_of(self.batch), tokens_of(self.batch, self.pad_id)
        if self._number == _COUNTED and (flops := self._counter.get_total_flops()):
            self.flops = flops / float(step.samples if step.tokens is None else step.tokens)
        is_full = self.batch_size in (None, step.samples)
        self._had_full = is_full or self._had_full is True
        if self._number < _WARM_UP or not is_full:
            return
        (self._divided if divides else self._whole).append(step)
        self._lasted += seconds
        least, steps = self.at_least
        is_enough = self._lasted >= least and steps <= min(len(self._whole), len(self._divided))
        if is_enough and (self._number + 1 - _WARM_UP) % self.accumulated == 0:
            raise WindowOver

    def _end_epoch(self) -> None:
        if self._had_full is False:
            self.batch_size = None  # its batches have other numbers of rows
        self._had_full = None

    # ---------------------------------------------------------------- the result

    def window(self) -> Window:
        """Return what the steps took; here the device is waited for.

        Where batches differ in size, as those of texts do, it is the time of a sample, or token,
        that is measured by the steps of either kind.
        """
        steps = [*self._whole, *self._divided]
        sizes = [float(step.samples) for step in steps]
        samples, tokens = sum(sizes) / len(steps), None
        counted = [step.tokens for step in steps if step.tokens is not None]
        if counted:
            sizes = torch.stack(counted).double().tolist()
            tokens = sum(sizes) / len(steps)
        mean = sum(sizes) / len(sizes)
        of_whole, of_divided = sizes[: len(self._whole)], sizes[len(self._whole) :]
        spent = sum(sum(self.timer.seconds(step.marks)) for step in self._whole)
        parts: dict[Part, float] = dict.fromkeys(PARTS, 0.0)
        for step in self._divided:
            for part, seconds in zip(step.parts, self.timer.seconds(step.marks), strict=True):
                parts[part] += seconds
        return Window(
            steps=len(steps),
            samples=samples,
            tokens=tokens,
            seconds=spent / sum(of_whole) * mean,
            parts={part: each / sum(of_divided) * mean for part, each in parts.items()},
        )


def rows_of(batch: Any) -> int:
    """Return how many samples a batch has."""
    tensors = tensors_of(batch)
    return len(tensors[0][1]) if tensors else 1


def tokens_of(batch: Any, pad_id: int | None) -> Tensor | None:
    """Return how many tokens a batch has without padding, on its device; None if it holds none.

    Args:
        batch: The batch.
        pad_id: The token that stands for none, where the batch does not tell lengths.
    """
    if isinstance(batch, HasLengths):
        return batch.lengths.sum()
    if not isinstance(batch, PackedTokens):
        return None
    if batch.segment_ids is not None:
        return (batch.segment_ids >= 0).sum()
    tokens: Tensor = batch.tokens  # type: ignore[attr-defined]
    return torch.as_tensor(tokens.numel()) if pad_id is None else (tokens != pad_id).sum()
