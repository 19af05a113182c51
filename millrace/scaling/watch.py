"""Watch: looks at flows again and again, as nobody but a reader, and tells what a decision is made from."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from millrace.observing import FlowSeen, Observer
from millrace.scaling.adding import add_up
from millrace.scaling.decision import Seen
from millrace.scaling.rate import Rate
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.queue import Books, Lease
from millrace_pipeline.queue.waiting import done

LOOK_SECONDS = 1.0
SHARE = 20
"""A look may take so small a part of the time: with many thousand batches in flight there are fewer of them."""

SOON_SECONDS = 5.0
"""So long before its time what is put off counts as due: somebody has to be there by then."""

RUNS_SECONDS = 1.0
"""A batch that is held for longer than its linger, and this, is one that somebody works on. Others are done at once by
who is told to stop, or wait for more records, which he then does not."""


class Reading(msgspec.Struct, frozen=True):
    """A flow at the last look, for `GET /scale/FLOW`, and for what is decided of it."""

    flow: str
    ready: int
    in_flight: int
    delayed: int
    oldest_seconds: float
    """Since the oldest record that waits or is in flight was published."""
    rate: float | None
    """Records a second that a consumer is done with while it works."""
    drain_seconds: float | None
    """How long the consumers that there are take for all of it."""
    seen: Seen


class Watch:
    """Looks at these flows. Not for several threads at once."""

    def __init__(self, url: str, flows: Sequence[Flow]) -> None:
        self._observer = Observer(url, [part for flow in flows for part in flow.lists])
        self._flows = {flow.name: flow for flow in flows}
        self._rates = {flow.name: Rate() for flow in flows}

    def look(self, now: float) -> dict[str, Reading | str]:
        """Return how each flow stands, or why that can't be told; `now` is of a clock that only goes on."""
        seen = {one.name: one for one in self._observer.look()}
        return {
            name: self._read(add_up(flow, [seen[part.name] for part in flow.lists]), now)
            for name, flow in self._flows.items()
        }

    def close(self) -> None:
        """Drop the connections."""
        self._observer.close()

    def _read(self, flow: FlowSeen, now: float) -> Reading | str:
        books = flow.books
        if flow.unreachable or books is None:
            return flow.unreachable or "not looked at yet"
        options, rate = self._flows[flow.name], self._rates[flow.name]
        held = [lease for lease in books.leases if not lease.delayed and lease.seconds_left > 0]
        lingers = options.batch.linger + RUNS_SECONDS
        running = [lease for lease in held if lease.age_seconds > lingers]
        # Where nothing is left to take, one that has a few records may only linger for more.
        full = 1 if books.ready else options.batch.records
        busy = {lease.consumer for lease in held if lease.records >= full or lease.age_seconds > lingers}
        rate.saw(now, done(books), busy=len(busy), bound=_bound(running))
        due = sum(lease.records for lease in books.leases if lease.delayed and lease.seconds_left <= SOON_SECONDS)
        seen = Seen(
            moment=now,
            ready=books.ready,
            in_flight=books.in_flight,
            due=due,
            running=len(running),
            consumers=sum(one.works for one in flow.consumers),
            waits_seconds=flow.untaken_seconds,
            in_a_second=flow.in_a_second,
            rate=rate.a_second,
            linger=options.batch.linger,
            held_up=_held_up(flow, books),
        )
        return Reading(
            flow.name,
            books.ready,
            books.in_flight,
            books.delayed,
            flow.age_seconds,
            seen.rate,
            seen.drain_seconds,
            seen,
        )


def _bound(running: Sequence[Lease]) -> float | None:
    """Return what a consumer does at most, by what its oldest batch has taken so far."""
    return max((lease.records / max(lease.age_seconds, RUNS_SECONDS) for lease in running), default=None)


def _held_up(flow: FlowSeen, books: Books) -> str:
    """Return why more consumers would do nothing; empty where they would do something."""
    if pause := books.paused.get("consumers"):
        return f"consumers {pause}"
    troubles = [one.trouble for one in flow.consumers if one.works]
    return troubles[0] if troubles and all(troubles) else ""
