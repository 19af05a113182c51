"""`check --connect` tries each source and sink: what answers is told, what doesn't is an error; nothing is changed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from millrace.cli import probing
from millrace.cli.probing import probe_all
from millrace_consumer.sinks import SINKS
from millrace_pipeline.flows.flow import Flow
from millrace_producer.sources import SOURCES
from tests.http_receiver import Receiver
from tests.integration.api_server import ApiServer, json_answer
from tests.integration.socket_server import SocketServer
from tests.integration.sse_server import OK, ScriptedServer
from tests.kafka_cluster import kafka_cluster
from tests.moto_server import CREDENTIALS, REGION, MotoServer

KEYS = {"access_key": CREDENTIALS["aws_access_key_id"], "secret_key": CREDENTIALS["aws_secret_access_key"]}
NOBODY = "127.0.0.1:9"
AWS = {"url": f"http://{NOBODY}/1/a", "region": REGION, **KEYS, "timeout": "1s"}
POINTLESS = {"python", "stdout", "null", "scrapy", "schedule", "stdin", "files", "jsonl", "csv", "parquet", "delta"}
POINTLESS |= {"sqlite", "duckdb", "external"}
"""Those that ask nobody over a network."""

DEAD: dict[tuple[str, str], dict[str, Any]] = {
    ("source", "rest"): {"url": f"http://{NOBODY}/"},
    ("source", "sse"): {"url": f"http://{NOBODY}/"},
    ("source", "websocket"): {"url": f"ws://{NOBODY}/"},
    ("source", "kafka"): {"brokers": NOBODY, "topics": ["a"], "timeout": "1s"},
    ("source", "sqs"): AWS,
    ("source", "redis"): {"url": f"redis://{NOBODY}/0", "key": "k"},
    ("sink", "http"): {"url": f"http://{NOBODY}/"},
    ("sink", "kafka"): {"brokers": NOBODY, "topic": "a", "timeout": "1s"},
    ("sink", "sqs"): AWS,
    ("sink", "redis"): {"url": f"redis://{NOBODY}/0", "key": "k"},
    ("sink", "postgres"): {"dsn": f"postgresql://{NOBODY}/d", "table": "t"},
}


def flow(kind: str, type: str, options: dict[str, Any]) -> Flow:
    part = {"type": type, **options}
    other = {"source": {"type": "stdin"}, "sink": {"type": "stdout"}}
    return Flow.model_validate({"name": "a", **other, kind: part})


def told(kind: str, type: str, options: dict[str, Any]) -> tuple[str, str]:
    (found,) = [one for one in probe_all([flow(kind, type, options)]) if one.part == f"{kind} {type}"]
    return found.level, found.message


def test_every_source_and_sink_that_asks_somebody_is_looked_at_here() -> None:
    every = {("source", name) for name in SOURCES} | {("sink", name) for name in SINKS}
    assert {pair for pair in every if pair[1] not in POINTLESS} == set(DEAD)


@pytest.mark.parametrize(("kind", "type"), DEAD)
def test_where_nobody_answers_is_an_error(kind: str, type: str) -> None:
    level, message = told(kind, type, DEAD[kind, type])
    assert level == "error", message
    assert "9" in message


def test_one_that_hangs_is_an_error_after_the_time_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "PROBE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        level, message = told("source", "sse", {"url": url})
    assert (level, message) == ("error", "no answer within 0.2 s")


@pytest.fixture(scope="module")
def moto() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


def test_what_speaks_http_answers_with_its_headers_alone() -> None:
    with ExitStack() as stack:
        api = stack.enter_context(ApiServer(lambda _: json_answer([])))
        stream = stack.enter_context(ScriptedServer(OK))
        sockets = stack.enter_context(SocketServer())
        receiver = stack.enter_context(Receiver())
        assert told("source", "rest", {"url": api.url}) == ("ok", "answered 200 OK, application/json")
        searched = {"url": api.url, "method": "POST", "body": {"q": "a"}}
        assert told("source", "rest", searched) == ("ok", "answered 200 OK, application/json")
        assert [(asked.method, asked.body) for asked in api.asked] == [("GET", b""), ("POST", b'{"q":"a"}')]
        assert told("source", "sse", {"url": stream.url}) == ("ok", "the stream is open to us")
        assert told("source", "websocket", {"url": sockets.url}) == ("ok", "it takes the connection")
        level, message = told("sink", "http", {"url": receiver.url})
        assert level == "ok", message
        assert "no POST was tried" in message
        assert receiver.asked == []


def test_a_queue_of_sqs_answers_and_keeps_its_messages(moto: MotoServer) -> None:
    client = moto.client("sqs")
    url = client.create_queue(QueueName="probed")["QueueUrl"]
    client.send_message(QueueUrl=url, MessageBody="{}")
    options = {"url": url, "region": REGION, **KEYS}
    assert told("source", "sqs", options) == ("ok", "about 1 messages wait")
    assert told("sink", "sqs", options) == ("ok", "the queue is there; about 1 messages wait")
    assert told("sink", "sqs", {**options, "url": url + "x"})[0] == "error"


def test_a_cluster_of_kafka_answers_and_gets_no_topic() -> None:
    with kafka_cluster("there", partitions=3) as cluster:
        for kind, topics in (("source", {"topics": ["there", "new"]}), ("sink", {"topic": "there"})):
            level, message = told(kind, "kafka", {"brokers": cluster.brokers, **topics})
            assert level == "ok", message
            assert "topic there: 3 partitions" in message
        assert "topic new: not there yet" in told("source", "kafka", {"brokers": cluster.brokers, "topics": ["new"]})[1]


def test_another_redis_answers_and_a_key_of_another_kind_is_an_error(redis_url: str, client: redis.Redis) -> None:
    client.lpush("probed", "x")
    try:
        assert told("source", "redis", {"url": redis_url, "key": "probed"}) == ("ok", "it answers; probed is a list")
        assert told("sink", "redis", {"url": redis_url, "key": "probed"}) == ("ok", "it answers; probed is a list")
        wrong = told("sink", "redis", {"url": redis_url, "key": "probed", "into": "stream"})
        assert wrong == ("error", "key probed is a list there, not a stream")
        assert client.llen("probed") == 1
    finally:
        client.delete("probed")


def test_files_tables_and_what_cant_be_tried_leave_nothing_behind(tmp_path: Path) -> None:
    for type, options in {
        "jsonl": {"path": str(tmp_path / "a")},
        "parquet": {"path": str(tmp_path / "b")},
        "delta": {"path": str(tmp_path / "c")},
        "sqlite": {"path": str(tmp_path / "d.db"), "table": "t"},
        "duckdb": {"path": str(tmp_path / "e.db"), "table": "t"},
    }.items():
        assert told("sink", type, options)[0] == "ok"
    assert told("sink", "null", {})[0] == "none"
    assert told("source", "scrapy", {"spider": "quotes"})[0] == "none"
    assert list(tmp_path.iterdir()) == []
