"""The publisher, on a real list."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from millrace.embedded import Embedded
from millrace_pipeline.envelope import DeadLetter, Record, decode
from millrace_pipeline.errors import PublishesLost, QueueMisuse, QueueUnavailable
from millrace_pipeline.queue.session import Fsync
from millrace_producer import confirmation
from millrace_producer.publisher import Publisher
from tests.conftest import eventually
from tests.faults.mishaps import started_without_its_data
from tests.queues import Queue


@pytest.fixture
def small_redis() -> Iterator[redis.Redis]:
    """A server that holds two megabytes and no more."""
    with Embedded(config={"maxmemory": "4mb"}) as server, redis.Redis.from_url(server.url) as client:
        client.url = server.url  # type: ignore[attr-defined]
        yield client


def publisher(queue: Queue, **options: object) -> Publisher:
    return Publisher(queue.publishing, flow="test", source="test", **options)  # type: ignore[arg-type]


def test_a_single_record_is_published_after_the_linger(queue: Queue) -> None:
    with publisher(queue, records=500, linger=0.02) as publishing:
        publishing.put(Record({"n": 1}))
        eventually(lambda: queue.lag() == 1, 2)


def test_a_full_batch_does_not_wait_for_the_linger(queue: Queue) -> None:
    with publisher(queue, records=10, linger=3600) as publishing:
        for n in range(20):
            publishing.put(Record({"n": n}))
        eventually(lambda: queue.lag() == 20, 2)


def test_closing_flushes_in_order_with_the_last_position(queue: Queue) -> None:
    with publisher(queue, records=7, linger=3600) as publishing:
        for n in range(100):
            publishing.put(Record({"n": n}, position=n))
    claim = queue.claim(100)
    assert claim is not None
    assert [decode(line, foreign_id=str).value["n"] for line in claim.lines] == list(range(100))
    assert queue.checkpoint("test") == 99


def test_every_record_gets_an_id_of_its_own_unless_it_has_a_key(queue: Queue) -> None:
    with publisher(queue) as publishing:
        for n in range(50):
            publishing.put(Record({"n": n}, key="named" if n == 7 else None))
    claim = queue.claim(100)
    assert claim is not None
    ids = [decode(line, foreign_id=str).id for line in claim.lines]
    assert len(set(ids)) == 50
    assert ids[7] == "named"


def test_the_dedupe_key_is_found_in_the_data_as_bytes_or_values(queue: Queue) -> None:
    with publisher(queue, seen_seconds=60, key="/meta/id") as publishing:
        publishing.put(Record(b'{"meta": {"id": "a"}}'))
        publishing.put(Record({"meta": {"id": "a"}}))
        publishing.put(Record({"meta": {"id": 5}}))
        publishing.put(Record({"other": 1}))
    assert (publishing.published, publishing.duplicates) == (3, 1)


def test_the_list_at_its_mark_blocks_the_producer_until_it_falls(queue: Queue) -> None:
    publishing = publisher(queue, records=10, linger=0.01, max_ready=50)
    done = threading.Event()

    def produce() -> None:
        for n in range(200):
            publishing.put(Record({"n": n}))
        done.set()

    threading.Thread(target=produce, daemon=True).start()
    eventually(lambda: queue.lag() >= 50)
    assert not done.wait(0.7)
    assert queue.lag() <= 60
    taken = 0

    def drained() -> bool:
        nonlocal taken
        if claim := queue.claim(100):
            taken += len(claim.lines)
            queue.ack(claim, delivered=len(claim.lines))
        return taken == 200

    eventually(lambda: drained() or publishing.unpublished == 0)
    publishing.close(5)
    eventually(drained)
    assert done.is_set()


def test_a_full_redis_holds_the_producer_and_loses_nothing(small_redis: redis.Redis) -> None:
    queue = Queue(small_redis.url, "K")  # type: ignore[attr-defined]
    publishing = publisher(queue, records=50, linger=0.01)
    total = 6000
    done = threading.Event()

    def produce() -> None:
        for n in range(total):
            publishing.put(Record({"n": n, "text": "x" * 1000}))
        publishing.close()
        done.set()

    threading.Thread(target=produce, daemon=True).start()
    eventually(lambda: publishing._held_back)
    assert not done.is_set()
    taken: list[int] = []

    def drained() -> bool:
        if claim := queue.claim(500):
            taken.extend(decode(line, foreign_id=str).value["n"] for line in claim.lines)
            queue.ack(claim, delivered=len(claim.lines))
        return len(taken) == total

    eventually(drained, 60)
    assert taken == list(range(total))
    assert done.wait(5)
    assert queue.books().difference == 0


def test_what_is_no_json_is_set_aside_and_the_rest_goes_on(queue: Queue, client: redis.Redis) -> None:
    with publisher(queue) as publishing:
        publishing.put(Record({"n": 1}, position=1))
        publishing.put(Record({"thing": object()}, position=2))
        publishing.put(Record(b"{not json", position=3))
        publishing.put(DeadLetter(b"\xff", "not UTF-8", position=4))
        publishing.put(Record({"n": 2}, position=5))
    books = queue.books()
    assert (books.published, books.ready, books.dead, books.difference) == (5, 2, 3, 0)
    assert [letter[b"record"] for _, letter in client.xrange(queue.keys.dead)][1:] == [b"{not json", b"\xff"]
    assert queue.checkpoint("test") == 5


def test_a_refusal_reaches_whoever_puts(queue: Queue, client: redis.Redis, key: str) -> None:
    client.set(key, "somebody's string")
    publishing = publisher(queue, records=1, linger=0)
    publishing.put(Record({"n": 1}))
    with pytest.raises(QueueMisuse, match="WRONGTYPE"):
        publishing.close()


def test_closing_with_a_time_limit_says_how_many_records_are_left(key: str) -> None:
    queue = Queue("redis://127.0.0.1:1/0", key)
    publishing = publisher(queue, linger=0)
    for n in range(3):
        publishing.put(Record({"n": n}))
    with pytest.raises(QueueUnavailable, match="3 records"):
        publishing.close(0.2)
    assert publishing.unpublished == 3
    queue.give_up.set()


def test_a_flush_ends_though_redis_has_forgotten_the_publish_that_it_waits_for(tmp_path: Path) -> None:
    """A crawl at its end, and a power cut: what was lost can't be had again, and nothing more is published."""
    with Embedded(aof=True, data_dir=tmp_path / "valkey") as server:
        queue = Queue(server.url, "numbers", fsync="acknowledge")
        publisher = Publisher(queue.publishing, flow="numbers", source="numbers")
        publisher.put(Record({"n": 1}))
        flushing = threading.Thread(target=publisher.flush, daemon=True)
        flushing.start()
        eventually(lambda: publisher.published == 1)
        started_without_its_data(server)
        flushing.join(30)
        assert not flushing.is_alive()
        publisher.close()
        queue.close_all()


@pytest.mark.parametrize("aof", [True, False])
@pytest.mark.parametrize("fsync", ["off", "acknowledge", "write"])
def test_what_redis_forgets_long_after_it_was_published_is_noticed_without_another_record(
    tmp_path: Path, fsync: Fsync, aof: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirmation, "LOOK_SECONDS", 0.2)
    with Embedded(aof=aof, data_dir=tmp_path / "valkey") as server:
        queue = Queue(server.url, "numbers", fsync=fsync)
        publisher = Publisher(queue.publishing, flow="numbers", source="numbers", linger=0)
        publisher.put(Record({"n": 1}, position=1))
        eventually(lambda: publisher.published == 1)
        assert publisher._confirmation.wait(30)
        server.kill()
        shutil.rmtree(server.data_dir / "appendonlydir", ignore_errors=True)
        (server.data_dir / "dump.rdb").unlink(missing_ok=True)
        server.start()
        eventually(lambda: isinstance(publisher.error, PublishesLost), 30)
        with pytest.raises(PublishesLost):
            publisher.close()
        queue.close_all()
