"""Signals, heard by a thread.

A Python signal handler runs in the main thread, between any two instructions, also while that thread holds the lock
inside an `Event`; an `Event.set()` there can wait for itself for ever. So the handler does nothing, and a thread reads
the number from the wakeup pipe that the interpreter writes it to.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable


def on_signal(callback: Callable[[int], None], *numbers: signal.Signals) -> None:
    """Call `callback` from a thread for each of these signals that comes, from now on. Call it in the main thread."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, _leave_it_to_the_thread)

    def listen() -> None:
        while came := os.read(reading, 1):
            if came[0] in numbers:
                callback(came[0])

    threading.Thread(target=listen, name="signals", daemon=True).start()


def _leave_it_to_the_thread(_number: int, _frame: object) -> None:
    pass
