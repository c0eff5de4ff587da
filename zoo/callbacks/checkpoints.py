"""Saves ``best.ckpt`` and ``last.ckpt``, and stops a run on a signal without losing a step."""

from __future__ import annotations

import math
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from datamodules.core.errors import one_of, refuse
from zoo.callbacks.train_log import log_interval
from zoo.errors import Interrupted
from zoo.run.checkpoint import link_checkpoint

_BEST = ("best_model_score", "best_epoch", "best_step")


@runtime_checkable
class MonitoredTask(Protocol):
    """A task that says which of its figures picks the best checkpoint, ``min`` or ``max`` of it."""

    monitor: str
    mode: Literal["min", "max"]


@runtime_checkable
class WatchedTask(Protocol):
    """A task that watches its loss."""

    def check_finite(self) -> None:
        """Raise an error if a training loss was not finite."""


class Checkpoints(Checkpoint):
    """Keeps two files in ``<run folder>/checkpoints``: ``best.ckpt`` and ``last.ckpt``.

    ``best.ckpt`` is the epoch with the best validation figure, of equal ones the latest; a figure
    that is not finite is never the best.
    ``last.ckpt`` is written at every epoch's end (as a second name of ``best.ckpt`` where that was
    written just then) and, if asked, every few steps;
    ``fit --ckpt_path last`` goes on from it exactly.
    Neither is written once a loss was not finite.

    Ctrl-C and SIGTERM are waited for: the step is finished, ``last.ckpt`` written, and the run ends
    with exit code 130 or 143. A signal during validation waits for its end. A second signal ends
    the run at once.

    Args:
        monitor: The figure that decides which checkpoint is best; the task's own by default.
        mode: Whether more (``max``) or less (``min``) of it is better; the task's own by default.
        every_n_train_steps: Also writes ``last.ckpt`` after every so many optimiser steps; 0: only
            at epochs' ends.
    """

    def __init__(
        self,
        monitor: str | None = None,
        mode: Literal["min", "max"] | None = None,
        every_n_train_steps: int = 0,
    ) -> None:
        if every_n_train_steps < 0:
            raise refuse("every_n_train_steps", every_n_train_steps, "give 0 (off) or more")
        self.monitor = monitor
        self.mode = mode
        self.every_n_train_steps = every_n_train_steps
        self.best_model_score: float | None = None
        #: Where it was: epoch and optimiser step, both counted from 1.
        self.best_epoch: int | None = None
        self.best_step: int | None = None
        self.best_model_path = ""
        self.last_model_path = ""
        self._best_is_due = False
        self._saved_step = 0
        self._signal: int | None = None
        self._handlers: dict[int, Any] = {}

    # ---------------------------------------------------------------- saving

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Settle where the files go and what is monitored."""
        self.folder = Path(trainer.default_root_dir) / "checkpoints"
        if isinstance(pl_module, MonitoredTask):
            self.monitor = self.monitor or pl_module.monitor
            self.mode = self.mode or pl_module.mode

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save every n steps, and on a signal."""
        if trainer.is_last_batch:
            return  # the epoch's end follows and saves, after validation: a state that resumes well
        step = trainer.global_step
        if self._stop_was_asked(trainer):
            self._save(trainer, pl_module, "last")
            raise Interrupted(self._signal or signal.SIGTERM, self.last_model_path)
        due = self.every_n_train_steps and step % self.every_n_train_steps == 0
        if due and step != self._saved_step:
            self._save(trainer, pl_module, "last")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note whether this validation is the best so far."""
        if trainer.sanity_checking or trainer.state.fn != "fit" or self.monitor is None:
            return
        one_of("checkpoint.monitor", self.monitor, sorted(trainer.callback_metrics))
        best, now = self.best_model_score, trainer.callback_metrics[self.monitor].item()
        if not math.isfinite(now):
            return
        # Of equals the later one: it has learnt for longer, and small sets tie often.
        if best is None or (now >= best if self.mode == "max" else now <= best):
            self.best_model_score = now
            self.best_epoch, self.best_step = trainer.current_epoch + 1, trainer.global_step
            self._best_is_due = True
            if not trainer.is_last_batch:  # validation inside an epoch
                self._save_best(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save both files; stop here if a signal came since the epoch's last batch."""
        if self._best_is_due:
            self._save_best(trainer, pl_module)
            self.last_model_path = str(self.folder / "last.ckpt")
            if trainer.is_global_zero:
                link_checkpoint(Path(self.best_model_path), Path(self.last_model_path))
        else:
            self._save(trainer, pl_module, "last")
        if self._stop_was_asked(trainer):
            raise Interrupted(self._signal or signal.SIGTERM, self.last_model_path)

    def _save_best(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._best_is_due = False
        self._save(trainer, pl_module, "best")

    def _save(self, trainer: Trainer, pl_module: LightningModule, name: str) -> None:
        if isinstance(pl_module, WatchedTask):
            pl_module.check_finite()
        path = str(self.folder / f"{name}.ckpt")
        # Set first, so that the file knows its own name.
        setattr(self, f"{name}_model_path", path)
        trainer.save_checkpoint(path)
        self._saved_step = trainer.global_step

    def state_dict(self) -> dict[str, Any]:
        """Return the best figure so far."""
        return {name: getattr(self, name) for name in _BEST}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on comparing with the best figure of the earlier session, if its file is here."""
        best = self.folder / "best.ckpt"
        if best.is_file():
            for name in _BEST:
                setattr(self, name, state_dict.get(name))
            self.best_model_path = str(best)

    # ---------------------------------------------------------------- signals

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen for Ctrl-C and SIGTERM; after Lightning has set its own handlers."""
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._handlers[signum] = signal.signal(signum, self._on_signal)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the signals back."""
        for signum, handler in self._handlers.items():
            signal.signal(signum, handler)
        self._handlers.clear()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Give the signals back."""
        self.on_train_end(trainer, pl_module)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            raise Interrupted(signum, self.last_model_path or None)
        self._signal = signum
        print(
            "\nzoo: stopping once this step or validation is done; once more stops at once",
            file=sys.stderr,
            flush=True,
        )

    def _stop_was_asked(self, trainer: Trainer) -> bool:
        if trainer.world_size == 1:
            return self._signal is not None
        # All processes have to stop at the same step. They agree at log points, where the device
        # is waited for in any case, and at epochs' ends.
        if trainer.global_step % log_interval(trainer) and not trainer.is_last_batch:
            return False
        asked = torch.tensor(self._signal or 0, device=trainer.strategy.root_device)
        agreed = trainer.strategy.reduce(asked, reduce_op="max")
        self._signal = int(agreed) or None
        return self._signal is not None
