"""Saves ``best.ckpt`` and ``last.ckpt``, and stops a run on a signal without losing a step."""

from __future__ import annotations

import math
import signal
import sys
from pathlib import Path
from typing import Any, Literal, Protocol, cast, runtime_checkable

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from datamodules.core.errors import above, one_of, refuse
from zoo.run.checkpoint import link_checkpoint
from zoo.run.processes import Processes, requeue
from zoo.run.signals import stop

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

    Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 are waited for: the step is finished, with all batches that
    it accumulates, ``last.ckpt`` written, and the run ends with exit code 128 + the signal's
    number. A signal during validation waits for its end. A second signal, or ``stop_seconds``, end
    the run in any case. Under SLURM, SIGUSR1 (``--signal=USR1@90``) also has the job requeued.

    Args:
        monitor: The figure that decides which checkpoint is best; the task's own by default.
        mode: Whether more (``max``) or less (``min``) of it is better; the task's own by default.
        every_n_train_steps: Also writes ``last.ckpt`` after every so many optimiser steps; 0: only
            at epochs' ends.
        stop_seconds: How long a run may take to end after the first signal, and to notice that one
            of its processes is gone or hangs; more where a callback of yours sleeps longer.
    """

    def __init__(
        self,
        monitor: str | None = None,
        mode: Literal["min", "max"] | None = None,
        every_n_train_steps: int = 0,
        stop_seconds: float = 30.0,
    ) -> None:
        above("stop_seconds", stop_seconds)
        if every_n_train_steps < 0:
            raise refuse("every_n_train_steps", every_n_train_steps, "give 0 (off) or more")
        self.monitor = monitor
        self.mode = mode
        self.every_n_train_steps = every_n_train_steps
        self.stop_seconds = stop_seconds
        self.best_model_score: float | None = None
        #: Where it was: epoch and optimiser step, both counted from 1.
        self.best_epoch: int | None = None
        self.best_step: int | None = None
        self.best_model_path = ""
        self.last_model_path = ""
        self._best_is_due = False
        self._seen_step = 0
        self._is_listener = False

    # ---------------------------------------------------------------- saving

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Settle where the files go and what is monitored."""
        self.folder = Path(trainer.default_root_dir) / "checkpoints"
        stop.limit = self.stop_seconds
        Processes.join(trainer.strategy)
        if isinstance(pl_module, MonitoredTask):
            self.monitor = self.monitor or pl_module.monitor
            self.mode = self.mode or pl_module.mode

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save every n steps, and on a signal."""
        step, seen = trainer.global_step, self._seen_step
        self._seen_step = step
        if step == seen:
            return  # inside an accumulation window, whose gradients no checkpoint holds
        if trainer.is_last_batch:
            return  # the epoch's end follows and saves, after validation: a state that resumes well
        processes = Processes.of_run
        if processes.stops_after(step) if processes else stop.asked:
            self._save(trainer, pl_module, "last")
            self._stop(trainer)
        if self.every_n_train_steps and step % self.every_n_train_steps == 0:
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
        stop.saved = self.last_model_path
        if self._all_were_asked(trainer):
            self._stop(trainer)

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
        if name == "last":
            stop.saved = path

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
        """Have signals waited for; after Lightning has set its own handlers."""
        self._listen()
        stop.graceful = True
        self._seen_step = trainer.global_step

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals back from Lightning."""
        self._listen()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals back from Lightning."""
        self._listen()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals back from Lightning."""
        self._listen()

    def _listen(self) -> None:
        self._is_listener = self._is_listener or not stop.is_listening
        stop.listen()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop here if a signal came since the last epoch's end."""
        stop.graceful = False
        if stop.asked:
            self._stop(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Let no signal disturb the end."""
        stop.ending = True
        if self._is_listener:
            stop.release()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signals back, where no command line listens to them."""
        if self._is_listener:
            stop.release()

    def _stop(self, trainer: Trainer) -> None:
        stop.ending = True
        is_first_try = trainer.is_global_zero and stop.asked == getattr(signal, "SIGUSR1", None)
        if is_first_try and SLURMEnvironment.detect():
            print(f"zoo: {requeue()}", file=sys.stderr, flush=True)
        raise stop.interrupted()

    def _all_were_asked(self, trainer: Trainer) -> bool:
        """Return whether a signal came to any process; all ask at the same place."""
        asked = torch.tensor(stop.asked or 0, device=trainer.strategy.root_device)
        if trainer.world_size > 1:
            asked = cast("torch.Tensor", trainer.strategy.reduce(asked, reduce_op="max"))
        if asked and not stop.asked:
            stop.note(int(asked))
        return bool(asked)
