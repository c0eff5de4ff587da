"""What a run prints: a bar while an epoch runs, one line when it is over."""

from __future__ import annotations

import sys
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from tqdm import tqdm

from zoo.callbacks.train_log import train_log
from zoo.run.figures import digits

#: Columns of a terminal that a line fits into.
_WIDTH = 100


class Progress(TQDMProgressBar):
    """A bar on terminals, and for every epoch one line that stays.

    The bar shows the figures of the last log point, so that it never waits for the device.
    """

    def __init__(self) -> None:
        super().__init__(leave=False)
        self._seconds = 0.0
        if not sys.stderr.isatty():
            self.disable()

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return the last logged training loss."""
        log = train_log(trainer)
        latest = log.latest if log else {}
        return {"loss": f"{latest['train/loss']:.4g}"} if "train/loss" in latest else {}

    def on_train_epoch_start(self, trainer: Trainer, *args: Any) -> None:
        """Count the bar's epochs as the lines do, from 1."""
        super().on_train_epoch_start(trainer, *args)
        self.train_progress_bar.set_description(_epoch(trainer))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the epoch's line."""
        super().on_train_epoch_end(trainer, pl_module)
        log = train_log(trainer)
        if log is None or not trainer.is_global_zero:
            return
        seconds, self._seconds = log.seconds - self._seconds, log.seconds
        latest = {**log.latest, **_of_the_epoch(log.latest)}
        self.print(line_of(_epoch(trainer), latest, monitored(trainer, pl_module), seconds))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the figures of a validation within an epoch; the epoch's line has its last."""
        super().on_validation_end(trainer, pl_module)
        log = train_log(trainer)
        within = trainer.state.fn == "fit" and not trainer.sanity_checking
        if not within or trainer.is_last_batch or log is None or not trainer.is_global_zero:
            return
        of_validation = {k: v for k, v in log.latest.items() if k.startswith("val/")}
        place = f"{_epoch(trainer)}, step {trainer.global_step}"
        self.print(line_of(place, of_validation, monitored(trainer, pl_module)))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting the seconds of the epochs."""
        super().on_train_start(trainer, pl_module)
        log = train_log(trainer)
        self._seconds = log.seconds if log else 0.0

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bar."""
        if self.is_enabled:
            tqdm.write(" ".join(map(str, args)), file=sys.stdout)
        else:
            print(*args, flush=True)


def monitored(trainer: Trainer, pl_module: LightningModule) -> str:
    """Return the name of the figure that chooses the best epoch."""
    of_run = (getattr(each, "monitor", None) for each in trainer.checkpoint_callbacks)
    chosen = next(filter(None, of_run), None) or getattr(pl_module, "monitor", None)
    return chosen or "val/loss"


def line_of(
    place: str, figures: dict[str, float], monitor: str, seconds: float | None = None
) -> str:
    """Return a line of 100 columns at most: losses and the monitored figure.

    Of that figure in training only where there is room for it. ``metrics.csv`` has all others.

    >>> figures = {"train/loss": 0.5, "train/acc": 0.75, "val/loss": 1.0, "val/acc": 0.5}
    >>> line_of("epoch 1/2", {**figures, "val/top5": 1.0}, "val/acc", 12.34)
    'epoch 1/2  train/loss 0.5000  train/acc 0.7500  val/loss 1.0000  val/acc 0.5000  12.3 s'
    """
    of_training = f"train/{monitor.partition('/')[2]}"
    names = dict.fromkeys(["train/loss", of_training, "val/loss", monitor])
    columns = {name: f"{name} {digits(figures[name])}" for name in names if name in figures}
    end = [] if seconds is None else [f"{seconds:.1f} s"]
    line = "  ".join([place, *columns.values(), *end])
    if len(line) > _WIDTH and of_training not in ("train/loss", monitor):
        columns.pop(of_training, None)
        line = "  ".join([place, *columns.values(), *end])
    return line


def _epoch(trainer: Trainer) -> str:
    epochs = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else "?"
    return f"epoch {trainer.current_epoch + 1}/{epochs}"


def _of_the_epoch(latest: dict[str, float]) -> dict[str, float]:
    """Return the training's figures over a whole epoch, under the names of single log points."""
    return {k.removesuffix("_epoch"): v for k, v in latest.items() if k.endswith("_epoch")}
