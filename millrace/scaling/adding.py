"""Adding: how a flow stands whose lists are its partitions, from how each of them does."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from millrace.observing import ConsumerSeen, FlowSeen
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.queue import Books
from millrace_pipeline.queue.books import sum_of


def add_up(flow: Flow, parts: Sequence[FlowSeen]) -> FlowSeen:
    """Return the flow as one, from its partitions. Where one of them can't be asked, the flow can't."""
    if len(parts) == 1:
        return parts[0]
    away = next((part for part in parts if part.unreachable), None)
    books = [part.books for part in parts if part.books is not None]
    return FlowSeen(
        flow.name,
        flow.queue.key,
        _books(books) if len(books) == len(parts) else None,
        in_a_second=sum(part.in_a_second for part in parts),
        out_a_second=sum(part.out_a_second for part in parts),
        age_seconds=max(part.age_seconds for part in parts),
        untaken_seconds=max(part.untaken_seconds for part in parts),
        consumers=_consumers(parts),
        unreachable=away.unreachable if away else "",
        unreachable_since=away.unreachable_since if away else 0.0,
    )


def _books(books: Sequence[Books]) -> Books:
    """Return the sums. A pause of some partitions isn't one of the flow: the others have work for more consumers."""
    paused = {part: pause for part, pause in books[0].paused.items() if all(part in one.paused for one in books)}
    return msgspec.structs.replace(sum_of(books), paused=paused)


def _consumers(parts: Sequence[FlowSeen]) -> list[ConsumerSeen]:
    """Return each consumer once, though it says in every partition what it does there."""
    found: dict[str, ConsumerSeen] = {}
    for one in (one for part in parts for one in part.consumers):
        known = found.setdefault(one.name, msgspec.structs.replace(one))
        known.silent_seconds = min(known.silent_seconds, one.silent_seconds)
        known.trouble = known.trouble or one.trouble
    return list(found.values())
