"""Redis as a source, by real producers: a list, a stream, a group and a channel of others."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import redis

from millrace.embedded import Embedded
from millrace_pipeline.envelope import DeadLetter, Record
from millrace_pipeline.errors import ConfigError, SourceRefused, SourceUnavailable
from millrace_pipeline.flows.component import Component
from millrace_producer.sources import SOURCES
from millrace_producer.sources.base import Source
from millrace_producer.sources.redis import RedisSource
from tests.conftest import eventually
from tests.services import QUICKLY, Place, Service

THEIRS = "theirs"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Embedded]:
    """The others' server."""
    with Embedded(data_dir=tmp_path / "theirs", aof=True) as server:
        yield server


@pytest.fixture
def others(server: Embedded) -> Iterator[redis.Redis]:
    """What the others use."""
    with redis.Redis.from_url(server.url) as client:
        yield client


def source(server: Embedded, **options: Any) -> dict[str, Any]:
    return {"type": "redis", "url": server.url, "key": THEIRS, **options}


def text(number: int) -> bytes:
    return b'{"n": %d}' % number


def push(others: redis.Redis, numbers: range) -> None:
    others.lpush(THEIRS, *map(text, numbers))


def add(others: redis.Redis, numbers: range) -> None:
    for number in numbers:
        others.xadd(THEIRS, {"data": text(number)})


def numbers(client: redis.Redis, place: Place) -> list[int]:
    """What is on our list, oldest first."""
    return [json.loads(line)["data"]["n"] for line in reversed(client.lrange(place.key_of(), 0, -1))]


def until_published(place: Place, producer: Service, count: int) -> None:
    producer.until(lambda: place.books().published >= count)


@pytest.mark.parametrize(
    ("kind", "point"),
    [
        ("list", "producer.before_publish:3"),
        ("list", "producer.after_publish:3"),
        ("stream", "producer.after_publish:3"),
        ("group", "producer.after_publish:3"),
    ],
)
def test_a_producer_killed_around_a_publish_loses_none_and_doubles_none(
    place: Place, client: redis.Redis, server: Embedded, others: redis.Redis, kind: str, point: str
) -> None:
    options: dict[str, Any] = {"until_empty": True}
    if kind == "list":
        push(others, range(60))
    else:
        options |= {"kind": "stream", "field": "data"}
        add(others, range(60))
    if kind == "group":
        options |= {"group": "readers", "idle": "1s", "until_empty": False}
    place.flow(source=source(server, **options))
    killed = place.produce(MILLRACE_KILLPOINT=point)
    assert killed.wait() == -signal.SIGKILL, killed.said
    assert place.books().published == (20 if "before" in point else 30)
    again = place.produce()
    if kind == "group":
        again.until(lambda: others.xpending(THEIRS, "readers")["pending"] == 0 and place.books().published == 60)
        assert again.terminate() == 0, again.said
    else:
        assert again.wait() == 0, again.said
    assert sorted(numbers(client, place)) == list(range(60))
    assert place.books().published == 60
    if kind == "list":
        assert numbers(client, place) == list(range(60))
        assert others.keys() == [b"{theirs}:taken:millrace:state"]


@pytest.mark.parametrize("options", [{}, {"kind": "stream"}, {"kind": "stream", "group": "g"}, {"kind": "channel"}])
def test_sigterm_ends_a_producer_that_waits_quickly(place: Place, server: Embedded, options: dict[str, Any]) -> None:
    place.flow(source=source(server, **options))
    producer = place.produce()
    producer.await_event("source_opened")
    assert producer.terminate(QUICKLY) == 0, producer.said


def test_a_full_list_of_ours_leaves_the_rest_with_the_others(
    place: Place, server: Embedded, others: redis.Redis
) -> None:
    push(others, range(3000))
    place.flow(source=source(server, until_empty=True), queue={"max_ready": 100}, lease="30s")
    producer = place.produce()
    producer.await_event("producer_held_back")
    assert others.llen(THEIRS) >= 2000
    consumer = place.consume()
    assert producer.wait() == 0, producer.said
    consumer.until(lambda: place.books().delivered == 3000)
    place.assert_once(range(3000))


def test_a_list_is_read_on_through_a_kill_of_its_server_and_each_element_is_there_once(
    place: Place, client: redis.Redis, server: Embedded, others: redis.Redis
) -> None:
    others.config_set("appendfsync", "always")
    push(others, range(200))
    place.flow(source=source(server))
    producer = place.produce()
    until_published(place, producer, 200)
    server.kill()
    producer.await_event("source_failed")
    server.start()
    push(others, range(200, 300))
    until_published(place, producer, 300)
    assert producer.terminate() == 0
    assert numbers(client, place) == list(range(300))


