"""Files and folders that stand under their names whole or not at all, and sums of files."""

import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from datamodules.core.errors import DataError, shown

_SCRATCH = "tmp"


@contextmanager
def replaced(target: Path, *, durable: bool = False) -> Iterator[Path]:
    """Give a name beside a file's or folder's; what is made there takes the place when it is whole.

    A kill, a full disk or an error at any moment leaves what was there before.

    Args:
        target: A file, or a folder that is not there or is empty.
        durable: Wait until it is on the disk, so that a power failure cannot undo it.
    """
    scratch = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.{_SCRATCH}")
    try:
        yield scratch
        if durable:
            _flush(scratch, os.O_RDWR)  # which Windows wants for a flush
        if target.is_dir():
            target.rmdir()
        os.replace(scratch, target)
    finally:
        with suppress(OSError):
            shutil.rmtree(scratch) if scratch.is_dir() else scratch.unlink(missing_ok=True)
    if durable:
        with suppress(OSError):  # Windows opens no folders, and some network disks flush none
            _flush(target.parent, os.O_RDONLY)


def _flush(path: Path, mode: int) -> None:
    handle = os.open(path, mode)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path, name: str = "*", *, older_s: float = 0) -> None:
    """Remove what a killed process left half made beside the names of files in a folder.

    Args:
        folder: Where; nothing else may be writing there.
        name: The file's or folder's name that it would have had.
        older_s: Seconds since it was written last, where something else may be writing.
    """
    for scratch in folder.glob(f".{name}.*.{_SCRATCH}"):
        with suppress(OSError):
            if time.time() - scratch.stat().st_mtime >= older_s:
                shutil.rmtree(scratch) if scratch.is_dir() else scratch.unlink()


def hidden_reason(path: Path) -> str | None:
    """Return why a file or folder is none of the user's, in words for several; None if it is.

    >>> hidden_reason(Path("._x.jpg")), hidden_reason(Path("x.jpg"))
    ('hidden files', None)
    """
    if path.name == "__MACOSX":
        return "folders __MACOSX"
    # macOS's ._x.jpg among them, and what Excel puts beside a file that is open
    return "hidden files" if path.name.startswith((".", "~$")) else None


def is_shown(path: Path) -> bool:
    """Return whether a file or folder is neither hidden nor what macOS adds to archives."""
    return hidden_reason(path) is None


def nearby(path: str | os.PathLike[str]) -> str:
    """Return a path as it is seen from the working folder; whole if it lies on another drive."""
    try:
        return os.path.relpath(path)
    except ValueError:  # from one drive of Windows to another there is no way
        return os.fspath(path)


def md5_sum(path: Path) -> str:
    """Return the md5 sum of a file of any size."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    return digest.hexdigest()


def check_md5(path: Path, md5: str) -> None:
    """Compare a file with its published md5 sum.

    Raises:
        DataError: If it has another.
    """
    if md5_sum(path) != md5:
        raise DataError(
            f"{shown(path)} has not the md5 sum of the original; fetch it again, or set "
            "verify: false if it is meant to differ"
        )
