"""What a command sets up, what it has open while it runs, and how that is ended."""

from __future__ import annotations

import errno
import logging
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.warnings import PossibleUserWarning

from datamodules.core import description
from datamodules.core.files import nearby
from zoo.errors import NonFiniteLoss
from zoo.run.folder import RunFolder, origin
from zoo.run.launch import is_first_process
from zoo.run.processes import Processes
from zoo.run.wandb_filing import Filing
from zoo.run.wandb_logger import RunWandb
from zoo.run.wandb_login import WandbMode

#: What the system says where a disk or a quota is full, or a file is larger than is allowed.
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


#: Where our warnings come from, and who writes those of others.
_OURS = tuple(str(Path(file).parents[1]) + os.sep for file in (__file__, description.__file__))
_usual = warnings.formatwarning


def quiet(*, described: bool = False) -> None:
    """Keep Lightning's tips and other libraries' deprecations out of a run's output.

    A warning of ours is a plain line.

    Args:
        described: Whether a table of what was understood says what warnings of the data say.
    """
    warnings.formatwarning = _plain
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # A profiler's report is a log message, too, and was asked for.
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=PossibleUserWarning)
    for module in ("lightning", "torchmetrics", "jsonargparse", "torch"):
        warnings.filterwarnings("ignore", module=rf"{module}(\.|$)")

    if described:
        warnings.filterwarnings("ignore", category=description.DescribedWarning)


def _plain(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """Return a warning as it is written: without place and source where it is one of ours."""
    if filename.startswith(_OURS):
        return f"zoo: {message}\n"
    return _usual(message, category, filename, lineno, line)


class Session:
    """Owns the run folder and the W&B run, and finishes both however the command ends."""

    def __init__(self) -> None:
        self.folder: RunFolder | None = None
        self.wandb: RunWandb | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def scratch(self) -> str:
        """Return a folder that is gone at the command's end."""
        self._scratch = tempfile.TemporaryDirectory(prefix="zoo-")
        return self._scratch.name

    def start_wandb(
        self, asked: WandbMode, config: dict[str, Any], filing: Filing, *, uploads: bool
    ) -> RunWandb:
        """Start a W&B run in the run folder.

        Args:
            asked: The option ``wandb``.
            config: The resolved recipe; versions, commit and machine are added.
            filing: What the run is filed under.
            uploads: Whether a checkpoint will be uploaded, which may be large.
        """
        assert self.folder is not None
        name = f"{self.folder.recipe}-{self.folder.path.name}"
        upload_s = 600 if uploads else 60
        self.wandb = RunWandb(self.folder.path, self.folder.id, name, asked, upload_s, filing)
        if is_first_process():
            self.wandb.start()
            self.wandb.log_hyperparams(config | {"source": origin(self.folder.commit)})
        return self.wandb

    @property
    def _last(self) -> Path | None:
        """The checkpoint to go on from, if there is one."""
        last = (self.folder.path if self.folder else Path()) / "checkpoints" / "last.ckpt"
        return last if last.is_file() else None

    def advice(self, error: NonFiniteLoss) -> str:
        """Say what may help after a loss that was not finite."""
        if not error.by_training:
            return (
                "no step of training made it so: look for numbers in the data that are not finite "
                "or very large, or give trainer.precision 32"
            )
        if self._last is None:
            return "no checkpoint was saved before; try a lower model.lr"
        return (
            f"the last good checkpoint is {nearby(self._last)}; go on from it with a lower model.lr"
        )

    def why_unwritten(self, error: BaseException | None = None) -> str | None:
        """Say why a run's files are not all there, if that is so.

        Args:
            error: What ended the run, if anything did.
        """
        if self.folder is None:
            return None
        if self.folder.is_gone():
            return (
                f"the run folder {nearby(self.folder.path)!r} was moved or removed while the run "
                "wrote into it; put it back and go on from its last.ckpt, or start anew"
            )
        if not isinstance(error, OSError):
            return None
        inside = error.filename and Path(error.filename).is_relative_to(self.folder.path)
        if not inside and error.errno not in _FULL:
            return None
        what = nearby(error.filename if inside else self.folder.path)
        remedy = "make room for it" if error.errno in _FULL else "mend that"
        then = f"go on with --ckpt_path {nearby(self._last)}" if self._last else "start anew"
        return f"{what!r} cannot be written ({error.strerror}); {remedy}, then {then}"

    def finish(self, code: int, *, follows: bool = False) -> None:
        """End W&B's run, and give the folder back; one in which nothing began is removed.

        Args:
            code: The command's exit code.
            follows: Whether this process ends because another one of the run did.
        """
        if self._scratch is not None:
            self._scratch.cleanup()
        if self.wandb is not None:
            self.wandb.finish(code)
        if self.folder is not None:
            if code == 2:
                self.folder.discard()
            self.folder.close()
        if Processes.of_run is not None:
            Processes.of_run.leave(code, follows=follows)
