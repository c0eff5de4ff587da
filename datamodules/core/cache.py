"""Folders that one process builds and all others find."""

import atexit
import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from datamodules.core.errors import DataError
from datamodules.core.files import replaced, sweep

#: Counts the changes to what is cached.
STORE_VERSION = 2

T = TypeVar("T")


def cached(kind: str, key: object, load: Callable[[Path], T], build: Callable[[Path], None]) -> T:
    """Load what an earlier run has built, or build it.

    Processes that want the same wait for the one that builds. It appears under its name when it is
    whole. Where the cache cannot be written it is built in a temporary folder for this process.

    Args:
        kind: A folder in the cache.
        key: What the content depends on, as JSON.
        load: Reads a folder; raises OSError or ValueError if it is not whole.
        build: Fills a folder.

    Raises:
        DataError: If neither folder can be written.
    """
    try:
        return build_once(kind, key, load, build)
    except OSError as error:
        reason = error
    temporary = Path(tempfile.mkdtemp(prefix="zoo_"))
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    warn_unwritable(kind, reason, f"it is built in {temporary} for this run alone")
    try:
        build(temporary)
        return load(temporary)
    except OSError as error:
        raise DataError(
            f"neither {str(cache_folder() / kind)!r} nor {str(temporary)!r} can be written "
            f"({error}); set ZOO_CACHE to a folder that can"
        ) from None


def build_once(
    kind: str, key: object, load: Callable[[Path], T], build: Callable[[Path], None]
) -> T:
    """Load or build as ``cached`` does, but without a temporary folder.

    Raises:
        OSError: If the cache cannot be written.
    """
    from filelock import FileLock

    digest = hashlib.sha256(json.dumps([STORE_VERSION, key]).encode()).hexdigest()[:32]
    target = cache_folder() / kind / digest
    found = _load_whole(target, load)
    if found is not None:
        return found
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        found = _load_whole(target, load)  # another process may have been first
        if found is not None:
            return found
        sweep(target.parent, target.name)
        with replaced(target) as scratch:
            scratch.mkdir()
            build(scratch)
            shutil.rmtree(target, ignore_errors=True)  # one that could not be read
    return load(target)


def warn_unwritable(kind: str, reason: OSError, instead: str) -> None:
    """Warn that a folder of the cache cannot be written, and say what is done instead."""
    warnings.warn(
        f"{cache_folder() / kind} cannot be written ({reason}), so {instead}; set ZOO_CACHE to a "
        "folder that can",
        stacklevel=3,
    )


def _load_whole(folder: Path, load: Callable[[Path], T]) -> T | None:
    try:
        return load(folder)
    except (OSError, ValueError):
        return None


def cache_folder() -> Path:
    """Return ``$ZOO_CACHE``, or ``~/.cache/lightning_zoo``."""
    chosen = os.environ.get("ZOO_CACHE")
    return Path(chosen) if chosen else Path("~/.cache/lightning_zoo").expanduser()


def need_space(folder: Path, needed: int) -> None:
    """Refuse to write a mapped file on a full disk, which would kill the process without a word.

    Raises:
        OSError: If there is not so much space, in bytes.
    """
    free = shutil.disk_usage(folder).free
    if needed + 2**26 > free:
        raise OSError(f"{needed / 1e9:.1f} GB wanted, {free / 1e9:.1f} GB free")
