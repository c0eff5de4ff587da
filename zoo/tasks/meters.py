"""What is counted: metrics of a stage, sums of training."""

from __future__ import annotations

from collections.abc import Callable
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


class TrainSums:
    """Sums of the training figures since the last log point and over the epoch, on the device.

    Args:
        state: What :meth:`state` gave, to go on from.
    """

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        state = state or {}
        self.names: list[str] = list(state.get("names", []))
        # (2 + names,) each: how many samples, their summed loss, and the other figures' sums
        self.sums: dict[str, Tensor] = dict(state.get("sums", {}))
        self.first_bad: Tensor | None = None

    def add(self, loss: Tensor, count: int | Tensor, step: int, correct: dict[str, Tensor]) -> None:
        """Add one batch: a few kernels, no wait."""
        exact = loss if loss.device.type == "mps" else loss.double()
        seen = torch.full_like(exact, count) if isinstance(count, int) else count.to(exact.dtype)
        row = torch.stack([seen, exact * seen, *(v.to(exact.dtype) for v in correct.values())])
        self.names = list(correct)
        for since in ("log", "epoch"):
            total = self.sums.get(since)
            self.sums[since] = row.clone() if total is None else total.to(row.device) + row
        never = torch.full_like(loss, inf) if self.first_bad is None else self.first_bad
        # Steps below 2^24 are exact in float32; a bad loss keeps the smallest step.
        self.first_bad = torch.where(loss.isfinite(), never, never.clamp(max=step))

    def figures(self, since: str, over: Reduce) -> tuple[dict[str, float], float, int | None]:
        """Return the means, how many samples they are of, and the first step of a bad loss.

        Bad is what is not finite. Waits for the device once.
        """
        total = self.sums.get(since)
        if total is None or self.first_bad is None:
            return {}, 0.0, None
        bad = over(self.first_bad.to(total).reshape(1), "min")
        first_bad, count, *sums = torch.cat([bad, over(total, "sum")]).tolist()
        means = [value / max(1.0, count) for value in sums]
        figures = dict(zip(["loss", *self.names], means, strict=True))
        return figures, count, None if first_bad == inf else int(first_bad)

    def restart(self, since: str) -> None:
        """Forget one of the two intervals."""
        self.sums.pop(since, None)

    def state(self, over: Reduce) -> dict[str, Any]:
        """Return plain data for a checkpoint, summed over all processes."""
        empty = torch.zeros(2 + len(self.names), dtype=torch.float64)
        sums = {
            since: over(self.sums.get(since, empty), "sum").cpu().clone()
            for since in ("log", "epoch")
        }
        return {"names": self.names, "sums": sums}
