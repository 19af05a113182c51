"""Requeuing: a batch in flight is taken from whoever holds it, after a look at what the flow's sink has of it."""

from __future__ import annotations

import contextlib

from millrace_consumer.fanout import sink_of
from millrace_pipeline.errors import MillraceError
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.queue import Session
from millrace_pipeline.queue.changes import By
from millrace_pipeline.queue.purging import NotRequeued, requeue


def requeue_batch(
    flow: Flow, session: Session, batch: str, *, whole: bool = False, force: bool = False, by: By | None = None
) -> int:
    """Do what `requeue` does, unless the sink has something of the batch already and it is to get other ids.

    Raises NotRequeued, ConfigError for a sink that is set up wrongly, and QueueError.
    """
    if not whole and not force and sink_has(flow, batch):
        raise NotRequeued(
            f"batch {batch}: the sink of {flow.name} has something of it already, and would have it twice under other "
            "ids. --whole keeps its id, so that nothing is written twice"
        )
    return requeue(session, batch, whole=whole, force=force, by=by)


def sink_has(flow: Flow, batch: str) -> bool:
    """Return True if the flow's sink has any of this batch, as far as it can tell; also where it can't be asked now."""
    sink = sink_of(flow)
    try:
        return sink.has_batch(batch)
    except (MillraceError, OSError):
        return True
    finally:
        with contextlib.suppress(Exception):
            sink.close()
