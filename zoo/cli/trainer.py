"""The Trainer as the command line offers it."""

from __future__ import annotations

from typing import Any, Literal

import lightning as L

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


class Trainer(L.Trainer):
    """Lightning's Trainer, whose precision may be left to the machine.

    Args:
        precision: ``auto`` is ``bf16-mixed`` where the device multiplies in bfloat16 by itself and
            the net gains by it, ``32-true`` elsewhere; a run that goes on keeps its own. ``32``
            asks for float32 anywhere.
    """

    def __init__(self, *, precision: PrecisionName | None = "auto", **kwargs: Any) -> None:
        super().__init__(precision=None if precision == "auto" else precision, **kwargs)
