"""Whether an exported file gives what the net gives, and how fast."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from zoo.errors import UserError
from zoo.export.whole import Feed, Whole

#: More than this between a file and the net, and something went wrong in between.
TOLERANCE = 1e-4

Array = npt.NDArray[Any]
Kind = Literal["onnx", "torch"]
#: What a file is run by: inputs to outputs.
Runner = Callable[[Feed], list[Array]]


class Samples(NamedTuple):
    """Real inputs.

    Attributes:
        batches: As a loader gave them.
        source: Where they come from, in words.
    """

    batches: list[Any]
    source: str


class Prompt(NamedTuple):
    """What a language model goes on from, as a batch of one.

    Attributes:
        tokens: Int64 (1, T).
    """

    tokens: torch.Tensor


def open_onnx(path: Path) -> Runner:
    """Return what runs an ONNX file, on the CPU and as many threads as torch has.

    Raises:
        UserError: If onnxruntime cannot read it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # of onnxruntime's own classes
        raise UserError(
            f"onnxruntime cannot read what was exported ({str(error)[:160]}): try --to torch"
        ) from error
    names = [each.name for each in session.get_inputs()]

    def run(feed: Feed) -> list[Array]:
        given = zip(names, feed, strict=True)
        outputs: list[Array] = session.run(None, {name: value.numpy() for name, value in given})
        return outputs

    return run


def open_torch(path: Path) -> Runner:
    """Return what runs a file of ``torch.export``."""
    module: Any = torch.export.load(str(path)).module()

    def run(feed: Feed) -> list[Array]:
        with torch.inference_mode():
            outputs = module(*feed)
        return [each.numpy() for each in (outputs if isinstance(outputs, tuple) else (outputs,))]

    return run


OPENERS: dict[Kind, Callable[[Path], Runner]] = {"onnx": open_onnx, "torch": open_torch}


def count(samples: Samples) -> int:
    """Return how many samples there are."""
    return sum(len(batch[0]) for batch in samples.batches)


def largest_difference(whole: Whole, run: Runner, samples: Samples) -> float:
    """Return how far an exported file is from the net on real inputs, in batches and one by one.

    Raises:
        UserError: If it is too far.
    """
    largest = 0.0
    for batch in samples.batches:
        with torch.inference_mode():
            expected = whole.expected(batch).numpy()
        feed = whole.feed(batch)
        found = _shown(whole, run(feed)[whole.compared], expected)
        if found.shape != expected.shape:
            raise UserError(
                f"the exported file gives {found.shape} where the net gives {expected.shape}: "
                "export it --to torch"
            )
        alone = _shown(whole, run(first(whole, feed, 1))[whole.compared], expected)
        for ours, theirs in ((found, expected), (alone, expected[:1])):
            # NaN is no number below the tolerance
            difference = np.abs(ours.astype(np.float64) - theirs).max(initial=0.0) / whole.unit
            largest = max(largest, float(difference)) if difference == difference else np.inf
    if not largest <= TOLERANCE:
        raise UserError(
            f"the exported file differs from the net by {largest:.2g} on {samples.source}, more "
            f"than {TOLERANCE:g}: nothing is written; export it --to torch"
        )
    return largest


def _shown(whole: Whole, found: Array, expected: Array) -> Array:
    """Return an output without what lies beyond the expected one."""
    return found[..., : expected.shape[-2], : expected.shape[-1]] if whole.padded else found


def first(whole: Whole, feed: Feed, samples: int) -> Feed:
    """Return the first samples of inputs."""
    parts = zip(feed, whole.batch_axes, strict=True)
    return tuple(part.narrow(axis, 0, samples).contiguous() for part, axis in parts)


def milliseconds(runs: Sequence[Callable[[], Any]], rounds: int = 15) -> list[float]:
    """Return how long each takes, the median of rounds in which they take turns."""
    taken: list[list[float]] = [[] for _ in runs]
    for each in range(rounds + 2):
        for place, run in enumerate(runs):
            start = time.perf_counter()
            run()
            if each >= 2:  # the first rounds warm up
                taken[place].append(1000 * (time.perf_counter() - start))
    return [float(np.median(times)) for times in taken]
