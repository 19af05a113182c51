"""The source contract, by the Redis source: a list, a stream, and a stream in a consumer group.

A channel has neither an end nor a past: what holds for it is in tests/integration/test_redis_source.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest
import redis

from millrace.testing import AcknowledgingSourceContract, FaultyOrigin, FaultySourceContract, read, value_of
from millrace_pipeline.envelope import DeadLetter, Record
from millrace_producer.sources.redis import RedisSource
from tests.contracts.named_records import NamedRecords
from tests.faults.proxy import Proxy

RECORDS: list[Any] = [
    {"n": 0, "text": "plain"},
    {"n": 1, "text": "žluťoučký 水車 🦆"},
    {"n": 2, "text": "a\u2028b\u0085c"},
    {"n": 3, "big": 2**64 - 1},
    ["a list"],
    "a string",
    None,
    {"n": 7, "text": "x" * 70_000},
    {"n": 90, "text": "cut in half \ud83d, the other \ude00", "\udc00": 1},
]
TEXTS = [json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") for record in RECORDS]
BAD = b'{"n": NaN, "\xff'


class RedisOrigin(FaultyOrigin):
    """On a server that is reached by way of a proxy."""

    options: ClassVar[dict[str, Any]] = {}

    def __init__(self, client: redis.Redis, proxy: Proxy, key: str) -> None:
        self.client, self.proxy, self.key = client, proxy, key
        self.expected = list(RECORDS)
        self.fill(TEXTS)

    def fill(self, texts: list[bytes]) -> None:
        self.client.lpush(self.key, *texts)

    def source(self) -> RedisSource:
        return RedisSource(url=self.proxy.url, key=self.key, until_empty=True, **self.options)  # type: ignore[arg-type]

    def break_off(self, after: int) -> None:
        self.proxy.cut_after(100 + 250 * after)

    def spoil(self, at: int) -> bytes:
        self.client.delete(self.key)
        self.fill([*TEXTS[:at], BAD, *TEXTS[at:]])
        return BAD

    def refuse(self) -> None:
        self.client.delete(self.key)
        self.client.set(self.key, "somebody's string")

    def fall_over(self) -> None:
        self.proxy.refuse()

    def recover(self) -> None:
        self.proxy.refuse(False)

    def held(self) -> int:
        return sum(client["name"] == "millrace-source" for client in self.client.client_list())


class StreamOrigin(RedisOrigin):
    options: ClassVar[dict[str, Any]] = {"kind": "stream", "field": "data"}

    def fill(self, texts: list[bytes]) -> None:
        for text in texts:
            self.client.xadd(self.key, {"data": text})


class GroupOrigin(StreamOrigin):
    options: ClassVar[dict[str, Any]] = {"kind": "stream", "field": "data", "group": "readers"}


@pytest.fixture
def proxy(redis_url: str) -> Iterator[Proxy]:
    place = urlsplit(redis_url)
    with Proxy(place.hostname or "127.0.0.1", place.port or 6379) as proxy:
        yield proxy


class TestRedisList(NamedRecords, FaultySourceContract):
    key_option: ClassVar[str] = "record_key"

    @pytest.fixture
    def origin(self, client: redis.Redis, proxy: Proxy, key: str) -> RedisOrigin:
        return RedisOrigin(client, proxy, key)

    def test_what_was_published_is_gone_and_what_was_not_comes_again_under_the_same_key(
        self, origin: RedisOrigin
    ) -> None:
        source = origin.source()
        records = list(source.read(None))
        source.published(records[:3])
        source.close()
        again = list(origin.source().read(None))
        assert [value_of(record) for record in again] == origin.expected[3:]
        keys = [record.key for record in (*records[:3], *again) if isinstance(record, Record)]
        assert keys == [record.key for record in records if isinstance(record, Record)]
        assert len(set(keys)) == len(keys)


class TestRedisStream(NamedRecords, FaultySourceContract):
    key_option: ClassVar[str] = "record_key"

    @pytest.fixture
    def origin(self, client: redis.Redis, proxy: Proxy, key: str) -> RedisOrigin:
        return StreamOrigin(client, proxy, key)


@pytest.mark.parametrize("group", [None, "readers"])
def test_of_fields_of_one_name_none_is_lost(client: redis.Redis, redis_url: str, key: str, group: str | None) -> None:
    for fields in ((b"a", b"1", b"b", b"2", b"a", b"3"), (b"a", b"4")):
        client.execute_command("XADD", key, "*", *fields)
    options: dict[str, Any] = {"url": redis_url, "key": key, "kind": "stream", "until_empty": True, "group": group}
    source = RedisSource(**options)
    assert read(source) == [{"a": ["1", "3"], "b": "2"}, {"a": "4"}]
    letter, record = RedisSource(**options | {"field": "a", "group": group and "others"}).read(None)
    assert isinstance(letter, DeadLetter)
    assert "2 fields 'a'" in letter.reason
    assert value_of(record) == 4


class TestRedisStreamInAGroup(NamedRecords, AcknowledgingSourceContract):
    key_option: ClassVar[str] = "record_key"

    in_order: ClassVar[bool] = False  # what comes again comes behind what is new

    @pytest.fixture
    def origin(self, client: redis.Redis, proxy: Proxy, key: str) -> RedisOrigin:
        return GroupOrigin(client, proxy, key)
