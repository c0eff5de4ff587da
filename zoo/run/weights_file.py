"""Weights files: what predicts of a checkpoint, as safetensors, which can run nothing."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.core.files import replaced
from zoo.errors import UserError
from zoo.run.plain import check_plain

#: How the name of a weights file ends.
SUFFIX = ".safetensors"
#: The parts of a checkpoint that are kept beside its weights: how task, net and inputs are built,
#: the figures of its test and its model card where they are known, and where in its training it
#: was saved.
KEPT = (
    *("hyper_parameters", "zoo", "test", "card"),
    *("epoch", "global_step", "pytorch-lightning_version"),
)
#: How the JSON text begins: with the sum over the rest of it and the weights.
_HEAD = '{{"crc32": "{}", '
_HEAD_LENGTH = len(_HEAD.format("0" * 8))
#: What of the zoo's own part only a training that goes on would need.
_OF_TRAINING = ("train_sums", "total_steps", "threads", "state")


class ForeignFileError(ValueError):
    """A safetensors file that does not say how its net is built."""


def is_weights_file(path: str | os.PathLike[str]) -> bool:
    """Return whether a file's name is that of a weights file."""
    return os.fspath(path).endswith(SUFFIX)


def write_weights(checkpoint: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Write the weights of a checkpoint and what builds their net again.

    Safetensors hold each tensor once and have no sum of their own: names that share memory (tied
    weights) and a CRC-32 over all that is read are kept beside the rest, as JSON under ``zoo``.

    Args:
        checkpoint: As :func:`~zoo.run.checkpoint.read_checkpoint` gives it; of its other parts
            those of ``KEPT`` are taken, ``test`` being figures by their names.
        path: Where, a name that ends in ``.safetensors``.

    Raises:
        OSError: If it cannot be written.
        TypeError: If a part that is kept is no plain data.
        UserError: If something among the weights is no tensor.
    """
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    shared: dict[str, str] = {}
    names: dict[tuple[Any, ...], str] = {}
    for name, value in checkpoint["state_dict"].items():
        if not isinstance(value, Tensor):
            raise UserError(
                f"the weights hold {name}, a {type(value).__name__}, and a weights file tensors "
                "alone: keep the checkpoint as it is, or save what is no tensor elsewhere"
            )
        place = (value.data_ptr(), value.shape, value.stride(), value.dtype)
        first = names.setdefault(place, name) if value.numel() else name
        if first != name:
            shared[name] = first
        else:
            tensors[name] = value.detach().to("cpu", copy=True).contiguous()
    kept = {name: checkpoint[name] for name in KEPT if name in checkpoint}
    if isinstance(facts := kept.get("zoo"), dict):
        kept["zoo"] = {name: value for name, value in facts.items() if name not in _OF_TRAINING}
    text = json.dumps(kept | {"shared": shared}, ensure_ascii=False)
    # one key, as the library keeps several in no order: the same weights are the same file
    metadata = {"zoo": _HEAD.format(_sum(text, tensors)) + text[1:]}
    with replaced(Path(path), durable=True) as scratch:
        scratch.touch()
        mode = scratch.stat().st_mode
        save_file(tensors, scratch, metadata)
        scratch.chmod(mode)  # the library lets nobody else read what it writes


def read_weights(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a weights file in the form of a checkpoint.

    Args:
        path: What :func:`write_weights` wrote.

    Returns:
        The checkpoint: its weights on the CPU, and the parts of ``KEPT`` that it had.

    Raises:
        ForeignFileError: If it does not say how its net is built.
        Exception: If it is damaged, or no safetensors file, as the library says it.
    """
    from safetensors import safe_open

    with safe_open(os.fspath(path), framework="pt") as file:
        metadata = file.metadata() or {}
        if "zoo" not in metadata:
            raise ForeignFileError(os.fspath(path))
        names: list[str] = file.keys()
        tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in names}
    head, text = metadata["zoo"][:_HEAD_LENGTH], "{" + metadata["zoo"][_HEAD_LENGTH:]
    if head != _HEAD.format(_sum(text, tensors)):
        raise ValueError("its sum is another")
    kept = json.loads(text)
    check_plain(kept, len(text) + 1)
    state = tensors | {name: tensors[first] for name, first in kept.pop("shared").items()}
    checkpoint = {name: kept[name] for name in KEPT if name in kept}
    return checkpoint | {"state_dict": state}


def _sum(text: str, tensors: dict[str, Tensor]) -> str:
    """Return the CRC-32 of the text, then of each tensor's name, shape and bytes, by name."""
    total = zlib.crc32(text.encode())
    for part in _parts(tensors):
        total = zlib.crc32(part, total)
    return f"{total:08x}"


def _parts(tensors: dict[str, Tensor]) -> Iterable[Any]:
    for name in sorted(tensors):
        tensor = tensors[name]
        yield f"{name} {tensor.dtype} {list(tensor.shape)}".encode()
        if tensor.numel():
            yield tensor.reshape(-1).view(torch.uint8).numpy().data
