"""What ``trainer.precision: auto`` becomes: half precision where the processor and the net gain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import lightning as L
import torch
from torch import nn

from zoo.nets.protocols import HasAdapter, HasLayerDepths

PrecisionName = Literal[
    "auto",
    "32-true",
    "bf16-mixed",
    "16-mixed",
    "64-true",
    "bf16-true",
    "16-true",
    "transformer-engine",
    "transformer-engine-float16",
    "32",
    "bf16",
    "16",
    "64",
    32,  # as YAML reads them
    16,
    64,
]

#: Capabilities of CPUs that multiply in bfloat16 themselves: Intel's and AMD's, then ARM's.
_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")


class Trainer(L.Trainer):
    """Lightning's Trainer, whose precision may be left to the machine.

    Args:
        precision: ``auto`` is ``bf16-mixed`` where the device multiplies in bfloat16 by itself and
            the net gains by it, ``32-true`` elsewhere; a run that goes on keeps its own. ``32``
            asks for float32 anywhere.
    """

    def __init__(self, *, precision: PrecisionName | None = "auto", **kwargs: Any) -> None:
        super().__init__(precision=None if precision == "auto" else precision, **kwargs)


def has_bfloat16(device_type: str) -> bool:
    """Tell whether a kind of device multiplies in bfloat16 itself, not by way of float32.

    Args:
        device_type: ``cpu``, ``cuda`` or another of torch's.
    """
    if device_type == "cpu":
        # newer than the lowest torch; without it nothing is known, and float32 is always right
        known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        return any(known.get(name) is True for name in _BFLOAT16)
    return device_type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def gains(net: nn.Module, device_type: str) -> bool:
    """Tell whether a net trains faster in bfloat16 where the device has it.

    On a GPU all do. On a CPU, measured with AVX-512 BF16: convolutions up to 1.9 times (GoogLeNet
    on 8x8 digits not at all), an LSTM 1.6, a pretrained model with LoRA 1.7; a small GPT does not
    gain, and a GRU, which no fused kernel computes, takes 1.14 times as long.

    Args:
        net: The network.
        device_type: ``cpu``, ``cuda`` or another of torch's.
    """
    if device_type != "cpu":
        return True
    if isinstance(net, HasAdapter | HasLayerDepths):
        return True
    return any(isinstance(layer, nn.Conv2d | nn.LSTM) for layer in net.modules())


def allow_tf32(precision: str, device_type: str) -> None:
    """Let a run in half precision multiply on a GPU in TF32 what it leaves in float32.

    Args:
        precision: The Trainer's.
        device_type: ``cpu``, ``cuda`` or another of torch's.
    """
    if device_type == "cuda" and precision.endswith("-mixed"):
        torch.set_float32_matmul_precision("high")


def choose_precision(
    net: nn.Module, device_type: str, began_with: str | None, *, goes_on: bool
) -> str:
    """Return what ``auto`` means, by what the device can do and never by a timing.

    Args:
        net: The network.
        device_type: ``cpu``, ``cuda`` or another of torch's.
        began_with: The precision of the run that made the checkpoint; None without one.
        goes_on: Whether that run is trained further, which keeps its precision on any device.
    """
    native = has_bfloat16(device_type)
    if began_with is None:
        return "bf16-mixed" if native and gains(net, device_type) else "32-true"
    return began_with if goes_on or native or "16" not in began_with else "32-true"
