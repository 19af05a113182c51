"""Pausing: the producers of a flow, or its consumers, stand still, whoever they are and whenever they start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias, get_args

import msgspec
import structlog

from millrace_pipeline.queue.changes import LONGEST_NOTE, By, Changing
from millrace_pipeline.queue.replies import pairs
from millrace_pipeline.queue.session import Session

log = structlog.get_logger(__name__)

Part: TypeAlias = Literal["producers", "consumers"]
PARTS: tuple[Part, ...] = get_args(Part)


class Pause(msgspec.Struct, frozen=True, omit_defaults=True):
    """That a part of a flow is paused: since when, in milliseconds since 1970, by whom and why."""

    since: int
    by: By
    note: str = ""

    @property
    def time(self) -> datetime:
        """Since when."""
        return datetime.fromtimestamp(self.since / 1000, UTC)

    def __str__(self) -> str:
        return f"paused since {self.time:%Y-%m-%d %H:%M:%S} UTC by {self.by}" + (f": {self.note}" if self.note else "")


def pause(
    session: Session, parts: Sequence[Part] = PARTS, *, note: str = "", by: By | None = None
) -> dict[Part, Pause]:
    """Have these parts stand still, and return what is paused then, also what was before. Raises QueueError.

    Once it returns no batch is claimed any more, and nothing that didn't look behind it is published. What is in hand
    is finished; leases and leadership are kept.
    """
    changing = Changing(session, "pause", by, {"parts": list(parts), **({"note": note[:LONGEST_NOTE]} if note else {})})
    told = msgspec.json.encode({"by": changing.by, "note": note[:LONGEST_NOTE]})
    session.ask_script("pause", _keys(session), [*changing.arguments(), told, *parts])
    return pauses_of(session)


def resume(session: Session, parts: Sequence[Part] = PARTS, *, by: By | None = None) -> dict[Part, Pause]:
    """Have these parts go on, and return what was paused of them. Raises QueueError."""
    were = pauses_of(session)
    changing = Changing(session, "resume", by, {"parts": list(parts)})
    session.ask_script("resume", _keys(session), [*changing.arguments(), *parts])
    return {part: were[part] for part in parts if part in were}


def pauses_of(session: Session) -> dict[Part, Pause]:
    """Return what is paused. Raises QueueError."""
    (found,) = session.ask(("HGETALL", session.keys.steering))
    return pauses_in(found)


def pauses_in(found: Sequence[Any] | Mapping[Any, Any]) -> dict[Part, Pause]:
    """Return the pauses that a reply to HGETALL of the flow's steering tells of."""
    steering = pairs(found)
    return {part: pause_in(text) for part in PARTS if (text := steering.get(part.encode()))}


def pause_in(text: bytes) -> Pause:
    """Return the pause as it stands in Redis."""
    return msgspec.json.decode(text, type=Pause)


class Paused:
    """The pause of one part of a flow, as a service has heard of it: `now`, or None. The log says what changes."""

    def __init__(self, part: Part, key: str) -> None:
        self.part = part
        self.now: Pause | None = None
        self._key = key

    def hear(self, text: bytes | None) -> None:
        """Take note of what Redis says. May be called from several threads."""
        before, self.now = self.now, pause_in(text) if text else None
        if before is None and self.now is not None:
            log.warning("flow_paused", queue=self._key, part=self.part, reason=str(self.now))
        elif before is not None and self.now is None:
            log.info("flow_resumed", queue=self._key, part=self.part)


def _keys(session: Session) -> list[str]:
    return [session.keys.steering, session.keys.changes]
