"""What Lightning's Trainer refuses late, with a traceback, or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.strategies import StrategyRegistry

from zoo.errors import UserError
from zoo.messages import nearest
from zoo.tasks import Task

_LOWEST = {
    "max_epochs": -1,
    "max_steps": -1,
    "min_epochs": 0,
    "min_steps": 0,
    "num_nodes": 1,
    "num_sanity_val_steps": -1,
    "check_val_every_n_epoch": 1,
    "log_every_n_steps": 1,
    "accumulate_grad_batches": 1,
    "gradient_clip_val": 0,
    "overfit_batches": 0,
    "limit_train_batches": 0,
    "limit_val_batches": 0,
    "limit_test_batches": 0,
    "limit_predict_batches": 0,
}


def check_trainer(options: Mapping[str, Any]) -> None:
    """Checks the Trainer's options before it is built.

    Args:
        options: The section ``trainer`` of the parsed configuration.

    Raises:
        UserError: One of them cannot work on this machine.
    """
    for name, lowest in _LOWEST.items():
        value = options.get(name)
        if value is not None and value < lowest:
            unlimited = " (-1 sets no limit)" if lowest == -1 else ""
            raise UserError(f"option trainer.{name} is {value:g}; give {lowest} or more{unlimited}")
    root = options.get("default_root_dir")
    if not root or "://" in str(root):
        raise UserError(
            f"option trainer.default_root_dir is {root!r}; give a folder on this machine"
        )
    strategy = options.get("strategy")
    names = ["auto", *StrategyRegistry.available_strategies()]
    if isinstance(strategy, str) and strategy not in names:
        near = nearest(strategy, names)
        hint = f"; did you mean {near!r}?" if near else "; give auto for the one that fits"
        raise UserError(f"option trainer.strategy is {strategy!r}, which there is not{hint}")
    accelerator = options.get("accelerator")
    if isinstance(accelerator, str):
        _check_accelerator(accelerator)
        _check_devices(options.get("devices"), on_cpu=_is_cpu(accelerator))


def check_monitor(monitor: str | None, model: LightningModule) -> None:
    """Checks that validation gives the figure which the best checkpoint is chosen by.

    Args:
        monitor: Its name; None for the task's own.
        model: The task.

    Raises:
        UserError: It does not, which would show after an epoch only.
    """
    if monitor is None or not isinstance(model, Task):
        return
    known = ["val/loss", *map(str, model.build_metrics("val"))]
    known += [f"val/{name}" for name in model.derived]
    if monitor not in known:
        raise UserError(
            f"option checkpoint.monitor is {monitor!r}, but validation gives {', '.join(known)}"
        )


def _check_accelerator(name: str) -> None:
    known = sorted(["auto", "gpu", *AcceleratorRegistry.available_accelerators()])
    if name not in known:
        raise UserError(f"option trainer.accelerator is {name!r}; choose one of {', '.join(known)}")
    kinds = {"auto": [], "gpu": ["cuda", "mps"]}.get(name, [name])
    if kinds and not any(AcceleratorRegistry[kind]["accelerator"].is_available() for kind in kinds):
        raise UserError(
            f"option trainer.accelerator is {name!r}, but this machine has none that torch can "
            "use; give auto for the best that it has, or cpu"
        )


def _is_cpu(accelerator: str) -> bool:
    return accelerator == "cpu" or not torch.accelerator.is_available()


def _check_devices(devices: Any, *, on_cpu: bool) -> None:
    """Compares a count or a list of devices with what there is."""
    if devices == "auto" or (str(devices) == "-1" and not on_cpu):
        return
    if on_cpu:
        have, name, forms = os.cpu_count() or 1, "CPU cores", "auto or a number"
    else:
        have, name = torch.accelerator.device_count(), "accelerators"
        forms = "auto, a number, or a list of numbers such as [0, 1]"
    text = str(devices).strip("[] ")
    numbers = [number.strip() for number in text.split(",") if number.strip()]
    is_list = isinstance(devices, list) or "," in text
    if not numbers or not all(n.isdigit() for n in numbers) or (is_list and on_cpu):
        raise UserError(f"option trainer.devices is {devices!r}; give {forms}")
    if not is_list and not 1 <= int(text) <= have:
        raise UserError(
            f"option trainer.devices is {text}, but there are {have} {name}; "
            f"give a number from 1 to {have}"
        )
    if is_list and max(map(int, numbers)) >= have:
        raise UserError(
            f"option trainer.devices is {devices}, but the {name} are numbered from 0 to {have - 1}"
        )
