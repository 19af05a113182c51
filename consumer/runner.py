"""Runs one sink: claims batches, transforms, writes, acks."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

import structlog

from consumer.batch import Batch
from consumer.delivery import Delivery
from consumer.fanout import sink_of
from consumer.isolation import isolate
from consumer.renewal import Lease, Renewal
from consumer.sinks.base import Sink
from consumer.sizing import Sizing
from pipeline.backoff import Backoff
from pipeline.errors import LeaseLost, QueueError, QueueUnavailable, RecordsRejected, SinkUnavailable
from pipeline.flow import Flow
from pipeline.killpoints import killpoint
from pipeline.observe import metrics
from pipeline.queue import Claim, Queue

log = structlog.get_logger(__name__)

WAIT_SECONDS = 1.0
"""Longest wait inside Redis: how late a stop, or a batch that someone left behind, may be noticed."""

SINK_BACKOFF_CAP_SECONDS = 30.0


class Consumer:
    """One flow's queue → sink, one batch at a time.

    `run` returns once `stopping` is set and what it held is delivered or given back; with `until_empty`, also when
    nothing is ready or in flight any more.
    """

    def __init__(
        self,
        flow: Flow,
        redis_url: str,
        *,
        stopping: threading.Event,
        give_up: threading.Event,
        until_empty: bool = False,
    ) -> None:
        self.flow = flow
        self.sink: Sink = sink_of(flow)
        self.model = flow.load_model()
        self.sink.check(self.model)
        self.transforms = flow.load_transforms()
        self.queue = Queue(
            redis_url, flow.queue.key, lease_seconds=flow.lease, replicas=flow.queue.replicas, give_up=give_up
        )
        self.ended = threading.Event()
        self.delivered = 0
        self._renewal = Renewal(self.queue)
        self._stopping = stopping
        self._give_up = give_up
        self._until_empty = until_empty
        self._sizing = Sizing(flow.batch)
        self._holds: Claim | None = None
        self._unwell: str | None = None

    def run(self) -> None:
        """Blocks until stopped (or empty). Raises QueueError where Redis refuses us for good."""
        try:
            while not self._stopping.is_set():
                if (claim := self._left_behind()) is not None:
                    self._take(claim)
                elif (claim := self.queue.claim(room := self._sizing.room())) is not None:
                    self._take(claim, fresh=True, full=len(claim.lines) >= room)
                elif self._until_empty and self.queue.lag() == 0:
                    return
                else:
                    self.queue.wait(WAIT_SECONDS)
        except QueueUnavailable:
            if not self._give_up.is_set():
                raise
        finally:
            self._give_back_ahead()
            self._renewal.close()
            self.sink.close()
            log.info("consumer_done", flow=self.flow.name, delivered=self.delivered)

    def give_back(self) -> None:
        """Releases what is held, from another thread, when there is no time left to finish it."""
        self._give_back_ahead()
        if (claim := self._holds) is None:
            return
        what = {"flow": self.flow.name, "batch": claim.id, "records": len(claim.lines)}
        try:
            self.queue.release(claim)
        except QueueError as error:
            log.warning("batch_left_to_its_lease", **what, lease_seconds=self.flow.lease, reason=str(error))
        else:
            log.warning("batch_released", **what)

    def _give_back_ahead(self) -> None:
        try:
            self.queue.release_ahead()
        except QueueError as error:
            log.warning("batch_left_to_its_lease", flow=self.flow.name, reason=str(error))

    @property
    def idle(self) -> bool:
        """True while no batch is in hand, so that nothing has to wait for Redis or the sink."""
        return self._holds is None and not self.queue.has_ahead

    def unwell(self) -> str | None:
        """None while records can flow, else what is in the way: for /readyz."""
        return self.queue.outage or self._unwell

    def _left_behind(self) -> Claim | None:
        """A batch whose consumer went silent, where the last claim saw that there is one."""
        return self.queue.reclaim() if self.queue.overdue else None

    def _take(self, claim: Claim, *, fresh: bool = False, full: bool = False) -> None:
        self._holds = claim
        killpoint("consumer.after_claim")
        if claim.attempts > 1:
            metrics.reclaimed.labels(self.flow.name).inc()
            log.info("batch_reclaimed", flow=self.flow.name, batch=claim.id, attempts=claim.attempts)
        try:
            with self._renewal.of(claim) as lease:
                self._sizing.weigh(claim.lines)
                if full and not self._stopping.is_set():
                    # There is more: Redis gets the next batch ready while this one is written. A consumer that came
                    # to the end of the list takes nothing ahead that an idle one could have.
                    self.queue.claim_ahead(self._sizing.room())
                elif fresh:  # what somebody else held may be in the sink already, and stays as it is
                    self._linger(claim)
                if claim.attempts <= self.flow.max_attempts or self.sink.holds(claim.id):
                    self._deliver(claim, lease)
                else:
                    isolate(self.queue, self.flow, claim)
        except LeaseLost as error:
            metrics.leases_lost.labels(self.flow.name).inc()
            log.warning("lease_lost", flow=self.flow.name, batch=claim.id, reason=str(error))
        finally:
            self._holds = None

    def _linger(self, claim: Claim) -> None:
        """Tops the batch up until it has its records or bytes, or the linger is over."""
        linger = self.flow.batch.linger
        over = time.monotonic() + linger
        pause = 0.01
        size = sum(map(len, claim.lines))
        while (room := self._sizing.room(len(claim.lines), size)) and (left := over - time.monotonic()) > 0:
            if self._stopping.wait(min(pause, left)):
                break
            before = len(claim.lines)
            self.queue.fill(claim, room)
            size += sum(map(len, claim.lines[before:]))
            pause = min(pause * 2, linger / 8)

    def _deliver(self, claim: Claim, lease: Lease) -> None:
        delivery = Delivery(claim, flow=self.flow.name, transforms=self.transforms, model=self.model)
        killpoint("consumer.before_write")
        backoff = Backoff(first=0.2, cap=SINK_BACKOFF_CAP_SECONDS)
        while True:
            if not self._write(delivery, lease, backoff):
                self.give_back()
                return
            killpoint("consumer.after_write")
            dead = delivery.dead
            try:
                self.queue.ack(
                    claim,
                    delivered=delivery.delivered,
                    filtered=delivery.filtered,
                    foreign=delivery.foreign,
                    dead=dead,
                    writes=self.sink.with_ack(delivery.batch),
                )
                break
            except SinkUnavailable as error:  # of what a sink writes in the ack's own step
                if not self._wait_for_sink(error, claim, backoff):
                    self.give_back()
                    return
        if self._unwell:  # as of this batch, or of one that was taken over meanwhile
            self._sink_available()
        killpoint("consumer.after_ack")
        self.delivered += delivery.delivered
        metrics.batches.labels(self.flow.name).inc()
        metrics.delivered.labels(self.flow.name).inc(delivery.delivered)
        metrics.filtered.labels(self.flow.name).inc(delivery.filtered)
        metrics.dead.labels(self.flow.name).inc(len(dead))
        for letter in dead:
            log.warning("record_set_aside", flow=self.flow.name, batch=claim.id, reason=letter.reason)
        log.info(
            "batch_delivered",
            flow=self.flow.name,
            batch=claim.id,
            records=delivery.delivered,
            filtered=delivery.filtered,
            dead=len(dead),
        )

    def _write(self, delivery: Delivery, lease: Lease, backoff: Backoff) -> bool:
        """Writes until the sink has taken the batch. False where we must stop first; raises LeaseLost."""
        while delivery.batch:
            lease.check()
            try:
                with metrics.write_seconds.labels(self.flow.name).time():
                    self.sink.write(delivery.batch)
                break
            except Exception as error:
                if isinstance(error, RecordsRejected) and _names_records(error, delivery.batch):
                    delivery.reject(error.reasons)
                    continue
                # Also what we don't expect: no record is thrown away because a sink has a bug.
                if not self._wait_for_sink(error, delivery.claim, backoff):
                    return False
        return True

    def _wait_for_sink(self, error: Exception, claim: Claim, backoff: Backoff) -> bool:
        """Waits as long as the backoff or the sink says. False where we must stop first."""
        self._sink_unavailable(error, claim, first=backoff.failures == 0)
        asked = error.retry_after if isinstance(error, SinkUnavailable) else None
        return not self._stopping.wait(backoff.next(at_least=asked or 0.0))

    def _sink_unavailable(self, error: Exception, claim: Claim, *, first: bool) -> None:
        expected = isinstance(error, SinkUnavailable | OSError)
        reason = str(error) if expected else f"{type(error).__name__}: {error}"
        self._unwell = f"sink of {self.flow.name}: {reason}"
        if first:
            metrics.sink_unavailable.labels(self.flow.name).set(time.time())
            log.error("sink_unavailable", flow=self.flow.name, reason=reason, exc_info=None if expected else error)
            self.queue.renew(claim, f"sink unavailable since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: {reason}"[:500])

    def _sink_available(self) -> None:
        self._unwell = None
        metrics.sink_unavailable.labels(self.flow.name).set(0)
        log.info("sink_available", flow=self.flow.name)


def _names_records(rejected: RecordsRejected, batch: Batch) -> bool:
    """Whether the sink names records of the batch that we may take out, and no others: else it would go on for ever."""
    return bool(rejected.reasons) and all(0 <= index < len(batch) for index in rejected.reasons)
