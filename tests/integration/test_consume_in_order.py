"""The writer takes deliveries to the sink in their order, while the next one is got ready already."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import ClassVar

import pytest
import redis
from pydantic import PrivateAttr

from millrace_consumer.batch import Batch
from millrace_consumer.delivery import Delivery, prepare
from millrace_consumer.plan import Plan
from millrace_consumer.renewal import Lease
from millrace_consumer.sinks.base import Sink
from millrace_consumer.sizing import Sizing
from millrace_consumer.writer import Writer
from millrace_pipeline.errors import QueueMisuse
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.queue import Claim
from tests.conftest import eventually
from tests.queues import Queue


class Gate(Sink):
    """Writes a batch once the gate is open, and remembers which it was given."""

    prefetch: ClassVar[Sequence[str]] = ("records", "text")

    _given: list[str] = PrivateAttr(default_factory=list)
    _open: threading.Event = PrivateAttr(default_factory=threading.Event)

    def write(self, batch: Batch) -> None:
        self._given.append(batch.id)
        _ = batch.records
        assert self._open.wait(20)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate._open.set()


@pytest.fixture
def writer(queue: Queue, gate: Gate) -> Writer:
    flow = Flow.model_validate(
        {"name": "f", "source": {"type": "stdin"}, "sink": {"type": "stdout"}, "queue": {"key": queue.keys.ready}}
    )
    return Writer(flow, gate, queue.leases, Sizing(flow.batch), stopping=threading.Event())


def claimed(queue: Queue, client: redis.Redis, count: int) -> list[Claim]:
    client.lpush(queue.keys.ready, *(b'{"n":%d}' % number for number in range(count)))
    claims = [queue.claim(1) for _ in range(count)]
    assert all(claims)
    return [claim for claim in claims if claim is not None]


def deliver(writer: Writer, queue: Queue, delivery: Delivery) -> None:
    writer.deliver(delivery, Lease(queue.leases, delivery.claim), beside=True)


@pytest.fixture
def waiting(writer: Writer, queue: Queue, client: redis.Redis, gate: Gate) -> Delivery:
    """A delivery whose turn has not come: the one before it stands at the gate."""
    first, second = claimed(queue, client, 2)
    deliver(writer, queue, prepare(first, Plan("f", queue.keys.ready)))
    eventually(lambda: gate._given == [first.id])
    return prepare(second, Plan("f", queue.keys.ready))


def test_a_delivery_waits_for_the_one_before_it(writer: Writer, queue: Queue, gate: Gate, waiting: Delivery) -> None:
    (first,) = gate._given
    behind = threading.Thread(target=deliver, args=(writer, queue, waiting))
    behind.start()
    eventually(lambda: writer._next is waiting.claim)
    assert gate._given == [first]
    gate._open.set()
    behind.join()
    writer.finish()
    assert gate._given == [first, waiting.claim.id]
    assert (writer.delivered, queue.lag()) == (2, 0)
    writer.close()


def test_the_forms_that_a_sink_asks_for_are_made_before_its_turn_comes(
    writer: Writer, queue: Queue, gate: Gate, waiting: Delivery
) -> None:
    (first,) = gate._given
    behind = threading.Thread(target=deliver, args=(writer, queue, waiting))
    behind.start()
    eventually(lambda: {"records", "text"} <= waiting.batch.__dict__.keys())
    assert gate._given == [first]
    gate._open.set()
    behind.join()
    writer.finish()
    writer.close()
    assert writer.delivered == 2


def test_a_record_without_such_a_form_is_set_aside_when_the_sink_asks_for_it(
    writer: Writer, queue: Queue, client: redis.Redis, gate: Gate
) -> None:
    client.lpush(queue.keys.ready, b'{"n":1}', b'{"n":1e999}', b'{"n":3}')
    claim = queue.claim(3)
    assert claim is not None
    gate._open.set()
    deliver(writer, queue, prepare(claim, Plan("f", queue.keys.ready)))
    writer.finish()
    writer.close()
    assert (writer.delivered, queue.books().dead, queue.lag()) == (2, 1, 0)


def test_once_redis_refuses_an_ack_for_good_what_is_next_is_not_written_and_stays_in_flight(
    writer: Writer, queue: Queue, client: redis.Redis, gate: Gate, waiting: Delivery
) -> None:
    (first,) = gate._given
    client.rename(queue.keys.counters, f"{queue.keys.counters}:kept")
    client.set(queue.keys.counters, "no hash")
    raised: list[BaseException] = []

    def deliver_the_second() -> None:
        try:
            deliver(writer, queue, waiting)
        except QueueMisuse as error:
            raised.append(error)

    behind = threading.Thread(target=deliver_the_second)
    behind.start()
    eventually(lambda: writer._next is waiting.claim)
    gate._open.set()
    behind.join()
    writer.close()
    assert len(raised) == 1
    assert gate._given == [first]
    client.rename(f"{queue.keys.counters}:kept", queue.keys.counters)
    assert queue.lag() == 2, "neither is lost"
