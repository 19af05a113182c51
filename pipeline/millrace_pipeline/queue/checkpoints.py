"""Checkpoints, as people look at them and move them."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import msgspec

from millrace_pipeline.envelope import Position
from millrace_pipeline.queue.changes import By, Changing, changes_of
from millrace_pipeline.queue.history import MOVED, STEP_SECONDS
from millrace_pipeline.queue.session import Session
from millrace_pipeline.queue.spans import read_notes

PUBLISHED = MOVED.index("published")
MOVES = ("checkpoint set", "checkpoint reset")


class Written(msgspec.Struct, frozen=True):
    """When a checkpoint was written last, to about ten seconds where that was by a publish, and by whom else."""

    time: datetime
    by: By | None = None


def written_of(session: Session, position: Position | None) -> Written | None:
    """Return when the checkpoint, which is this, was written: by a publish, or by a person. None where nobody knows."""
    moved = next((change for change in changes_of(session) if change.what in MOVES), None)
    if moved is not None and position == moved.detail.get("to"):
        return Written(moved.time, moved.by)
    if position is None:
        return None
    at = None
    for note, following in pairwise(read_notes(session)):
        if following.numbers[PUBLISHED] > note.numbers[PUBLISHED]:
            at = Written(datetime.fromtimestamp(min(note.moment + STEP_SECONDS, following.moment), UTC))
    return at


def move(session: Session, source: str, position: Position | None, *, by: By | None = None) -> Position | None:
    """Set the checkpoint of a source, or with None take it away, and return what it was. Raises QueueError.

    A producer that runs publishes nothing more of what it reads from elsewhere, and reads on from there.
    """
    keys = session.keys
    what = MOVES[position is None]
    (found,) = session.ask(("HGET", keys.checkpoints, source))
    detail: dict[str, Any] = {"from": None if found is None else msgspec.json.decode(found)}
    if position is not None:
        detail["to"] = position
    told = Changing(session, what, by, detail).arguments()
    arguments = [*told, source, b"" if position is None else msgspec.json.encode(position)]
    (before,) = session.ask_script("move", [keys.checkpoints, keys.steering, keys.changes], arguments)
    return None if before is None else msgspec.json.decode(before)
