"""What Lightning's Trainer refuses late, with a traceback, or not at all."""

from __future__ import annotations

import os
import pkgutil
import re
from collections.abc import Mapping
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule
from lightning.pytorch.accelerators import Accelerator, AcceleratorRegistry, CPUAccelerator
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.strategies import StrategyRegistry
from torch import Tensor, nn

from datamodules.core.errors import did_you_mean, refuse
from zoo.errors import UserError
from zoo.nets.cost import dry_run
from zoo.nets.outputs import check_shape, main_logits
from zoo.nets.pretrained.builders import first_convolution
from zoo.tasks import Task
from zoo.tasks.base import UNSHARDED

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
    """Check the Trainer's options before it is built.

    Args:
        options: The section ``trainer`` of the parsed configuration.

    Raises:
        UserError: If one of them cannot work on this machine.
    """
    for name, lowest in _LOWEST.items():
        value = options.get(name)
        if value is not None and not value >= lowest:  # NaN is not
            unlimited = " (-1 sets no limit)" if lowest == -1 else ""
            raise refuse(f"trainer.{name}", value, f"give {lowest} or more{unlimited}")
    root = options.get("default_root_dir")
    if not root or "://" in str(root):
        raise refuse("trainer.default_root_dir", root, "give a folder on this machine")
    strategy = options.get("strategy")
    names = ["auto", *StrategyRegistry.available_strategies()]
    if isinstance(strategy, str) and strategy not in names:
        remedy = f"give auto for the one that fits{did_you_mean(strategy, names)}"
        raise refuse("trainer.strategy", strategy, remedy)
    if isinstance(strategy, str) and strategy.startswith(("fsdp", "deepspeed", "model_parallel")):
        raise refuse("trainer.strategy", strategy, UNSHARDED)
    if isinstance(strategy, str) and re.search("spawn|fork|notebook|xla|hpu", strategy):
        raise refuse("trainer.strategy", strategy, "give ddp, whose processes start by themselves")
    _check_time(options.get("max_time"))
    if options.get("val_check_interval") == 0:
        remedy = "give a share of the epoch above 0, or a number of batches"
        raise refuse("trainer.val_check_interval", options["val_check_interval"], remedy)
    if options.get("barebones"):
        raise refuse("trainer.barebones", True, "leave it out, as a run logs and saves")
    for name in ("callbacks", "logger", "profiler", "strategy", "plugins"):
        value = options.get(name)
        for spec in value if isinstance(value, list) else [value]:
            _refuse_functions(f"trainer.{name}", spec)
    accelerator = options.get("accelerator")
    if isinstance(accelerator, str):
        _check_accelerator(accelerator)
        _check_devices(options.get("devices"), on_cpu=device_type(accelerator) == "cpu")


def _check_time(given: Any) -> None:
    """Refuse what is no time, of which Lightning does not say which option it is."""
    try:
        Timer(given)
    except (TypeError, MisconfigurationException) as error:
        remedy = "give DD:HH:MM:SS, or a mapping such as {hours: 2}"
        raise refuse("trainer.max_time", given, remedy) from error


def _refuse_functions(option: str, spec: Any) -> None:
    """Refuse a net where a class of Lightning's takes a function, which a recipe cannot name."""
    if not isinstance(spec, Namespace) or not spec.class_path.startswith("lightning."):
        return
    for name, value in vars(spec.get("init_args") or Namespace()).items():  # type: ignore[no-untyped-call]
        if isinstance(value, Namespace) and "class_path" in value:
            found = pkgutil.resolve_name(value.class_path)
            if isinstance(found, type) and issubclass(found, nn.Module):
                remedy = "leave it out, as it takes a function, which a recipe cannot name"
                raise refuse(f"{option}.{name}", value.class_path, remedy)


