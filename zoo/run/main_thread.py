"""Tells a main thread that stands still from one that works, or that waits for something."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

#: Where a main thread waits for the run's other processes, or for its device: the last step of
#: Python is there, and all beyond is C.
_TOGETHER = (
    "torch.distributed",
    "torch.nn.parallel",
    "torch.autograd",
    "torch.cuda",
    "zoo.run.processes",
)
#: Through what it waits for its own workers and other programs, the network, and a debugger.
_WAITS = (
    "multiprocessing",
    "concurrent",
    "queue",
    "subprocess",
    "socket",
    "ssl",
    "wandb",
    "bdb",
)
#: How many of the innermost frames are asked for it: what is further out has called the run.
_INNERMOST = 12
#: A thread that uses less of a processor than this only looks at a clock from time to time.
_IDLE_SHARE = 0.01


class MainThread:
    """Looks at the main thread from time to time, from another.

    A thread stands still if it is at the same place as at the look before, down to the instruction,
    sleeps (it has used no processor, and no disk is what it waits for), and is in none of the calls
    that wait for others. Only Linux tells so much of its threads; elsewhere none ever stands still.
    """

    def __init__(self) -> None:
        self._id = threading.main_thread().ident or 0
        self._status = Path(f"/proc/self/task/{os.getpid()}/stat")  # its number is the process's
        self._clock = None
        if sys.platform == "linux" and self._status.exists():
            self._clock = time.pthread_getcpuclockid(self._id)
        self._trace: list[tuple[int, int]] = []
        self._worked, self._looked_at = 0.0, time.monotonic()
        #: Looks since it last moved.
        self.looks = 0
        #: Where it stands: file, line and function.
        self.place = ""

    def look(self) -> None:
        """Look once."""
        frame = sys._current_frames().get(self._id)
        if self._clock is None or frame is None:
            return
        now, worked = time.monotonic(), time.clock_gettime(self._clock)
        trace, waits = _trace(frame)
        is_idle = worked - self._worked < _IDLE_SHARE * (now - self._looked_at)
        is_still = trace == self._trace and is_idle and not waits and self._sleeps()
        self.looks = self.looks + 1 if is_still else 0
        self._trace, self._worked, self._looked_at = trace, worked, now
        code = frame.f_code
        self.place = f"{os.path.basename(code.co_filename)}:{frame.f_lineno} ({code.co_name})"

    def _sleeps(self) -> bool:
        """Return whether it waits for an event; a disk or a debugger is another state."""
        with suppress(OSError, IndexError):
            return self._status.read_text().rpartition(")")[2].split()[0] == "S"
        return False


def _trace(frame: FrameType) -> tuple[list[tuple[int, int]], bool]:
    """Return where each frame stands, and whether one of the innermost waits for others."""
    trace: list[tuple[int, int]] = []
    waits = _is_of(frame, _TOGETHER)
    here: FrameType | None = frame
    while here is not None:
        waits = waits or (len(trace) < _INNERMOST and _is_of(here, _WAITS))
        trace.append((id(here.f_code), here.f_lasti))
        here = here.f_back
    return trace, waits


def _is_of(frame: FrameType, modules: tuple[str, ...]) -> bool:
    name = f"{frame.f_globals.get('__name__', '')}."
    return name.startswith(tuple(f"{module}." for module in modules))
