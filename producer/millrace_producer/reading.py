"""Reading: one source read in a thread, from the checkpoint on, with the publisher that its records go to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import structlog

from millrace_pipeline.backoff import Backoff
from millrace_pipeline.envelope import Position
from millrace_pipeline.errors import MillraceError, QueueError, SourceError, SourceRefused, SourceUnavailable
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.process import metrics
from millrace_pipeline.process.traces import traces_of
from millrace_pipeline.queue import Leading, Publishing
from millrace_pipeline.queue.marks import mark
from millrace_producer.advance import Advance
from millrace_producer.contract import Contract
from millrace_producer.crawlprogress import CrawlWatch
from millrace_producer.leadership import Leadership
from millrace_producer.publisher import Publisher
from millrace_producer.sources.base import Source
from millrace_producer.spread import LeadingEach, Spread
from millrace_producer.trouble import Trouble

log = structlog.get_logger(__name__)

DEDUPE_SECONDS = 600.0
"""The dedupe window of a source that may give a record again, where its flow says nothing else."""

LOOK_SECONDS = 0.2

FAILURES_BEFORE_GIVING_UP = 10
"""So many failures in a row of readings that came no further than those before them, as `Advance` has it, and the
producer stops with an error that everybody sees."""


class Reading:
    """Reads until the source ends, `stopping` is set or something fails for good; reads again where the source fails.

    Where the source must be read by one producer alone it waits to lead first. `ended` is set once nothing more is
    read; `error` is what ended it, or what ended the publisher.
    """

    def __init__(
        self,
        flow: Flow,
        publishing: Publishing | Spread,
        leading: Leading | LeadingEach,
        source: Source,
        stopping: threading.Event,
        *,
        take_over: bool = False,
        crawl: CrawlWatch | None = None,
        hold: Callable[[], None] = lambda: None,
    ) -> None:
        """`crawl` is told how far the source's crawl has come, where it is one.

        `hold` is called before the source is read, once we lead, and raises where the flow is kept in other lists now.
        """
        self._hold = hold
        self.flow = flow
        self._crawl = crawl
        self._take_over = take_over
        self.publisher = open_publisher(flow, publishing, source, stopping)
        self.leadership = Leadership(
            leading,
            flow.name,
            exclusive=source.exclusive,
            stopping=stopping,
            heard=self._hear,
            lost=self._fail,
        )
        self.ended = threading.Event()
        self._trouble = Trouble(flow.name, publishing.session)
        self._publishing = publishing
        self._source = source
        self._stopping = stopping
        self._abandoned = threading.Event()
        self._error: MillraceError | None = None
        self._advance = Advance()
        self._before = 0  # so many records were put by the readings before
        self._position: Position | None = None  # the last that this reading put

    def start(self) -> None:
        """Read from here on, in a thread of its own."""
        self._publishing.forget_moves()
        threading.Thread(target=self._run, name=f"read {self.flow.name}", daemon=True).start()

    @property
    def error(self) -> MillraceError | None:
        """What keeps it from going on, also while the source is silent."""
        return self._error or self.publisher.error

    @property
    def unwell(self) -> str | None:
        """Return what keeps the source from giving anything, or None."""
        reason = self._trouble.reason
        return f"source of {self.flow.name}: {reason}" if reason else None

    def abandon(self) -> None:
        """Leave it behind: nothing that it still reads is published, and the thread ends with its next record."""
        self._abandoned.set()
        self.leadership.leave()
        self.publisher.abandon()

    def _run(self) -> None:
        self._trouble.listen()
        if self._crawl:
            self._crawl.listen()
        try:
            for part, session in zip(self.flow.lists, self._publishing.sessions, strict=True):
                mark(session, part.project, take_over=self._take_over)
            if self.leadership.wait():
                self._hold()
                self._read_until_it_ends()
        except MillraceError as error:
            if isinstance(error, SourceError) and not self._is_over():
                self._trouble.tell(str(error))
            self._fail(error)
        except Exception as error:
            log.exception("reader_failed", flow=self.flow.name)
            self._fail(SourceUnavailable(f"{type(error).__name__}: {error}"))
        finally:
            self.ended.set()

    def _fail(self, error: MillraceError) -> None:
        if not self._is_over():  # else it is only that the publisher is closed, or says so itself
            self._error = error
        self.ended.set()

    def _is_over(self) -> bool:
        return self._stopping.is_set() or self._abandoned.is_set()

    def _read_until_it_ends(self) -> None:
        backoff = Backoff(first=0.5, cap=30.0)
        self._trouble.begin()
        while not self._is_over():
            try:
                self._read_on(backoff)
            except (SourceRefused, QueueError):
                raise
            except Exception as error:
                if self._abandoned.is_set():
                    return
                self._after_failure(error, backoff)
            else:
                return

    def _read_on(self, backoff: Backoff) -> None:
        """Reads from the checkpoint to the source's end, or until stopped."""
        self.publisher.flush()
        if not self._await_resume():
            return
        resume_from = self._publishing.begin_at(self.flow.name)
        log.info("source_opened", flow=self.flow.name, resume_from=resume_from)
        reading = self._source.read(resume_from)
        put, is_over, trouble = self.publisher.put, self._is_over, self._trouble
        before = self._before = self.publisher.taken
        self._position = None
        self._advance.begin(resume_from)
        try:
            for record in reading:
                put(record)
                if record.position is not None:
                    self._position = record.position
                # What fails again and again is not well because it gives once more what it gave before.
                if trouble.reason and (backoff.failures < 2 or self._advance.is_further(*self._reached)):
                    trouble.over()
                if is_over():
                    break
            self.publisher.flush()  # while it is open: what it gave can still be acknowledged
            trouble.over()
            if not is_over():
                self._say_what_it_gave(self.publisher.taken - before, resume_from)
        finally:
            if callable(close := getattr(reading, "close", None)):  # a mere iterator has none, and holds nothing
                close()

    @property
    def _reached(self) -> tuple[int, Position | None, int | None]:
        """How far the reading has come, as `Advance` is told it."""
        return self.publisher.taken - self._before, self._position, self.publisher.acknowledged

    def _await_resume(self) -> bool:
        """Return True once the producers are not paused; False if we are to stop first."""
        self._publishing.look()
        while self._publishing.paused.now is not None and not self._is_over():
            self._stopping.wait(LOOK_SECONDS)  # who leads hears of it
        return not self._is_over()

    def _hear(self, *told: Any) -> None:
        """Take note of what people say of the flow, whatever the source does. Raises CheckpointMoved."""
        if not self._is_over():
            self._publishing.hear(*told)
            self.publisher.heed_pause()

    def _say_what_it_gave(self, records: int, resume_from: Position | None) -> None:
        """A source that is over, one with nothing new and one that is empty look the same in counts alone."""
        if records:
            log.info("source_ended", flow=self.flow.name, records=records)
        elif self._source.read_together:
            log.info("source_ended", flow=self.flow.name)  # it has put its records on the list by itself
        elif resume_from is not None:
            log.info("source_unchanged", flow=self.flow.name, resume_from=resume_from)
        else:
            log.warning("source_empty", flow=self.flow.name)

    def _after_failure(self, error: Exception, backoff: Backoff) -> None:
        metrics.source_failures.labels(self.flow.name).inc()
        expected = isinstance(error, SourceError)
        reason = str(error) if expected else f"{type(error).__name__}: {error}"
        self._trouble.tell(reason)
        if self._advance.end(*self._reached) or getattr(error, "worked", False):
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


def open_publisher(flow: Flow, publishing: Publishing | Spread, source: Source, stopping: threading.Event) -> Publisher:
    """A publisher to the flow's list, as the flow says."""
    acknowledges = type(source).published is not Source.published
    return Publisher(
        publishing,
        flow=flow.name,
        source=flow.name,
        records=flow.publish.records * flow.queue.partitions,
        linger=flow.publish.linger,
        max_ready=flow.queue.max_ready,
        seen_seconds=dedupe_seconds(flow, source),
        key=flow.dedupe.key if flow.dedupe else None,
        by=flow.queue.by or (flow.dedupe.key if flow.dedupe else None),
        contract=Contract.of(flow),
        acknowledge=source.published if acknowledges else None,
        acknowledges_data=source.acknowledges_data,
        stopping=stopping,
        traces=traces_of(flow, "producer"),
    )


def dedupe_seconds(flow: Flow, source: Source) -> float:
    """The flow's dedupe window; 0 for none, as `dedupe: null` says where the source itself would have one."""
    if flow.dedupe:
        return flow.dedupe.window
    return DEDUPE_SECONDS if source.redelivers and "dedupe" not in flow.model_fields_set else 0.0
