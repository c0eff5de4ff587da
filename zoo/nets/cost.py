"""What a net costs, found out without running it on a device."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode


@dataclass
class Cost:
    """A net's size and cost.

    Args:
        parameters: All parameters.
        trained: Those that training changes.
        flops: Floating point operations of one sample's forward pass in evaluation mode, a
            multiply-add counted as two; None where the net cannot be run without real data.
        tokens: How many tokens that sample has, where samples differ in length.
    """

    parameters: int
    trained: int
    flops: int | None
    tokens: int | None = None


def measure_cost(net: nn.Module, *example: Tensor) -> Cost:
    """Count parameters and the operations of a forward pass.

    Args:
        net: The network.
        example: What it takes for one sample, on the meta device, ``(1, ...)``; nothing where that
            is not known.
    """
    parameters = sum(p.numel() for p in net.parameters())
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    if not example:
        return Cost(parameters, trained, None)
    training = net.training
    net.eval()
    try:
        with flop_counter() as counter:
            dry_run(net, *example)
        flops: int | None = counter.get_total_flops()
    except (NotImplementedError, RuntimeError, TypeError, ValueError):
        flops = None  # its shapes depend on the data, or it takes values out of torch
    finally:
        net.train(training)
    return Cost(parameters, trained, flops)


def flop_counter() -> FlopCounterMode:
    """Return a counter of operations that also knows what torch's own leaves out.

    That is recurrent layers where oneDNN or cuDNN computes the whole of one at once.
    """
    aten = torch.ops.aten
    return FlopCounterMode(
        display=False,
        custom_mapping={
            aten.mkldnn_rnn_layer: _layer,
            aten.mkldnn_rnn_layer_backward: _back(_layer),
            aten._cudnn_rnn: _layers,
            aten._cudnn_rnn_backward: _back(_layers),
        },
    )


def _layer(x: Sequence[int], w_x: Sequence[int], w_h: Sequence[int], *_: Any, **__: Any) -> int:
    return _layers(x, [w_x, w_h])


def _layers(x: Sequence[int], weights: Sequence[Sequence[int]], *_: Any, **__: Any) -> int:
    """Return the operations of recurrent layers: each place passes each matrix of weights.

    Args:
        x: The input's shape, ``(T, B, I)`` or of packed texts ``(all places, I)``.
        weights: The shapes of matrices and biases.
    """
    matrices = sum(math.prod(shape) for shape in weights if len(shape) == 2)
    return 2 * math.prod(x[:-1]) * matrices


def _back(forward: Callable[..., int]) -> Callable[..., int]:
    """Return the operations of the way back: as much for the inputs and as much for the weights."""
    return lambda *shapes, **options: 2 * forward(*shapes, **options)


def dry_run(net: nn.Module, *example: Tensor) -> object:
    """Return what a net gives for a batch on the meta device, in which no value is computed.

    Args:
        net: The network, whose own weights are left alone.
        example: What it takes for the batch, ``(B, ...)``.
    """

    def on_meta(tensor: Tensor) -> Tensor:
        return torch.empty_like(tensor, device="meta")

    # Of tied weights one: functional_call ties the others to it.
    state = {name: on_meta(p) for name, p in net.named_parameters()}
    state |= {name: on_meta(b) for name, b in net.named_buffers()}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        return functional_call(net, state, example)
