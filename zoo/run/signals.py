"""Signals that ask a run to stop, and a thread that makes sure that it does."""

from __future__ import annotations

import _thread
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from zoo.errors import UNSAVED, Ended, Interrupted
from zoo.run.launch import is_first_process

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")  # Windows has the first two
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))

#: A signal that follows the first sooner is the same request: a terminal sends Ctrl-C to all of a
#: job's processes, and launchers such as torchrun pass it on to theirs again.
_AGAIN_S = 1.0
#: How long the main thread may take to end once it was told to, of the limit where that is longer.
_GRACE_S = 5.0

_WAIT = "\nzoo: stopping once this step or validation is done; once more stops at once"


class StopSignals:
    """Notes the signals that ask the run to stop, and ends it where it does not end by itself.

    Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 are one request. Where :attr:`graceful` is set, training
    sees to it at its next good moment; elsewhere ``Interrupted`` is raised at once. A second
    signal, or :attr:`limit` seconds, end the run in any case.

    Python runs a signal's handler between two steps of the main thread, which may be waiting, in C
    and for ever, for a process that is gone. So a thread learns of each signal too, through a
    socket that the interpreter's own handler writes to, and can end the process. A signal that was
    ignored when the run began (SIGHUP under ``nohup``) stays so.
    """

    def __init__(self) -> None:
        self.limit = 30.0
        self._previous: dict[int, Any] = {}
        self._inbox: socket.socket | None = None
        self._reset()
        if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
            os.register_at_fork(after_in_child=self._forget)

    def _reset(self) -> None:
        #: Called before the process is ended in mid-work.
        self.before_exit: Callable[[], None] = lambda: None
        self.asked: int | None = None
        self.graceful = False
        #: The checkpoint to go on from.
        self.saved: str | None = None
        #: What is said where there is none.
        self.unsaved = UNSAVED
        self.ending = False  # an error is on its way out already
        self._asked_at = 0.0
        self.error: Ended | None = None
        self._deadline: float | None = None
        self._lock = threading.RLock()

    def listen(self) -> None:
        """Take the signals, or take them back from Lightning, which sets handlers of its own."""
        if threading.current_thread() is not threading.main_thread():
            return
        if self._inbox is None:
            self._inbox, self._outbox = socket.socketpair()
            self._outbox.setblocking(False)
            self._old_wakeup = signal.set_wakeup_fd(
                self._outbox.fileno(), warn_on_full_buffer=False
            )
            threading.Thread(target=self._watch, args=(self._inbox,), daemon=True).start()
        for signum in SIGNALS:
            current = signal.getsignal(signum)
            if current not in (signal.SIG_IGN, self._handle):
                self._previous.setdefault(signum, current)
                signal.signal(signum, self._handle)

    @property
    def is_listening(self) -> bool:
        """Whether the signals come here."""
        return self._inbox is not None

    def release(self) -> None:
        """Give the signals back."""
        if self._inbox is None or threading.current_thread() is not threading.main_thread():
            return
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(self._old_wakeup)
        self._previous.clear()
        self._inbox = None
        self._outbox.close()  # at which the thread ends
        self._reset()

    def _forget(self) -> None:
        """Leave a forked process, a worker that reads data say, to its parent."""
        if self._inbox is None:
            return
        signal.set_wakeup_fd(-1)
        for signum in self._previous:
            to_parent = signal.SIG_DFL if signum == signal.SIGTERM else signal.SIG_IGN
            signal.signal(signum, to_parent)
        self._previous.clear()
        self._inbox = None
        self._reset()

    # ------------------------------------------------------------------ in the main thread

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        self.note(signum)
        if self.ending or (self.graceful and self.error is None):
            return
        self.ending = True
        raise self.error or self.interrupted()

    def interrupted(self) -> Interrupted:
        """Return the error that ends a run which was asked to stop."""
        return Interrupted(self.asked or signal.SIGTERM, self.saved, self.unsaved)

    # ------------------------------------------------------------------ in any thread

    def note(self, signum: int) -> None:
        """Note a request to stop."""
        now = time.monotonic()
        with self._lock:
            first, self.asked = self.asked is None, self.asked or signum
            if not first:
                if now - self._asked_at >= _AGAIN_S and self.error is None:
                    self.end(self.interrupted())
                return
            self._asked_at = now
            self._deadline = now + max(self.limit - _GRACE_S, self.limit / 2)
        if signum == getattr(signal, "SIGHUP", None):
            _drop_terminal()
        if self.graceful and is_first_process():
            with suppress(OSError):
                print(_WAIT, file=sys.stderr, flush=True)
        self._wake()

    def deliver(self, signum: int) -> None:
        """Have the main thread handle a signal that another process got."""
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(threading.main_thread().ident or 0, signum)
        else:  # Windows, where a thread that sleeps is not woken
            _thread.interrupt_main(signal.Signals(signum))

    def end(self, error: Ended) -> None:
        """Raise an error in the main thread; end the process where that does not come to it.

        Args:
            error: Says why.
        """
        with self._lock:
            if self.error is not None:
                return
            self.error = error
            self._deadline = time.monotonic() + _GRACE_S
        self._wake()
        if not self.ending:
            self.deliver(signal.SIGTERM)

    def _wake(self) -> None:
        with suppress(OSError):  # full, or given back
            self._outbox.send(b"\0")

    # ------------------------------------------------------------------ in the thread

    def _watch(self, inbox: socket.socket) -> None:
        while inbox is self._inbox:
            deadline = self._deadline
            inbox.settimeout(None if deadline is None else max(0.01, deadline - time.monotonic()))
            try:
                received = inbox.recv(64)
            except TimeoutError:
                self._overdue()
                continue
            if not received:
                return
            for signum in received:
                if signum in SIGNALS and self.error is None:
                    self.note(signum)

    def _overdue(self) -> None:
        if self.error is None:
            self.end(self.interrupted())
            return
        with suppress(Exception):
            self.before_exit()
        say(self.error)
        os._exit(self.error.code)


def say(error: BaseException) -> None:
    """Print an error's sentence, once; nobody may be there to read it."""
    if getattr(error, "said", False):
        return
    error.said = True  # type: ignore[attr-defined]
    with suppress(OSError):
        print(f"zoo: {error}", file=sys.stderr, flush=True)


def _drop_terminal() -> None:
    """Write to nowhere what would go to a terminal that was closed, where each line would raise."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        if os.isatty(number):
            os.dup2(nowhere, number)
    os.close(nowhere)


#: The process's own.
stop = StopSignals()
