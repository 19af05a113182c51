"""Writer: takes deliveries to the sink and acks them, beside the claim of what comes next."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime

import structlog

from millrace_consumer.delivery import Delivery
from millrace_consumer.handover import give_back, tell_lost
from millrace_consumer.renewal import Lease
from millrace_consumer.sampling import sample
from millrace_consumer.shares import Shares
from millrace_consumer.sinks.base import Sink
from millrace_consumer.sizing import Sizing
from millrace_pipeline.backoff import Backoff
from millrace_pipeline.errors import LeaseLost, QueueError, RecordsRejected, SinkUnavailable
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.killpoints import killpoint
from millrace_pipeline.process import metrics
from millrace_pipeline.process.pulse import Stopwatch
from millrace_pipeline.process.repeats import repeats
from millrace_pipeline.queue import Claim, Leases

log = structlog.get_logger(__name__)

SINK_BACKOFF_CAP_SECONDS = 30.0


class Writer:
    """Writes one delivery after the other, in their order, each until the sink has it, and acks it.

    While there is more on the list that is done in a thread of its own: the next batch is fetched and opened in the
    time that the disk, or the network, takes for this one. `unwell` says what keeps the sink from taking anything.
    """

    def __init__(self, flow: Flow, sink: Sink, leases: Leases, sizing: Sizing, *, stopping: threading.Event) -> None:
        self.delivered = self.filtered = self.dead = 0
        self.unwell: str | None = None
        self.time_writing = Stopwatch()
        self._flow = flow
        self._sink = sink
        self._leases = leases
        self._sizing = sizing
        self._stopping = stopping
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=f"write {flow.name}")
        self._under_way: tuple[Future[None], Delivery] | None = None
        self._next: Claim | None = None
        self._failed = False
        self.shares = Shares(flow)
        self._log = log.bind(flow=flow.name)
        # Looked up by the flow's name once: this is done for every batch.
        metrics.show_zeros(metrics.OF_A_CONSUMER, flow.name)
        self._seconds = metrics.write_seconds.labels(flow.name)
        self._records = metrics.batch_records.labels(flow.name)
        self._counters = [
            counter.labels(flow.name)
            for counter in (metrics.batches, metrics.delivered, metrics.filtered, metrics.dead)
        ]

    @property
    def writing(self) -> bool:
        """Whether a delivery is under way."""
        return self._under_way is not None

    def deliver(self, delivery: Delivery, lease: Lease, *, beside: bool) -> None:
        """Writes and acks after what is under way; returns when that is done, or with `beside` when it has begun.

        Raises what the delivery before it raised: QueueError where Redis refuses us for good.
        """
        self._next = delivery.claim
        for form in self._sink.prefetch if beside else ():
            with suppress(Exception):  # `write` will ask again, and say it
                getattr(delivery.batch, form)
        # Handed over before the one under way is done, so that its thread goes on without waiting for ours.
        beside_it = self._pool.submit(self._deliver, delivery, lease) if beside else None
        try:
            self.finish()
        except BaseException:
            lease.drop()
            raise
        if beside_it is not None:
            self._under_way = beside_it, delivery
        else:
            self._deliver(delivery, lease)

    def finish(self) -> None:
        """Returns once nothing is under way. Raises as `deliver` does."""
        # The delivery is held until here, so that its thousands of objects are not freed by the thread that writes.
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way[0].result()

    def close(self) -> None:
        """Finishes, and closes the sink."""
        self._pool.submit(self._leases.session.close)
        self._pool.shutdown(wait=self._under_way is None)
        self._leases.tap.close()
        self._sink.close()

    def _deliver(self, delivery: Delivery, lease: Lease) -> None:
        with delivery.span.current():
            self._deliver_or_give_back(delivery, lease)

    def _deliver_or_give_back(self, delivery: Delivery, lease: Lease) -> None:
        claim = delivery.claim
        if self._next is claim:
            self._next = None
        try:
            if self._failed:
                return  # Redis refused the one before it for good: this one is left to its lease
            if self._stopping.is_set() and not claim.begun:
                give_back(self._flow, self._leases, claim)
                return
            self._leases.begin(claim)
            killpoint("consumer.before_write")
            if self._write_and_ack(delivery, lease):
                killpoint("consumer.after_ack")
                self._tell(delivery)
            else:
                give_back(self._flow, self._leases, claim)
        except LeaseLost as error:
            tell_lost(self._flow, claim, error)
            delivery.span.end("lost", error=str(error))
        except BaseException:
            self._failed = True
            raise
        finally:
            lease.drop()

    def _write_and_ack(self, delivery: Delivery, lease: Lease) -> bool:
        """Tries until the batch is acked. False where we must stop first; raises LeaseLost."""
        backoff = Backoff(first=0.2, cap=SINK_BACKOFF_CAP_SECONDS)
        while True:
            try:
                self._write(delivery, lease)
                killpoint("consumer.after_write")
                self._ack(delivery)
            except RecordsRejected as error:
                delivery.reject(error.reasons)
            except (LeaseLost, QueueError):
                raise
            except Exception as error:
                # Also what we don't expect: no record is thrown away because a sink has a bug.
                self._sink_unavailable(error, delivery, first=backoff.failures == 0)
                asked = error.retry_after if isinstance(error, SinkUnavailable) else None
                if self._stopping.wait(backoff.next(at_least=asked or 0.0)):
                    return False
            else:
                if self.unwell:  # as of this batch, or of one that was taken over meanwhile
                    self._sink_available()
                return True

    def _write(self, delivery: Delivery, lease: Lease) -> None:
        """One try. Raises LeaseLost, RecordsRejected naming records of the batch, or whatever else the sink raises."""
        if not delivery.batch:
            return
        lease.check()
        try:
            with self._seconds.time(), self.time_writing:
                self._sink.write(delivery.batch)
            self._records.observe(len(delivery.batch))
            self._sizing.wrote(len(delivery.batch), delivery.batch.written)
        except RecordsRejected as error:
            if delivery.has(error.reasons):
                raise
            raise SinkUnavailable(f"{type(error).__name__}: {error}") from error

    def _ack(self, delivery: Delivery) -> None:
        """Raises LeaseLost, QueueError, or SinkUnavailable of what the sink writes in the ack's own step."""
        self._leases.ack(
            delivery.claim,
            delivered=delivery.delivered,
            filtered=delivery.filtered,
            foreign=delivery.foreign,
            dead=delivery.dead,
            writes=self._sink.ack_commands(delivery.batch),
            begin=self._to_begin(),
        )

    def _to_begin(self) -> Claim | None:
        """What is to be begun with the ack: what comes next, if it was claimed ahead and we go on."""
        waits = self._next
        return waits if waits is not None and not waits.begun and not self._stopping.is_set() else None

    def _tell(self, delivery: Delivery) -> None:
        dead = delivery.dead
        self.delivered += delivery.delivered
        self.filtered += delivery.filtered
        self.dead += len(dead)
        for counter, more in zip(self._counters, (1, delivery.delivered, delivery.filtered, len(dead)), strict=True):
            counter.inc(more)
        for letter in dead:
            repeats.warn(
                "record_dead_lettered",
                kind=letter.reason,
                flow=self._flow.name,
                batch=delivery.claim.id,
                reason=letter.reason,
            )
        sample(self._leases.tap, delivery)
        self.shares.count(delivery.batch)
        self._log.info(
            "batch_delivered",
            batch=delivery.claim.id,
            records=delivery.delivered,
            filtered=delivery.filtered,
            dead=len(dead),
        )
        delivery.span.end("delivered", delivered=delivery.delivered, filtered=delivery.filtered, dead=len(dead))

    def _sink_unavailable(self, error: Exception, delivery: Delivery, *, first: bool) -> None:
        expected = isinstance(error, SinkUnavailable | OSError)
        reason = str(error) if expected else f"{type(error).__name__}: {error}"
        self.unwell = f"sink of {self._flow.name}: {reason}"
        if first:
            metrics.sink_unavailable.labels(self._flow.name).set(time.time())
            self._log.error("sink_unavailable", reason=reason, exc_info=None if expected else error)
            since = f"sink unavailable since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: {reason}"
            delivery.span.note("sink_unavailable", reason=reason[:500])
            self._leases.renew(delivery.claim, since[:500])

    def _sink_available(self) -> None:
        self.unwell = None
        metrics.sink_unavailable.labels(self._flow.name).set(0)
        self._log.info("sink_available")
