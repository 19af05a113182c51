"""Runs one sink: claims batches, transforms, writes, acks."""

from __future__ import annotations

import threading
import time

import structlog

from millrace_consumer.delaying import put_off
from millrace_consumer.delivery import prepare
from millrace_consumer.fanout import FanOut, sink_of
from millrace_consumer.handover import give_back, tell_lost, tell_taken
from millrace_consumer.isolation import isolate
from millrace_consumer.plan import Plan
from millrace_consumer.renewal import Renewal
from millrace_consumer.sinks.base import Sink
from millrace_consumer.sizing import Sizing
from millrace_consumer.writer import Writer
from millrace_pipeline.alerting.watcher import Watcher
from millrace_pipeline.errors import LeaseLost, QueueError, QueueUnavailable, SinkUnavailable
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.killpoints import killpoint
from millrace_pipeline.process.ending import where_to_look
from millrace_pipeline.process.pulse import Progress, Pulse
from millrace_pipeline.process.traces import traces_of
from millrace_pipeline.process.watchdog import Watchdog
from millrace_pipeline.queue import Claim, Claiming, Delaying, Leases, Session
from millrace_pipeline.queue.layout import hold_to_layout
from millrace_pipeline.queue.marks import mark

log = structlog.get_logger(__name__)

WAIT_SECONDS = 1.0
"""Longest wait inside Redis: how late a stop, or a batch that someone left behind, may be noticed."""

SINK_BACKOFF_CAP_SECONDS = 30.0


