"""Advance: how far the readings of one source have come, by which a failure is the first or another in a row."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import msgspec

from millrace_pipeline.envelope import Position

ENDS_KNOWN = 100
"""So many positions at which readings ended are known. What fails in turn at more is not told from what goes on."""

LASTING_SECONDS = 60.0
"""A reading that gave records for so long is one of a live source, if it gave another number than the one before it."""


class Advance:
    """Tells whether a reading has come further than all before it: if so, its failure is the first in a row.

    With positions it has where it gave a record with one at which none began or ended. A source that is told what was
    published has where it heard that, since it doesn't give that again. Any other begins anew each time, so it has
    where it gave more records than any before; and where it lasted, and didn't just stop at the same record again.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends: deque[bytes] = deque(maxlen=ENDS_KNOWN)
        self._most = self._last = self._acknowledged = 0
        self._began = clock()

    def begin(self, position: Position | None) -> None:
        """A reading begins after this position."""
        self._began = self._clock()
        self._note(position)

    def is_further(self, records: int, position: Position | None, acknowledged: int | None) -> bool:
        """Whether the reading has come further by so many records of its own, the last position, and acknowledgements.

        `acknowledged` counts those of all readings; None where the source isn't told what was published.
        """
        if position is not None:
            return msgspec.json.encode(position) not in self._ends
        if acknowledged is not None:
            return acknowledged > self._acknowledged
        lasted = self._clock() - self._began >= LASTING_SECONDS
        return records > self._most or (lasted and 0 != records != self._last)

    def end(self, records: int, position: Position | None, acknowledged: int | None) -> bool:
        """The reading has failed here. Returns whether it came further than all before it."""
        further = self.is_further(records, position, acknowledged)
        self._note(position)
        self._last, self._most = records, max(records, self._most)
        self._acknowledged = acknowledged or 0
        return further

    def _note(self, position: Position | None) -> None:
        if position is not None and (end := msgspec.json.encode(position)) not in self._ends:
            self._ends.append(end)
