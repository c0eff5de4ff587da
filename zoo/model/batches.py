"""Batches on a device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def moved(batch: Any, device: torch.device, dtype: torch.dtype | None = None) -> Any:
    """Return a batch on a device; its floats of another type, where one is given."""
    if isinstance(batch, Tensor):
        to = dtype if batch.is_floating_point() else None
        return batch.to(device, to, non_blocking=True)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(moved(part, device, dtype) for part in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(moved(part, device, dtype) for part in batch)
    if isinstance(batch, dict):
        return {name: moved(part, device, dtype) for name, part in batch.items()}
    return batch.to(device) if hasattr(batch, "to") else batch
