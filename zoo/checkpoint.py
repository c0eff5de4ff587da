"""Checkpoint files: written whole or not at all, read as plain data, rebuilt into a task."""

from __future__ import annotations

import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH

from zoo.errors import UserError


def read_checkpoint(path: str | os.PathLike[str], map_location: Any = "cpu") -> dict[str, Any]:
    """Reads a checkpoint as plain data; nothing in the file is ever executed.

    Args:
        path: A local file.
        map_location: Where tensors go, as for ``torch.load``.

    Returns:
        The checkpoint's dictionary.

    Raises:
        UserError: The path is a URL, is missing, cannot be read, is truncated, or holds objects
            that are not plain data.
    """
    text = os.fspath(path)
    if "://" in text:
        raise UserError(
            f"ckpt_path {text!r} is a URL; download the file, check where it comes from, "
            "and give its local path"
        )
    if not os.path.isfile(text):
        raise UserError(f"ckpt_path {text!r}: there is no such file")
    try:
        checkpoint = torch.load(text, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" not in str(error).lower():
            raise UserError(f"ckpt_path {text!r} is not a checkpoint, or is damaged") from error
        raise UserError(
            f"ckpt_path {text!r} holds objects that are not plain data, and is not opened; "
            "save it again with tensors, numbers, strings, lists and dictionaries only"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise UserError(
            f"ckpt_path {text!r} cannot be read, it is truncated or damaged; "
            "take another checkpoint of the run"
        ) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UserError(
            f"ckpt_path {text!r} is not a training checkpoint: it has no 'state_dict'; "
            "give a file that `fit` saved"
        )
    return checkpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its final name, flushes it to the disk, then renames it.

    A kill, a full disk or a crash at any moment leaves the earlier file whole. Reading goes
    through :func:`read_checkpoint`.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None
    ) -> None:
        """Saves atomically.

        Raises:
            UserError: The folder cannot be written.
        """
        target = Path(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            for stale in target.parent.glob(f".{target.name}.*"):
                stale.unlink(missing_ok=True)  # left by a run that was killed while it saved
            handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
            try:
                with os.fdopen(handle, "wb") as file:
                    torch.save(checkpoint, file)
                    file.flush()
                    os.fsync(file.fileno())
                os.chmod(name, 0o666 & ~_umask())
                os.replace(name, target)
            except BaseException:
                os.unlink(name)
                raise
            folder = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise UserError(
                f"the checkpoint {str(target)!r} cannot be written: {error.strerror}"
            ) from error

    def load_checkpoint(
        self, path: _PATH, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Loads plain data only, whatever ``weights_only`` says."""
        return read_checkpoint(path, map_location or "cpu")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
