"""Listener: whoever reads a tap. It makes the stream, keeps it from expiring, and reads what parties add to it."""

from __future__ import annotations

import time
from typing import Any

from millrace_pipeline.queue.replies import pairs
from millrace_pipeline.queue.session import Session
from millrace_pipeline.queue.tap import LOTS_KEPT, Lot, told

KEPT_SECONDS = 5
"""So long after the last word of a listener the tap is gone."""

REFRESH_SECONDS = 1.0

LOTS_A_LOOK = 8
"""So many are asked for at once: 4 MiB at most."""


class Listener:
    """Listens at one tap: the session's `tap_in` or `tap_out`. For one thread at a time.

    What it says is said once: an outage is raised, and whoever looks again goes on.
    """

    def __init__(self, session: Session, key: str) -> None:
        self._session = session
        self._connection = session.another_connection()
        self._key = key
        self._last = b""
        self._due = 0.0
        self._parties: dict[str, tuple[int, int]] = {}
        self.received = 0
        """Records that were in the lots."""

    @property
    def passed(self) -> int:
        """How many records passed the parties while they were tapped, from the first lot of each on."""
        return sum(now - before for before, now in self._parties.values())

    def look(self) -> list[tuple[float, Lot]]:
        """Return the lots since the last look, each with its moment, in seconds since 1970. The first look opens it.

        Raises QueueMisuse to a user who may not write the tap, QueueUnavailable while Redis doesn't answer.
        """
        if (now := time.monotonic()) >= self._due:
            (kept,) = self._connection.exchange(("EXPIRE", self._key, KEPT_SECONDS))
            if not kept or not self._last:
                self._open()
            self._due = now + REFRESH_SECONDS
        found = []
        while True:
            (page,) = self._connection.exchange(("XRANGE", self._key, b"(" + self._last, "+", "COUNT", LOTS_A_LOOK))
            for id, fields in page:
                self._last = id
                if (lot := told(pairs(fields))) is not None:
                    self._count(lot)
                    found.append((int(id.partition(b"-")[0]) / 1000, lot))
            if len(page) < LOTS_A_LOOK:
                return found

    def close(self) -> None:
        """Listen no more. The tap is left to expire: another may listen, too."""
        self._connection.close()

    def _open(self) -> None:
        replies: list[Any] = self._connection.exchange(
            ("MULTI",),
            ("XADD", self._key, "MAXLEN", "=", LOTS_KEPT, "*", "listener", self._session.name),
            ("EXPIRE", self._key, KEPT_SECONDS),
            ("EXEC",),
        )
        self._last = replies[-1][0]

    def _count(self, lot: Lot) -> None:
        before, now = self._parties.get(lot.session, (lot.passed - lot.since_last, 0))
        self._parties[lot.session] = before, max(now, lot.passed)
        self.received += len(lot.records)
