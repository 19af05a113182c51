"""Checkpoints of flows, in words: where a source is read from, and what it means to have it read from elsewhere."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from millrace_pipeline.envelope import Position
from millrace_pipeline.errors import ConfigError, SourceRefused
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.queue import Session
from millrace_pipeline.queue.changes import By
from millrace_pipeline.queue.checkpoints import Written, move, written_of
from millrace_producer.reading import dedupe_seconds
from millrace_producer.sources import SOURCES
from millrace_producer.sources.base import Source

BEGINNING = "as at its first start"


class Checkpoint(msgspec.Struct, frozen=True):
    """The checkpoint of a flow: its position, None where there is none, in words, and when it was written."""

    position: Position | None
    words: str
    written: Written | None


def checkpoint_of(flow: Flow, session: Session) -> Checkpoint:
    """Return where the flow's source is read from when it is read next. Raises QueueError."""
    (text,) = session.ask(("HGET", session.keys.checkpoints, flow.name))
    if text is None:
        return Checkpoint(None, BEGINNING, written_of(session, None))
    position = msgspec.json.decode(text)
    try:
        words = source_of(flow).describe(position)
    except SourceRefused as error:
        words = f"this source can't be read from there: {error}"
    return Checkpoint(position, words, written_of(session, position))


def checked(flow: Flow, position: Position) -> str:
    """Return in words where the flow's source would be read from. Raises ConfigError where it can't be."""
    try:
        return source_of(flow).describe(position)
    except SourceRefused as error:
        what = f"{flow.name}: its source ({flow.source.type}) can't be read from {_json(position)}"
        raise ConfigError(f"{what}: {error}") from None


def meaning_of(flow: Flow, position: Position | None) -> str:
    """Return what it means to set this checkpoint, or with None to take it away. Raises ConfigError."""
    source = source_of(flow)
    where = BEGINNING if position is None else checked(flow, position)
    window = dedupe_seconds(flow, source)
    again = (
        f"what was published within the last {window:g} s is left out by dedupe, and what was before comes again"
        if window
        else "what was published before comes again, and is delivered twice: this flow has no dedupe"
    )
    return f"the producer reads {where}. Of what it reads then, {again}; what it passes over is never read"


def move_checkpoint(
    flow: Flow, session: Session, position: Position | None, *, by: By | None = None
) -> Position | None:
    """Set the flow's checkpoint, or with None take it away, and return what it was.

    Raises ConfigError for what its source can't be read from, and QueueError.
    """
    if position is not None:
        checked(flow, position)
    return move(session, flow.name, position, by=by)


def source_of(flow: Flow) -> Source:
    """The flow's source, to ask about positions."""
    return flow.source.build(SOURCES, Source)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
