"""Publisher: takes records one at a time and puts them on the list in batches."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence

import structlog

from millrace_pipeline.envelope import DeadLetter, Record
from millrace_pipeline.errors import (
    FlowPaused,
    MillraceError,
    PublishesLost,
    QueueFull,
    QueueUnavailable,
    SourceError,
    SourceUnavailable,
)
from millrace_pipeline.killpoints import killpoint
from millrace_pipeline.process import metrics
from millrace_pipeline.process.repeats import repeats
from millrace_pipeline.process.span import NO_TRACES, Span, Traces
from millrace_pipeline.queue import Publishing
from millrace_producer.confirmation import Confirmation
from millrace_producer.contract import Contract
from millrace_producer.entries import Entries, Entry
from millrace_producer.placing import Placing
from millrace_producer.spread import Spread

log = structlog.get_logger(__name__)

BUFFER_BATCHES = 2
"""So many full batches may wait in memory; then `put` blocks, and with it the source."""

PUBLISH_BYTES = 8 * 1024 * 1024
"""A publish is cut short at this size, so that no transaction keeps Redis from others for long."""

RECORD_BYTES = 256
"""About so much memory has a record beside its data: its key, its position, and Python's own."""

ROOM_BYTES = BUFFER_BATCHES * PUBLISH_BYTES

HOLD_POLL_SECONDS = 0.5

PAUSE_POLL_SECONDS = 1.0


