"""Writes figures to the loggers at log points, after validation and at epochs' ends."""

from __future__ import annotations

import time
from typing import Any, Literal, Protocol, cast

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback


class LoggedTask(Protocol):
    """A task that keeps sums of its training figures on the device."""

    def take_train_figures(self, since: Literal["log", "epoch"]) -> tuple[dict[str, float], float]:
        """Return the means since the last log point or epoch, and of how many samples they are."""

    def throughput(self, seen: float, seconds: float) -> dict[str, float]:
        """Return figures of speed, from the samples seen in so many seconds."""


class TrainLog(Callback):
    """The log of a task's figures, one row per optimiser step at which something is known.

    A row is written before any checkpoint of the same step, so that a run which goes on from the
    checkpoint has all earlier rows. Between two log points (``trainer.log_every_n_steps``) nothing
    is read from the device. Columns that start with ``time/`` differ from run to run.
    """

    def __init__(self) -> None:
        #: Of training and its validations, over all sessions of the run.
        self.seconds = 0.0
        #: The last value of each figure, of validation's those of the current epoch.
        self.latest: dict[str, float] = {}
        self._started = 0.0
        self._mark = (0.0, 0)
        self._logged_step = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._started = time.monotonic() - self.seconds
        self._mark = (time.monotonic(), 0)
        self._logged_step = trainer.global_step

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the validation of an earlier epoch: this one may have none."""
        self.latest = {k: v for k, v in self.latest.items() if not k.startswith("val/")}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the means since the last log point."""
        step = trainer.global_step
        if step == self._logged_step or step % log_interval(trainer):
            return
        self._logged_step = step
        task = cast("LoggedTask", pl_module)
        row, seen = task.take_train_figures("log")
        now = time.monotonic()
        speed = task.throughput(seen, now - self._mark[0])
        if self._mark[1]:  # the first interval includes the start-up
            row |= speed
        self._mark = (now, step)
        row["train/lr"] = max(group["lr"] for group in trainer.optimizers[0].param_groups)
        self._write(trainer, row)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the validation figures."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._write(trainer, _figures(trainer, "val/"))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the epoch's training means."""
        row, _ = cast("LoggedTask", pl_module).take_train_figures("epoch")
        self._write(trainer, {f"{name}_epoch": value for name, value in row.items()})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._read_clock()

    def _read_clock(self) -> None:
        if self._started:
            self.seconds = time.monotonic() - self._started

    def _write(self, trainer: Trainer, row: dict[str, float]) -> None:
        self._read_clock()
        if self._started:
            row["time/elapsed_s"] = self.seconds
        self.latest.update(row)
        for logger in trainer.loggers:
            logger.log_metrics({"epoch": trainer.current_epoch, **row}, trainer.global_step)
            logger.save()

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds trained so far."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting from an earlier session."""
        self.seconds = state_dict["seconds"]


def train_log(trainer: Trainer) -> TrainLog | None:
    """Return the log of a Trainer, where it has one."""
    return next((c for c in trainer.callbacks if isinstance(c, TrainLog)), None)  # type: ignore[attr-defined]


def log_interval(trainer: Trainer) -> int:
    """Return the optimiser steps between two log points."""
    return int(trainer.log_every_n_steps)  # type: ignore[attr-defined]


def _figures(trainer: Trainer, prefix: str) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in trainer.callback_metrics.items()
        if name.startswith(prefix)
    }
