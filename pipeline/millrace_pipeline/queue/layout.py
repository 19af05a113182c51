"""Layout: in how many partitions a flow is kept, noted beside the list's own name, and held to what its file says."""

from __future__ import annotations

import threading

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.queue.session import Session

FIELD = "partitions"
"""Beside the marks of `Project`, in the same hash."""


def partitions_of(session: Session) -> int | None:
    """Return in how many partitions the flow of this list is kept; None for none. Raises QueueError."""
    (found,) = session.ask(("HGET", session.keys.project, FIELD))
    return None if found is None else int(found)


def note_partitions(session: Session, was: int | None, partitions: int) -> None:
    """Note that the flow of this list is kept in so many partitions, unless another number is there than there was."""
    known = "" if was is None else was
    session.ask_script("mark", [session.keys.project], [1, FIELD, known, partitions])


def hold_to_layout(url: str, flow: Flow, *, note: bool = False, give_up: threading.Event | None = None) -> None:
    """Return if the flow, or the flow of this partition, is kept in as many partitions as its file says.

    With `note` a flow that nobody has used yet gets them. Raises ConfigError where it is kept in others: what is in
    them would be lost from sight. Raises QueueError.
    """
    whole = flow.whole or flow
    wanted = whole.queue.partitions
    session = Session(url, whole.queue.key, give_up=give_up)
    if give_up is None:
        session.give_up.set()
    try:
        kept = partitions_of(session)
        if kept is None and wanted > 1 and (note or _is_used(session)):
            if _is_used(session):
                raise _another(whole, 1)
            note_partitions(session, None, wanted)
            kept = partitions_of(session)
        if kept is not None and kept != wanted:
            raise _another(whole, kept)
    finally:
        session.close()


def refuse_partitions(session: Session) -> None:
    """Raise ConfigError where the flow of this one list is kept in partitions."""
    if (kept := partitions_of(session) or 1) > 1:
        raise ConfigError(_words(session.keys.ready, kept, 1))


def _is_used(session: Session) -> bool:
    marked, published, ready = session.ask(
        ("HGET", session.keys.project, "flow"),
        ("HGET", session.keys.counters, "published"),
        ("LLEN", session.keys.ready),
    )
    return bool(marked or published or ready)


def _another(flow: Flow, kept: int) -> ConfigError:
    return flow.error(_words(flow.queue.key, kept, flow.queue.partitions), "queue", FIELD)


def _words(key: str, kept: int, wanted: int) -> str:
    was = f"{kept} partitions" if kept > 1 else "one list"
    now = f"{wanted} partitions" if wanted > 1 else "one list"
    return (
        f"{key} is kept in {was} in this Redis, and the file says {now}: what is there would be lost from sight. Write "
        f"what it was; or, once it has been drained, `millrace repartition` carries it over: docs/how-to/partitions.md"
    )
