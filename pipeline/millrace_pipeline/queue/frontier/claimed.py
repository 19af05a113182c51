"""What a claim answers: requests under our lease, and how the crawl stands."""

from __future__ import annotations

from typing import Any

import msgspec

from millrace_pipeline.queue.frontier.request import number_of, slot_of
from millrace_pipeline.queue.pausing import Pause, pause_in


class Claimed(msgspec.Struct, frozen=True):
    """A request under our lease."""

    place: bytes
    token: str
    attempts: int
    """The attempts that were begun, this one counted."""
    outputs: int
    """So many outputs of its page are put already, by an attempt before this."""
    text: bytes

    @property
    def number(self) -> str:
        """What names it in its crawl."""
        return number_of(self.place)

    @property
    def slot(self) -> str:
        """The host that it is for, as the downloader counts hosts."""
        return slot_of(self.place)


class Answer(msgspec.Struct, frozen=True):
    """How a crawl stands at one instant, and what was claimed then."""

    requests: list[Claimed]
    due_ms: int
    """In so many milliseconds something may be due; -1 where nobody knows."""
    began: bool
    stopped: str
    paused: Pause | None
    found: int
    done: int
    dropped: int
    waiting: int
    in_flight: int
    delayed: int
    dead: int
    items: int
    lag: int
    """Records on the flow's list, in flight included."""
    repeated: bool = False
    """This claim was carried out before: its first answer was lost."""

    @property
    def over(self) -> bool:
        """True where nothing waits, nothing is in flight and nothing is delayed."""
        return self.began and not (self.waiting or self.in_flight or self.delayed)


def answer_from(reply: list[Any], token: str) -> Answer:
    """Return what the script says."""
    (_, due, began, stopped, paused, found, done, dropped, waiting, out, delayed, dead, items, lag, again), *given = (
        reply
    )
    return Answer(
        [Claimed(place, token, attempts, outputs, text or b"") for place, attempts, outputs, text in given],
        due,
        bool(began),
        stopped.decode(),
        pause_in(paused) if paused else None,
        found,
        done,
        dropped,
        waiting,
        out,
        delayed,
        dead,
        items,
        lag,
        bool(again),
    )
