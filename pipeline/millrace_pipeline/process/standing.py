"""Standing: how each flow of a service stands in Redis, asked for whenever somebody asks for /metrics."""

from __future__ import annotations

import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, Literal

import msgspec
import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from millrace_pipeline.errors import QueueError, QueueUnavailable
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.process.repeats import repeats
from millrace_pipeline.queue import Session
from millrace_pipeline.queue.books import books_with
from millrace_pipeline.queue.history import MOVED, STOOD
from millrace_pipeline.queue.pausing import PARTS
from millrace_pipeline.queue.presence import presences
from millrace_pipeline.queue.replies import milliseconds, pairs
from millrace_pipeline.queue.troubles import SOURCE, troubles_in
from millrace_pipeline.queue.waiting import Waiting, came, came_by_note

log = structlog.get_logger(__name__)

PATIENCE_SECONDS = 4.0
"""After so long a Redis that says nothing counts as away: Prometheus gives up on an answer after ten seconds."""

GAUGES = {
    "millrace_redis_up": "1 where Redis answers, else 0.",
    "millrace_ready_records": "Records that wait on the list.",
    "millrace_in_flight_records": "Records in batches that consumers hold, or left behind.",
    "millrace_delayed_records": "Records that are put off, to be tried again.",
    "millrace_lag_records": "Records ready, in flight or delayed.",
    "millrace_dead_letters": "Dead letters that wait for a person.",
    "millrace_variant_records": "Records on the variant list.",
    "millrace_oldest_seconds": "Time since the oldest record ready, in flight or delayed was published; 0 for none.",
    "millrace_oldest_event_seconds": "Time since that record's own time; since its publish, where it tells none.",
    "millrace_books_difference_records": "Records accounted for beyond those that came; below 0 some are lost.",
    "millrace_consumers": "Consumers that say that they are there.",
    "millrace_source_failing_seconds": "Time since when the source gives nothing, since it fails; 0 while it does not.",
}
"""By flow."""

PAUSED = "millrace_paused"

Role = Literal["producer", "consumer"]
Seen = dict[str, float]


class Standing(Collector):
    """Asks Redis how these flows stand, for each scrape anew, so that what is shown is never of an earlier time.

    A producer may not look at leases and consumers: its `role` says to ask only for what it may see. Nobody who asks
    waits for long: where Redis is away, or silent, that is what is said.
    """

    def __init__(self, flows: Iterable[Flow], url: str, *, role: Role = "consumer") -> None:
        kind = _AsProducer if role == "producer" else _AsConsumer
        self._flows = [kind(part, url) for flow in flows for part in flow.lists]
        self._wanted: queue.SimpleQueue[Future[list[Seen]] | None] = queue.SimpleQueue()
        self._under_way: Future[list[Seen]] | None = None
        self._lock = threading.Lock()
        # One thread for whoever asks: its connections stay, and two who ask at once cost one look.
        self._thread = threading.Thread(target=self._run, name="standing", daemon=True)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing: to register it is no reason to ask Redis."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics of all flows, as they stand now."""
        seen = self._look()
        for name, help in GAUGES.items():
            family = GaugeMetricFamily(name, help, labels=["flow"])
            for flow, values in zip(self._flows, seen, strict=True):
                if name in values:
                    family.add_metric([flow.name], values[name])
            yield family
        paused = GaugeMetricFamily(PAUSED, "1 while a person has paused this part of a flow.", labels=["flow", "part"])
        for flow, values in zip(self._flows, seen, strict=True):
            for part in PARTS:
                if part in values:
                    paused.add_metric([flow.name, part], values[part])
        yield paused

    def close(self) -> None:
        """Ask no more."""
        self._wanted.put(None)

    def _look(self) -> list[Seen]:
        with self._lock:
            if not self._thread.is_alive():
                self._thread.start()
            if self._under_way is None or self._under_way.done():
                self._under_way = Future()
                self._wanted.put(self._under_way)
            look = self._under_way
        try:
            return look.result(PATIENCE_SECONDS)
        except TimeoutError:
            return [_AWAY] * len(self._flows)

    def _run(self) -> None:
        while (look := self._wanted.get()) is not None:
            away = False
            seen = []
            for flow in self._flows:
                found = _AWAY if away else flow.look()
                away = found is _AWAY  # the others are on the same Redis, and needn't be waited for
                seen.append(found)
            look.set_result(seen)
        for flow in self._flows:
            flow.session.close()


