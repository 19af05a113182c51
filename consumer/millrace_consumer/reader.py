"""Reader: a flow's messages for a program of one's own, which says itself what is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import structlog
from pydantic import BaseModel

from millrace_consumer.delaying import put_off
from millrace_consumer.delivery import Delivery, prepare
from millrace_consumer.handover import tell_lost, tell_taken
from millrace_consumer.isolation import isolate
from millrace_consumer.plan import Plan
from millrace_consumer.renewal import Lease, Renewal
from millrace_consumer.sampling import sample
from millrace_consumer.sizing import Sizing
from millrace_consumer.when import moment_said
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.errors import LeaseLost, QueueError
from millrace_pipeline.extras import need
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.process import metrics
from millrace_pipeline.process.repeats import repeats
from millrace_pipeline.process.traces import traces_of
from millrace_pipeline.queue import Claim, Claiming, Client, Delaying, Done, Leases, Session, Settling
from millrace_pipeline.queue.layout import hold_to_layout
from millrace_pipeline.queue.marks import mark

if TYPE_CHECKING:
    import pyarrow as pa

log = structlog.get_logger(__name__)

WAIT_SECONDS = 1.0
PARTING_SECONDS = 2.0
BATCHES_TO_WARN_OF = 20
"""So many batches held without a checkpoint, and the log asks whether one was forgotten."""

Form = Literal["arrow", "pandas", "polars"]


class Message(msgspec.Struct, frozen=True):
    """One record, transformed and validated as its flow says.

    `data` is the record: with a model its validated fields by name, else what the JSON says. `model` is the model's
    instance, where the flow has one. The others are the envelope's.
    """

    data: Any
    id: str
    source: str
    type: str
    time: datetime | None
    model: BaseModel | None


class Reader:
    """A flow's messages, off its list, in place of a consumer and a sink. Use it as a context manager.

    A message is handed out under a lease, which is renewed from a thread of the reader's own. It is done once
    `checkpoint` has been called after it: then it is dropped from Redis, in the same step in which `state` is kept.
    What was handed out and not checkpointed comes again, to this program when it starts again, or to another: each
    message at least once, and the state never more and never less than the messages that are done.

    Leaving the block in good order gives back what is not done, for others to take at once. Leaving it by an exception
    does, too, but counts an attempt: after the flow's `max_attempts` the batch is split, until the message that does it
    stands alone and becomes a dead letter.

    `name` is what the state is kept under: programs that read the same list for different ends have different names.
    With `until_empty` the messages end once nothing is ready, and nothing in other hands. Not for use from several
    threads at once. `queue` is the session with its list, `redis` a redis-py client for anything else.

    Calls wait out an outage of Redis. They raise LeaseLost where messages went to somebody else meanwhile (this program
    stood still for longer than the lease): leave the block, and begin again from `state`.
    """

    def __init__(
        self,
        flow: Flow,
        redis_url: str,
        *,
        name: str | None = None,
        until_empty: bool = False,
        take_over: bool = False,
        parting: Callable[[], None] | None = None,
    ) -> None:
        """`take_over` makes the list this flow's, whosever mark it bears; `parting` is called by `close`."""
        self.flow = flow
        self._parting = parting
        self._redis_url = redis_url
        self.name = name or flow.name
        self.queue = Session.of(redis_url, flow.queue)
        self._leases = Leases(self.queue, flow.lease)
        self._claiming = Claiming(self._leases)
        self._settling = Settling(self.queue)
        self._delaying = Delaying(self._leases)
        self._plan = Plan.of(flow, traces_of(flow, "consumer"))
        self._until_empty = until_empty
        self._sizing = Sizing(flow.batch)
        self._held: list[_Held] = []
        self._stopping = threading.Event()
        self._renewal = Renewal(self._claiming)
        self._take_over = take_over
        self._state: Any = None

    def open(self) -> Reader:
        """Look up the state, and return the reader.

        Raises ConfigError where the list is another project's, or delivered in order, batch by batch.
        """
        if self.flow.queue.in_order:
            raise self.flow.error("a reader holds several batches at once: leave it out", "queue", "in_order")
        if self.flow.whole:
            hold_to_layout(self._redis_url, self.flow, note=True)
        mark(self.queue, self.flow.project, take_over=self._take_over)
        self._state = self._settling.state(self.name)
        return self

    @property
    def state(self) -> Any:
        """The state last given to `checkpoint`, by this program or the one before it; None where none was."""
        return self._state

    @cached_property
    def redis(self) -> Client:
        """A redis-py client of the same Redis. It never sends a command again by itself."""
        return self.queue.client()

    def __iter__(self) -> Iterator[Message]:
        """Yield each `Message`, oldest first; wait while there is none. Ends after `stop`.

        Raises LeaseLost where a message went to somebody else meanwhile.
        """
        while (held := self._take()) is not None:
            for message in held.messages():
                yield message
                if self._stopping.is_set():
                    return

    def batches(self, form: Form = "arrow") -> Iterator[Any]:
        """Yield the messages as data frames, a batch of the flow's size or linger each: Arrow tables, pandas or polars.

        With a model its fields are the columns, with their types; without one the columns are `id`, `time`, and `data`,
        the record as JSON text. A record that fits no column becomes a dead letter at the next checkpoint.

        Raises LeaseLost, and ConfigError where pandas or polars is not installed.
        """
        while (held := self._take(linger=self.flow.batch.linger)) is not None:
            if (table := held.table()) is not None:
                yield _as(form, table)
            if self._stopping.is_set():
                return

    def checkpoint(self, state: Any = None) -> None:
        """Drop all messages handed out so far, which are done, and keep the state, in one step.

        The state is anything that JSON can say; without one, the one that was kept stays.

        Raises LeaseLost, and RecordError for a state that is no JSON; then nothing has changed.
        """
        done = [part for held in self._held if (part := held.done())]
        if not done and state is None:
            return
        try:
            self._settling.settle(done, name=self.name, state=state)
        except LeaseLost:
            metrics.leases_lost.labels(self.flow.name).inc()
            raise
        self._state = self._state if state is None else state
        for held in self._held:
            sample(self._settling.tap, held.delivery, *held.span)
            held.settle()
        self._held = [held for held in self._held if not held.settled]
        metrics.delivered.labels(self.flow.name).inc(sum(part.delivered for part in done))
        metrics.filtered.labels(self.flow.name).inc(sum(part.filtered for part in done))
        for letter in (letter for part in done for letter in part.dead):
            metrics.dead.labels(self.flow.name).inc()
            repeats.warn("record_dead_lettered", kind=letter.reason, flow=self.flow.name, reason=letter.reason)

    def stop(self) -> None:
        """End the messages, from another thread or a signal handler: at once, or after the one in hand."""
        self._stopping.set()

    def close(self, *, failed: str | None = None) -> None:
        """Give back the messages that are not done. `failed` says why, where their attempt is to count."""
        self._stopping.set()
        self.queue.give_up.set()
        self._renewal.close(wait=PARTING_SECONDS)  # a renewal on its way would undo what follows
        for held in self._held:
            if failed is not None:
                held.delivery.span.end("abandoned", error=failed)
            try:
                self._leases.release(held.claim) if failed is None else self._leases.abandon(held.claim, failed)
            except QueueError as error:
                log.warning("batch_release_failed", flow=self.flow.name, reason=str(error))
        self._held = []
        repeats.summarise()
        self._claiming.close()
        self._settling.tap.close()
        self.queue.close()
        if "redis" in self.__dict__:
            self.redis.close()
        if self._parting is not None:
            self._parting()

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not Ctrl-C, nor what is Redis' fault: only a failure that a message may be to blame for.
        blame = isinstance(error, Exception) and not isinstance(error, QueueError)
        self.close(failed=f"its reader failed: {type(error).__name__}" if blame else None)

    def _take(self, *, linger: float = 0.0) -> _Held | None:
        """The next batch that holds a message, when there is one; None once stopped, or empty."""
        while not self._stopping.is_set():
            claim = self._claiming.reclaim() if self._leases.overdue else None
            fresh = claim is None
            claim = claim or self._claiming.claim(self._sizing.room())
            if claim is None:
                if self._until_empty and self.queue.lag() == sum(held.left for held in self._held):
                    return None
                self._claiming.wait(WAIT_SECONDS)
                continue
            lease = self._renewal.hold(claim)
            if not fresh:
                tell_taken(self.flow, claim)
            try:
                if claim.attempts <= self.flow.max_attempts:
                    if self._hold(lease, linger if fresh else 0.0):
                        return self._held[-1]
                    continue
                isolate(self._leases, self.flow, claim)
            except LeaseLost as error:  # nobody has seen a message of it
                tell_lost(self.flow, claim, error)
            lease.drop()
        return None

    def _hold(self, lease: Lease, linger: float) -> bool:
        """Keeps a batch, topped up while it lingers. Returns whether it holds a message."""
        claim = lease.claim
        self._sizing.weigh(claim.lines)
        over = time.monotonic() + linger
        while (left := over - time.monotonic()) > 0 and self._room(claim) and not self._stopping.wait(min(0.05, left)):
            self._claiming.fill(claim, self._room(claim))
        self._claiming.secure(claim)
        delivery = prepare(claim, self._plan)
        if not put_off(delivery, self._delaying, self.flow):
            lease.drop()
            return False
        self._held.append(_Held(delivery, lease))
        if len(self._held) % BATCHES_TO_WARN_OF == 0:
            log.warning("reader_without_checkpoint", flow=self.flow.name, batches=len(self._held))
        if not len(delivery.batch) and len(self._held) == 1:
            self.checkpoint()  # nobody else will, if no message comes
        return len(delivery.batch) > 0

    def _room(self, claim: Claim) -> int:
        return self._sizing.room(len(claim.lines), sum(map(len, claim.lines)))


