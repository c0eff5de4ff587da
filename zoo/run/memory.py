"""How much memory work takes at its peak, how much there is, and an end to work that takes more."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

#: Linux's files on a process's memory; other systems have none of them.
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_MACHINE, _GROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def clear_peak(device: torch.device) -> None:
    """Let the peak be what is in use now; where the system cannot, it stays the process's."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif device.type == "cpu":
        with suppress(OSError):
            _CLEAR.write_text("5")


def peak_memory(device: torch.device) -> int | None:
    """Return the bytes in use at the peak: what torch had of a GPU, what the process had of a CPU.

    The latter is its resident set, with all that was there before. None of other devices, and
    where the system does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type != "cpu" or sys.platform == "win32":
        return None
    if (peak := _of_process("VmHWM")) is not None:
        return peak
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def whole_memory(device: torch.device) -> int | None:
    """Return the bytes that a device has, in use or not."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    if device.type != "cpu" or sys.platform == "win32":
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_memory() -> int | None:
    """Return the host's bytes that this process may still take; None where that is not known."""
    found = [_number(_MACHINE, "MemAvailable:")]
    limit, used = _number(_GROUP / "memory.max", ""), _number(_GROUP / "memory.current", "")
    if limit is not None and used is not None:
        found.append(max(0, limit // 1024 - used // 1024))
    known = [kilobytes for kilobytes in found if kilobytes is not None]
    return 1024 * min(known) if known else None


def release_memory() -> None:
    """Give back what is no longer in use, to the system or to other programs on the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with suppress(AttributeError, OSError, TypeError):  # of other systems than glibc's
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def within_memory(share: float = 0.95) -> Iterator[None]:
    """Have the process refused more memory than is free, as Linux would kill it at the touch of it.

    Args:
        share: Of the free memory, which may be taken.
    """
    free, taken = free_memory(), _of_process("VmData")
    if free is None or taken is None:
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    most = taken + int(share * free)
    highest = [limit for limit in before if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([most, *highest]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _of_process(name: str) -> int | None:
    found = _number(_STATUS, f"{name}:")
    return None if found is None else 1024 * found


def _number(path: Path, name: str) -> int | None:
    """Return the number that follows a name in a system's file, where it is there."""
    with suppress(OSError):
        found = re.search(rf"^{name}\s*(\d+)", path.read_text(), re.MULTILINE)
        return int(found[1]) if found else None
    return None
