"""Inline: one flow's source → transforms → sink in this process, with no Redis: for development and tests."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from itertools import count
from typing import NamedTuple

import structlog

from millrace.ahead import LOOK_SECONDS, Ahead, Ended
from millrace_consumer.delivery import prepare
from millrace_consumer.fanout import sink_of
from millrace_consumer.plan import Plan
from millrace_consumer.sinks.base import Sink
from millrace_pipeline.envelope import DeadLetter, Record
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.process.logs import stay_quiet
from millrace_pipeline.process.repeats import repeats
from millrace_pipeline.queue import Claim
from millrace_producer.contract import Contract
from millrace_producer.entries import Entries
from millrace_producer.reading import dedupe_seconds
from millrace_producer.sources import SOURCES
from millrace_producer.sources.base import Source

log = structlog.get_logger(__name__)


class _Delayed(NamedTuple):
    """A record that a transform wants to be given again, at `due` by our clock."""

    due: float
    attempts: int
    line: bytes
    why: str


class Inline:
    """Reads the source from its beginning to its end, or `records` records of it, and writes them to the sink.

    All but the queue is what the services run: the records become envelopes, and are opened, transformed, validated and
    written in batches. A batch is written when it is full, or its linger over; then the source, which is read in a
    thread of its own, is told that it was published. Nothing is kept for the next time: no checkpoint, and dedupe knows
    this run alone.

    `read`, `delivered`, `filtered` and `duplicates` count records; `dead` holds those that were set aside, `variants`
    those that would be on the variant list.
    """

    def __init__(self, flow: Flow, *, records: int | None = None) -> None:
        self.flow = flow
        self._plan = Plan.of(flow)
        self.source: Source = flow.source.build(SOURCES, Source).for_model(self._plan.model)
        self.sink: Sink = sink_of(flow)
        self.read = self.delivered = self.filtered = self.duplicates = 0
        self.dead: list[DeadLetter] = []
        self.variants: list[bytes] = []
        if self.sink.writes_in_ack:
            raise flow.sink.error("writes in the queue's own Redis, with the ack: it can't be run inline")
        self.source.check()
        self.sink.check(self._plan.model)
        self._records = records
        session = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(5)}"
        self._entries = Entries(
            flow.name,
            mark=flow.queue.key,
            session=session,
            key=flow.dedupe.key if flow.dedupe else None,
            contract=Contract.of(flow),
        )
        self._batches = (f"{session}-{number:06d}" for number in count(1))
        self._delayed: list[_Delayed] = []
        self._seen_seconds = dedupe_seconds(flow, self.source)
        self._seen: dict[str, float] = {}
        self._yielded: list[Record | DeadLetter] = []
        self._lines: list[bytes] = []
        self._size = 0
        self._since = 0.0
        self._stopping = False

    def run(self) -> None:
        """Returns once the source has ended. Raises at once what the source, or the sink, raises.

        What the source had yielded before it failed is written first, as it would be on the list by then.
        """
        reading = Ahead(self.source.read(None), self._records)
        reading.start()
        try:
            failed = self._take_all(reading)
            for record in reading.stop():
                self._take(record)
                self._write_if_due()
            self._write()
            self._wait_for_the_delayed()
        finally:
            reading.stop()
            self.source.close()
            self.sink.close()
            repeats.summarise()
        if failed is not None:
            raise failed

    def stop(self, *_signal: object) -> None:
        """Ends the run, from a signal handler or another thread: what was read is still written."""
        self._stopping = True

    def _take_all(self, reading: Ahead) -> BaseException | None:
        """Takes what the source yields, until it ends or we are stopped. Returns what it raised, if it did."""
        try:
            while not self._stopping:
                found = reading.next(LOOK_SECONDS if not self._yielded else min(LOOK_SECONDS, max(0.0, self._left)))
                if isinstance(found, Ended):
                    return found.error
                if found is not None:
                    self._take(found)
                self._write_if_due()
        except KeyboardInterrupt:  # of a program that handles no signals: we only waited
            pass
        return None

    @property
    def _left(self) -> float:
        """The seconds that the batch may still wait for more."""
        return self._since + self.flow.batch.linger - time.monotonic()

    def _take(self, record: Record | DeadLetter) -> None:
        if not self._yielded:
            self._since = time.monotonic()
        self._yielded.append(record)
        entry = self._entries.make(record)
        self.read += 1
        if entry.dead is not None:
            self._set_aside(entry.dead)
        elif self._is_duplicate(entry.id):
            self.duplicates += 1
        elif entry.variant:
            self.variants.append(entry.line)
        else:
            self._lines.append(entry.line)
            self._size += len(entry.line)

    def _write_if_due(self) -> None:
        limit = self.flow.batch
        full = len(self._lines) >= limit.records or self._size >= limit.bytes
        if self._yielded and (full or self._left <= 0):
            self._write()
        self._try_delayed_again()

    def _is_duplicate(self, id: str) -> bool:
        if not self._seen_seconds:
            return False
        now = time.monotonic()
        if now - self._seen.get(id, float("-inf")) < self._seen_seconds:
            return True
        self._seen[id] = now
        return False

    def _write(self) -> None:
        if self._lines:
            self._deliver(self._lines)
            self._lines, self._size = [], 0
        if self._yielded:
            self.source.published(self._yielded)
            self._yielded = []

    def _deliver(self, lines: list[bytes], *, attempts: int = 1) -> None:
        claim = Claim(next(self._batches), "inline", attempts, 1, lines)
        delivery = prepare(claim, self._plan)
        if delivery.later:
            for place, later in delivery.later.items():
                self._delayed.append(_Delayed(time.monotonic() + later.seconds, attempts, lines[place], str(later)))
            claim.lines = [line for place, line in enumerate(lines) if place not in delivery.later]
            delivery.let_go()
        delivery.offer(self.sink.write)
        self.delivered += delivery.delivered
        self.filtered += delivery.filtered
        for letter in delivery.dead:
            self._set_aside(letter)
        log.info("batch_delivered", flow=self.flow.name, batch=claim.id, records=delivery.delivered)

    def _try_delayed_again(self) -> None:
        """Deliver the records whose time has come, those of one attempt together."""
        now = time.monotonic()
        due = [delayed for delayed in self._delayed if delayed.due <= now]
        if due:
            self._delayed = [delayed for delayed in self._delayed if delayed.due > now]
            for attempts in sorted({delayed.attempts for delayed in due}):
                lines = [delayed.line for delayed in due if delayed.attempts == attempts]
                self._deliver(lines, attempts=attempts + 1)

    def _wait_for_the_delayed(self) -> None:
        """Return once none is left; or when we are stopped, having said how many are lost to this run."""
        if self._delayed:
            log.info("records_delayed", flow=self.flow.name, records=len(self._delayed), reason=self._delayed[0].why)
        while self._delayed and not self._stopping:
            time.sleep(min(LOOK_SECONDS, max(0.0, min(delayed.due for delayed in self._delayed) - time.monotonic())))
            self._try_delayed_again()
        if self._delayed:
            log.warning("records_left", flow=self.flow.name, left=len(self._delayed), reason=self._delayed[0].why)

    def _set_aside(self, letter: DeadLetter) -> None:
        self.dead.append(letter)
        repeats.warn("record_dead_lettered", kind=letter.reason, flow=self.flow.name, reason=letter.reason)


def run_inline(flow: Flow, *, records: int | None = None) -> Inline:
    """Run a flow in this process to its end, or for so many records of its source, and return the counts."""
    stay_quiet()
    inline = Inline(flow, records=records)
    inline.run()
    return inline
