"""How a source came to its end is told apart: it gave records, had nothing new, was empty, or is broken."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import structlog
from confluent_kafka import KafkaError

from millrace_pipeline.errors import SourceRefused
from millrace_pipeline.flows.flow import load
from millrace_producer.runner import Producer
from tests.conftest import eventually
from tests.kafka_cluster import KafkaCluster
from tests.moto_server import CREDENTIALS, REGION, MotoServer
from tests.services import Place

ENDS = ("source_ended", "source_unchanged", "source_empty")


def ended(place: Place, source: dict[str, Any]) -> list[str]:
    """Runs a producer to its end and returns what it says of it."""
    place.flow(source=source)
    flow, never = load(place.folder / "flows.yaml")["numbers"], threading.Event()
    with structlog.testing.capture_logs() as logs:
        Producer(flow, place.redis_url, stopping=never, give_up=never).run()
    return [log["event"] for log in logs if log["event"] in ENDS]


@pytest.fixture
def stdin(tmp_path: Any) -> Iterator[Any]:
    before = os.dup(0)

    def put(text: bytes) -> None:
        (tmp_path / "stdin").write_bytes(text)
        with (tmp_path / "stdin").open("rb") as file:
            os.dup2(file.fileno(), 0)

    yield put
    os.dup2(before, 0)
    os.close(before)


def test_files_tell_records_nothing_new_and_emptiness_apart(place: Place) -> None:
    path, options = place.folder / "in" / "f.jsonl", {"type": "files", "settle": 0}
    path.parent.mkdir()
    with pytest.raises(SourceRefused, match="there is no file"):
        ended(place, options | {"path": str(path)})
    assert ended(place, options | {"path": f"{path.parent}/*.jsonl"}) == ["source_empty"]
    path.write_bytes(b"")
    assert ended(place, options | {"path": str(path)}) == ["source_empty"]
    path.write_bytes(b"1\n")
    assert ended(place, options | {"path": str(path)}) == ["source_ended"]
    assert ended(place, options | {"path": str(path)}) == ["source_unchanged"]


def test_standard_input_tells_records_and_emptiness_apart(place: Place, stdin: Any) -> None:
    stdin(b"")
    assert ended(place, {"type": "stdin"}) == ["source_empty"]
    stdin(b"1\n")
    assert ended(place, {"type": "stdin"}) == ["source_ended"]


@pytest.mark.parametrize(("function", "said"), [("builtins:list", "source_empty"), ("locale:localeconv", "")])
def test_a_function_tells_emptiness_from_what_is_no_iterable(place: Place, function: str, said: str) -> None:
    source = {"type": "python", "function": function}
    if not said:
        with pytest.raises(SourceRefused, match="expected an iterable of records"):
            ended(place, source)
        return
    assert ended(place, source) == [said]


class Queue:
    """A queue of somebody else's: `put` puts a message there, `break_it` makes it one that can't be read ever."""

    leaves_a_position = True

    def __init__(self, options: dict[str, Any], put: Callable[[bytes], object], break_it: Callable[[], object]) -> None:
        self.options = options
        self.put = put
        self.break_it = break_it


def redis_queue(client: redis.Redis, url: str, key: str, kind: str, **options: Any) -> Queue:
    def put(text: bytes) -> object:
        return client.lpush(key, text) if kind == "list" else client.xadd(key, {"data": text})

    def break_it() -> None:
        client.delete(key)
        client.set(key, "of another kind")

    field = {} if kind == "list" else {"field": "data"}
    return Queue({"type": "redis", "url": url, "key": key, "kind": kind, **field, **options}, put, break_it)


def kafka_queue(cluster: KafkaCluster, **options: Any) -> Queue:
    cluster.create_topic("theirs", 1)
    quick = {"session.timeout.ms": 1100, "heartbeat.interval.ms": 50, "fetch.wait.max.ms": 10}
    return Queue(
        {"type": "kafka", "brokers": cluster.brokers, "topics": ["theirs"], "config": quick, **options},
        lambda text: cluster.send("theirs", [text], partition=0),
        lambda: cluster.refuse_topic("theirs", KafkaError.TOPIC_AUTHORIZATION_FAILED),
    )


def sqs_queue(server: MotoServer, name: str) -> Queue:
    client = server.client("sqs")
    url = client.create_queue(QueueName=name)["QueueUrl"]
    keys = {"access_key": CREDENTIALS["aws_access_key_id"], "secret_key": CREDENTIALS["aws_secret_access_key"]}
    return Queue(
        {"type": "sqs", "url": url, "region": REGION, "wait": "1s", **keys},
        lambda text: client.send_message(QueueUrl=url, MessageBody=text.decode()),
        lambda: client.delete_queue(QueueUrl=url),
    )


WITHOUT_POSITION = ("redis stream in a group", "kafka in a group", "sqs")
"""These keep their place themselves, and a second producer doesn't know what the first one took."""


@pytest.fixture(params=["redis list", "redis stream", *WITHOUT_POSITION, "kafka"])
def theirs(request: pytest.FixtureRequest, client: redis.Redis, redis_url: str, key: str) -> Iterator[Queue]:
    with contextlib.ExitStack() as held:
        kind, group = request.param, {"group": "g"} if "group" in request.param else {}
        if kind.startswith("redis"):
            queue = redis_queue(client, redis_url, f"{key}:theirs", kind.split()[1], **group)
        elif kind.startswith("kafka"):
            queue = kafka_queue(held.enter_context(KafkaCluster()), **group)
        else:
            queue = sqs_queue(held.enter_context(MotoServer()), f"ends-{os.getpid()}-{abs(hash(key))}")
        queue.leaves_a_position = kind not in WITHOUT_POSITION
        yield queue


def test_queues_of_others_tell_records_nothing_new_and_emptiness_apart(place: Place, theirs: Queue) -> None:
    until_empty = {**theirs.options, "until_empty": True}
    assert ended(place, until_empty) == ["source_empty"]
    theirs.put(b"1")
    assert ended(place, until_empty) == ["source_ended"]
    again = "source_unchanged" if theirs.leaves_a_position else "source_empty"
    assert ended(place, until_empty) == [again]


def test_a_queue_that_can_never_be_read_is_refused_with_the_reason(place: Place, theirs: Queue) -> None:
    theirs.put(b"1")
    theirs.break_it()
    with pytest.raises(SourceRefused, match=r"\w{4}"):
        ended(place, {**theirs.options, "until_empty": True})


def test_a_quiet_queue_ends_nothing_and_what_comes_later_is_read(place: Place, theirs: Queue) -> None:
    place.flow(source=theirs.options)
    flow, stopping = load(place.folder / "flows.yaml")["numbers"], threading.Event()
    with structlog.testing.capture_logs() as logs:
        producer = Producer(flow, place.redis_url, stopping=stopping, give_up=threading.Event())
        thread = threading.Thread(target=producer.run, daemon=True)
        thread.start()
        eventually(lambda: any(log["event"] == "source_opened" for log in logs), 60)
        for text in (b"1", b"2"):
            theirs.put(text)
            eventually(lambda said=int(text): place.books().published == said, 60)
            assert thread.is_alive()
        stopping.set()
        thread.join(60)
    assert not thread.is_alive()
    assert [log["event"] for log in logs if log["event"] in ENDS] == []
