"""Heard: what the connections to one server began with, so that a greeting that comes again is nothing new."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable

from millrace_producer.advance import LASTING_SECONDS

FIRST_MESSAGES = 100
"""So many messages of a connection are compared with those before. One that gives more works, whatever they are, as
one does that gives any after `LASTING_SECONDS`."""

MESSAGES_KNOWN = 1_000


class Heard:
    """Tells whether a connection has given anything that those before it had not, as a server that works does.

    One that greets whoever comes, and hangs up, gives the same each time.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: deque[int] = deque(maxlen=MESSAGES_KNOWN)
        self._number = 0
        self._began = clock()

    def begin(self) -> None:
        """Another connection is made."""
        self._number = 0
        self._began = self._clock()

    def is_new(self, message: Hashable) -> bool:
        """Whether this message shows that the connection works. Need not be asked any more once it has."""
        self._number += 1
        known = hash(message)
        if known not in self._known:
            self._known.append(known)
            return True
        return self._number > FIRST_MESSAGES or self._clock() - self._began >= LASTING_SECONDS
