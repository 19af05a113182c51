"""The sqs sink keeps the sink contract as far as a queue lets it, and its own claims."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar

import pytest
from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.sqs.models import sqs_backends
from pydantic import ValidationError

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import RecordsRejected, SinkUnavailable
from millrace_consumer.sinks.sqs import SqsSink
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.errors import ConfigError
from tests.contracts.sink_contract import SinkContract
from tests.contracts.sink_records import batch_of, bulk
from tests.http_receiver import Answer, Receiver
from tests.moto_server import CREDENTIALS, REGION, MotoServer

KEYS = {"access_key": CREDENTIALS["aws_access_key_id"], "secret_key": CREDENTIALS["aws_secret_access_key"]}


@cache
def server() -> MotoServer:
    return MotoServer()


@cache
def queue_of(name: object, *, fifo: bool = False) -> str:
    """The URL of a queue of a test's or a destination's own."""
    name = blake2b(str(name).encode(), digest_size=8).hexdigest() + (".fifo" if fifo else "")
    attributes = {"FifoQueue": "true"} if fifo else {}
    client = server().client("sqs")
    return str(client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])


def messages(url: str) -> list[Any]:
    """All that is in a queue, as its server has it: to receive a thousand would take a hundred requests."""
    return list(sqs_backends[ACCOUNT][REGION].queues[url.rpartition("/")[2]].messages)


class TestSqsSink(SinkContract):
    sink = "millrace_consumer.sinks.sqs:SqsSink"
    idempotent = False
    kill_points: ClassVar[tuple[str, ...]] = ("sink.after_write",)
    many = 25  # moto takes its time for each ten
    fifo = False

    def options(self, destination: Path) -> dict[str, Any]:
        return {"url": queue_of(destination, fifo=self.fifo), "region": REGION, **KEYS}

    def read_back(self, destination: Path) -> list[Any]:
        return [json.loads(message.body) for message in messages(queue_of(destination, fifo=self.fifo))]

    test_records_keep_their_order: Any = None  # a standard queue has none

    @contextmanager
    def full(self, destination: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
        queue_of(destination, fifo=self.fifo)
        server().stop()
        running = False

        def free() -> None:
            nonlocal running
            if not running:
                running = True
                server().start()

        try:
            yield destination, free
        finally:
            free()


class TestSqsSinkOnAFifoQueue(TestSqsSink):
    idempotent = True
    fifo = True
    test_records_keep_their_order = SinkContract.test_records_keep_their_order
    test_its_docstring_begins_with_its_guarantee = None  # type: ignore[assignment]  # which is that of any queue

    def test_killed_between_two_requests_it_is_whole_when_delivered_again(self, tmp_path: Path) -> None:
        self.write_and_be_killed(tmp_path, "sink.after_request:2", "batch-1", bulk(25, 10))
        assert len(self.read_back(tmp_path)) == 20
        self.write(tmp_path, "batch-1", bulk(25, 10))
        assert self.read_back(tmp_path) == bulk(25, 10)


def sink(url: str, **options: Any) -> SqsSink:
    return SqsSink.model_validate({"url": url, "region": REGION, **KEYS, **options})


def test_a_request_holds_no_more_than_ten_messages_and_the_bytes_it_may(request: pytest.FixtureRequest) -> None:
    url = queue_of(request.node.nodeid)
    records = [{"n": n, "text": "x" * (100_000 if n % 3 else 10)} for n in range(25)]  # moto refuses larger requests
    sink(url).write(batch_of("b", records))
    assert sorted(json.loads(message.body)["n"] for message in messages(url)) == list(range(25))


def test_a_record_that_is_too_large_is_named_before_anything_is_sent(request: pytest.FixtureRequest) -> None:
    url = queue_of(request.node.nodeid)
    with pytest.raises(RecordsRejected) as rejection:
        sink(url).write(batch_of("b", [{"n": 1}, {"t": "é" * 150_000}, {"n": 2}]))
    assert list(rejection.value.reasons) == [1]
    assert "max_bytes is 262,144" in rejection.value.reasons[1]
    assert messages(url) == []


def test_a_character_that_no_message_may_hold_is_escaped(request: pytest.FixtureRequest) -> None:
    url = queue_of(request.node.nodeid)
    sink(url).write(batch_of("b", [{"t": "a\uffffb\ufffec"}]))
    (message,) = messages(url)
    assert message.body == '{"t":"a\\uffffb\\ufffec"}'


def test_on_a_fifo_queue_the_record_s_id_keeps_it_from_being_there_twice_and_a_field_groups(
    request: pytest.FixtureRequest,
) -> None:
    url = queue_of(request.node.nodeid, fifo=True)
    ids = ["plain", "with space", "x" * 200]
    batch = Batch("b", [Envelope(id, "s", "t", None, {"customer": n}) for n, id in enumerate(ids)], flow="orders")
    for _ in range(2):
        sink(url, group="customer").write(batch.pick([0, 1, 2]))
    found = {message.deduplication_id: message.group_id for message in messages(url)}
    assert len(found) == 3
    assert found["plain"] == "0"
    assert all(" " not in id and len(id) <= 128 for id in found)
    other = queue_of(f"{request.node.nodeid} all in one", fifo=True)
    sink(other).write(batch)
    assert {message.group_id for message in messages(other)} == {"orders"}


# -- what a queue may answer ------------------------------------------------------------------------------------------


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def answered(placed: list[int], **failed: tuple[str, bool]) -> Answer:
    """To SendMessageBatch: these were placed, those failed with a code, and whether by our fault."""
    successful = [{"Id": str(index), "MessageId": f"m{index}", "MD5OfMessageBody": ""} for index in placed]
    failures = [
        {"Id": name[1:], "Code": code, "SenderFault": fault, "Message": f"{code}!"}
        for name, (code, fault) in failed.items()
    ]
    body = json.dumps({"Successful": successful, "Failed": failures}).encode()
    return Answer(200, {"Content-Type": "application/x-amz-json-1.0"}, body)


def sent(receiver: Receiver) -> list[list[str]]:
    """The ids of the entries of each request."""
    return [[entry["Id"] for entry in json.loads(asked.body)["Entries"]] for asked in receiver.asked]


@pytest.mark.parametrize("name", ["q", "q.fifo"])
def test_what_a_request_could_not_place_is_sent_again_and_only_that(receiver: Receiver, name: str) -> None:
    receiver.script = [answered([0, 2], i1=("InternalError", False)), answered([1])]
    sqs, batch = sink(f"{receiver.url}/1/{name}"), batch_of("b", bulk(3, 10))
    with pytest.raises(SinkUnavailable, match="InternalError!"):
        sqs.write(batch)
    sqs.write(batch)
    assert sent(receiver) == [["0", "1", "2"], ["1"]]


def test_a_message_that_is_refused_is_named_and_a_fault_of_ours_at_large_keeps_the_batch(receiver: Receiver) -> None:
    receiver.script = [
        answered([0], i1=("InvalidMessageContents", True), i2=("KmsAccessDenied", True)),
        answered([1]),
    ]
    sqs, batch = sink(f"{receiver.url}/1/q"), batch_of("b", bulk(3, 10))
    with pytest.raises(RecordsRejected) as rejection:
        sqs.write(batch)
    assert rejection.value.reasons == {1: "SQS: InvalidMessageContents!"}
    sqs.write(batch.pick([0, 2]))
    assert sent(receiver) == [["0", "1", "2"], ["1"]]


def test_on_a_fifo_queue_nothing_overtakes_what_could_not_be_placed(receiver: Receiver) -> None:
    receiver.script = [Answer(500), *[answered(list(range(n * 10, n * 10 + 10))) for n in range(3)]]
    sqs, batch = sink(f"{receiver.url}/1/q.fifo"), batch_of("b", bulk(30, 10))
    with pytest.raises(SinkUnavailable):
        sqs.write(batch)
    assert len(receiver.asked) == 1
    sqs.write(batch)
    assert [entries[0] for entries in sent(receiver)] == ["0", "0", "10", "20"]


def test_no_such_queue_and_no_permission_keep_the_batch(receiver: Receiver) -> None:
    receiver.script = [Answer(400, body=b'{"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "gone"}')]
    with pytest.raises(SinkUnavailable, match="QueueDoesNotExist") as unavailable:
        sink(f"{receiver.url}/1/q").write(batch_of("b", bulk(3)))
    assert KEYS["secret_key"] not in repr(sink(f"{receiver.url}/1/q")).replace("'testing'", "") + str(unavailable.value)


def test_a_region_that_nobody_says_is_asked_for_when_the_flow_is_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="region"):
        SqsSink(url="http://127.0.0.1:1/1/q").check(None)
    SqsSink(url="https://sqs.eu-west-1.amazonaws.com/123456789012/orders").check(None)


@pytest.mark.parametrize("url", ["sqs://q", "https://h/", "https://u:s3cret@h/1/q"])
def test_what_is_no_queue_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="expected a URL") as refusal:
        SqsSink(url=url)
    assert "s3cret" not in str(refusal.value)
