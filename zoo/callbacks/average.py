"""The moving average of the weights."""

from __future__ import annotations

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.plugins import DoublePrecision, HalfPrecision


class WeightAverage(WeightAveraging):
    """Lightning's average of the weights, also where training runs in another precision."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Copy the weights once they have the run's precision, which Lightning sets later."""
        if isinstance(trainer.precision_plugin, DoublePrecision | HalfPrecision):
            trainer.precision_plugin.convert_module(pl_module)
        # The module itself is moved there only later; an average on the host would cost a copy of
        # all weights in every step.
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:  # looked at by the host in every step
            self._average_model.n_averaged = self._average_model.n_averaged.cpu()