class _Held:
    """A batch in our hands: how far its messages were handed out, and how far they are settled."""

    def __init__(self, delivery: Delivery, lease: Lease) -> None:
        self.delivery = delivery
        self.lease = lease
        self.claim = delivery.claim
        self._handed = 0
        self._settled = 0

    @property
    def left(self) -> int:
        """Records that are not settled."""
        return len(self.claim.lines) - self._settled

    @property
    def settled(self) -> bool:
        """Whether nothing is left."""
        return self.left == 0

    def messages(self) -> Iterator[Message]:
        """The messages. Raises LeaseLost once the batch belongs to someone else."""
        values = self.delivery.offer(lambda batch: batch.records) or []  # which makes the models too, if there are any
        batch = self.delivery.batch
        models: Sequence[BaseModel | None] = batch.models or [None] * len(batch)
        for envelope, data, model in zip(batch.envelopes, values, models, strict=True):
            self.lease.check()
            self._handed += 1
            yield _message(envelope, data, model)

    def table(self) -> pa.Table | None:
        """All messages as a table; None where none has columns. Raises LeaseLost."""
        self.lease.check()
        table = self.delivery.offer(lambda batch: batch.table)
        self._handed = len(self.delivery.batch)
        return table

    def done(self) -> Done | None:
        """What was handed out since it was settled last, and what lies between."""
        settled, reached = self.span
        return self.delivery.part(settled, reached) if reached > settled else None

    @property
    def span(self) -> tuple[int, int]:
        """The places in the claim from which on, and up to which, it is handed out and not settled."""
        return self._settled, self._reached()

    def settle(self) -> None:
        """What was handed out is dropped from Redis."""
        self._settled = self._reached()
        if self.settled:
            self.lease.drop()
            given = self.delivery
            given.span.end("delivered", delivered=given.delivered, filtered=given.filtered, dead=len(given.reasons))

    def _reached(self) -> int:
        """The place in the claim up to which all is handed out, every message of a record that became several."""
        origin = self.delivery.origin
        return origin[self._handed] if self._handed < len(origin) else len(self.claim.lines)


def _message(envelope: Envelope, data: Any, model: BaseModel | None) -> Message:
    return Message(data, envelope.id, envelope.source, envelope.type, moment_said(envelope.time), model)


def _as(form: Form, table: pa.Table) -> Any:
    if form == "arrow":
        return table
    module = need(form, form, f"a reader's batches({form!r})")
    return _pandas(table, module) if form == "pandas" else module.from_arrow(table)


def _pandas(table: pa.Table, pandas: Any) -> Any:
    """Return a table as pandas has it, but for whole numbers among nulls, which would be floats there."""
    frame = table.to_pandas(
        safe=True,
        integer_object_nulls=False,
        date_as_object=True,
        timestamp_as_object=False,
        coerce_temporal_nanoseconds=False,
        maps_as_pydicts=None,
    )
    for name, column in zip(table.schema.names, table.columns, strict=True):
        if column.null_count and pandas.api.types.is_float_dtype(frame[name]) and column.type == "int64":
            frame[name] = pandas.array(column.to_pylist(), dtype="Int64")
    return frame
