"""Checkpoint files: read as plain data, and compared with what they are to fit."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from datamodules.core.errors import OptionError, refuse
from datamodules.core.files import replaced
from zoo.run.names import check_local
from zoo.run.plain import check_plain
from zoo.run.weights_file import ForeignFileError, is_weights_file, read_weights

if TYPE_CHECKING:  # which takes as long to import as torch
    from lightning.pytorch import LightningModule

#: How the parts of a checkpoint are named; another number where an older version misreads them.
LAYOUT = 2

_SAVED = "give a file that `fit` saved"

#: Options that name weights, and what they are where none are wanted.
_PRETRAINED = {
    "weights": None,
    "weights_backbone": None,
    "pretrained": False,
    "checkpoint_path": None,
    "pretrained_cfg_overlay": None,
}
#: Nets whose layers a model's name would have to be looked up for.
_OF_TRANSFORMERS = ("zoo.PretrainedEncoder", "zoo.PretrainedCausalLM")
_KINDS = {dict: "mapping", str: "text", int: "number"}
#: Of which type parts of a checkpoint are, where they are there.
_PARTS: dict[str, type] = {
    "hyper_parameters": dict,
    "test": dict,
    "card": dict,
    "zoo": dict,
    "zoo.version": str,
    "zoo.precision": str,
    "zoo.threads": int,
    "zoo.total_steps": int,
    "zoo.train_sums": dict,
    "zoo.data_marks": dict,
    "zoo.data": dict,
    "zoo.data.class_path": str,
    "zoo.data.init_args": dict,
    "zoo.inputs": dict,
    "zoo.inputs.class_path": str,
    "zoo.inputs.init_args": dict,
}

#: How torch says that a file names a class or function that it does not know to be harmless.
_OBJECTS = re.compile(r"unsupported (global|class)|not an allowed global|instantiate", re.I)


def read_checkpoint(path: str | os.PathLike[str], map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint as plain data; nothing in the file is ever executed.

    A weights file, whose name ends in ``.safetensors``, is read as what predicts of a checkpoint.

    Args:
        path: A local file.
        map_location: Where tensors go, as for ``torch.load``.

    Returns:
        The checkpoint's dictionary.

    Raises:
        OptionError: If the path is a URL, is missing, cannot be read, is truncated, holds objects
            that are not plain data, or was written by a version of another layout.
    """
    text = os.fspath(path)
    check_local(text)
    if is_weights_file(text):
        return _read_weights(text, map_location)
    try:
        structure = _check_whole(text)
        checkpoint = torch.load(text, map_location=map_location, weights_only=True)
        check_plain(checkpoint, structure, os.path.getsize(text))
    except Exception as error:  # a damaged file raises nearly anything
        if isinstance(error, pickle.UnpicklingError) and _OBJECTS.search(str(error)):
            raise _unfit(
                text,
                "it holds objects that are not plain data, and is not opened: save it again with "
                "tensors, numbers, strings, lists and dictionaries only",
            ) from error
        raise _unfit(text, f"it is damaged, or is no checkpoint: {_SAVED}") from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise _unfit(text, f"it is no training checkpoint, as it has no 'state_dict': {_SAVED}")
    _check_layout(checkpoint, text)
    return checkpoint


def _read_weights(path: str, map_location: Any) -> dict[str, Any]:
    """Read a weights file.

    Raises:
        OptionError: If it is damaged, does not say how its net is built, or is of another layout.
    """
    try:
        checkpoint = read_weights(path)
    except ForeignFileError as error:
        raise _unfit(
            path,
            "it does not say how its net is built: give one that `zoo export --to safetensors` "
            "wrote",
        ) from error
    except Exception as error:
        raise _unfit(path, "it is damaged, or is no safetensors file: copy it anew") from error
    _check_layout(checkpoint, path)
    if isinstance(map_location, str | torch.device):
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: each.to(map_location) for name, each in state.items()}
    return checkpoint


def _check_whole(path: str) -> int:
    """Compare the sums of a file's parts, which torch does not do.

    Returns:
        The bytes of what the file says of its structure.

    Raises:
        BadZipFile: If the file is not as torch wrote it.
    """
    if not zipfile.is_zipfile(path):  # of an early torch, or none of its files: torch will tell
        return os.path.getsize(path)
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
        if packed or sum(part.file_size for part in parts) > os.path.getsize(path):
            raise zipfile.BadZipFile("it grows where it is read")
        if archive.testzip() is not None:
            raise zipfile.BadZipFile("a part's sum is another")
        return sum(part.file_size for part in parts if part.filename.endswith("data.pkl"))


def _unfit(path: str, remedy: str) -> OptionError:
    return refuse("ckpt_path", path, remedy)


