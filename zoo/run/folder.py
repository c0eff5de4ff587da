"""Run folders: ``runs/<recipe>/<run id>/``, one for each run, never shared."""

from __future__ import annotations

import datetime
import errno
import json
import os
import platform
import secrets
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from datamodules.core.files import replaced, sweep
from zoo.errors import UserError
from zoo.run.launch import is_first_process, of_first_process
from zoo.run.names import run_id

#: What may lie in a folder in which nothing began; MLflow makes its file when it is built.
_BEFORE_BEGIN = {".lock", ".owner", "recipe.yaml", "mlflow.db"}


@dataclass
class RunFolder:
    """A run's folder, which may not be there yet.

    Args:
        path: ``<root>/<recipe>/<run id>``, or with what was varied before the id:
            ``<root>/<recipe>/norm=group-<run id>``.
        resumed: Whether the run goes on in a folder that is there already.
        commit: The source's when the folder was opened; when the run ends it may be another.
    """

    path: Path
    resumed: bool = False
    commit: str | None = None
    _lock: FileLock | None = None
    _file: os.stat_result | None = None

    def __post_init__(self) -> None:
        """Note which of the folders around it are not there yet."""
        parents = (self.path.parent, self.path.parent.parent)
        self._made = [folder for folder in parents if not os.path.exists(folder)]

    @property
    def id(self) -> str:
        """The run's id, which all loggers share."""
        return run_id(self.path.name)

    @property
    def recipe(self) -> str:
        """The recipe's name."""
        return self.path.parent.name

    def open(self) -> None:
        """Create the folder, or take over the one to go on in, and lock it for this process.

        Raises:
            UserError: If it cannot be written, or another process writes it.
        """
        self.commit = _commit()
        lock, owner, first = self.path / ".lock", self.path / ".owner", "another process"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not self.resumed and (self.path / "recipe.yaml").exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            self._lock = FileLock(lock)
            self._lock.acquire(timeout=0)
            with replaced(owner) as file:
                file.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
            self._file = lock.stat()
            if self.resumed:
                self._take_over()
        except Timeout as error:
            with suppress(OSError):  # that process has only just begun, or is at its end
                first = owner.read_text(encoding="utf-8")
            raise UserError(
                f"the run {str(self.path)!r} is being written by {first}; wait for its end"
            ) from error
        except OSError as error:
            raise UserError(
                f"the run folder {str(self.path)!r} cannot be written ({error.strerror}); "
                "set trainer.default_root_dir to a folder that can"
            ) from error

    def _take_over(self) -> None:
        """Clear away what a kill left half written; the run is no longer a finished one."""
        for folder in (self.path, self.path / "checkpoints"):
            sweep(folder)
        self._set_aside("summary.json")

    def is_gone(self) -> bool:
        """Return whether the folder that this process opened is no longer at its place."""
        if self._file is None:
            return False
        try:
            return not os.path.samestat(self._file, (self.path / ".lock").stat())
        except OSError:
            return True

    def discard(self) -> None:
        """Remove a folder that this process made and that holds nothing but the recipe."""
        if self.resumed or not is_first_process() or not os.path.isdir(self.path):
            return
        if {path.name for path in self.path.iterdir()} - _BEFORE_BEGIN:
            return
        self.close()
        shutil.rmtree(self.path)
        with suppress(OSError):  # another run has come into it
            for folder in self._made:
                folder.rmdir()

    def close(self) -> None:
        """Let other processes go on with the run."""
        if self._lock is not None:
            self._lock.release()

    def write_recipe(self, text: str) -> None:
        """Write ``recipe.yaml``; an earlier session's different one is kept beside it."""
        path = self.path / "recipe.yaml"
        if path.is_file() and path.read_text(encoding="utf-8") != text:
            self._set_aside(path.name)
        with replaced(path) as file:
            file.write_text(text, encoding="utf-8")

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write ``summary.json``."""
        text = json.dumps(summary, indent=2, ensure_ascii=False)
        with replaced(self.path / "summary.json") as file:
            file.write_text(text + "\n", encoding="utf-8")

    def _set_aside(self, name: str) -> None:
        """Keep an earlier session's file under a name with a number."""
        stem, _, kind = name.partition(".")
        count = len(list(self.path.glob(f"{stem}.*.{kind}")))
        with suppress(FileNotFoundError):
            (self.path / name).rename(self.path / f"{stem}.{count + 1}.{kind}")


def new_run(root: Path, recipe: str, varied: str = "") -> RunFolder:
    """Return a folder for a new run; of several processes, all take the first one's.

    Args:
        root: Where runs are kept.
        recipe: The recipe's name.
        varied: What differs from the recipe, for the folder's name.
    """
    own = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    return RunFolder(root / recipe / of_first_process("-".join(filter(None, [varied, own]))))


def run_of(checkpoint: Path) -> RunFolder | None:
    """Return the run to go on with, where the file is a run's ``checkpoints/last.ckpt``."""
    folder = checkpoint.resolve().parent.parent
    is_last = checkpoint.name == "last.ckpt" and (folder / "recipe.yaml").is_file()
    return RunFolder(folder, resumed=True) if is_last else None


def provenance(commit: str | None = None) -> dict[str, Any]:
    """Return versions, commit, command and machine: what a figure has to stand with.

    Args:
        commit: That of the beginning, where it was noted; else it is looked up.
    """
    return {
        **origin(commit),
        "command": " ".join(["zoo", *sys.argv[1:]]),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def origin(commit: str | None = None) -> dict[str, Any]:
    """Return versions, commit and the kind of machine.

    Args:
        commit: That of the beginning, where it was noted; else it is looked up.
    """
    import torch

    packages = ["lightning-zoo", "torch", "lightning", "torchvision", "torchmetrics", "numpy"]
    packages += ["transformers", "peft"]
    versions = {name: _version(name) for name in packages}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return {
        "versions": {"python": sys.version.split()[0], **versions},
        "commit": commit or _commit(),
        "device": device,
        "threads": torch.get_num_threads(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except ModuleNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit of the zoo's source tree, with ``+`` where it has changes.

    None if installed.
    """
    source = Path(__file__).parents[1]
    command = ["git", "-C", str(source), "describe", "--always", "--abbrev=12", "--dirty=+"]
    tracked = ["git", "-C", str(source), "ls-files", "--error-unmatch", __file__]
    try:
        subprocess.run(tracked, capture_output=True, check=True, timeout=5)
        result = subprocess.run(command, capture_output=True, check=True, timeout=5, text=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
