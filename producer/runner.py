"""Runs one source: reads it in a thread, publishes what it yields, starts it again when it fails."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from pipeline.backoff import Backoff
from pipeline.errors import MillraceError, PublishesLost, QueueError, SourceError, SourceRefused, SourceUnavailable
from pipeline.flow import Flow
from pipeline.observe import metrics
from pipeline.queue import Queue
from producer.contract import Contract
from producer.leadership import Leadership
from producer.publisher import Publisher
from producer.sources import SOURCES
from producer.sources.base import Source

log = structlog.get_logger(__name__)

PARTING_SECONDS = 1.0
"""How long a stop may wait for the source to give back what it holds, and for Redis to hear that we no longer lead.
Else others wait for what was given to us to run out."""

DEDUPE_SECONDS = 600.0
"""The dedupe window of a source that may give a record again, where its flow says nothing else."""

FAILURES_BEFORE_GIVING_UP = 10
"""So many failures in a row without a single record, and the producer stops with an error that everybody sees."""


class Producer:
    """One flow's source → queue.

    `run` returns when the source has come to its end or `stopping` is set, with everything that was read on the list;
    it raises SourceError where the source can't be read and QueueError where the list can't be reached any more.
    """

    def __init__(self, flow: Flow, redis_url: str, *, stopping: threading.Event, give_up: threading.Event) -> None:
        self.flow = flow
        self.source: Source = flow.source.build(SOURCES, Source)
        self.queue = Queue(redis_url, flow.queue.key, replicas=flow.queue.replicas, give_up=give_up)
        self.ended = threading.Event()
        self._stopping = stopping
        self._error: MillraceError | None = None
        self._publisher = open_publisher(flow, self.queue, self.source, stopping)
        self._leadership = Leadership(self.queue, flow.name, stopping=stopping, lost=self._fail)
        self._unwell: str | None = None

    def run(self) -> None:
        """Blocks until the source has ended or `stopping` is set; then flushes."""
        reader = threading.Thread(target=self._read, name=f"read {self.flow.name}", daemon=True)
        reader.start()
        while not self.ended.wait(0.1) and not self._stopping.is_set():
            pass
        # A reader that blocks in its source is left behind: what it has not put has not been read.
        try:
            self._publisher.close()
        except SourceError as error:
            # All is on the list; what the source still has of it comes again, to whoever reads it next.
            log.warning("records_not_acknowledged", flow=self.flow.name, reason=str(error))
        except QueueError:
            log.error("records_not_published", flow=self.flow.name, records=self._publisher.unpublished)
            raise
        finally:
            log.info(
                "producer_done",
                flow=self.flow.name,
                published=self._publisher.published,
                duplicates=self._publisher.duplicates,
                dead=self._publisher.dead,
                ended=self.ended.is_set(),
            )
            self._part(self.source.close)
        self._part(self._leadership.resign)
        if self._error is not None:
            raise self._error

    def unwell(self) -> str | None:
        """None while records can flow, else what is in the way: for /readyz."""
        return self.queue.outage or self._unwell

    def _read(self) -> None:
        try:
            if not self.source.exclusive or self._leadership.wait():
                self._read_until_it_ends()
        except MillraceError as error:
            self._fail(error)
        except Exception as error:
            log.exception("reader_failed", flow=self.flow.name)
            self._fail(SourceUnavailable(f"{type(error).__name__}: {error}"))
        finally:
            self.ended.set()

    def _fail(self, error: MillraceError) -> None:
        if not self._stopping.is_set():  # else it is only that the publisher is closed, or says so itself
            self._error = error
        self.ended.set()

    def _part(self, parting: Callable[[], None]) -> None:
        thread = threading.Thread(target=parting, name=f"part {self.flow.name}", daemon=True)
        thread.start()
        thread.join(PARTING_SECONDS)

    def _read_until_it_ends(self) -> None:
        backoff = Backoff(first=0.5, cap=30.0)
        while not self._stopping.is_set():
            try:
                self._read_on(backoff)
            except PublishesLost:
                # What the old publisher still holds comes again, from the checkpoint that Redis does remember.
                self._publisher = open_publisher(self.flow, self.queue, self.source, self._stopping)
            except (SourceRefused, QueueError):
                raise
            except Exception as error:
                self._after_failure(error, backoff)
            else:
                return

    def _read_on(self, backoff: Backoff) -> None:
        """Reads from the checkpoint to the source's end, or until stopped."""
        self._publisher.flush()
        resume_from = self.queue.checkpoint(self.flow.name)
        log.info("source_opened", flow=self.flow.name, resume_from=resume_from)
        reading = self.source.read(resume_from)
        put, stopped = self._publisher.put, self._stopping.is_set
        try:
            for record in reading:
                put(record)
                if backoff.failures:
                    backoff.reset()
                    self._unwell = None
                if stopped():
                    break
            self._publisher.flush()  # while it is open: what it gave can still be acknowledged
        finally:
            if callable(close := getattr(reading, "close", None)):  # a mere iterator has none, and holds nothing
                close()

    def _after_failure(self, error: Exception, backoff: Backoff) -> None:
        metrics.source_failures.labels(self.flow.name).inc()
        expected = isinstance(error, SourceError)
        reason = str(error) if expected else f"{type(error).__name__}: {error}"
        self._unwell = f"source of {self.flow.name}: {reason}"
        if getattr(error, "worked", False):
            backoff.reset()
        wait = backoff.next(at_least=getattr(error, "retry_after", None) or 0.0)
        if backoff.failures >= FAILURES_BEFORE_GIVING_UP:
            raise SourceUnavailable(f"gave up after {backoff.failures} failures in a row: {reason}") from error
        log.warning(
            "source_failed",
            flow=self.flow.name,
            reason=reason,
            again_in_seconds=round(wait, 1),
            exc_info=None if expected else error,
        )
        self._stopping.wait(wait)


def open_publisher(flow: Flow, queue: Queue, source: Source, stopping: threading.Event) -> Publisher:
    """A publisher to the flow's list, as the flow says."""
    acknowledges = type(source).published is not Source.published
    return Publisher(
        queue,
        flow=flow.name,
        source=flow.name,
        records=flow.publish.records,
        linger=flow.publish.linger,
        max_ready=flow.queue.max_ready,
        seen_seconds=dedupe_seconds(flow, source),
        key=flow.dedupe.key if flow.dedupe else None,
        contract=Contract.of(flow),
        acknowledge=source.published if acknowledges else None,
        stopping=stopping,
    )


def dedupe_seconds(flow: Flow, source: Source) -> float:
    """The flow's dedupe window; 0 for none, as `dedupe: null` says where the source itself would have one."""
    if flow.dedupe:
        return flow.dedupe.window
    return DEDUPE_SECONDS if source.redelivers and "dedupe" not in flow.model_fields_set else 0.0
