"""What a source's client library raises at its worst is the contract's error, and afterwards all goes on.

Kafka's has a file of its own beside this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import botocore.client
import obstore
import pytest
import redis.connection
import requests
import urllib3
import websockets.exceptions
import websockets.sync.client

from millrace_producer.sources import SOURCES
from millrace_producer.sources.base import Source, SourceRefused, SourceUnavailable
from tests.contracts.broken_clients import AWS, Breaks, Options, PanicException, aws, fails, queue_url, store
from tests.contracts.object_store import ObjectStore
from tests.integration.api_server import ApiServer, json_answer
from tests.integration.socket_server import SocketServer
from tests.integration.sse_server import OK, ScriptedServer

__all__ = ["aws", "store"]


def socket_url(given: Callable[[str], Any]) -> str:
    server: SocketServer = given("socket_server")
    server.talk = lambda client: client.send("1")
    return server.url


def files(given: Callable[[str], Any], path: Path) -> dict[str, Any]:
    store: ObjectStore = given("store")
    store.put(path, "a.jsonl", b"1\n")
    return {"path": f"{store.url(path)}/*.jsonl", "store": store.options()}


def elements(given: Callable[[str], Any], path: Path) -> dict[str, Any]:
    given("client").lpush(f"in:{path}", "1")
    return {"url": given("redis_url"), "key": f"in:{path}", "until_empty": True}


def queued(given: Callable[[str], Any], path: Path) -> dict[str, Any]:
    url = queue_url(given("aws"), path)
    given("aws").client("sqs").send_message(QueueUrl=url, MessageBody="1")
    return {"url": url, **AWS}


QUICK = {"max_failures": 1, "backoff_initial": 0.01, "backoff_max": 0.02}
NO_ANSWER = {(requests.Session, "send"): fails(urllib3.exceptions.HTTPError("the pool is closed"))}
SOURCE_CASES: dict[str, tuple[Options, Breaks]] = {
    "files": (files, {(obstore, name): fails(PanicException("a panic in Rust")) for name in ("list", "get", "head")}),
    "redis": (
        elements,
        {(redis.connection.Connection, "read_response"): fails(redis.exceptions.InvalidResponse("Protocol error"))},
    ),
    "rest": (lambda given, _: {"url": f"{given('api').url}/things", **QUICK}, NO_ANSWER),
    "sqs": (queued, {(botocore.client.BaseClient, "_make_api_call"): fails(KeyError("what nobody foresaw"))}),
    "sse": (lambda given, _: {"url": given("events").url, **QUICK}, NO_ANSWER),
    "websocket": (
        lambda given, _: {"url": socket_url(given), **QUICK},
        {
            (websockets.sync.client.ClientConnection, "recv"): fails(
                websockets.exceptions.ConcurrencyError("two threads at once")
            )
        },
    ),
}
READS_NOBODY = {"external", "python", "schedule", "scrapy", "stdin"}
"""Sources without a client of ours; Scrapy's is in a process of its own."""


@pytest.fixture
def socket_server() -> Iterator[SocketServer]:
    with SocketServer() as server:
        yield server


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with ApiServer(lambda _: json_answer([{"n": 1}])) as server:
        yield server


@pytest.fixture
def events() -> Iterator[ScriptedServer]:
    with ScriptedServer(OK + b"data: 1\n\n") as server:
        yield server


def test_no_source_is_left_out() -> None:
    assert SOURCE_CASES.keys() | READS_NOBODY | {"kafka"} == set(SOURCES)


@pytest.mark.parametrize("name", SOURCE_CASES)
def test_a_source_whose_client_fails_at_its_worst_is_unavailable_and_recovers(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, breaks = SOURCE_CASES[name]
    module, _, kind = SOURCES[name].partition(":")
    source: Source = getattr(import_module(module), kind)(**options(request.getfixturevalue, tmp_path))
    with monkeypatch.context() as patch:
        for (place, attribute), broken in breaks.items():
            patch.setattr(place, attribute, broken)
        with pytest.raises((SourceUnavailable, SourceRefused)):  # what is no Redis at all is refused
            next(iter(source.read(None)))
        source.close()
    assert next(iter(source.read(None)))
    source.close()
