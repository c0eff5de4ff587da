"""What of a net's output is the logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from datamodules.core.errors import UserError

#: What nets of others call their logits: transformers' models, and torchvision's that segment.
_NAMES = ("logits", "out")


def main_logits(outputs: Any, net: nn.Module) -> Tensor:
    """Return the logits, from whatever a net gave.

    That is a tensor, a tuple with the logits first (and auxiliary heads behind them), or a
    dictionary or an object in which they are named ``logits`` or ``out``; whatever else is in there
    is left out.

    Args:
        outputs: What the net gave.
        net: The net, for the message.

    Raises:
        UserError: If there are none.
    """
    if isinstance(outputs, tuple) and outputs:
        outputs = outputs[0]
    if isinstance(outputs, Tensor):
        return outputs
    parts = outputs if isinstance(outputs, Mapping) else getattr(outputs, "__dict__", {})
    for name in _NAMES:
        if isinstance(logits := parts.get(name), Tensor):
            return logits
    names = f" of {', '.join(map(str, parts))}" if parts else ""
    raise UserError(
        f"option model.net: {type(net).__name__} gives a {type(outputs).__name__}{names}, in which "
        f"no logits are named {' or '.join(_NAMES)}; choose a net with a head, or wrap it in one "
        "that gives logits"
    )


def auxiliary_logits(outputs: Any) -> list[Tensor]:
    """Return the logits of auxiliary heads, which stand behind the first in a tuple."""
    heads = outputs[1:] if isinstance(outputs, tuple) else ()
    return [head for head in heads if head is not None]


def check_shape(logits: Tensor, wanted: tuple[int, ...], net: nn.Module) -> None:
    """Refuse logits of another shape than the data asks for.

    Args:
        logits: ``(B, ...)``.
        wanted: The shape for one sample: the number of classes and, where each pixel has one, the
            height and width.
        net: The net, for the message.

    Raises:
        UserError: If they have another.
    """
    if logits.shape[1:] == wanted:
        return
    shape = "x".join(map(str, logits.shape[1:])) or "no"
    resizes = len(wanted) > 1 and logits.shape[1:2] == wanted[:1]
    raise UserError(
        f"option model.net: {type(net).__name__} gives {shape} numbers for a sample, but the data "
        f"asks for {'x'.join(map(str, wanted))}, one for each class"
        f"{' and pixel' if len(wanted) > 1 else ''}; "
        + ("wrap it in a net that resizes them" if resizes else "set the net's number of outputs")
    )
