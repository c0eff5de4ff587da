"""The processes of one run: how they are started, agree when to stop, and notice a lost one."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta

from lightning.pytorch.strategies import ParallelStrategy, Strategy
from torch import distributed

from zoo.errors import Ended, go_on
from zoo.run.launch import STARTED_BY
from zoo.run.main_thread import MainThread
from zoo.run.signals import stop

#: Between two looks at the other processes; their silence is counted in looks, so that a machine
#: that slept finds nobody dead.
_LOOK_S = 0.5
#: What is said where a connection to another process broke, which has no type of its own.
_OF_CONNECTIONS = ("gloo", "nccl", "pair closure", "connection")
#: How long a process is silent that counts as mute when this one ends.
_LEAVE_S = 3.0


@dataclass
class _State:
    """What a process tells the others."""

    pid: int
    machine: str
    beat: int = 0
    asked: int | None = None  # the signal that asked it to stop
    stop_at: int | None = None  # the last optimiser step, of which the first process decides
    is_waiting: bool = False  # its connection to another broke, or timed out
    code: int | None = None  # its exit code, once it ends
    follows: bool = False  # it ends because another did
    speaks: bool = False  # it tells of an error of its own
    still: int = 0  # looks since its main thread last moved
    place: str = ""  # where that stands


class Processes:
    """The other processes of a run, of which each has one of these.

    Every process writes a line about itself to the store that torch's process group was made with,
    and reads those of the others, in a thread. So each knows, whatever its main thread waits for,
    that another has ended and why, or that it is gone, or does not answer: killed, stopped, or on a
    machine that is gone. A main thread that hangs (a lock, a read without an end) is told from one
    that works or waits for others (see :class:`MainThread`).

    Args:
        strategy: Whose process group is there already.
        children: The processes of this node that this one started.
    """

    #: This process's, where a run has several.
    of_run: Processes | None = None

    @classmethod
    def join(cls, strategy: Strategy, children: Sequence[subprocess.Popen[bytes]] = ()) -> None:
        """Begin to look after the other processes of a run, if it has any."""
        if (
            cls.of_run is None
            and isinstance(strategy, ParallelStrategy)
            and strategy.world_size > 1
        ):
            cls.of_run = cls(strategy, children)

    def __init__(
        self, strategy: ParallelStrategy, children: Sequence[subprocess.Popen[bytes]] = ()
    ) -> None:
        self.rank, self.size = strategy.global_rank, strategy.world_size
        self.children = {self.rank + 1 + place: each for place, each in enumerate(children)}
        self.state = _State(os.getpid(), _machine())
        self._is_first_of_node = strategy.local_rank == 0
        store = distributed.TCPStore(  # type: ignore[attr-defined]
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            wait_for_workers=False,
            timeout=timedelta(seconds=stop.limit),
        )
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self._store = distributed.PrefixStore(  # type: ignore[attr-defined]
            f"zoo/{attempt}", store
        )
        self._write()
        strategy.barrier()
        self.states = self._read()
        self._silence = [0] * self.size
        self._talks, self._store_silence, self._store_is_gone = 0, 0, False
        self._gone: dict[int, int] = {}
        self._waited = 0
        self._lost_ranks: set[int] = set()
        self._main_thread = MainThread()
        self._has_left = threading.Event()
        self._now = threading.Event()
        stop.before_exit = self.kill_others
        for work in (self._talk, self._watch):
            threading.Thread(target=work, daemon=True).start()

    @property
    def name(self) -> str:
        """What this process is called."""
        return f"rank {self.rank} of {self.size}"

    # ------------------------------------------------------------------ what the run asks

    def stops_after(self, step: int) -> bool:
        """Return whether all processes stop after this optimiser step; each asks after each.

        The first process decides on the next step, and goes on once all know of it: as they need
        its gradients, none can have finished that step yet. Nothing is exchanged before a signal.
        """
        state = self.state
        if self.rank == 0 and stop.asked and state.stop_at is None:
            state.stop_at = step + 1
            self._now.set()
            while any(each.stop_at is None and each.code is None for each in self.states[1:]):
                time.sleep(0.02)
            return False
        return state.stop_at is not None and step >= state.stop_at

    def explain(self, error: BaseException) -> None:
        """Wait for the reason of a broken connection.

        Args:
            error: What was raised.

        Raises:
            Ended: If another process is the reason.
        """
        text = str(error).lower()
        is_connection = isinstance(error, distributed.DistError)
        if not is_connection and not any(word in text for word in _OF_CONNECTIONS):
            return
        self.state.is_waiting = True
        deadline = time.monotonic() + stop.limit
        while stop.error is None and time.monotonic() < deadline and not self._all_wait():
            time.sleep(0.05)
        if stop.error is not None:
            raise stop.error

    def is_speaker(self) -> bool:
        """Return whether this process tells of an error of its own, which others may have too."""
        self.state.speaks = True
        self._now.set()
        deadline = time.monotonic() + _LEAVE_S
        while self.rank and time.monotonic() < deadline:
            if self.states[0].speaks:
                return False
            time.sleep(0.05)
        return True

    def leave(self, code: int, *, follows: bool = False) -> None:
        """Tell the others that this process ends, and end those that it started.

        The store's host, the first process, waits for the others, which could not tell its end from
        its death.

        Args:
            code: The exit code.
            follows: Whether it ends because another did.
        """
        self.state.follows, self.state.code = follows, code
        # A process that was stopped just before is known to be mute after _LEAVE_S, and more on a
        # busy machine.
        seconds = 2 * _LEAVE_S if code else stop.limit
        deadline = time.monotonic() + seconds
        seen, needed = self._talks, 2  # the second talk has begun after the code was set
        while time.monotonic() < deadline and not self._store_is_gone:
            self._now.set()
            others = [each for each in self.states if each.pid != self.state.pid]
            if self._talks >= seen + needed and (
                self.rank or all(each.code is not None for each in others)
            ):
                break
            time.sleep(0.02)
        self._has_left.set()
        self._now.set()
        for child in self.children.values():
            with suppress(subprocess.TimeoutExpired):
                child.wait(max(0.1, deadline - time.monotonic()))
        if code:
            self.kill_others()
        Processes.of_run = None

    def kill_others(self) -> None:
        """Kill the processes that this one started, and those of this machine that do not answer.

        Also where they are stopped (SIGSTOP), which no other signal ends.
        """
        for child in self.children.values():
            child.kill()
        for worker in multiprocessing.active_children():
            worker.kill()
        for rank, state in enumerate(self.states):
            is_mute = self._silence[rank] * _LOOK_S >= _LEAVE_S and state.code is None
            is_here = rank != self.rank and state.machine == self.state.machine
            if is_here and (is_mute or rank in self._lost_ranks):
                with suppress(OSError):
                    os.kill(state.pid, getattr(signal, "SIGKILL", signal.SIGTERM))

    # ------------------------------------------------------------------ the thread that talks

    def _write(self) -> None:
        self._store.set(str(self.rank), json.dumps(asdict(self.state)))

    def _read(self) -> list[_State]:
        found = self._store.multi_get([str(rank) for rank in range(self.size)])
        return [_State(**json.loads(line)) for line in found]

    def _talk(self) -> None:
        while not self._has_left.is_set():
            state = self.state
            self._main_thread.look()
            state.beat, state.asked = state.beat + 1, stop.asked
            state.still, state.place = self._main_thread.looks, self._main_thread.place
            try:
                self._write()
                self.states = self._read()
            except RuntimeError:
                self._store_is_gone = True
                return
            self._talks += 1
            state.stop_at = self.states[0].stop_at if self.rank else state.stop_at
            asked = next((each.asked for each in self.states if each.asked), None)
            if asked and not stop.asked and state.code is None:
                stop.deliver(asked)
            self._now.wait(_LOOK_S)
            self._now.clear()

    # ------------------------------------------------------------------ the thread that watches

    def _watch(self) -> None:
        beats = [state.beat for state in self.states]
        talks = self._talks
        while not self._has_left.wait(_LOOK_S):
            self._store_silence = 0 if self._talks != talks else self._store_silence + 1
            talks = self._talks
            for rank, state in enumerate(self.states):
                is_quiet = state.beat == beats[rank] and not self._store_silence
                self._silence[rank] = self._silence[rank] + 1 if is_quiet else 0
                beats[rank] = state.beat
            error = self._lost()
            if error is not None and not self._has_left.is_set():
                stop.end(error)
                return

    def _lost(self) -> Ended | None:
        """Return why the run cannot go on, if so."""
        others = [rank for rank in range(self.size) if rank != self.rank]
        ended = {rank: self.states[rank].code for rank in others}
        mute = max(stop.limit / 2, stop.limit - 10) / _LOOK_S  # the rest is for the end itself
        if self.state.is_waiting:
            mute = min(mute, _LEAVE_S * 2 / _LOOK_S)
        reasons: dict[int, str] = {}
        for rank in others:
            if ended[rank] is not None:
                continue
            gone = self._how_it_went(rank)
            if gone is not None:
                self._gone[rank] = self._gone.get(rank, 0) + 1
                if self._gone[rank] > 2 or self._store_is_gone:  # its last word may be on its way
                    reasons[rank] = gone
            elif self._silence[rank] >= mute:
                reasons[rank] = f"has not answered for {self._silence[rank] * _LOOK_S:.0f} s"
            elif self.states[rank].still >= mute:
                still, place = self.states[rank].still, self.states[rank].place
                reasons[rank] = f"has stood still at {place} for {still * _LOOK_S:.0f} s"
        if not reasons and self.rank and (self._store_is_gone or self._store_silence >= mute):
            seconds = self._store_silence * _LOOK_S
            reasons[0] = (
                "is gone" if self._store_is_gone else f"has not answered for {seconds:.0f} s"
            )
        if not reasons and self.state.is_waiting and not self._all_wait():
            reasons = self._absent(others)
        if reasons:
            self._lost_ranks = set(reasons)
            rank, reason = min(reasons.items())
            living = [r for r in range(self.size) if r not in reasons and ended.get(r) is None]
            code = 128 + stop.asked if stop.asked else 1
            error = Ended(
                f"rank {rank} of {self.size} {reason}; {go_on(stop.saved, stop.unsaved)}", code
            )
            error.said = self.rank != min(living)  # type: ignore[attr-defined]
            return error
        failed = next((rank for rank in others if ended[rank]), None)
        if failed is not None and not stop.asked:
            error = Ended(f"rank {failed} of {self.size} ended", ended[failed] or 1)
            error.said = True  # type: ignore[attr-defined]  # by that rank
            return error
        return None

    def _how_it_went(self, rank: int) -> str | None:
        """Return how a process that is gone ended, as far as this one can know."""
        if rank in self.children:
            code = self.children[rank].poll()
            if code is None:
                return None
            return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended ({code})"
        state = self.states[rank]
        if state.machine != self.state.machine or os.name != "posix":
            return None
        try:
            os.kill(state.pid, 0)
        except ProcessLookupError:
            return "is gone: killed, or crashed"
        except OSError:
            pass
        return None

    def _all_wait(self) -> bool:
        return all(state.is_waiting or state.code is not None for state in self.states)

    def _absent(self, others: list[int]) -> dict[int, str]:
        """Return who lives and yet did not come where this process waited in vain."""
        self._waited += 1
        if self._waited * _LOOK_S < 2 * _LEAVE_S:
            return {}
        absent = [rank for rank in others if not self.states[rank].is_waiting]
        return dict.fromkeys(absent, "runs but did not come to where the others waited for it")


def _machine() -> str:
    """Return what tells machines apart, and containers whose process ids mean other processes."""
    with suppress(OSError):
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


def end_with_children(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """End this process if one that it started ends before all have met, who would be waited for."""

    def watch() -> None:
        while Processes.of_run is None:
            code = next((child.returncode for child in children if child.poll()), None)
            if code:
                stop.before_exit = kill_all
                stop.end(Ended(f"a process ended ({code}) before all had met", max(code, 1)))
                return
            time.sleep(_LOOK_S)

    def kill_all() -> None:
        for child in children:
            child.kill()

    if children:
        threading.Thread(target=watch, daemon=True).start()


def end_with_parent() -> None:
    """End this process, if another of the run started it, soon after that one has ended."""
    parent = os.environ.get(STARTED_BY)
    if parent is None or os.name != "posix":
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(1)
        time.sleep(stop.limit)  # for an end in good order
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def requeue() -> str:
    """Have SLURM start this job once more, and return what is said of it."""
    job = os.environ.get("SLURM_JOB_ID", "")
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        subprocess.run(
            ["scontrol", "requeue", job],
            check=True,
            timeout=10,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"the job {job} was not put back into SLURM's queue ({error})"
    return f"the job {job} is in SLURM's queue again"
