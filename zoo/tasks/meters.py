"""What is counted: metrics of a stage, sums of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.aggregation import MeanMetric


@dataclass
class Meters:
    """The metrics of a stage.

    They are no submodules of the task: converting its weights to another precision must not touch
    what is counted.
    """

    loss: MeanMetric
    metrics: MetricCollection
    collectors: dict[str, Metric]

    def _all(self) -> list[Metric | MetricCollection]:
        return [self.loss, self.metrics, *self.collectors.values()]

    def to(self, device: torch.device) -> None:
        """Move all of them."""
        for metric in self._all():
            metric.to(device)

    def reset(self) -> None:
        """Empty all of them."""
        for metric in self._all():
            metric.reset()


Reduce = Callable[[Tensor, Literal["sum", "min"]], Tensor]

_SINCE = ("log", "epoch")
_MOST_WAITING = 64


class TrainSums:
    """Sums of the training figures since the last log point and over the epoch, on the device.

    Args:
        state: What :meth:`state` gave, to go on from.
    """

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        state = state or {}
        self.names: list[str] = list(state.get("names", []))
        # (2, 3 + names): how many samples, their weights in the mean loss, the weighted loss, and
        # the other figures' sums; of each of the two intervals
        self.sums: Tensor | None = None
        if "sums" in state:
            self.sums = torch.stack([state["sums"][since] for since in _SINCE])
            if self.sums.shape[1] == 2 + len(self.names):  # 0.1.0 knew no weights
                self.sums = torch.cat([self.sums[:, :1], self.sums], dim=1)
            if not self.names and not self.sums.any():
                self.sums = None  # saved before the first batch, which brings the names
        self.first_bad: Tensor | None = None
        self._waiting: list[list[Tensor | float]] = []

    def add(
        self,
        loss: Tensor,
        count: int | Tensor,
        weight: int | Tensor,
        step: int,
        correct: dict[str, Tensor],
    ) -> None:
        """Add one batch; the device is given many at once, at some hundredth of the cost."""
        self.names = list(correct)
        self._waiting.append([step, count, weight, loss, *correct.values()])
        if len(self._waiting) == _MOST_WAITING:
            self._settle()

    def _settle(self) -> None:
        """Add up what waits, without waiting for the device."""
        if not self._waiting:
            return
        device = next(value.device for value in self._waiting[0] if isinstance(value, Tensor))
        columns = [_column(values, device) for values in zip(*self._waiting, strict=True)]
        self._waiting = []
        steps, _, weights, losses, *_ = columns
        columns[3] = losses * weights
        rows = torch.stack(columns[1:], dim=1)  # (batches, 3 + names)
        first_bad = torch.where(losses.isfinite(), inf, steps).min()
        if self.first_bad is not None:
            first_bad = torch.minimum(first_bad, self.first_bad)
        self.first_bad = first_bad
        if self.sums is None:
            self.sums = rows.new_zeros(len(_SINCE), rows.shape[1])
        self.sums = self.sums.to(rows)
        for row in rows:  # one by one: a sum does not depend on when it was asked for
            self.sums += row

    def figures(self, since: str, over: Reduce) -> tuple[dict[str, float], float, int | None]:
        """Return the means, how many samples they are of, and the first step of a bad loss.

        Bad is what is not finite. Waits for the device once.
        """
        self._settle()
        if self.sums is None or self.first_bad is None:
            return {}, 0.0, None
        total = self.sums[_SINCE.index(since)]
        bad = over(self.first_bad.reshape(1), "min")
        first_bad, count, weight, loss, *sums = torch.cat([bad, over(total, "sum")]).tolist()
        bad_step = None if first_bad == inf else int(first_bad)
        if count == 0:
            return {}, 0.0, bad_step
        means = [loss / weight if weight else 0.0, *(value / count for value in sums)]
        return dict(zip(["loss", *self.names], means, strict=True)), count, bad_step

    def restart(self, since: str) -> None:
        """Forget one of the two intervals."""
        self._settle()
        if self.sums is not None:
            self.sums[_SINCE.index(since)] = 0

    def state(self, over: Reduce) -> dict[str, Any]:
        """Return plain data for a checkpoint, summed over all processes."""
        self._settle()
        sums = self.sums
        if sums is None:
            sums = torch.zeros(len(_SINCE), 3 + len(self.names), dtype=torch.float64)
        total = over(sums, "sum").cpu()
        return {
            "names": self.names,
            "sums": {since: row.clone() for since, row in zip(_SINCE, total, strict=True)},
        }


def exact_type(device: torch.device) -> torch.dtype:
    """Return the type of the most digits that a device has."""
    return torch.float32 if device.type == "mps" else torch.float64


def _column(values: Sequence[Tensor | float], device: torch.device) -> Tensor:
    """Return what is known of some batches, of each one number, without waiting for the device."""
    column = torch.stack(values) if isinstance(values[0], Tensor) else torch.tensor(values)  # type: ignore[arg-type]
    return column.to(device, exact_type(device), non_blocking=True)
