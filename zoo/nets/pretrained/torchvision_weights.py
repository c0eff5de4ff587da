"""Pretrained weights by name, from torchvision's registry, for the nets that have its layers."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from datamodules.core.download import unreachable
from datamodules.core.errors import OptionError, one_of, refuse

if TYPE_CHECKING:  # a broken torchvision must not break nets without pretrained weights
    from torchvision.models import WeightsEnum

_REPLY_WITHIN_SECONDS = 10.0
_NAMES_SHOWN = 3


# The options that torchvision trained its nets with; of all that decide what the layers are.
_TRAINED_WITH: dict[str, object] = {
    "layout": "torchvision",
    "stem": "large",
    "whiten": False,
    "in_channels": 3,
    "norm": "batch",
    "conv": "plain",
    "activation": "relu",
    "pre_activation": False,
    "residual": True,
}


def find_weights(weights: str | None, model: str, **options: object) -> WeightsEnum | None:
    """Return torchvision's entry of that name, if one is asked for and the net's options fit it.

    Args:
        weights: A name in the registry, or None.
        model: Torchvision's name of the net, such as ``googlenet``.
        options: The options that decide what the layers are.

    Raises:
        ValueError: If the name is unknown or an option has another value than the weights need.
    """
    if weights is None:
        return None
    from torchvision.models import get_model_weights

    registry: type[WeightsEnum] = get_model_weights(model)
    check_weights(weights, registry, **options)
    return registry[weights]


def check_weights(weights: str, registry: type[WeightsEnum], **options: object) -> None:
    """Check that weights are known, and that the net's options are those which they fit.

    Args:
        weights: A name in the registry.
        registry: Torchvision's weights of one net, such as ``GoogLeNet_Weights``.
        options: The options that decide what the layers are.

    Raises:
        ValueError: If the name is unknown or an option has another value than the weights need.
    """
    one_of("weights", weights, tuple(registry.__members__))
    wrong = [
        f"{option}={_TRAINED_WITH[option]} (now {given})"
        for option, given in options.items()
        if given != _TRAINED_WITH[option]
    ]
    if wrong:
        raise refuse("weights", weights, f"it fits one net only; set {', '.join(wrong)}")


def load_pretrained(
    net: nn.Module,
    entry: WeightsEnum,
    *,
    heads: tuple[str, ...] = ("fc.",),
    absent: tuple[str, ...] = (),
) -> None:
    """Fill a net with weights of torchvision's registry, and amend its record.

    They come from torch's cache, or else over the network. The record then holds ``weights=None``,
    because a net rebuilt from it gets its weights from elsewhere, a checkpoint say.

    Args:
        net: A net whose parameters have torchvision's names; its ``num_classes`` is read.
        entry: The weights, such as ``GoogLeNet_Weights.IMAGENET1K_V1``.
        heads: How the names of the last layers' parameters start. They keep their start values
            if the net has another number of classes than the weights.
        absent: How the names of those parameters in the file start which the net does without.

    Raises:
        OptionError: If the file can be neither downloaded nor read, or is another net's; says where
            to put it by hand, and which parameters differ.
    """
    state = read_weights(entry)
    start = net.state_dict()
    # A plain dictionary has none of torch's version marks, with which batch norm would insist on
    # its count of batches; old files lack it.
    state = {name: value for name, value in state.items() if not name.startswith(absent)}
    if net.num_classes != len(entry.meta["categories"]):
        state = {name: value for name, value in state.items() if not name.startswith(heads)}
        state |= {name: value for name, value in start.items() if name.startswith(heads)}
    try:
        net.load_state_dict(state)
    except RuntimeError:
        raise refuse(
            "weights",
            entry.name,
            f"{weights_path(entry)} holds other weights than {type(net).__name__}'s "
            f"({_difference(state, start)}); delete it, to have it downloaded again",
        ) from None  # torch's own list may have hundreds of lines
    amend_record(net, weights=None)


def amend_record(net: nn.Module, **arguments: object) -> None:
    """Change the recorded constructor arguments, from which the net is rebuilt."""
    record = getattr(net, "_hub_mixin_config", None)
    if isinstance(record, dict):
        record.update(arguments)


def weights_path(entry: WeightsEnum) -> Path:
    """Where torch keeps a downloaded file of weights, and looks for it first."""
    return Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(entry.url).path).name)


class InputRange(nn.Module):
    """From ImageNet's mean and deviation to 0.5 and 0.5, that is, to values from -1 to 1.

    Weights that were ported from TensorFlow (GoogLeNet's and Inception v3's) expect that range.
    ``(B, 3, H, W)`` stays ``(B, 3, H, W)``. The constants are in no state dict, because they are
    in none of torchvision's.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Worked out in Python's float64 and rounded once, to agree with torchvision to the bit.
        mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        scale = torch.tensor([d / 0.5 for d in deviation]).view(1, 3, 1, 1)
        shift = torch.tensor([(m - 0.5) / 0.5 for m in mean]).view(1, 3, 1, 1)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(B, 3, H, W)`` to the other range."""
        return x * self.scale + self.shift


def choose_transform_input(
    transform_input: bool | None, weights: str | None, in_channels: int
) -> bool:
    """Return whether a net begins with :class:`InputRange`, by default where it has weights.

    Raises:
        ValueError: If images have not the three colours which that is about.
    """
    if transform_input is None:
        transform_input = weights is not None
    if transform_input and in_channels != 3:
        raise refuse(
            "transform_input",
            True,
            f"it undoes ImageNet's normalisation of three colours, and in_channels is "
            f"{in_channels}; set it to false",
        )
    return transform_input


def read_weights(entry: WeightsEnum) -> dict[str, Tensor]:
    """Read the state dict of an entry, from torch's cache or else over the network.

    Raises:
        OptionError: If the file can be neither downloaded nor read; says where to put it by hand.
    """
    path = weights_path(entry)
    cached = path.is_file()
    if not cached and (reason := unreachable(entry.url, _REPLY_WITHIN_SECONDS)):
        raise _ask_for_file(entry, reason)
    try:
        with _socket_timeout(_REPLY_WITHIN_SECONDS):
            state: dict[str, Tensor] = entry.get_state_dict(
                progress=True, check_hash=True, map_location="cpu", weights_only=True
            )
        if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
            raise TypeError("it holds something else than named tensors")
    except Exception as error:  # a file that is no pickle makes the unpickler raise anything
        reason = first_line(error)
        if cached:
            raise refuse(
                "weights",
                entry.name,
                f"{path} is not a readable file of weights ({reason}); delete it, to have it "
                f"downloaded again from {entry.url}",
            ) from None  # the command line shows the first cause, and the reason is in here
        raise _ask_for_file(entry, reason) from None
    return state


def _ask_for_file(entry: WeightsEnum, reason: str) -> OptionError:
    return refuse(
        "weights",
        entry.name,
        f"they could not be downloaded ({reason}); fetch {entry.url} on a machine that can and "
        f"put the file at {weights_path(entry)}",
    )


def _difference(file: Mapping[str, Tensor], net: Mapping[str, Tensor]) -> str:
    """Which parameters two state dicts do not share."""
    # An old file may lack batch norm's count of batches.
    lacks = [n for n in net if n not in file and not n.endswith(".num_batches_tracked")]
    foreign = [name for name in file if name not in net]
    shapes = [
        f"{name} is {tuple(file[name].shape)} for {tuple(value.shape)}"
        for name, value in net.items()
        if name in file and file[name].shape != value.shape
    ]
    parts = [
        f"it lacks {_shorten(lacks)}" if lacks else "",
        f"the net has no {_shorten(foreign)}" if foreign else "",
        _shorten(shapes),
    ]
    return "; ".join(part for part in parts if part)


def _shorten(names: list[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its kind where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Bound each wait of torch's downloader, which sets no timeout of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
