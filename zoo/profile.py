"""What a net costs, found out without running it on a device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from zoo.errors import UserError


@dataclass
class Profile:
    """A net's size and cost.

    Args:
        parameters: All parameters.
        trained: Those that training changes.
        flops: Floating point operations of one sample's forward pass in evaluation mode, a
            multiply-add counted as two; None where the net cannot be run without real data.
    """

    parameters: int
    trained: int
    flops: int | None


def profile(net: nn.Module, example: Tensor | None) -> Profile:
    """Counts parameters and the operations of a forward pass.

    Args:
        net: The network.
        example: One sample on the meta device, ``(1, ...)``; None where samples differ in size.
    """
    parameters = sum(p.numel() for p in net.parameters())
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    if example is None:
        return Profile(parameters, trained, None)
    training = net.training
    net.eval()
    try:
        with FlopCounterMode(display=False) as counter:
            _dry_run(net, example)
        flops: int | None = counter.get_total_flops()
    except (NotImplementedError, RuntimeError):
        flops = None  # its shapes depend on the data
    finally:
        net.train(training)
    return Profile(parameters, trained, flops)


def check_net(
    net: nn.Module, example: Tensor, num_classes: int, *, per_pixel: bool = False
) -> None:
    """Runs the smallest training batch through the net in training mode, on the meta device.

    Args:
        net: The network.
        example: A batch on the meta device, ``(B, ...)``, as small as training will see.
        num_classes: Classes of the data.
        per_pixel: Whether every pixel has a class.

    Raises:
        UserError: A batch norm would see one value per channel, the input does not fit the net, or
            the net gives another number of classes.
    """
    training = net.training
    net.train()
    try:
        outputs = _dry_run(net, example)
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
    logits = outputs[0] if isinstance(outputs, tuple) else outputs
    wanted = (num_classes, *(example.shape[2:] if per_pixel else ()))
    if isinstance(logits, Tensor) and logits.shape[1:] != wanted:
        shape = "x".join(map(str, logits.shape[1:])) or "no"
        raise UserError(
            f"option model.net: {type(net).__name__} gives {shape} numbers for a sample, but the "
            f"data asks for {'x'.join(map(str, wanted))}, one for each class"
            f"{' and pixel' if per_pixel else ''}; set the net's number of outputs"
        )


def _refusal(net: nn.Module, example: Tensor, error: Exception) -> UserError:
    if example.ndim == 4:
        channels, height, width = example.shape[1:]
        plural = "" if channels == 1 else "s"
        what = f"images of {channels} channel{plural} and {height}x{width} pixels"
    else:
        what = f"samples of the shape {tuple(example.shape[1:])}"
    reason = " ".join(str(error).split())[:200]
    return UserError(
        f"option model.net: {type(net).__name__} does not take {what} ({reason}); "
        "choose another net or other data, or set the net's options"
    )


def _dry_run(net: nn.Module, example: Tensor) -> object:
    def on_meta(tensor: Tensor) -> Tensor:
        return torch.empty_like(tensor, device="meta")

    # Of tied weights one: functional_call ties the others to it.
    state = {name: on_meta(p) for name, p in net.named_parameters()}
    state |= {name: on_meta(b) for name, b in net.named_buffers()}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        return functional_call(net, state, (example,))