def check_monitor(monitor: str | None, model: LightningModule) -> None:
    """Check that validation gives the figure which the best checkpoint is chosen by.

    Args:
        monitor: Its name; None for the task's own.
        model: The task.

    Raises:
        UserError: If it does not, which would show after an epoch only.
    """
    if monitor is None or not isinstance(model, Task):
        return
    known = ["val/loss", *map(str, model.build_metrics("val"))]
    known += [f"val/{name}" for name in model.derived_names]
    if monitor not in known:
        raise refuse("checkpoint.monitor", monitor, f"give one of {', '.join(known)}")


def _check_accelerator(name: str) -> None:
    known = sorted(["auto", "gpu", *AcceleratorRegistry.available_accelerators()])
    if name not in known:
        raise refuse("trainer.accelerator", name, f"give one of {', '.join(known)}")
    kinds = {"auto": [], "gpu": ["cuda", "mps"]}.get(name, [name])
    if kinds and not any(AcceleratorRegistry[kind]["accelerator"].is_available() for kind in kinds):
        raise refuse(
            "trainer.accelerator",
            name,
            "give auto for the best that this machine has, or cpu: it has no other that torch can "
            "use",
        )


def device_type(accelerator: str | Accelerator) -> str:
    """Return the kind of device, by torch's name, that the option ``accelerator`` means here."""
    if accelerator == "cpu" or isinstance(accelerator, CPUAccelerator):
        return "cpu"
    found = torch.accelerator.current_accelerator(check_available=True)
    return found.type if found is not None else "cpu"


def _check_devices(devices: Any, *, on_cpu: bool) -> None:
    """Compare a count or a list of devices with what there is."""
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
        raise refuse("trainer.devices", devices, f"give {forms}")
    if not is_list and not 1 <= int(text) <= have:
        raise refuse("trainer.devices", int(text), f"give a number from 1 to {have}, the {name}")
    if is_list and max(map(int, numbers)) >= have:
        raise refuse(
            "trainer.devices", devices, f"the {name} are numbered from 0 to {have - 1}: give those"
        )


def check_net(
    net: nn.Module, example: Tensor, num_classes: int, *, per_pixel: bool = False
) -> None:
    """Run the smallest training batch through the net in training mode, on the meta device.

    Args:
        net: The network.
        example: A batch on the meta device, ``(B, ...)``, as small as training will see.
        num_classes: Classes of the data.
        per_pixel: Whether every pixel has a class.

    Raises:
        UserError: If a batch norm would see one value per channel, the input does not fit the net
            or the net gives another number of classes.
    """
    training = net.training
    net.train()
    try:
        outputs = dry_run(net, example)
    except ValueError as error:
        if "more than 1 value per channel" in str(error):
            raise UserError(
                f"with batches of {len(example)}, a batch norm would see one value per channel; "
                "set data.batch_size to 2 or more, or choose another norm (model.net.norm: group)"
            ) from error
        raise _refusal(net, example, error) from error
    except NotImplementedError:
        return  # not runnable without real data; training itself will tell
    except RuntimeError as error:
        if "meta" in str(error).lower() or "fake" in str(error).lower():
            return
        raise _refusal(net, example, error) from error
    finally:
        net.train(training)
    wanted = (num_classes, *(example.shape[2:] if per_pixel else ()))
    check_shape(main_logits(outputs, net), wanted, net)


def _refusal(net: nn.Module, example: Tensor, error: Exception) -> UserError:
    if example.ndim == 4:
        channels, height, width = example.shape[1:]
        plural = "" if channels == 1 else "s"
        what = f"images of {channels} channel{plural} and {height}x{width} pixels"
    else:
        what = f"samples of the shape {tuple(example.shape[1:])}"
    reason = " ".join(str(error).split())[:200]
    remedy = "choose another net or other data, or set the net's options"
    first = first_convolution(net)
    if (
        example.ndim == 4
        and first is not None
        and example.shape[1] != first[1].in_channels in (1, 3)
    ):
        remedy = f"set data.channels to {first[1].in_channels}, or to auto"
    return UserError(
        f"option model.net: {type(net).__name__} does not take {what} ({reason}); {remedy}"
    )
