"""Which precision a net is trained and used in.

``trainer.precision: auto`` becomes half precision where the processor and the net gain by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from datamodules.core.errors import refuse
from zoo.nets.protocols import HasAdapter, HasLayerDepths

#: Capabilities of CPUs that multiply in bfloat16 themselves: Intel's and AMD's, then ARM's.
_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")
#: Types of weights and inputs by the precision's name; of others they are float32.
_TRUE_TYPES = {
    "bf16-true": torch.bfloat16,
    "16-true": torch.float16,
    "64-true": torch.float64,
    "64": torch.float64,
}
#: Types that operations are cast to, which gain by it.
_MIXED_TYPES = {
    "bf16-mixed": torch.bfloat16,
    "bf16": torch.bfloat16,
    "16-mixed": torch.float16,
    "16": torch.float16,
}


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
    if device_type == "cuda" and precision in _MIXED_TYPES:
        torch.set_float32_matmul_precision("high")


@contextmanager
def allowing_tf32(precision: str, device_type: str) -> Iterator[None]:
    """Do the same within a context alone, as what is around may be another program's."""
    before = torch.get_float32_matmul_precision()
    allow_tf32(precision, device_type)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


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


_WHOLE = ("32-true", "32")


def weights_type(precision: str) -> torch.dtype:
    """Return the type that weights and inputs have.

    Raises:
        OptionError: If a net cannot be used in this precision without a Trainer.
    """
    if precision in _TRUE_TYPES:
        return _TRUE_TYPES[precision]
    if precision not in (*_WHOLE, *_MIXED_TYPES):
        names = ", ".join((*_WHOLE[:1], *_MIXED_TYPES, *_TRUE_TYPES))
        raise refuse("trainer.precision", precision, f"give auto, or one of {names}, to predict")
    return torch.float32


@contextmanager
def computing_in(precision: str, device_type: str) -> Iterator[None]:
    """Compute in a precision, as a run does: as Lightning's Trainer, and with what it allows.

    Args:
        precision: Its name.
        device_type: ``cpu``, ``cuda`` or another of torch's.
    """
    if precision in _MIXED_TYPES:
        # Of a CPU Lightning takes the one half precision for the other.
        dtype = torch.bfloat16 if device_type == "cpu" else _MIXED_TYPES[precision]
        cast = torch.autocast(device_type, dtype=dtype, cache_enabled=False)
        with allowing_tf32(precision, device_type), cast:
            yield
        return
    # What a net makes itself, a mask say, has the type of its weights.
    before = torch.get_default_dtype()
    torch.set_default_dtype(weights_type(precision))
    try:
        yield
    finally:
        torch.set_default_dtype(before)
