"""History: how a flow's counters stood, noted beside its list as they moved: every ten seconds, minute, hour, day.

A note is what the counters said before the first of them moved in its step, so what moved until the next note moved
within the step of this one, and sums over any time agree with the counters to the record. Notes are thinned by age:

    younger than an hour     one every 10 seconds
    younger than a day       one a minute
    younger than 90 days     one an hour
    younger than two years   one a day

That is 4,700 notes at most, of some 100 bytes each, in one hash in the flow's slot: second since 1970 → the numbers of
`MOVED` and `STOOD` with spaces between them. A step in which nothing moved has no note.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import structlog

from millrace_pipeline.errors import QueueMisuse, QueueUnavailable
from millrace_pipeline.queue.keys import Keys

log = structlog.get_logger(__name__)

Asking: TypeAlias = Callable[[str, Sequence[str], Sequence[Any]], list[Any]]

STEP_SECONDS = 10
KEPT = ((3600, 10), (24 * 3600, 60), (90 * 24 * 3600, 3600), (730 * 24 * 3600, 24 * 3600))
"""So old, one note in so many seconds is kept."""

MOVED = ("published", "delivered", "filtered", "foreign", "discarded", "bytes_in", "bytes_out")
"""Counters, which only grow."""

STOOD = ("in_flight", "ready", "dead", "variants")
"""What comes and goes. The script writes the numbers in this order."""


class History:
    """Notes how the counters stand, before they are moved. Costs a look at the clock where that is done already."""

    def __init__(self, keys: Keys, ask_script: Asking) -> None:
        self._keys = keys
        self._ask_script = ask_script
        self._due = 0.0
        self.in_doubt = False
        """True where a Redis that was away may have forgotten the last note."""

        self.refused: str | None = None
        """Why it can't be kept, where it can't."""

    def note(self) -> None:
        """Have Redis note how the counters stand, if nobody has in this step.

        A history that can't be kept (a user without the right to) keeps no record waiting: it is said once.
        """
        if time.monotonic() >= self._due:
            try:
                self._note(self._ask_script)
            except QueueUnavailable:
                return  # told to give up, which what comes next will hear too

    def doubt(self) -> None:
        """Redis is away: where it comes back without its last second, the note may be gone with what it was for."""
        self.in_doubt = 0 < self._due < float("inf")

    def note_again(self, ask_script_once: Asking) -> None:
        """Note it once more, before the counters are moved by what an outage stopped. Raises QueueUnavailable."""
        self._note(ask_script_once)
        self.in_doubt = False

    def _note(self, ask_script: Asking) -> None:
        keys = self._keys
        try:
            (left,) = ask_script(
                "history",
                [keys.history, keys.counters, keys.ready, keys.woken, keys.dead, keys.variants],
                [STEP_SECONDS, *(number for pair in KEPT for number in pair)],
            )
        except QueueMisuse as error:
            self._due, self.refused = float("inf"), str(error)
            log.warning("history_not_kept", queue=keys.ready, reason=str(error))
            return
        self._due = time.monotonic() + left / 1000
