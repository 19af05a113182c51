"""Runs one source: reads it in a thread, publishes what it yields, starts it again when it fails."""

from __future__ import annotations

import threading

import structlog

from pipeline.backoff import Backoff
from pipeline.errors import MillraceError, PublishesLost, QueueError, SourceError, SourceRefused, SourceUnavailable
from pipeline.flow import Flow
from pipeline.observe import metrics
from pipeline.queue import Queue
from producer.leadership import Leadership
from producer.publisher import Publisher
from producer.sources import SOURCES
from producer.sources.base import Source

log = structlog.get_logger(__name__)

RESIGN_SECONDS = 1.0
"""How long a stop may wait for Redis to hear that we no longer lead. Else a standby waits for our lease to run out."""

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
        self._publisher = open_publisher(flow, self.queue, stopping)
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
        self._resign()
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

    def _resign(self) -> None:
        resigning = threading.Thread(target=self._leadership.resign, name=f"resign {self.flow.name}", daemon=True)
        resigning.start()
        resigning.join(RESIGN_SECONDS)

    def _read_until_it_ends(self) -> None:
        backoff = Backoff(first=0.5, cap=30.0)
        while not self._stopping.is_set():
            try:
                self._publisher.flush()
                resume_from = self.queue.checkpoint(self.flow.name)
                log.info("source_opened", flow=self.flow.name, resume_from=resume_from)
                for record in self.source.read(resume_from):
                    self._publisher.put(record)
                    if backoff.failures:
                        backoff.reset()
                        self._unwell = None
                    if self._stopping.is_set():
                        return
                self._publisher.flush()
            except PublishesLost:
                # What the old publisher still holds comes again, from the checkpoint that Redis does remember.
                self._publisher = open_publisher(self.flow, self.queue, self._stopping)
            except (SourceRefused, QueueError):
                raise
            except Exception as error:
                self._after_failure(error, backoff)
            else:
                return

    def _after_failure(self, error: Exception, backoff: Backoff) -> None:
        metrics.source_failures.labels(self.flow.name).inc()
        expected = isinstance(error, SourceError)
        reason = str(error) if expected else f"{type(error).__name__}: {error}"
        self._unwell = f"source of {self.flow.name}: {reason}"
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


def open_publisher(flow: Flow, queue: Queue, stopping: threading.Event) -> Publisher:
    """A publisher to the flow's list, as the flow says."""
    return Publisher(
        queue,
        flow=flow.name,
        source=flow.name,
        records=flow.publish.records,
        linger=flow.publish.linger,
        max_ready=flow.queue.max_ready,
        seen_seconds=flow.dedupe.window if flow.dedupe else 0,
        key=flow.dedupe.key if flow.dedupe else None,
        stopping=stopping,
    )
