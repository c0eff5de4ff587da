"""Memory: the peak since it was cleared, and an end to work that takes more than there is."""

import mmap
import sys

import pytest
import torch

from zoo.errors import is_out_of_memory
from zoo.run.memory import clear_peak, free_memory, peak_memory, within_memory

CPU = torch.device("cpu")
MIB = 2**20

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="of Linux alone")


def take(size: int) -> None:
    """Use memory for a moment; the system's own, as a heap may have what was used before."""
    with mmap.mmap(-1, size) as area:
        for page in range(0, size, mmap.PAGESIZE):
            area[page] = 1


def test_the_peak_is_of_what_came_after_it_was_cleared() -> None:
    take(300 * MIB)
    clear_peak(CPU)
    before = peak_memory(CPU)
    take(100 * MIB)
    after = peak_memory(CPU)
    assert before is not None
    assert after is not None
    assert 90 * MIB < after - before < 200 * MIB


def test_more_than_is_free_is_refused_and_not_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (free_memory() or 0) > 0
    monkeypatch.setattr("zoo.run.memory.free_memory", lambda: 100 * MIB)
    with within_memory():
        torch.empty(50 * MIB // 4)
        with pytest.raises(RuntimeError) as caught:
            torch.empty(200 * MIB // 4)
    assert is_out_of_memory(caught.value)
    torch.empty(200 * MIB // 4)
