"""Ours: whose a list must be for a person to change it."""

from __future__ import annotations

from millrace.server import Server, without_secrets
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.queue import Session
from millrace_pipeline.queue.marks import mark_of, theirs


def may_change(server: Server, flow: Flow, queue: Session, anyway: str) -> None:
    """Return if this list is the folder's own, or bears the mark of this flow's file.

    A list without a mark is left alone only where nobody said that this is the server. Raises ConfigError naming both,
    and the mend; `anyway` says how it is done all the same.
    """
    if server.kind == "embedded":
        return
    found = mark_of(queue)
    if found is None and server.kind == "default":
        raise ConfigError(
            f"list {flow.queue.key} on {server} bears no mark of this flows file ({flow.project}). Nothing "
            f"was changed. Set REDIS_URL to the Redis that you mean; {anyway}"
        )
    if found is not None and not flow.project.is_of(found):
        words = theirs(queue, flow.project, found, "Nothing was changed", anyway)
        raise ConfigError(f"on {without_secrets(server.url)}, {words}")
