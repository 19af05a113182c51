"""Watchdog: ends a process that stands still with a batch in its hands.

A value that sends a C function into hours of work takes the interpreter's lock with it: no thread runs, no lease is
renewed, no signal is heard, and the process doesn't die either, so nobody is told. The kernel still counts its time on
the processor, and rings when there was too much of it since a thread of ours ran last.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import threading
import time

LEAST_SECONDS = 1.0
"""The shortest time on the processor that a process may stand still for, however short its leases are."""

EXIT_CODE = int(signal.SIGPROF)
"""What a process that was ended has for its exit code."""

_STDERR = 2


class Watchdog:
    """Ends this process, with a traceback of every thread, where for about a lease no Python code could run.

    Only while something is held. What counts is time on the processor and not on the clock, so a process that was
    stopped, or swapped out, goes on when it is continued. Several threads that work beside each other, in C and without
    the lock, use up that time as much sooner: it is as many times the lease as cores were seen at work.

    For processes of our own, since it ends them: a library has no business with it.
    """

    def __init__(self) -> None:
        self._held: dict[str, float] = {}
        self._most = float("inf")
        self._busy = 1.0
        self._cores = os.cpu_count() or 1
        self._pause = 0.0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def hold(self, name: str, seconds: float) -> None:
        """Watches from now on, until what has this name is dropped, for a stand of so many seconds."""
        with self._changed:
            self._held[name] = seconds
            if not self._thread.is_alive():
                _end_at_the_bell()
                self._thread.start()
            self._wind()
            if self._pause != self._between():
                self._changed.notify()

    def drop(self, name: str) -> None:
        """What has this name is not held any more; once nothing is, nothing is watched."""
        with self._changed:
            if self._held.pop(name, None) is not None and not self._held:
                signal.setitimer(signal.ITIMER_PROF, 0)

    def hurry(self, seconds: float) -> None:
        """From now on no stand may be longer than this, whatever is held: we are to end by then."""
        with self._changed:
            self._most = seconds
            if self._held:
                self._wind()
                self._changed.notify()

    def _wind(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, self._longest() * self._busy)

    def _longest(self) -> float:
        """Seconds of a stand that are too many."""
        return max(LEAST_SECONDS, min(self._most, *self._held.values()))

    def _between(self) -> float:
        """Seconds between two windings: all cores together can't use up the time in half of them."""
        return self._longest() / (2 * max(3, self._cores)) if self._held else 0.0

    def _run(self) -> None:
        with self._changed:
            while True:
                began, used = time.monotonic(), time.process_time()
                self._pause = self._between()
                self._changed.wait(self._pause or None)
                if self._held:
                    self._learn(time.process_time() - used, time.monotonic() - began)
                    self._wind()

    def _learn(self, used: float, took: float) -> None:
        """Takes note of how many cores this process can keep at work."""
        if took >= self._pause > 0:  # what is shorter is too rough a measure
            self._busy = max(self._busy, min(self._cores, used / took))


def _end_at_the_bell() -> None:
    """Has SIGPROF print where every thread is, and end the process, without the interpreter."""
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    # Not the default action: process 1 of a container is not ended by that.
    libc.signal(signal.SIGPROF, ctypes.cast(libc._exit, ctypes.c_void_p))
    faulthandler.register(signal.SIGPROF, file=_STDERR, all_threads=True, chain=True)