class Consumer:
    """One flow's queue → sink, one batch at a time.

    `run` returns once `stopping` is set and what it held is delivered or given back; with `until_empty`, also when
    nothing is ready or in flight any more, or when a person has paused the consumers: `ended_paused`. Else it waits
    until they go on. A `watchdog` ends the process where a record makes it stand still.
    """

    def __init__(
        self,
        flow: Flow,
        redis_url: str,
        *,
        stopping: threading.Event,
        give_up: threading.Event,
        until_empty: bool = False,
        watchdog: Watchdog | None = None,
        take_over: bool = False,
    ) -> None:
        """`take_over` makes the list this flow's, whatever project it is marked with."""
        self.flow = flow
        self._take_over = take_over
        self._redis_url = redis_url
        self.sink: Sink = sink_of(flow)
        self._plan = Plan.of(flow, traces_of(flow, "consumer"))
        self.sink.check(self._plan.model)
        self.session = Session.of(redis_url, flow.queue, give_up=give_up)
        self.leases = Leases(self.session, flow.lease)
        self.claiming = Claiming(self.leases)
        self.ended = threading.Event()
        self._delaying = Delaying(self.leases)
        self.ended_paused = False
        """True once it ended, with `until_empty`, though records wait: a person has paused the consumers."""
        self._renewal = Renewal(self.claiming, watchdog)
        self._sizing = Sizing(flow.batch)
        self._writer = Writer(flow, self.sink, self.leases, self._sizing, stopping=stopping)
        self._watcher = Watcher(flow, Session.of(redis_url, flow.queue), counted=self._writer.shares)
        self._pulse = Pulse(self.session, flow.name, self._progress)
        self._stopping = stopping
        self._give_up = give_up
        self._until_empty = until_empty

    def run(self) -> None:
        """Blocks until stopped (or empty).

        Raises QueueError where Redis refuses us for good, ConfigError where the list is another project's.
        """
        try:
            if self.flow.whole:
                hold_to_layout(self._redis_url, self.flow, note=True, give_up=self._give_up)
            mark(self.session, self.flow.project, take_over=self._take_over)
            self._pulse.start()
            self._watcher.start()
            while not self._stopping.is_set():
                if (claim := self._left_behind()) is not None:
                    self._take(claim)
                elif (claim := self.claiming.claim(room := self._sizing.room())) is not None:
                    self._take(claim, fresh=True, full=len(claim.lines) >= room)
                elif self._writer.writing:
                    self._writer.finish()
                elif self._until_empty and self.session.lag() == 0:
                    return
                elif self._until_empty and self.leases.paused.now is not None:
                    self.ended_paused = True
                    return
                else:
                    self.claiming.wait(WAIT_SECONDS)
            self._writer.finish()
        except QueueUnavailable:
            if not self._give_up.is_set():
                raise
        finally:
            self._give_back_ahead()
            self._pulse.close()
            self._watcher.close()
            self._renewal.close()
            self._writer.close()
            counts = {name: getattr(self._writer, name) for name in ("delivered", "filtered", "dead")}
            log.info("consumer_done", flow=self.flow.name, **counts, **where_to_look(self.flow.name, counts["dead"]))

    @property
    def delivered(self) -> int:
        """Records that the sink has from us."""
        return self._writer.delivered

    @property
    def dead(self) -> int:
        """Records that we set aside as dead letters."""
        return self._writer.dead

    @property
    def settled(self) -> int:
        """Records that we are done with, one way or another."""
        return self._writer.delivered + self._writer.filtered + self._writer.dead

    def give_back(self) -> None:
        """Releases what is held, from another thread, when there is no time left to finish it."""
        self._give_back_ahead()
        for claim in self._renewal.held:
            give_back(self.flow, self.leases, claim)

    def _give_back_ahead(self) -> None:
        try:
            self.claiming.ahead.give_back()
        except QueueError as error:
            log.warning("batch_release_failed", flow=self.flow.name, reason=str(error))

    @property
    def idle(self) -> bool:
        """True while no batch is in hand, so that nothing has to wait for Redis or the sink."""
        return not self._renewal.held and not len(self.claiming.ahead)

    @property
    def paused(self) -> str | None:
        """That a person has paused the consumers, and who, or None: for /readyz."""
        now = self.leases.paused.now
        return None if now is None else f"consumers {now}"

    def _progress(self) -> Progress:
        writer = self._writer
        missing = self.sink.missing if isinstance(self.sink, FanOut) else []
        return Progress(writer.time_writing.seconds, self.settled, self.dead, writer.unwell or "", missing)

    def unwell(self) -> str | None:
        """None while records can flow, else what is in the way: for /readyz."""
        return self.session.outage or self._writer.unwell

    def _left_behind(self) -> Claim | None:
        """A batch whose consumer went silent, where the last claim saw that there is one.

        It may be what silenced it, so nothing else is in hand while it is tried.
        """
        if not self.leases.overdue:
            return None
        self._writer.finish()
        return self.claiming.reclaim()

    def _take(self, claim: Claim, *, fresh: bool = False, full: bool = False) -> None:
        lease = self._renewal.hold(claim)
        killpoint("consumer.after_claim")
        if not fresh:
            tell_taken(self.flow, claim)
        try:
            self._sizing.weigh(claim.lines)
            beside = full and not self.flow.queue.in_order
            if beside and not self._stopping.is_set():
                # There is more: Redis gets the next batch ready while this one is opened and written. A consumer that
                # came to the end of the list takes nothing ahead that an idle one could have.
                self.claiming.ahead.ask(self._sizing.room())
            elif fresh and not full:  # what somebody else held may be in the sink already, and stays as it is
                self._linger(claim)
            self.claiming.secure(claim)
            if claim.attempts <= self.flow.max_attempts or self._sink_has(claim):
                delivery = prepare(claim, self._plan)
                if put_off(delivery, self._delaying, self.flow):
                    self._writer.deliver(delivery, lease, beside=beside)
                    return
            else:
                isolate(self.leases, self.flow, claim)
        except LeaseLost as error:
            tell_lost(self.flow, claim, error)
        except BaseException:
            lease.drop()
            raise
        lease.drop()

    def _sink_has(self, claim: Claim) -> bool:
        try:
            return self.sink.has_batch(claim.id)
        except (SinkUnavailable, OSError):
            return True  # it can't be asked now, and may hold it: the delivery waits for it, with the batch whole
        except Exception:  # a bug of the sink's is no reason to go down, nor to part what it may hold
            log.exception("sink_not_asked", flow=self.flow.name, batch=claim.id)
            return True

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
            self.claiming.fill(claim, room)
            size += sum(map(len, claim.lines[before:]))
            pause = min(pause * 2, linger / 8)
