"""Runs one source: publishes what it yields, and goes on after all that can be gone on after."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from millrace_pipeline.alerting.watcher import Watcher
from millrace_pipeline.errors import (
    CheckpointMoved,
    FlowPaused,
    MillraceError,
    ProducerFenced,
    PublishesLost,
    QueueError,
    SourceError,
)
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.process.ending import where_to_look
from millrace_pipeline.process.pulse import Progress, Pulse
from millrace_pipeline.queue import Leading, Publishing, Session
from millrace_pipeline.queue.layout import hold_to_layout
from millrace_producer.crawlprogress import CrawlWatch
from millrace_producer.publisher import Publisher
from millrace_producer.reading import Reading
from millrace_producer.sources import SOURCES
from millrace_producer.sources.base import Source
from millrace_producer.spread import LeadingEach, Spread

log = structlog.get_logger(__name__)

PARTING_SECONDS = 1.0
"""How long a stop may wait for the source to give back what it holds, and for Redis to hear that we no longer lead.
Else others wait for what was given to us to run out."""

START_OVER = (PublishesLost, ProducerFenced, CheckpointMoved)
"""After these the source is read anew, from the checkpoint that Redis has then."""


class Producer:
    """One flow's source → queue.

    `run` returns when the source has come to its end or `stopping` is set, with everything that was read on the list;
    it raises SourceError where the source can't be read, QueueError where the list can't be reached any more, and
    ConfigError where it is another project's.

    Where Redis has forgotten publishes, or a person has set the checkpoint, the source is read again from the
    checkpoint that Redis has; while a person has paused the producers it stands still, and keeps its lease as leader.
    Where another producer has taken over, this one stands by again. Either way the old reading is left behind: its
    thread may still block in the source, and what it reads then is not published.
    """

    def __init__(
        self,
        flow: Flow,
        redis_url: str,
        *,
        stopping: threading.Event,
        give_up: threading.Event,
        take_over: bool = False,
    ) -> None:
        """`take_over` makes the list this flow's, whatever project it is marked with."""
        self.flow = flow
        self._take_over = take_over
        self._redis_url, self._give_up = redis_url, give_up
        self.source: Source = flow.source.build(SOURCES, Source).for_model(flow.load_model())
        self.source = self.source.for_flow(flow, redis_url)
        lists = flow.lists
        first = lists[0]  # what a producer says of itself stands beside the first partition, where there are some
        self._sessions = [Session.of(redis_url, part.queue, give_up=give_up) for part in lists]
        leading = [Leading(session) for session in self._sessions]
        publishing = [Publishing(session, one) for session, one in zip(self._sessions, leading, strict=True)]
        names = [part.name for part in lists]
        self.leading = LeadingEach(leading) if len(lists) > 1 else leading[0]
        self.publishing = Spread(publishing, names, self.source.is_behind) if len(lists) > 1 else publishing[0]
        self._watcher = Watcher(flow, Session.of(redis_url, first.queue))
        self._crawl = CrawlWatch()
        self._pulse = Pulse(Session.of(redis_url, first.queue), flow.name, self._progress, "producer")
        self.ended = threading.Event()
        self._stopping = stopping
        self._reading: Reading | None = None
        self._published = {"published": 0, "duplicates": 0, "dead": 0}  # by readings that were left behind

    def run(self) -> None:
        """Blocks until the source has ended or `stopping` is set; then flushes."""
        if self.flow.queue.partitions > 1:
            hold_to_layout(self._redis_url, self.flow, note=True, give_up=self._give_up)
        self._watcher.start()
        self._pulse.start()
        try:
            reading = self._read_to_the_end()
        finally:
            self._pulse.close()
            self._watcher.close()
            look = where_to_look(self.flow.name, self._published["dead"])
            log.info("producer_done", flow=self.flow.name, **self._published, ended=self.ended.is_set(), **look)
            self._part(self.source.close)
        self._part(reading.leadership.resign)
        if reading.error is not None and not self._stopping.is_set():
            raise reading.error

    @property
    def counts(self) -> dict[str, int]:
        """How many records were published, left out as duplicates, and set aside as dead letters."""
        return dict(self._published)

    @property
    def paused(self) -> str | None:
        """That a person has paused the producers, and who, or None: for /readyz."""
        now = self.publishing.paused.now
        return None if now is None else f"producers {now}"

    def unwell(self) -> str | None:
        """None while records can flow, else what is in the way: for /readyz."""
        return self.outage or (self._reading.unwell if self._reading else None)

    @property
    def outage(self) -> str | None:
        """None while Redis answers, for each list of the flow, else what is the matter."""
        return next((session.outage for session in self._sessions if session.outage), None)

    def _hold(self) -> None:
        """Raise ConfigError where the flow was repartitioned since we started: while we waited to lead."""
        hold_to_layout(self._redis_url, self.flow, give_up=self._give_up)

    def _progress(self) -> Progress:
        reading = self._reading
        published = self._published["published"] + (reading.publisher.published if reading else 0)
        dead = self._published["dead"] + (reading.publisher.dead if reading else 0)
        return Progress(0.0, published, dead, (reading.unwell if reading else None) or "", crawl=self._crawl.now)

    def _read_to_the_end(self) -> Reading:
        """Read until there is no more to read, or no way to go on, and close the publisher. Returns the last reading.

        Raises what keeps records that were read from the list.
        """
        while True:
            reading = self._reading = Reading(
                self.flow,
                self.publishing,
                self.leading,
                self.source,
                self._stopping,
                take_over=self._take_over,
                crawl=self._crawl,
                hold=self._hold,
            )
            reading.start()
            while not self._stopping.is_set() and reading.error is None and not reading.ended.wait(0.1):
                pass
            try:
                if self._stopping.is_set() or not isinstance(reading.error, START_OVER):
                    # A reader that blocks in its source is left behind: what it has not put has not been read.
                    self._close(reading.publisher)
                    return reading
                error: MillraceError = reading.error
            except START_OVER as lost:
                if self._stopping.is_set():
                    raise
                error = lost
            finally:
                self._count(reading)
                if reading.ended.is_set():
                    self.ended.set()
            log.warning("producer_starts_over", flow=self.flow.name, reason=str(error))
            self.ended.clear()
            reading.abandon()
            if isinstance(error, ProducerFenced):
                self.leading.stand_by()

    def _close(self, publisher: Publisher) -> None:
        try:
            publisher.close()
        except SourceError as error:
            # All is on the list; what the source still has of it comes again, to whoever reads it next.
            log.warning("records_not_acknowledged", flow=self.flow.name, reason=str(error))
        except FlowPaused as error:
            # They come again, to whoever reads the source when the producers go on.
            log.info(
                "records_left_in_the_source", flow=self.flow.name, records=publisher.unpublished, reason=str(error)
            )
        except QueueError:
            log.error("records_not_published", flow=self.flow.name, records=publisher.unpublished)
            raise

    def _count(self, reading: Reading) -> None:
        for name in self._published:
            self._published[name] += getattr(reading.publisher, name)

    def _part(self, parting: Callable[[], None]) -> None:
        thread = threading.Thread(target=parting, name=f"part {self.flow.name}", daemon=True)
        thread.start()
        thread.join(PARTING_SECONDS)