class Publisher:
    """Publishes what is `put` in batches of `records` or after `linger` seconds, from a thread that the first starts.

    Each batch is one `publish` with the last record's position as the checkpoint of `source`. While ready and in flight
    records number `max_ready` or more, or Redis is full, nothing is published, and `put` blocks once the buffer is
    full. Once `stopping` is set `max_ready` holds nothing back any more: what was read is put on the list, at most the
    buffer beyond it. While a person has paused the producers nothing is published, and `put` blocks at once; once
    `stopping` is set what can't be had again is put on the list all the same, and what can is FlowPaused.
    `seen_seconds` is the dedupe window, `key` a JSON pointer to what it goes by instead of the record's own key,
    `contract` what becomes of records that don't fit the flow's model, `by` a JSON pointer to what says which partition
    a record goes to, where the flow has some. `acknowledge` is called from a thread with the
    records of each publish, once they are on the list, and on Redis' disk where the queue's `fsync` says so; with their
    data taken from them, where it needs none (`acknowledges_data`); what it raises is raised once, as a SourceError,
    from the next `put`, `flush` or `close`. `published`, `duplicates` and
    `dead` count records of this publisher; a dead letter counts as published too. `acknowledged` counts those that the
    source was told of, and is None where it is told of none.

    An error that waiting won't mend ends the thread; it is `error` then, and raised from the next `put`, `flush` or
    `close`. Where Redis has forgotten earlier publishes that is PublishesLost, if the source can give them again: its
    records have positions to go back to, or it was not told yet that they are published.
    """

    def __init__(
        self,
        publishing: Publishing | Spread,
        *,
        flow: str,
        source: str,
        records: int = 500,
        linger: float = 0.1,
        max_ready: int = 1_000_000,
        seen_seconds: float = 0,
        key: str | None = None,
        by: str | None = None,
        contract: Contract | None = None,
        acknowledge: Callable[[Sequence[Record | DeadLetter]], None] | None = None,
        acknowledges_data: bool = True,
        stopping: threading.Event | None = None,
        traces: Traces = NO_TRACES,
    ) -> None:
        self._publishing = publishing
        self._session = publishing.session
        self._flow = flow
        self._source = source
        self._records = records
        self._room = self._full = BUFFER_BATCHES * records  # no room at all while we are paused
        self._linger = linger
        self._max_ready = max_ready
        self._seen_seconds = seen_seconds
        entries = [
            Entries(source, mark=session.keys.ready, session=session.id, key=key, contract=contract)
            for session in publishing.sessions
        ]
        self._make = Placing(entries, by).make if isinstance(publishing, Spread) else entries[0].make
        self._acknowledge = acknowledge
        self._keeps_data = acknowledges_data
        self._traces = traces
        self._stopping = stopping or threading.Event()
        self._buffer: list[Entry] = []
        self._buffered_bytes = 0
        self._since = 0.0  # when the oldest record in the buffer came
        self._lock = threading.Lock()  # `put` takes it as it is: a Condition is Python code
        self._changed = threading.Condition(self._lock)
        self._put = 0  # records ever put, and of these the records that are done with
        self._done = 0
        self._flushing = 0
        self._closing = False
        self.error: MillraceError | None = None
        self._replays = acknowledge is not None  # what is lost can be had again
        self._forgetful = acknowledge is not None  # and can't, once we have said that it is published
        self._suspicious = False
        self._ends = False  # one of these two: nothing that is put will be published any more
        self._unacknowledged: SourceError | None = None
        self._lag = 0
        self._held_back = False
        metrics.show_zeros(metrics.OF_A_PRODUCER, flow)
        self.published = 0
        self.duplicates = 0
        self.dead = 0
        self.acknowledged: int | None = None if acknowledge is None else 0
        tell = None if acknowledge is None else lambda records: self._tell(acknowledge, records)
        self._confirmation = Confirmation(publishing, tell=tell, forgotten=self._look_again)
        self._thread = threading.Thread(target=self._run, name=f"publish {flow}", daemon=True)

    @property
    def has_room(self) -> bool:
        """False while `put` would block."""
        room = self._full if self._stopping.is_set() else self._room
        return len(self._buffer) < room and self._buffered_bytes < ROOM_BYTES

    def heed_pause(self) -> None:
        """Take nothing more while the producers are paused, as far as was heard, and else go on."""
        with self._changed:
            self._room = 0 if self._publishing.paused.now is not None else self._full
            self._changed.notify_all()

    def put(self, record: Record | DeadLetter) -> None:
        """Takes one record; blocks while the buffer is full. What can't be said in JSON becomes a dead letter."""
        entry = self._make(record)
        if self._acknowledge:
            entry.record = record
            if not self._keeps_data and isinstance(record, Record):
                record.data = None
        with self._lock:
            if self._unacknowledged is not None:
                self._raise_unacknowledged()
            self._put += 1  # from here on a flush waits for it
            buffer = self._buffer
            if self._ends or len(buffer) >= self._room or self._buffered_bytes >= ROOM_BYTES:
                self._await_room()
            if not buffer:
                if self._thread.ident is None:
                    self._thread.start()
                self._since = time.monotonic()
                self._changed.notify_all()
            buffer.append(entry)
            self._buffered_bytes += len(entry.line)
            if len(buffer) == self._records:
                self._changed.notify_all()

    def _await_room(self) -> None:
        """Blocks while the buffer is full. Raises what keeps this record from ever being published by us."""
        while not self.has_room and not self._ends:
            self._changed.wait()
        self._raise_error()
        if self._closing:
            raise QueueUnavailable("the publisher is closed")

    def flush(self, timeout: float | None = None) -> None:
        """Returns once all that was put is on the list, and told to the source.

        What can't be had again is on Redis' disk by then, where the queue's `fsync` says so. Raises QueueUnavailable
        after `timeout` seconds.
        """
        over = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            target = self._put
            self._flushing += 1
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: self._done >= target or self.error is not None, timeout)
            self._flushing -= 1
            self._raise_error()
            if not done:
                raise QueueUnavailable(f"{target - self._done} records could not be published within {timeout:g} s")
        if self._forgetful:
            left = None if over is None else max(0.0, over - time.monotonic())
            confirmed = self._confirmation.wait(left)
            with self._changed:
                self._raise_error()
            if not confirmed:
                raise QueueUnavailable("what was published is not on Redis' disk yet")
        with self._changed:
            self._raise_unacknowledged()

    def close(self, timeout: float | None = None) -> None:
        """Flushes and stops. Raises what `flush` does; then `unpublished` tells how many records were left behind."""
        try:
            self.flush(timeout)
        finally:
            with self._changed:
                self._closing = self._ends = True
                self._changed.notify_all()
            if self._thread.is_alive():
                self._thread.join(1.0)
            self._confirmation.close()
            self._publishing.tap.close()

    def abandon(self) -> None:
        """Stop, leaving behind what is not published yet: it comes again, from another reading of the source."""
        with self._changed:
            self._closing = self._ends = True
            self._changed.notify_all()
        self._confirmation.close()
        while self._thread.is_alive() and not self._session.give_up.is_set():
            self._thread.join(0.1)

    @property
    def taken(self) -> int:
        """Records and dead letters that were ever put."""
        return self._put

    @property
    def unpublished(self) -> int:
        """Records that were put and are not on the list yet."""
        return self._put - self._done

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        try:
            while (batch := self._next()) is not None:
                if not batch:
                    self._find_out()
                    continue
                self._wait_for_room_on_the_list()
                self._publish(batch)
        except MillraceError as error:
            self._end(error)
        except Exception as error:
            log.exception("publisher_failed", flow=self._flow)
            self._end(QueueUnavailable(f"the publisher failed: {type(error).__name__}: {error}"))

    def _end(self, error: MillraceError) -> None:
        with self._changed:
            self.error, self._ends = error, True
            self._changed.notify_all()

    def _next(self) -> list[Entry] | None:
        """Waits for a batch: enough records, or the oldest has lingered, or a flush; None when closed.

        An empty one says that Redis may have forgotten what it was told.
        """
        with self._changed:
            while True:
                if self._closing:
                    return None
                if self._suspicious:
                    return []
                if not self._buffer:
                    self._changed.wait()
                    continue
                left = self._since + self._linger - time.monotonic()
                if left <= 0 or self._flushing or not self.has_room or len(self._buffer) >= self._records:
                    return self._cut()
                self._changed.wait(left)

    def _cut(self) -> list[Entry]:
        batch = self._buffer[: self._records]
        if self._buffered_bytes > PUBLISH_BYTES:
            sizes = itertools.accumulate(len(entry.line) for entry in batch)
            batch = batch[: max(1, sum(size <= PUBLISH_BYTES for size in sizes))]
        del self._buffer[: len(batch)]
        self._buffered_bytes -= sum([len(entry.line) for entry in batch])
        self._since = time.monotonic()
        self._changed.notify_all()
        return batch

    def _publish(self, batch: list[Entry]) -> None:
        with self._traces.publish(len(batch)) as span:
            self._publish_in(span, batch)

    def _publish_in(self, span: Span, batch: list[Entry]) -> None:
        dead = [entry.dead for entry in batch if entry.dead is not None]
        alive = [entry for entry in batch if entry.dead is None] if dead else batch
        position = next((entry.position for entry in reversed(batch) if entry.position is not None), None)
        self._replays = self._replays or position is not None
        self._forgetful = self._forgetful or position is None
        lines = span.mark([entry.line for entry in alive], self._session.keys.ready)
        killpoint("producer.before_publish")
        although_paused = False
        while True:
            try:
                if isinstance(self._publishing, Spread):
                    result = self._publishing.publish(
                        batch, position, seen_seconds=self._seen_seconds, although_paused=although_paused
                    )
                    break
                result = self._publishing.publish(
                    lines,
                    ids=[entry.id for entry in alive],
                    variants={index for index, entry in enumerate(alive) if entry.variant},
                    seen_seconds=self._seen_seconds,
                    dead=dead,
                    checkpoint=None if position is None else (self._source, position),
                    although_paused=although_paused,
                )
                break
            except FlowPaused:
                self.heed_pause()
                although_paused = self._stopping.wait(PAUSE_POLL_SECONDS)
                if self._session.give_up.is_set() or (although_paused and self._replays):
                    raise
            except QueueFull as error:
                self._hold_back(str(error))
                if self._session.give_up.wait(HOLD_POLL_SECONDS):
                    raise QueueUnavailable("Redis is still at maxmemory") from error
            except PublishesLost as error:
                self._take_loss(error)
        killpoint("producer.after_publish")
        self._lag = result.lag
        self._go_on()
        if not self._room:
            self.heed_pause()
        told = [entry.record for entry in batch if entry.record is not None]
        size = len(told) * RECORD_BYTES + (sum([len(entry.line) for entry in batch]) if self._keeps_data else 0)
        self._confirmation.add(self._publishing.publishes, told, size)
        with self._changed:
            self._done += len(batch)
            self.published += result.records + len(dead)
            self.duplicates += result.duplicates
            self.dead += len(dead)
            self._changed.notify_all()
        metrics.published.labels(self._flow).inc(result.records + len(dead))
        metrics.duplicates.labels(self._flow).inc(result.duplicates)
        for letter in dead:
            repeats.warn("record_dead_lettered", kind=letter.reason, flow=self._flow, reason=letter.reason)
        log.debug("records_published", flow=self._flow, records=result.records, duplicates=result.duplicates)
        span.end("published", published=result.records, duplicates=result.duplicates, dead=len(dead))

    def _look_again(self) -> None:
        """Called from another thread where Redis seems to have forgotten publishes."""
        with self._changed:
            self._suspicious = True
            self._changed.notify_all()

    def _find_out(self) -> None:
        """Raise PublishesLost where Redis has forgotten publishes, and the source can give them again."""
        self._suspicious = False
        try:
            self._publishing.check_publishes()
        except PublishesLost as error:
            self._take_loss(error)
        self._confirmation.begin_at(self._publishing.publishes)

    def _take_loss(self, error: PublishesLost) -> None:
        """Raise it, since to go on from here would leave a gap; where nothing can be had again, only say it."""
        log.error("publishes_lost", flow=self._flow, reason=str(error))
        if self._replays:
            raise error
        self._confirmation.begin_at(self._publishing.publishes)

    def _tell(
        self, acknowledge: Callable[[Sequence[Record | DeadLetter]], None], records: list[Record | DeadLetter]
    ) -> None:
        """What goes wrong here is the source's failure, not the list's: the records are on it, and we go on."""
        try:
            acknowledge(records)
        except SourceError as error:
            self._unacknowledged = error
        except Exception as error:
            log.exception("acknowledge_failed", flow=self._flow)
            self._unacknowledged = SourceUnavailable(f"{type(error).__name__}: {error}")
        else:
            self.acknowledged = (self.acknowledged or 0) + len(records)
            killpoint("producer.after_acknowledge")

    def _wait_for_room_on_the_list(self) -> None:
        """Holds back while the list and what is in flight stand at the high-water mark."""
        while self._lag >= self._max_ready and not self._stopping.is_set() and not self._session.give_up.is_set():
            self._lag = self._publishing.lag()
            if self._lag < self._max_ready:
                break
            self._hold_back(f"{self._lag} records are ready or in flight, max_ready is {self._max_ready}")
            self._stopping.wait(HOLD_POLL_SECONDS)

    def _hold_back(self, reason: str) -> None:
        if not self._held_back:
            self._held_back = True
            metrics.held_back.labels(self._flow).set(1)
            log.warning("producer_held_back", flow=self._flow, reason=reason)

    def _go_on(self) -> None:
        if self._held_back:
            self._held_back = False
            metrics.held_back.labels(self._flow).set(0)
            log.info("producer_resumed", flow=self._flow, lag=self._lag)

    def _raise_error(self) -> None:
        if self.error is not None:
            raise self.error

    def _raise_unacknowledged(self) -> None:
        if self._unacknowledged is not None:
            error, self._unacknowledged = self._unacknowledged, None
            raise error