def _check_layout(checkpoint: dict[str, Any], path: str) -> None:
    """Tell the files of other versions, whose parts have other names.

    Raises:
        OptionError: If this version cannot read the checkpoint.
    """
    _check_types(checkpoint, path)
    _take_no_other_weights((checkpoint.get("hyper_parameters") or {}).get("net"), path)
    facts = checkpoint.get("zoo")
    if facts is None or facts.get("layout") == LAYOUT:
        return  # Lightning's own, or as written here
    maker = facts.get("version", "0.1.0")  # the first did not say
    remedy = "use it with that version, or train again with its run's recipe.yaml"
    raise _unfit(path, f"it was made by lightning-zoo {maker}, whose layout differs: {remedy}")


def _take_no_other_weights(spec: Any, path: str) -> None:
    """Have a net built without pretrained weights: its own follow, and nothing is downloaded.

    Our own files name none; one of somebody else's might.

    Raises:
        OptionError: If the net cannot be built without them.
    """
    if not isinstance(spec, dict):
        return
    known = str(spec.get("class_path")).startswith(("zoo.", "torchvision.", "timm."))
    for part in ("init_args", "dict_kwargs"):
        given = spec.get(part)
        if not isinstance(given, dict):
            continue
        given.update({name: _PRETRAINED[name] for name in _PRETRAINED if known and name in given})
        if spec.get("class_path") in _OF_TRANSFORMERS and part == "init_args":
            named = given.get("name", given.get("model"))
            if given.get("architecture") is None and not given.get("lora"):
                why = f"it names the model {named!r}, and not its architecture: {_SAVED}"
                raise _unfit(path, why)
        for value in given.values():
            _take_no_other_weights(value, path)


def _check_types(checkpoint: dict[str, Any], path: str) -> None:
    """Refuse parts of other types than those that are written.

    Raises:
        OptionError: If there is one.
    """
    for name, kind in _PARTS.items():
        part: Any = checkpoint
        for step in name.split("."):
            part = part.get(step) if isinstance(part, dict) else None
        if part is not None and not isinstance(part, kind):
            remedy = f"its part {name} is no {_KINDS[kind]}: {_SAVED}"
            raise _unfit(path, remedy)


def check_complete(checkpoint: dict[str, Any], path: str, verb: str) -> None:
    """Check that a checkpoint has what Lightning needs for a verb.

    Raises:
        OptionError: If a part is missing, as from a file with weights alone.
    """
    if verb == "fit" and is_weights_file(path):
        raise _unfit(
            path,
            "it holds weights without an optimiser's state, so no training can go on from it: give "
            "it as --init_from",
        )
    needed: dict[str, type] = {"pytorch-lightning_version": str}
    if not is_weights_file(path):
        needed |= {"loops": dict}
    if verb == "fit":
        needed |= {"epoch": int, "global_step": int, "optimizer_states": list}
        needed |= {"lr_schedulers": list, "callbacks": dict}
    missing = [name for name, kind in needed.items() if not isinstance(checkpoint.get(name), kind)]
    if missing:
        raise _unfit(path, f"it has no {missing[0]!r}, which {verb} needs: {_SAVED}")


def check_fits(checkpoint: dict[str, Any], module: LightningModule, path: str) -> None:
    """Compare names and shapes of a checkpoint's weights with those of a task.

    Raises:
        OptionError: If they differ.
    """
    saved, wanted = checkpoint["state_dict"], module.state_dict()
    check_weights(saved, wanted, path, strict=module.strict_loading)


def check_weights(
    saved: Mapping[str, Any], wanted: Mapping[str, Any], path: str, *, strict: bool = True
) -> None:
    """Compare names and shapes of saved weights with those of a net.

    Args:
        saved: The weights by their names.
        wanted: The net's.
        path: Their file, for the message.
        strict: Whether they have to be the same at all.

    Raises:
        OptionError: If they differ.
    """
    for name in [*wanted, *saved] if strict else []:
        shapes = [
            tuple(value.shape) if isinstance(value := of.get(name), Tensor) else ()
            for of in (saved, wanted)
        ]
        if name not in saved:
            difference = f"it lacks {name}"
        elif name not in wanted:
            difference = f"the net has no {name}"
        elif shapes[0] != shapes[1]:
            difference = f"{name} is {shapes[0]} there and {shapes[1]} in the net"
        else:
            continue
        raise _unfit(
            path,
            f"it does not fit the net of this run, as {difference}: leave the net's options as "
            "they were when it was saved",
        )


def link_checkpoint(source: Path, target: Path) -> None:
    """Give a checkpoint a second name, in one step; a copy where the disk has no hard links.

    Both names stay whole when either is written again: a new file takes the name's place.
    """
    with replaced(target) as name:
        try:
            os.link(source, name)
        except OSError:
            shutil.copyfile(source, name)
