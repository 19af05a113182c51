"""What a sink's client library raises at its worst is the contract's error, and afterwards all goes on.

Kafka's has a file of its own beside this one.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import botocore.client
import botocore.parsers
import duckdb
import obstore
import psycopg
import pytest
import redis.connection
import requests
import urllib3

from millrace_consumer.sinks import SINKS, deltatable
from millrace_consumer.sinks.base import Sink, SinkUnavailable
from millrace_consumer.sinks.duckdb import DuckdbSink
from millrace_consumer.sinks.sqlite import SqliteSink
from tests.contracts.broken_clients import AWS, Breaks, Options, PanicException, aws, fails, queue_url, receiver, store
from tests.contracts.object_store import ObjectStore
from tests.contracts.sink_records import batch_of, bulk, sink_of

__all__ = ["aws", "receiver", "store"]


class BrokenFile(sqlite3.Connection):
    def execute(self, *_: object) -> NoReturn:
        raise sqlite3.DatabaseError("database disk image is malformed")

    def close(self) -> NoReturn:
        super().close()
        raise sqlite3.OperationalError("unable to close due to unfinalized statements")


def bucket(given: Callable[[str], Any], tmp_path: Path) -> dict[str, Any]:
    store: ObjectStore = given("store")
    return {"path": store.url(tmp_path), "store": store.options()}


_open_file = sqlite3.connect
SINK_CASES: dict[str, tuple[str, Options, Breaks]] = {
    "bucket": (
        "jsonl",
        bucket,
        {(obstore, name): fails(PanicException("a panic in Rust")) for name in ("put", "head", "list")},
    ),
    "delta": (
        "delta",
        lambda _, path: {"path": str(path)},
        {
            (deltatable.DeltaTable, name): fails(PanicException("called `Option::unwrap()` on a `None` value"))
            for name in ("__init__", "update_incremental")
        },
    ),
    "duckdb": (
        "duckdb",
        lambda _, path: {"path": str(path / "d.db"), "table": "t"},
        {(duckdb, "connect"): fails(duckdb.FatalException("database has been invalidated"))},
    ),
    "http": (
        "http",
        lambda given, _: {"url": f"{given('receiver').url}/hook"},
        {(requests.Session, "send"): fails(urllib3.exceptions.HTTPError("the pool is closed"))},
    ),
    "postgres": (
        "postgres",
        lambda given, path: {"dsn": given("postgres").dsn, "table": f"t{abs(hash(path))}"},
        {
            (psycopg.Connection, name): fails(psycopg.OperationalError("the connection is lost"))
            for name in ("execute", "rollback", "close")
        },
    ),
    "redis": (
        "redis",
        lambda given, path: {"url": given("redis_url"), "key": f"out:{path}"},
        {
            (redis.connection.Connection, "read_response"): fails(redis.exceptions.InvalidResponse("Protocol error")),
        },
    ),
    "sqlite": (
        "sqlite",
        lambda _, path: {"path": str(path / "s.db"), "table": "t"},
        {(sqlite3, "connect"): lambda *args, **how: _open_file(*args, **how, factory=BrokenFile)},
    ),
    "sqs": (
        "sqs",
        lambda given, path: {"url": queue_url(given("aws"), path), **AWS},
        {
            (botocore.client.BaseClient, "_make_api_call"): fails(
                botocore.parsers.ResponseParserError("Unable to parse response")
            )
        },
    ),
}
NO_CLIENT = {"csv", "jsonl", "null", "parquet", "python", "stdout"}
"""Sinks that have none, or only where they write to a bucket."""


def test_no_sink_is_left_out() -> None:
    assert {sink for sink, _, _ in SINK_CASES.values()} | NO_CLIENT | {"kafka"} == set(SINKS)


@pytest.mark.parametrize("name", SINK_CASES)
def test_a_sink_whose_client_fails_at_its_worst_is_unavailable_and_recovers(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, options, breaks = SINK_CASES[name]
    given = options(request.getfixturevalue, tmp_path)
    first, fresh = sink_of(SINKS[kind], given), sink_of(SINKS[kind], given)
    first.write(batch_of("b-000001", bulk(3, 10)))
    if name == "sqlite":
        first.close()  # else the file that is open goes on being well
    with monkeypatch.context() as patch:
        for (place, attribute), broken in breaks.items():
            patch.setattr(place, attribute, broken)
        for sink in (first, fresh):
            assert_unavailable(sink)
            sink.close()
    for sink in (first, fresh):
        sink.write(batch_of("b-000002", bulk(3, 10)))
        assert sink.has_batch("b-000002") or type(sink).has_batch is Sink.has_batch
        sink.close()


def assert_unavailable(sink: Sink) -> None:
    with pytest.raises((SinkUnavailable, OSError)):
        sink.write(batch_of("b-000002", bulk(3, 10)))
    with contextlib.suppress(SinkUnavailable, OSError):
        sink.has_batch("b-000002")  # whatever it says


@pytest.mark.parametrize("kind", ["duckdb", "sqlite"])
def test_a_file_with_damage_anywhere_is_unavailable(kind: str, tmp_path: Path) -> None:
    whole = tmp_path / "whole.db"
    options = {"table": "t", "timeout": 0.1}
    sound = (DuckdbSink if kind == "duckdb" else SqliteSink)(path=whole, **options)
    sound.write(batch_of("b-000001", bulk(5, 10)))
    sound.close()
    content = whole.read_bytes()
    for place in range(0, len(content), len(content) // 60):
        damaged = tmp_path / f"{place}.db"
        damaged.write_bytes(content[:place] + b"\xff" * 60 + content[place + 60 :])
        sink = (DuckdbSink if kind == "duckdb" else SqliteSink)(path=damaged, **options)
        with contextlib.suppress(SinkUnavailable):
            sink.has_batch("b-000002")
            sink.write(batch_of("b-000002", bulk(5, 10)))
        sink.close()
