"""Predictions by a Trainer, for tasks, data and callbacks that wait for its hooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch

from zoo.model.batches import moved
from zoo.run.lone_trainer import lone_trainer


class _Kept(L.Callback):
    """Keeps what is predicted of each batch, off the device."""

    def __init__(self) -> None:
        self.batches: list[Any] = []

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.batches.append(moved(outputs, torch.device("cpu")))


class _AsModule(L.LightningDataModule):
    """What prepares inputs, as a Trainer takes it."""

    def __init__(self, data: Any) -> None:
        super().__init__()
        self.data = data

    def predict_dataloader(self) -> Any:
        return self.data.predict_dataloader()

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return self.data.on_after_batch_transfer(batch, dataloader_idx)


def predict_by_trainer(
    task: L.LightningModule,
    data: Any,
    *,
    device: torch.device,
    precision: str,
    limit: float | None,
    callbacks: Sequence[L.Callback],
) -> list[Any]:
    """Return what a task's ``predict_step`` gives for each batch; the task stays on its device.

    Args:
        task: With its weights.
        data: A data module, or what prepares inputs.
        device: Where it computes.
        precision: In which precision.
        limit: How many batches are taken at most, or which share of them.
        callbacks: Called as well.
    """
    module = data if isinstance(data, L.LightningDataModule) else _AsModule(data)
    kept = _Kept()
    more = {"callbacks": [*callbacks, kept], "limit_predict_batches": limit}
    with lone_trainer(task, device, precision, **more) as trainer:
        trainer.predict(task, datamodule=module, return_predictions=False)
    return kept.batches
