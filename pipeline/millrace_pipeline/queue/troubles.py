"""Troubles: what keeps a flow's source from giving anything, written beside the list for whoever looks."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from millrace_pipeline.queue.replies import milliseconds, pairs
from millrace_pipeline.queue.session import SESSION_SECONDS, Session

SOURCE = "source"
LONGEST_REASON = 500


class Trouble(msgspec.Struct, frozen=True):
    """What goes wrong with a part of a flow, for how long by now, and how long ago it went wrong last."""

    part: str
    reason: str
    since_seconds: float
    last_seconds: float


class _Told(msgspec.Struct):
    reason: str
    since: int
    last: int


def tell_trouble(queue: Session, reason: str, since: int | None, part: str = SOURCE) -> int:
    """Write down that this goes wrong. Returns since when, in milliseconds of Redis time: say so the next time.

    It is forgotten seven days after it was told last. Raises QueueError.
    """
    clock = queue.ask(("TIME",))[0]
    now = milliseconds(clock)
    told = _Told(reason[:LONGEST_REASON], now if since is None else since, now)
    key = queue.keys.troubles
    queue.ask(("HSET", key, part, msgspec.json.encode(told)), ("EXPIRE", key, SESSION_SECONDS))
    return told.since


def end_trouble(queue: Session, part: str = SOURCE) -> None:
    """Write down that it is over, where it was told. Raises QueueError."""
    if queue.ask(("HGET", queue.keys.troubles, part))[0]:
        queue.ask(("HSET", queue.keys.troubles, part, ""))


def troubles_of(queue: Session) -> list[Trouble]:
    """Return what goes wrong now. Raises QueueError."""
    found, clock = queue.ask(("HGETALL", queue.keys.troubles), ("TIME",))
    return troubles_in(found, milliseconds(clock))


def troubles_in(found: Sequence[bytes], now_ms: int) -> list[Trouble]:
    """Return what a reply to HGETALL tells of."""
    troubles = []
    for part, text in pairs(found).items():
        if text:
            told = msgspec.json.decode(text, type=_Told)
            ages = (max(0.0, (now_ms - moment) / 1000) for moment in (told.since, told.last))
            troubles.append(Trouble(part.decode(), told.reason, *ages))
    return troubles
