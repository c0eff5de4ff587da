"""What a run prints: a bar while an epoch runs, one line when it is over."""

from __future__ import annotations

import sys
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from tqdm import tqdm

from zoo.callbacks.train_log import train_log


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

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the epoch's line."""
        super().on_train_epoch_end(trainer, pl_module)
        log = train_log(trainer)
        if log is None or not trainer.is_global_zero:
            return
        shown = {
            "train/loss": log.latest.get("train/loss_epoch"),
            "train/acc": log.latest.get("train/acc_epoch"),
            **{name: value for name, value in log.latest.items() if name.startswith("val/")},
        }
        epochs = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else "?"
        columns = [f"{name} {digits(value)}" for name, value in shown.items() if value is not None]
        seconds, self._seconds = log.seconds - self._seconds, log.seconds
        columns.append(f"{seconds:.1f} s")
        self.print(f"epoch {trainer.current_epoch + 1}/{epochs}  " + "  ".join(columns))

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


def digits(value: float) -> str:
    """Return a figure with four decimals, or where it is very small or large with four digits.

    >>> [digits(value) for value in (0.98461, 0.0, 3.14159e-12, 2.5e9)]
    ['0.9846', '0.0000', '3.142e-12', '2.500e+09']
    """
    return f"{value:.3e}" if 0 < abs(value) < 1e-3 or abs(value) >= 1e6 else f"{value:.4f}"
