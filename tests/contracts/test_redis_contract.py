"""The redis sink keeps the sink contract on another server, and its own claims there and with the ack."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
import redis
from pydantic import ValidationError

from millrace.embedded import Embedded
from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import RecordsRejected, SinkUnavailable
from millrace_consumer.sinks.redis import RedisSink
from millrace_pipeline.envelope import Record, decode, encode
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.mark import is_foreign
from millrace_pipeline.moment import now
from tests.contracts.sink_contract import SinkContract
from tests.contracts.sink_records import batch_of, bulk
from tests.faults.proxy import Proxy
from tests.queues import Queue


@cache
def server() -> tuple[Embedded, redis.Redis]:
    """A server beside the queue's, for the whole module."""
    server = Embedded()
    server.start()
    return server, redis.Redis.from_url(server.url)


class TestRedisSink(SinkContract):
    sink = "millrace_consumer.sinks.redis:RedisSink"
    kill_points: ClassVar[tuple[str, ...]] = ("sink.before_write", "sink.after_write")

    def options(self, destination: Path) -> dict[str, Any]:
        return {"key": f"out:{destination}", "url": server()[0].url}

    def read_back(self, destination: Path) -> list[Any]:
        lines = server()[1].lrange(f"out:{destination}", 0, -1)
        return [json.loads(line) for line in reversed(lines)]

    @contextmanager
    def full(self, destination: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
        client = server()[1]

        def free() -> None:
            client.config_set("maxmemory", 0)

        client.config_set("maxmemory", 1)
        try:
            yield destination, free
        finally:
            free()


class TestRedisSinkIntoAStream(TestRedisSink):
    def options(self, destination: Path) -> dict[str, Any]:
        return super().options(destination) | {"into": "stream"}

    def read_back(self, destination: Path) -> list[Any]:
        return [json.loads(fields[b"data"]) for _, fields in server()[1].xrange(f"out:{destination}")]


class TestRedisSinkIntoAHash(TestRedisSink):
    def options(self, destination: Path) -> dict[str, Any]:
        return super().options(destination) | {"into": "hash", "envelope": True}

    def read_back(self, destination: Path) -> list[Any]:
        found = server()[1].hgetall(f"out:{destination}")

        def place(id: bytes) -> tuple[str, int]:
            batch, _, index = id.decode().rpartition("-")
            return batch, int(index)

        return [json.loads(found[id])["data"] for id in sorted(found, key=place)]


@pytest.fixture
def elsewhere() -> redis.Redis:
    return server()[1]


def sink(key: str, **options: Any) -> RedisSink:
    return RedisSink.model_validate({"key": key, "url": server()[0].url, **options})


# -- another server ---------------------------------------------------------------------------------------------------


def test_a_write_whose_reply_is_lost_is_there_once(key: str, elsewhere: redis.Redis) -> None:
    port = elsewhere.connection_pool.connection_kwargs["port"]
    with Proxy("127.0.0.1", port) as proxy:
        sink_ = sink(key, url=proxy.url)
        proxy.lose_reply_to(b"EVALSHA")
        with pytest.raises(SinkUnavailable):
            sink_.write(batch_of("b", bulk(3, 10)))
        sink_.write(batch_of("b", bulk(3, 10)))
    assert elsewhere.llen(key) == 3


def test_the_note_of_a_batch_is_kept_as_long_as_the_flow_says(key: str, elsewhere: redis.Redis) -> None:
    sink(key, remember="2h").write(batch_of("b", bulk(3, 10)))
    assert 7100 < elsewhere.ttl(f"{{{key}}}:delivered:b") <= 7200
    assert sink(key).has_batch("b")
    assert not sink(key).has_batch("c")


def test_a_key_that_holds_something_else_makes_it_unavailable_and_is_named(key: str, elsewhere: redis.Redis) -> None:
    elsewhere.set(key, "a string")
    with pytest.raises(SinkUnavailable, match=f"WRONGTYPE.*LPUSH {key}"):
        sink(key).write(batch_of("b", bulk(3, 10)))
    elsewhere.delete(key)
    sink(key).write(batch_of("b", bulk(3, 10)))
    assert elsewhere.llen(key) == 3


def test_a_server_that_is_away_makes_it_unavailable_and_its_password_is_told_nowhere(key: str) -> None:
    away = sink(key, url="redis://user:s3cret@127.0.0.1:1/0")
    with pytest.raises(SinkUnavailable, match="refused") as unavailable:
        away.write(batch_of("b", bulk(3, 10)))
    with pytest.raises(ConfigError, match="url is not a Redis address") as refusal:
        sink(key, url="http://user:s3cret@h/").check(None)
    assert "s3cret" not in f"{unavailable.value!r} {refusal.value!r} {away!r}"


def test_a_large_batch_is_written_in_one_step_all_the_same(key: str, elsewhere: redis.Redis) -> None:
    sink(key).write(batch_of("b", bulk(20_000, 10)))
    assert elsewhere.llen(key) == 20_000


def test_the_newest_record_is_at_the_head_of_the_list_as_in_millrace_s_own(key: str, elsewhere: redis.Redis) -> None:
    sink(key).write(batch_of("b", [{"n": 1}, {"n": 2}]))
    assert elsewhere.lindex(key, 0) == b'{"n":2}'


def test_envelopes_for_a_list_of_our_name_elsewhere_do_not_pass_for_published_there(
    key: str, elsewhere: redis.Redis
) -> None:
    lines = [encode(Record({"n": n}), id=str(n), source="s", time=now(), mark=key) for n in range(3)]
    envelopes = [decode(line, foreign_id=str) for line in lines]
    sink(key, envelope=True).write(Batch("b", envelopes, originals=[*lines[:2], None]))
    found: list[bytes] = elsewhere.lrange(key, 0, -1)  # type: ignore[assignment]
    assert [json.loads(line)["id"] for line in reversed(found)] == ["0", "1", "2"]
    assert all(is_foreign(line, key) for line in found)


def test_a_stream_entry_has_the_record_s_id_and_its_data_and_the_stream_stays_short(
    key: str, elsewhere: redis.Redis
) -> None:
    sink(key, into="stream", max_length=100).write(batch_of("b", bulk(1000, 10)))
    assert 100 <= elsewhere.xlen(key) < 300  # about: whole nodes are dropped
    ((_, newest),) = elsewhere.xrevrange(key, count=1)
    assert newest == {b"id": b"b-999", b"data": json.dumps(bulk(1000, 10)[-1], separators=(",", ":")).encode()}


def test_a_hash_keeps_the_last_record_of_each_name_and_a_record_without_is_named(
    key: str, elsewhere: redis.Redis
) -> None:
    records = [{"sku": "a", "price": 1}, {"sku": 7}, {"sku": "a", "price": 2}, {"price": 3}, {"sku": [1]}]
    hash_, batch = sink(key, into="hash", name="/sku"), batch_of("b", records)
    with pytest.raises(RecordsRejected) as rejection:
        hash_.write(batch)
    assert sorted(rejection.value.reasons) == [3, 4]
    hash_.write(batch.pick([0, 1, 2]))
    assert elsewhere.hgetall(key) == {b"a": b'{"sku":"a","price":2}', b"7": b'{"sku":7}'}


@pytest.mark.parametrize("options", [{"max_length": 5}, {"name": "x"}, {"into": "set"}, {"remember": 1}, {"key": ""}])
def test_options_that_do_not_fit_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RedisSink.model_validate({"key": "k", **options})


# -- with the ack -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("into", ["list", "stream", "hash"])
def test_on_the_queue_s_own_server_nothing_is_written_before_the_ack_and_all_with_it(
    queue: Queue, client: redis.Redis, key: str, into: str
) -> None:
    queue.publish([encode(Record({"n": n}), id=str(n), source="s", time=now(), mark=key) for n in range(1200)])
    claim = queue.claim(1200)
    assert claim is not None
    own = RedisSink.model_validate({"key": f"{key}:out", "into": into})
    batch = batch_of(claim.id, [{"n": n} for n in range(1200)])
    assert own.writes_in_ack
    own.write(batch)
    assert not client.exists(f"{key}:out")
    queue.ack(claim, delivered=1200, writes=own.ack_commands(batch))
    count = {"list": client.llen, "stream": client.xlen, "hash": client.hlen}[into]
    assert count(f"{key}:out") == 1200
    assert own.ack_commands(batch_of("b", [])) == ()


def test_two_sinks_on_two_threads_do_not_share_a_connection(key: str, elsewhere: redis.Redis) -> None:
    def work(name: str) -> None:
        mine = sink(key)
        for number in range(20):
            mine.write(batch_of(f"{name}-{number}", bulk(5, 10)))
        mine.close()

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert elsewhere.llen(key) == 200
