"""Regression: one number from a row of a table or from an image."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

from lightning.pytorch.plugins.precision import HalfPrecision
from torch import Tensor, nn
from torchmetrics import Metric

from datamodules.core.errors import above, refuse, refuse_unused
from zoo.inference.outputs import NumberAnswers
from zoo.losses.base import TargetKind
from zoo.losses.regression import RegressionLoss, regression_loss
from zoo.metrics.collectors import Collected, in_order
from zoo.metrics.intervals import Interval, Intervals, intervals
from zoo.metrics.regression import regression_figures
from zoo.metrics.resampled import regression
from zoo.tasks.base import Stage, Task, numbered, numbers_of
from zoo.tasks.logged import Logged


class Regressor(Task):
    """Predicts a number.

    A batch starts with what the net takes, such as rows ``(B, F)``, and the targets ``(B,)`` in
    their own unit: float64 where they are large beside their differences, of which float32 would
    lose all beyond the seventh digit. The net gives ``(B, 1)``, in units of the training targets'
    standard deviation from their mean; the loss, of training, validation and test alike, is taken
    in these units, so that learning rates and ``huber_delta`` do not depend on whether a length is
    in metres or millimetres. Metrics and predictions are in the target's own unit, and float64.

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

    derived_names = ("mse", "mae", "r2", "pearson")
    logged: ClassVar[Logged] = Logged(
        val=("loss", "mse", "mae", "r2", "pearson"),
        test=("loss", "mse", "mae", "r2", "pearson"),
        pictures=("curves", "scatter"),
        tables=("wrong_numbers",),
    )

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
        refuse_unused("huber_delta", huber_delta, 1.0, loss, "huber", "pseudo_huber")
        refuse_unused("quantile", quantile, 0.5, loss, "quantile")
        self.target_mean = target_mean
        self.target_std = target_std

    def setup(self, stage: str) -> None:
        """Build the metrics of the stages to come.

        Raises:
            OptionError: If the Trainer would bring targets to half precision.
        """
        super().setup(stage)
        if stage != "predict" and isinstance(self.trainer.precision_plugin, HalfPrecision):
            precision = self.trainer.precision
            remedy = "give 32 or bf16-mixed, as it would round the targets to two or three digits"
            raise refuse("trainer.precision", precision, remedy)
        # Lightning takes a task's hook, where there is data too, for a mistake.
        warnings.filterwarnings("ignore", message=".*overridden `on_before_batch_transfer` in.*")

    def build_collectors(self, stage: Stage) -> dict[str, Metric]:
        """Return a collector of a stage's outputs and targets, on the scale that the net learns."""
        return {"scatter": Collected(3)}

    def derived_metrics(self, stage: Stage, artifacts: dict[str, Any]) -> dict[str, float]:
        """Return mean squared and absolute error, R² and Pearson's correlation.

        Counted on the net's scale, where targets are near 0: in the target's own unit the digits
        that matter might be the last ones.
        """
        outputs, targets, numbers = (values.reshape(-1) for values in artifacts.pop("scatter"))
        numbers, outputs, targets = in_order(numbers, outputs, targets)
        figures = regression_figures(outputs, targets)
        figures["mse"] *= self.target_std**2
        figures["mae"] *= self.target_std
        if stage == "test":
            artifacts["scatter"] = self._in_own_unit(outputs), self._in_own_unit(targets)
            artifacts["numbers"] = {
                "index": numbers,
                "target": artifacts["scatter"][1],
                "prediction": artifacts["scatter"][0],
            }
            artifacts["standardised"] = outputs, targets
        return {f"{stage}/{name}": value for name, value in figures.items()}

    def intervals(self, figures: dict[str, float], artifacts: dict[str, Any]) -> Intervals:
        """Return the intervals of a test's figures, counted on the net's scale."""
        outputs, targets = artifacts.pop("standardised")
        units = {"mse": self.target_std**2, "mae": self.target_std}
        plain = {name: value / units.get(name, 1) for name, value in figures.items()}
        losses = self.loss(outputs, targets, "none")
        found = intervals(regression(outputs, targets, losses), plain, len(targets))
        for name, unit in units.items():
            if name in found.of:
                low, high, method = found.of[name]
                found.of[name] = Interval(low * unit, high * unit, method)
        return found

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return predictions ``(B,)`` in the target's own unit, float64."""
        return self._in_own_unit(self._standardised(*inputs))

    def _in_own_unit(self, values: Tensor) -> Tensor:
        return self.answers().of_logits(values)

    def _standardised(self, *inputs: Tensor) -> Tensor:
        return self.answers().logits(self.net, *inputs)

    def answers(self) -> NumberAnswers:
        """Return how predictions are made of what the net gives."""
        return NumberAnswers(self.target_mean, self.target_std)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Bring the targets to the scale that the net learns, before they lose digits."""
        if self.trainer.predicting:
            return batch
        target = (batch[1].double() - self.target_mean) / self.target_std
        values = (batch[0], target.float() if self.device.type == "mps" else target, *batch[2:])
        return batch._make(values) if hasattr(batch, "_make") else values

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        loss: Tensor = self.loss(self._standardised(batch[0]), batch[1])
        self.log_training(loss, len(batch[1]))
        return self.share_of_step(loss, len(batch[1]))

    def add_batch(self, stage: Stage, batch: Any) -> None:
        """Add one batch to the figures of a stage."""
        outputs, target, meters = self._standardised(batch[0]), batch[1], self.meters[stage]
        meters.loss.update(self.loss(outputs, target), len(target))
        meters.collectors["scatter"].update(outputs, target, numbers_of(batch, target))

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Return predictions ``(B,)`` in the target's own unit, and sample numbers."""
        return numbered(batch, prediction=self(batch[0]))