def test_a_server_that_came_back_empty_is_read_from_its_beginning(
    place: Place, client: redis.Redis, server: Embedded, others: redis.Redis
) -> None:
    push(others, range(50))
    place.flow(source=source(server))
    producer = place.produce()
    until_published(place, producer, 50)
    others.flushall()
    push(others, range(50, 60))
    until_published(place, producer, 60)
    assert producer.terminate() == 0
    assert numbers(client, place) == list(range(60))


def test_producers_of_a_group_share_a_stream_and_what_one_leaves_behind_another_takes(
    place: Place, client: redis.Redis, server: Embedded, others: redis.Redis
) -> None:
    place.flow(source=source(server, kind="stream", field="data", group="readers", idle="2s"), queue={"max_ready": 50})
    two = [place.produce(), place.produce()]
    for producer in two:
        producer.await_event("source_opened")
    eventually(lambda: others.exists(THEIRS))
    add(others, range(300))
    for producer in two:
        producer.await_event("producer_held_back")
    eventually(lambda: others.xpending(THEIRS, "readers")["pending"] > 0)
    two[0].kill()
    consumer = place.consume()
    consumer.until(lambda: len(place.numbers()) == 300)
    eventually(lambda: others.xpending(THEIRS, "readers")["pending"] == 0)
    assert two[1].terminate() == 0, two[1].said
    assert consumer.terminate() == 0, consumer.said
    assert place.numbers() == list(range(300))


def test_what_a_member_holds_while_the_list_is_full_is_not_taken_from_it(server: Embedded, others: redis.Redis) -> None:
    add(others, range(3))
    options: dict[str, Any] = {"kind": "stream", "field": "data", "group": "readers", "until_empty": True, "idle": 0.6}
    one, two = (RedisSource(url=server.url, key=THEIRS, **options) for _ in range(2))  # type: ignore[arg-type]
    reading = one.read(None)
    held = list(islice(reading, 3))

    def idle() -> list[int]:
        return [entry["time_since_delivered"] for entry in others.xpending_range(THEIRS, "readers", "-", "+", 10)]

    highest = 0

    def extended() -> bool:
        """Idle for a while, and then for less."""
        nonlocal highest
        before, highest = highest, max(highest, *idle())
        return max(idle()) < before

    eventually(extended)
    one.published(held)
    reading.close()  # type: ignore[attr-defined]
    one.close()
    assert list(two.read(None)) == []
    two.close()
    assert others.xinfo_consumers(THEIRS, "readers") == []


def test_a_channel_is_heard_while_we_listen(
    place: Place, client: redis.Redis, server: Embedded, others: redis.Redis
) -> None:
    place.flow(source=source(server, kind="channel", key="news.*"))
    producer = place.produce()
    producer.until(lambda: others.publish("news.eu", text(1)))
    others.publish("news.us", text(2))
    others.publish("other", text(3))
    others.publish("news.eu", b"\xff")
    until_published(place, producer, 3)
    assert producer.terminate() == 0, producer.said
    envelopes = [json.loads(line) for line in reversed(client.lrange(place.key_of(), 0, -1))]
    assert [(envelope["type"], envelope["data"]["n"]) for envelope in envelopes] == [("news.eu", 1), ("news.us", 2)]
    assert place.books().dead == 1


def test_a_channel_whose_server_went_away_is_listened_to_again(
    place: Place, server: Embedded, others: redis.Redis
) -> None:
    place.flow(source=source(server, kind="channel", key="news"))
    producer = place.produce()
    producer.until(lambda: others.publish("news", text(1)))
    until_published(place, producer, 1)  # what a server has not sent yet when it is killed is lost: so are channels
    server.kill()
    producer.await_event("source_failed")
    server.start()
    producer.until(lambda: others.publish("news", text(2)))
    until_published(place, producer, 2)


def read(server: Embedded, resume_from: Any = None, **options: Any) -> list[Record | DeadLetter]:
    source = RedisSource(url=server.url, key=THEIRS, until_empty=True, **options)  # type: ignore[arg-type]
    try:
        return list(source.read(resume_from))
    finally:
        source.close()


def test_either_end_of_a_list_can_be_taken_from(server: Embedded, others: redis.Redis) -> None:
    others.rpush(THEIRS, *map(text, range(5)))
    records = read(server, end="left")
    assert [json.loads(record.data)["n"] for record in records if isinstance(record, Record)] == list(range(5))


def test_two_readers_of_one_list_by_one_name_find_out(server: Embedded, others: redis.Redis) -> None:
    push(others, range(3))
    one = RedisSource(url=server.url, key=THEIRS)  # type: ignore[arg-type]
    reading = one.read(None)
    next(reading)
    other = RedisSource(url=server.url, key=THEIRS, until_empty=True)  # type: ignore[arg-type]
    other.published(list(other.read(None)))
    push(others, range(3, 5))
    other.published(list(other.read(None)))
    with pytest.raises(SourceUnavailable, match="somebody else reads the list theirs as millrace"):
        list(reading)
    other.close()
    one.close()


