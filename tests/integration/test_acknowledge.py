"""A source that acknowledges hears what is on the list, when, and in which order."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import pytest
import redis
from pydantic import PrivateAttr

from millrace_pipeline.envelope import DeadLetter, Record
from millrace_pipeline.errors import SourceUnavailable
from millrace_pipeline.flows.component import Component
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.queue import DeadLetters
from millrace_pipeline.queue.session import Fsync
from millrace_producer.publisher import Publisher
from millrace_producer.runner import Producer
from millrace_producer.sources.base import Source
from tests.conftest import eventually
from tests.queues import Queue


class Receipt(Record):
    """A record that knows which message of its origin it was."""

    message: int = 0


class Inbox(Source):
    """Messages that stay until they are acknowledged. `trouble` is how many acknowledgements fail first."""

    redelivers: ClassVar[bool] = True

    messages: int = 100
    trouble: int = 0
    endless: bool = False
    _state: dict[str, Any] = PrivateAttr(default_factory=dict)

    def model_post_init(self, _: Any) -> None:
        self._state.update(left=dict.fromkeys(range(self.messages)), trouble=self.trouble, closed=False, at_close=None)

    def read(self, resume_from: Any) -> Iterator[Record | DeadLetter]:
        yielded = set()
        try:
            for message in list(self._state["left"]):
                yielded.add(message)
                yield Receipt({"n": message}, key=str(message), message=message)
            if self.endless:
                message = self.messages
                while True:
                    self._state["left"][message] = None
                    yielded.add(message)
                    yield Receipt({"n": message}, key=str(message), message=message)
                    message += 1
        finally:
            self._state["at_close"] = yielded & set(self._state["left"])

    def published(self, records: Sequence[Record | DeadLetter]) -> None:
        if self._state["trouble"]:
            self._state["trouble"] -= 1
            raise ConnectionError("gone for a moment")
        for record in records:
            assert isinstance(record, Receipt)
            self._state["left"].pop(record.message, None)

    def close(self) -> None:
        self._state["closed"] = True


def producer(
    redis_url: str, key: str, stopping: threading.Event, more: dict[str, Any] | None = None, **options: Any
) -> Producer:
    flow = Flow.model_validate(
        {
            "name": "inbox",
            "source": Component(type=f"{__name__}:Inbox", options=options),
            "sink": {"type": "stdout"},
            "queue": {"key": key},
            "publish": {"records": 10, "linger": 0.02},
            **(more or {}),
        }
    )
    return Producer(flow, redis_url, stopping=stopping, give_up=threading.Event())


def test_the_source_hears_of_every_record_in_order_once_it_is_on_the_list(queue: Queue, client: redis.Redis) -> None:
    heard: list[Record | DeadLetter] = []
    on_the_list: list[bool] = []

    def acknowledge(records: Sequence[Record | DeadLetter]) -> None:
        heard.extend(records)
        books = queue.books()
        on_the_list.append(books.ready + books.dead + duplicates >= len(heard))

    duplicates = 2
    given: list[Record | DeadLetter] = [Receipt({"n": n}, key=str(n % 28), message=n) for n in range(30)]
    given[7:7] = [DeadLetter(b"\xff", "not UTF-8"), Record({"thing": object()})]
    with Publisher(
        queue.publishing, flow="t", source="t", records=10, seen_seconds=60, acknowledge=acknowledge
    ) as publishing:
        for record in given:
            publishing.put(record)
    assert [id(record) for record in heard] == [id(record) for record in given]
    assert all(on_the_list)
    assert publishing.duplicates == duplicates


@pytest.mark.parametrize("fsync", ["off", "acknowledge"])
def test_records_wait_for_the_disk_without_their_data(redis_url: str, key: str, fsync: Fsync) -> None:
    queue = Queue(redis_url, key, fsync=fsync)
    heard: list[Record | DeadLetter] = []
    with Publisher(
        queue.publishing, flow="t", source="t", acknowledge=heard.extend, acknowledges_data=False
    ) as publishing:
        publishing.put(Receipt({"n": 1}, key="one", message=1))
        publishing.put(DeadLetter(b"\xff", "not UTF-8"))
        publishing.put(Receipt({"thing": object()}, key="two", message=2))
    assert heard == [
        Receipt(None, key="one", message=1),
        DeadLetter(b"\xff", "not UTF-8"),
        Receipt(None, key="two", message=2),
    ]
    (line,) = queue.client().lrange(key, 0, -1)
    assert b'"data":{"n":1}' in line
    assert b"\xff" in {letter.record for letter in DeadLetters(queue).newest()}


def test_what_goes_wrong_with_an_acknowledgement_is_told_once_and_the_publisher_goes_on(queue: Queue) -> None:
    failing = iter([True])

    def acknowledge(_: Sequence[Record | DeadLetter]) -> None:
        if next(failing, False):
            raise SourceUnavailable("gone for a moment")

    publishing = Publisher(queue.publishing, flow="t", source="t", acknowledge=acknowledge)
    publishing.put(Record({"n": 1}))
    with pytest.raises(SourceUnavailable, match="gone for a moment"):
        publishing.flush()
    publishing.put(Record({"n": 2}))
    publishing.close()
    assert queue.lag() == 2


def test_a_source_that_could_not_acknowledge_is_read_again_and_each_record_is_on_the_list_once(
    redis_url: str, key: str, queue: Queue
) -> None:
    stopping = threading.Event()
    producing = producer(redis_url, key, stopping, trouble=2)
    producing.run()
    assert isinstance(producing.source, Inbox)
    assert producing.source._state["left"] == {}
    assert queue.books().published == 100


def test_dedupe_null_is_no_dedupe(redis_url: str, key: str, queue: Queue) -> None:
    producing = producer(redis_url, key, threading.Event(), trouble=1, more={"dedupe": None})
    producing.run()
    assert queue.books().published > 100


def test_a_source_that_is_stopped_can_acknowledge_all_that_it_gave_before_its_reading_is_closed(
    redis_url: str, key: str, queue: Queue
) -> None:
    stopping = threading.Event()
    producing = producer(redis_url, key, stopping, endless=True)
    running = threading.Thread(target=producing.run)
    running.start()
    eventually(lambda: queue.lag() > 200)
    stopping.set()
    running.join(30)
    assert not running.is_alive()
    assert isinstance(producing.source, Inbox)
    state = producing.source._state
    assert state["closed"]
    eventually(lambda: state["at_close"] == set())
