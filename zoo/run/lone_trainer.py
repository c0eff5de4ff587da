"""A Trainer that evaluates or predicts for a program, and leaves nothing behind."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch

from zoo.run.precision import allowing_tf32


@contextmanager
def lone_trainer(
    module: L.LightningModule, device: torch.device, precision: str, **options: Any
) -> Iterator[L.Trainer]:
    """Give a Trainer of one device that says, logs and saves nothing.

    Afterwards the module lies on the device, and has the Trainer that it had.

    Args:
        module: What will be evaluated, or predicts.
        device: Where it computes.
        precision: In which precision, by the name that Lightning gives it.
        options: More of the Trainer's.
    """
    before = module._trainer
    of_lightning = logging.getLogger("lightning.pytorch")
    level = of_lightning.level
    of_lightning.setLevel(logging.ERROR)  # which devices there are is not of interest here
    try:
        trainer = L.Trainer(
            accelerator=device.type,
            devices=[device.index or 0] if device.type == "cuda" else 1,
            precision=precision,  # type: ignore[arg-type]  # one of its names
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            **options,
        )
        with warnings.catch_warnings(), allowing_tf32(trainer.precision, device.type):
            warnings.filterwarnings("ignore", message=".*but have no logger configured.*")
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            yield trainer
    finally:
        of_lightning.setLevel(level)
        module._trainer = before
        module.to(device)
