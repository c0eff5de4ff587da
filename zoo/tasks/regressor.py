"""Regression: one number from a row of a table or from an image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.regression import (
    MeanAbsoluteError,
    MeanSquaredError,
    PearsonCorrCoef,
    R2Score,
)

from datamodules.core.errors import above, refuse
from zoo.errors import UserError
from zoo.losses.base import TargetKind
from zoo.losses.regression import RegressionLoss, regression_loss
from zoo.metrics.collectors import Collected
from zoo.tasks.base import Stage, Task, numbered


class _R2(R2Score):
    """R², not a number where there is one sample alone."""

    def compute(self) -> Tensor:
        """Return the figure, of two samples or more."""
        if int(self.total) < 2:
            return torch.tensor(float("nan"))
        r2: Tensor = super().compute()
        return r2


class Regressor(Task):
    """Predicts a number.

    A batch starts with what the net takes, such as rows ``(B, F)``, and the targets ``(B,)`` in
    their own unit. The net gives ``(B, 1)``, in units of the training targets' standard deviation
    from their mean; the loss, of training, validation and test alike, is taken in these units, so
    that learning rates and ``huber_delta`` do not depend on whether a length is in metres or
    millimetres. Metrics and predictions are in the target's own unit.

    Args:
        net: The network.
        loss: See :mod:`zoo.losses` for how they differ.
        huber_delta: Where ``huber`` and ``pseudo_huber`` pass from a parabola to a straight line,
            in standard deviations of the target.
        quantile: Which quantile ``quantile`` learns; 0.5 is the median.
        target_mean: Mean of the training targets; taken from the data by the command line.
        target_std: Their standard deviation, likewise.
        label_kind: What the data's targets are, likewise.
        kwargs: The options of :class:`~zoo.tasks.base.Task`.

    Raises:
        OptionError: If an option lies outside what it may be.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        loss: RegressionLoss = "mse",
        huber_delta: float = 1.0,
        quantile: float = 0.5,
        target_mean: float = 0.0,
        target_std: float = 1.0,
        label_kind: TargetKind = "continuous",
        **kwargs: Any,
    ) -> None:
        super().__init__(net, **kwargs)
        if label_kind != "continuous":
            raise refuse(
                "label_kind",
                label_kind,
                "choose the task ImageClassifier, as a regressor needs numbers to predict",
            )
        above("target_std", target_std)
        self.loss = regression_loss(loss, huber_delta=huber_delta, quantile=quantile)
        self.target_mean = target_mean
        self.target_std = target_std

    def build_metrics(self, stage: Stage) -> MetricCollection:
        """Return mean squared and absolute error, R² and Pearson's correlation."""
        metrics: dict[str, Metric | MetricCollection] = {
            "mse": MeanSquaredError(),
            "mae": MeanAbsoluteError(),
            "r2": _R2(),
            "pearson": PearsonCorrCoef(),
        }
        # Each keeps sums of its own; told apart by comparing states, two could be merged.
        return MetricCollection(metrics, prefix=f"{stage}/", compute_groups=False)

    def build_collectors(self, stage: Stage) -> dict[str, Metric]:
        """Return a collector of a test's predictions and targets."""
        return {"scatter": Collected()} if stage == "test" else {}

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return predictions ``(B,)`` in the target's own unit."""
        return self._standardised(*inputs) * self.target_std + self.target_mean

    def _standardised(self, *inputs: Tensor) -> Tensor:
        outputs = self.net(*inputs)
        if outputs.ndim != 2 or outputs.shape[1] != 1:
            raise UserError(
                f"option model.net gives {tuple(outputs.shape)} for {len(inputs[0])} samples, but "
                "a Regressor needs one number each: (B, 1); set the net's number of outputs to 1"
            )
        column: Tensor = outputs[:, 0]
        # In half precision the target's own unit would be rounded, or beyond its range.
        return column.float() if column.dtype.itemsize < 4 else column

    def _scaled(self, target: Tensor) -> Tensor:
        return (target - self.target_mean) / self.target_std

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        loss: Tensor = self.loss(self._standardised(batch[0]), self._scaled(batch[1]))
        self.log_training(loss, len(batch[1]))
        return self.share_of_step(loss, len(batch[1]))

    def evaluate(self, stage: Stage, batch: Any) -> None:
        """Add one batch to the figures of a stage."""
        predicted, target, meters = self(batch[0]), batch[1], self.meters[stage]
        loss = self.loss(self._scaled(predicted), self._scaled(target))
        meters.loss.update(loss, len(target))
        meters.metrics.update(predicted, target)
        for collector in meters.collectors.values():
            collector.update(predicted, target)

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Return predictions ``(B,)`` in the target's own unit, and sample numbers."""
        return numbered(batch, prediction=self(batch[0]))