_AWAY: Seen = {"millrace_redis_up": 0.0}


class _Standing(ABC):
    """One flow, and the conversation about it."""

    def __init__(self, flow: Flow, url: str) -> None:
        self.name = flow.name
        self.session = Session.of(url, flow.queue)
        self.session.give_up.set()  # an outage is said, and not waited out
        self.tells_time = bool(flow.source.options.get("time"))

    def look(self) -> Seen:
        """Return the values that are known of it; of a Redis that can't be asked only that."""
        try:
            return {"millrace_redis_up": 1.0, **self._ask()}
        except QueueUnavailable:
            self.session.close()
            return _AWAY
        except QueueError as error:
            repeats.warn("standing_not_shown", kind=self.name, flow=self.name, reason=str(error))
            return {"millrace_redis_up": 1.0}
        except Exception:  # what is written by another version is no reason to show nothing of the other flows
            log.exception("standing_not_shown", flow=self.name)
            return {"millrace_redis_up": 1.0}

    @abstractmethod
    def _ask(self) -> Seen:
        """Return the values, by the names of GAUGES and of the parts that are paused. Raises QueueError."""


class _AsProducer(_Standing):
    """Asks for what a producer may see."""

    def _ask(self) -> Seen:
        keys = self.session.keys
        ready, woken, in_flight, dead, variants, steering, trouble, clock = self.session.ask_at_once(
            ("LLEN", keys.ready),
            ("LLEN", keys.woken),
            ("HGET", keys.counters, "in_flight"),
            ("XLEN", keys.dead),
            ("LLEN", keys.variants),
            ("HMGET", keys.steering, *PARTS),
            ("HGET", keys.troubles, SOURCE),
            ("TIME",),
        )
        return {
            "millrace_ready_records": ready + woken,
            "millrace_lag_records": ready + woken + int(in_flight or 0),
            "millrace_dead_letters": dead,
            "millrace_variant_records": variants,
            "millrace_source_failing_seconds": _failing([SOURCE.encode(), trouble], milliseconds(clock)),
            **{part: float(bool(text)) for part, text in zip(PARTS, steering, strict=True)},
        }


class _AsConsumer(_Standing):
    """Asks for all there is."""

    def __init__(self, flow: Flow, url: str) -> None:
        super().__init__(flow, url)
        self._waiting: Waiting | None = None

    def _ask(self) -> Seen:
        keys = self.session.keys
        books, (there, troubles) = books_with(self.session, ("HGETALL", keys.consumers), ("HGETALL", keys.troubles))
        now_ms = round(books.moment * 1000)
        if self._waiting is None:
            self._waiting = self._remembered()
        self._waiting.saw(books.moment, came(books))
        age, known = self._waiting.age(books, books.moment)
        if known == "<=":  # its own time may be years ago: no more than what is sure
            age = max((lease.age_seconds for lease in books.leases), default=0.0)
        return {
            "millrace_ready_records": books.ready,
            "millrace_in_flight_records": books.in_flight,
            "millrace_delayed_records": books.delayed,
            "millrace_lag_records": books.lag,
            "millrace_dead_letters": books.dead,
            "millrace_variant_records": books.variants,
            "millrace_oldest_seconds": age,
            "millrace_oldest_event_seconds": books.oldest_seconds,
            "millrace_books_difference_records": books.difference,
            "millrace_consumers": sum(not one.silent for one in presences(there, now_ms)),
            "millrace_source_failing_seconds": _failing(troubles, now_ms),
            **{part: float(part in books.paused) for part in PARTS},
        }

    def _remembered(self) -> Waiting:
        """What the flow's history knows of when records came: from before this process was there."""
        waiting = Waiting(tells_time=self.tells_time)
        if self.tells_time:
            (found,) = self.session.ask(("HGETALL", self.session.keys.history))
            names = (*MOVED, *STOOD)
            notes = {int(moment): text.split() for moment, text in pairs(found).items() if moment.isdigit()}
            for moment in sorted(notes):
                if len(notes[moment]) == len(names):
                    waiting.saw(moment, came_by_note([int(number) for number in notes[moment]], names))
        return waiting


def _failing(troubles: Sequence[Any], now_ms: int) -> float:
    """Seconds since when the source fails, by a reply that tells of troubles; 0 where it doesn't."""
    try:
        found = troubles_in(troubles, now_ms)
    except msgspec.DecodeError:
        return 0.0
    return max((trouble.since_seconds for trouble in found if trouble.part == SOURCE), default=0.0)
