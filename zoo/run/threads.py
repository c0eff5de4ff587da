"""How many threads a run computes with, beside other programs.

The threads of a parallel loop wait for each other, in loops of their own: where another program has
one of their cores, all wait for the thread that shares it. Measured on two cores with one of them
busy, in seconds over the seconds of a quiet machine: 3 to 4 with two threads, whatever
``OMP_WAIT_POLICY`` and ``GOMP_SPINCOUNT`` say, 1.0 to 1.7 with one.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch

_STAT = Path("/proc/stat")


def free_cores(seconds: float = 0.2) -> int | None:
    """Return how many of this process's cores other programs leave to it, at least one.

    Looks at what they do while this process sleeps. None where the system does not tell.

    Args:
        seconds: How long to look.
    """
    before = _idle_shares()
    if before is None:
        return None
    time.sleep(seconds)
    after = _idle_shares() or before
    idle = sum(b - a for (a, _), (b, _) in zip(before, after, strict=True))
    total = sum(b - a for (_, a), (_, b) in zip(before, after, strict=True))
    return max(1, round(len(before) * idle / total)) if total > 0 else None


def settle_threads(began_with: int | None = None) -> str | None:
    """Leave the cores that other programs use to them, and say so in a sentence.

    Nothing changes where ``OMP_NUM_THREADS`` is set, or where the machine is quiet.

    Args:
        began_with: The threads of the run that goes on, which it keeps as far as there are cores:
            their number decides the order of sums, and so the last digits.
    """
    if "OMP_NUM_THREADS" in os.environ or (most := torch.get_num_threads()) == 1:
        return None
    if began_with is not None:
        torch.set_num_threads(min(began_with, most))
        return None
    free = free_cores()
    if free is None or free >= most:
        return None
    torch.set_num_threads(free)
    threads = "1 thread" if free == 1 else f"{free} threads"
    return (
        f"other programs are at work: {threads} instead of {most}, as more would wait for them; "
        "set OMP_NUM_THREADS to choose"
    )


def _idle_shares() -> list[tuple[int, int]] | None:
    """Return the idle and all ticks of each core that this process may use."""
    if not hasattr(os, "sched_getaffinity") or not _STAT.exists():
        return None
    ours = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    rows = [line.split() for line in _STAT.read_text().splitlines() if line.startswith("cpu")]
    # user, nice, system, idle, waiting for disks; what comes after the eighth is counted in them
    ticks = [[int(field) for field in row[1:9]] for row in rows if row[0] in ours]
    return [(row[3] + row[4], sum(row)) for row in ticks] or None