def test_an_acknowledgement_that_comes_late_takes_nothing_that_was_not_published(
    server: Embedded, others: redis.Redis
) -> None:
    push(others, range(6))
    late = RedisSource(url=server.url, key=THEIRS, until_empty=True)  # type: ignore[arg-type]
    records = list(late.read(None))
    quick = RedisSource(url=server.url, key=THEIRS, until_empty=True)  # type: ignore[arg-type]
    quick.published(list(quick.read(None))[:4])
    late.published(records[:2])
    assert [json.loads(data)["n"] for data in others.lrange("{theirs}:taken:millrace", 0, -1)] == [4, 5]
    quick.close()
    late.close()


def test_the_fields_of_an_entry_are_an_object_and_its_id_says_when(server: Embedded, others: redis.Redis) -> None:
    others.xadd(THEIRS, {"a": "1", "b": "zwei"}, id="1790000000123-0")
    others.xadd(THEIRS, {"a": b"\xff"})
    record, letter = read(server, kind="stream")
    assert isinstance(record, Record)
    assert json.loads(record.data) == {"a": "1", "b": "zwei"}
    assert (record.key, record.position) == ("1790000000123-0", "1790000000123-0")
    assert record.time is not None
    assert record.time.isoformat() == "2026-09-21T14:13:20.123000+00:00"
    assert isinstance(letter, DeadLetter)
    assert (letter.original, "a field that is not UTF-8" in letter.reason) == (b"a: \xff", True)
    (_, lacking) = read(server, kind="stream", field="b")
    assert isinstance(lacking, DeadLetter)
    assert lacking.reason.endswith("no field 'b'")


def test_latest_begins_with_what_comes_from_now_on(server: Embedded, others: redis.Redis) -> None:
    add(others, range(3))
    for options in ({}, {"group": "late"}):
        assert read(server, kind="stream", start="latest", **options) == []
    add(others, range(3, 4))
    (record,) = read(server, kind="stream", field="data", group="late")
    assert isinstance(record, Record)
    assert json.loads(record.data) == {"n": 3}


def test_text_is_taken_as_text(server: Embedded, others: redis.Redis) -> None:
    others.lpush(THEIRS, "{kein JSON é")
    (record,) = read(server, format="text")
    assert isinstance(record, Record)
    assert record.data == "{kein JSON é"


def test_a_full_server_can_be_emptied(server: Embedded, others: redis.Redis) -> None:
    others.lpush(THEIRS, *[b'"%s"' % (b"x" * 1000)] * 2000)
    others.config_set("maxmemory", "1mb")
    source = RedisSource(url=server.url, key=THEIRS, until_empty=True)  # type: ignore[arg-type]
    count = 0
    for record in source.read(None):
        source.published([record])
        count += 1
    source.close()
    assert count == 2000
    others.config_set("maxmemory", "0")


@pytest.mark.parametrize("kind", ["list", "stream"])
def test_the_checkpoint_of_another_source_is_refused(server: Embedded, kind: str) -> None:
    with pytest.raises(SourceRefused, match="of another source"):
        read(server, {"topic:0": 5}, kind=kind)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "http://user:hush@host"}, "url is not a Redis address"),
        ({"group": "g"}, "group is for a stream"),
        ({"kind": "stream", "end": "left"}, "end is for a list"),
        ({"kind": "channel", "until_empty": True}, "until_empty is for a list or stream"),
    ],
)
def test_options_that_make_no_sense_are_said_when_the_flow_is_checked(options: dict[str, Any], said: str) -> None:
    declared = {"type": "redis", "url": "redis://user:hush@host:6379/0", "key": "k"} | options
    with pytest.raises(ConfigError, match=said) as refused:
        Component.model_validate(declared).build(SOURCES, Source)
    assert "hush" not in str(refused.value)


def test_a_wrong_password_is_refused_and_not_shown(server: Embedded) -> None:
    source = RedisSource(url=server.url.replace("redis://", "redis://nobody:hush@"), key=THEIRS)  # type: ignore[arg-type]
    with pytest.raises(SourceRefused, match="in url") as refused:
        list(source.read(None))
    assert "hush" not in str(refused.value) + repr(source)


def test_the_example_takes_in_a_list_a_stream_and_a_channel(
    place: Place, server: Embedded, others: redis.Redis
) -> None:
    place.example("redis-source")
    flows = ("jobs", "events", "news")
    environ = {"THEIRS": server.url, "DATA": "out"}
    assert place.start("check", **environ).wait() == 0
    running = [place.start("consume", **environ), *(place.start("produce", flow, **environ) for flow in flows)]
    others.lpush("jobs", *map(text, range(20)))
    for number in range(20):
        others.xadd("events", {"n": number})
    running[-1].until(lambda: others.publish("news", text(1)))
    running[0].until(lambda: [len(place.records(flow)) for flow in flows] == [20, 20, 1])
    assert [service.terminate() for service in running] == [0] * 4
    assert place.numbers("jobs") == list(range(20))
    assert sorted(int(record["n"]) for record in place.records("events")) == list(range(20))
