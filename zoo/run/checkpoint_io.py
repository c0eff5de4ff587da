"""How a Trainer writes its checkpoints: whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from datamodules.core.files import replaced
from zoo.run.checkpoint import read_checkpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its final name, flushes it to the disk, then renames it.

    A kill, a full disk or a crash at any moment leaves the earlier file whole. Reading goes
    through :func:`read_checkpoint`.

    Args:
        read: Checkpoints by their paths that are read already; each is handed out once.
    """

    def __init__(self, read: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self._read = dict(read or {})
        self._has_saved = False

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | os.PathLike[str],
        storage_options: Any | None = None,
    ) -> None:
        """Save atomically.

        Raises:
            OSError: If it cannot be written; a folder that it went to before and is gone is not
                made again.
        """
        target = Path(path)
        try:
            target.parent.mkdir(parents=not self._has_saved, exist_ok=True)
            with replaced(target, durable=True) as scratch, scratch.open("xb") as file:
                torch.save(checkpoint, file)
            self._has_saved = True
        except (OSError, RuntimeError) as error:
            # torch meets a full disk while it writes, and then complains of something else
            cause = error if isinstance(error, OSError) else error.__context__
            if not isinstance(cause, OSError):
                raise
            raise OSError(cause.errno, cause.strerror, str(target)) from error

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Any = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Load plain data only, whatever ``weights_only`` says."""
        checkpoint: dict[str, Any] | None = self._read.pop(os.fspath(path), None)
        return read_checkpoint(path, map_location or "cpu") if checkpoint is None else checkpoint
