"""Threads beside other programs: as many as there are free cores."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from zoo.run import threads
from zoo.run.threads import free_cores, settle_threads

# user nice system idle iowait irq softirq steal guest guest_nice
BEFORE = """\
cpu  300 0 30 4000 20 0 0 0 0 0
cpu0 100 0 10 1000 5 0 0 0 0 0
cpu1 100 0 10 1000 5 0 0 0 0 0
cpu2 100 0 10 2000 10 0 0 0 0 0
intr 1 2 3
"""
# Of 20 ticks each, core 0 was idle in all, core 1 in none, and core 2 is not ours.
ONE_BUSY = BEFORE.replace("cpu0 100 0 10 1000 5", "cpu0 100 0 10 1015 10").replace(
    "cpu1 100 0 10 1000", "cpu1 118 0 12 1000"
)


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A process with the cores 0 and 1, and two threads on them; core 1 is busy."""
    stat = tmp_path / "stat"
    stat.write_text(BEFORE)
    monkeypatch.setattr(threads, "_STAT", stat)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr("time.sleep", lambda _: stat.write_text(ONE_BUSY))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_cores")
def test_leaves_a_busy_core_alone() -> None:
    said = settle_threads()
    assert torch.get_num_threads() == 1
    assert said is not None
    assert "1 thread instead of 2" in said
    assert "OMP_NUM_THREADS" in said


@pytest.mark.usefixtures("two_cores")
def test_takes_all_cores_of_a_quiet_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    quiet = BEFORE.replace("1000 5", "1018 6")
    monkeypatch.setattr("time.sleep", lambda _: (tmp_path / "stat").write_text(quiet))
    assert settle_threads() is None
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_cores")
def test_the_user_and_the_run_that_goes_on_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settle_threads(began_with=2) is None
    assert torch.get_num_threads() == 2
    assert settle_threads(began_with=64) is None
    assert torch.get_num_threads() == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert settle_threads() is None
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_cores")
def test_a_system_that_does_not_tell_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(threads, "_STAT", tmp_path / "none")
    assert free_cores() is None
    assert settle_threads() is None
    assert torch.get_num_threads() == 2
