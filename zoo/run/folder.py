"""Run folders: ``runs/<recipe>/<run id>/``, one for each run, never shared."""

from __future__ import annotations

import datetime
import json
import os
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
from lightning_utilities.core.rank_zero import rank_zero_only

from datamodules.core.errors import refuse
from zoo.errors import UserError

_SHARED_ID = "ZOO_RUN_ID"


def is_first_process() -> bool:
    """Return whether this is the process that writes and prints, of all that train together."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


@dataclass
class RunFolder:
    """A run's folder, which may not be there yet.

    Args:
        path: ``<root>/<recipe>/<run id>``.
        resumed: Whether the run goes on in a folder that is there already.
    """

    path: Path
    resumed: bool = False
    _lock: FileLock | None = None

    @property
    def id(self) -> str:
        """The run's id, which all loggers share."""
        return self.path.name

    @property
    def recipe(self) -> str:
        """The recipe's name."""
        return self.path.parent.name

    def open(self) -> None:
        """Create the folder, or take over the one to go on in, and lock it for this process.

        Raises:
            UserError: If it cannot be written, or another process writes it.
        """
        parents = (self.path.parent, self.path.parent.parent)
        self._made = [folder for folder in parents if not folder.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=self.resumed)
            self._lock = FileLock(self.path / ".lock")
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(
                f"the run {str(self.path)!r} is being written by another process; wait for its end"
            ) from error
        except OSError as error:
            raise UserError(
                f"the run folder {str(self.path)!r} cannot be written ({error.strerror}); "
                "set trainer.default_root_dir to a folder that can"
            ) from error

    def discard(self) -> None:
        """Remove a folder that this process made and that holds nothing but the recipe."""
        if self.resumed or self._lock is None or not self.path.is_dir():
            return
        if {path.name for path in self.path.iterdir()} - {".lock", "recipe.yaml"}:
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
            count = len(list(self.path.glob("recipe.*.yaml")))
            path.rename(self.path / f"recipe.{count + 1}.yaml")
        path.write_text(text, encoding="utf-8")

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write ``summary.json``."""
        text = json.dumps(summary, indent=2, ensure_ascii=False)
        (self.path / "summary.json").write_text(text + "\n", encoding="utf-8")


def new_run(root: Path, recipe: str) -> RunFolder:
    """Return a folder for a new run. Processes that this one starts get the same."""
    run_id = os.environ.get(_SHARED_ID)
    if run_id is None or "LOCAL_RANK" not in os.environ:
        now = time.strftime("%Y%m%d-%H%M%S")
        run_id = os.environ[_SHARED_ID] = f"{now}-{secrets.token_hex(3)}"
    return RunFolder(root / recipe / run_id)


def run_of(checkpoint: Path) -> RunFolder | None:
    """Return the run to go on with, where the file is a run's ``checkpoints/last.ckpt``."""
    folder = checkpoint.resolve().parent.parent
    is_last = checkpoint.name == "last.ckpt" and (folder / "recipe.yaml").is_file()
    return RunFolder(folder, resumed=True) if is_last else None


def latest_checkpoint(root: Path, recipe: str, which: str) -> Path:
    """Return ``last.ckpt`` or ``best.ckpt`` of the recipe's newest run.

    Raises:
        OptionError: If there is no run, or the newest has no such checkpoint.
    """
    runs = sorted(path.parent for path in (root / recipe).glob("*/recipe.yaml"))
    if not runs:
        raise refuse(
            "ckpt_path",
            which,
            f"leave it out to start a run of {recipe!r}, of which there is none in {str(root)!r}",
        )
    path = runs[-1] / "checkpoints" / f"{which}.ckpt"
    if not path.is_file():
        raise refuse(
            "ckpt_path",
            which,
            f"the newest run {str(runs[-1])!r} has no {which}.ckpt: name the file of another run, "
            "or leave it out to start anew",
        )
    return path


def provenance() -> dict[str, Any]:
    """Return versions, commit, command and machine: what a figure has to stand with."""
    import torch

    packages = ["lightning-zoo", "torch", "lightning", "torchvision", "torchmetrics", "numpy"]
    packages += ["transformers", "peft"]
    versions = {name: _version(name) for name in packages}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return {
        "versions": {"python": sys.version.split()[0], **versions},
        "commit": _commit(),
        "command": " ".join(["zoo", *sys.argv[1:]]),
        "device": device,
        "threads": torch.get_num_threads(),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
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
