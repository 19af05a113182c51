"""SQS as a source, by real producers on moto's server: killed, stopped, held back and refused."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from millrace.testing.acknowledging import acknowledged
from millrace_pipeline.envelope import DeadLetter, Record
from millrace_pipeline.errors import ConfigError, SourceRefused
from millrace_pipeline.flows.component import Component
from millrace_producer.sources import SOURCES
from millrace_producer.sources.base import Source
from millrace_producer.sources.sqs import SqsSource
from tests.conftest import eventually
from tests.moto_server import REGION, MotoServer
from tests.services import QUICKLY, Place, Service


@pytest.fixture(scope="module")
def server() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


class Numbers:
    """A queue of numbers."""

    def __init__(self, server: MotoServer, name: str, **attributes: str) -> None:
        self.server = server
        self.client = server.client("sqs")
        self.url: str = self.client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]

    def send(self, numbers: range, **more: Any) -> None:
        for start in numbers[::10]:
            entries = [
                {"Id": str(number), "MessageBody": json.dumps({"n": number}), **more}
                for number in range(start, min(start + 10, numbers.stop))
            ]
            assert not self.client.send_message_batch(QueueUrl=self.url, Entries=entries).get("Failed")

    def _counts(self) -> tuple[int, int]:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        told = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return int(told[names[0]]), int(told[names[1]])

    @property
    def ready(self) -> int:
        return self._counts()[0]

    @property
    def hidden(self) -> int:
        return self._counts()[1]

    @property
    def left(self) -> int:
        """Messages that nobody has deleted, ready or hidden."""
        return sum(self._counts())

    def source(self, **options: Any) -> dict[str, Any]:
        return {"type": "sqs", "url": self.url, "wait": 1, "visibility": 2, **options}

    def reading(self, **options: Any) -> SqsSource:
        keys = {"region": REGION, "access_key": "testing", "secret_key": "testing"}
        source = SqsSource(url=self.url, until_empty=True, **(keys | options))
        return source.model_copy(update={"wait": 0})  # this server knows at once that it has nothing

    def read(self, **options: Any) -> list[Record | DeadLetter]:
        """What is there, which is told to be published."""
        source = self.reading(**options)
        records = list(source.read(None))
        source.published(records)
        source.close()
        return records


@pytest.fixture
def queue(server: MotoServer, request: pytest.FixtureRequest) -> Numbers:
    return Numbers(server, f"numbers-{abs(hash(request.node.name))}")


def produce(place: Place, queue: Numbers, **environ: str) -> Service:
    return place.produce(**(queue.server.environ | environ))


def numbers(client: redis.Redis, place: Place) -> list[int]:
    return sorted(json.loads(line)["data"]["n"] for line in client.lrange(place.key_of(), 0, -1))


@pytest.mark.parametrize("point", ["producer.before_publish:2", "producer.after_publish:2"])
def test_a_producer_killed_around_a_publish_loses_no_message_and_doubles_none(
    place: Place, client: redis.Redis, queue: Numbers, point: str
) -> None:
    queue.send(range(40))
    place.flow(source=queue.source())
    killed = produce(place, queue, MILLRACE_KILLPOINT=point)
    assert killed.wait() == -signal.SIGKILL, killed.said
    assert queue.left >= 30  # those of the second publish are all there, told or not
    again = produce(place, queue)
    again.until(lambda: queue.left == 0)
    assert again.terminate() == 0, again.said
    assert numbers(client, place) == list(range(40))
    assert place.books().published == 40
    (done,) = again.events("producer_done")
    assert done["duplicates"] >= (10 if "after" in point else 0)


def test_sigterm_while_it_waits_for_messages_ends_at_once(place: Place, queue: Numbers) -> None:
    queue.send(range(5))
    place.flow(source=queue.source(wait=20))
    producer = produce(place, queue)
    producer.until(lambda: place.books().published == 5)
    assert producer.terminate(QUICKLY) == 0, producer.said
    assert queue.left == 0


def test_while_the_list_is_full_what_we_hold_is_hidden_anew_and_after_sigterm_it_is_there_for_others(
    place: Place, client: redis.Redis, queue: Numbers
) -> None:
    queue.send(range(100))
    place.flow(source=queue.source(visibility=5), queue={"max_ready": 10})
    producer = produce(place, queue)
    producer.await_event("producer_held_back")
    producer.until(lambda: queue.hidden >= 20)
    before = queue.server.requests["ChangeMessageVisibilityBatch"]
    producer.until(lambda: queue.server.requests["ChangeMessageVisibilityBatch"] >= before + 6)
    assert place.books().published == 10
    assert producer.terminate() == 0, producer.said
    eventually(lambda: queue.hidden == 0)
    found = numbers(client, place)
    assert len(found) == len(set(found))
    assert len(found) + queue.left >= 100  # what was published and could not be deleted in time comes again


def test_several_producers_share_a_queue(place: Place, client: redis.Redis, queue: Numbers) -> None:
    place.flow(source=queue.source(visibility=30))
    two = [produce(place, queue), produce(place, queue)]
    for producer in two:
        producer.await_event("source_opened")
    queue.send(range(120))
    two[0].until(lambda: place.books().published == 120)
    for producer in two:
        assert producer.terminate() == 0, producer.said
    assert numbers(client, place) == list(range(120))


def test_a_delete_that_fails_for_a_moment_is_done_again_and_the_record_is_on_the_list_once(
    place: Place, client: redis.Redis, queue: Numbers
) -> None:
    queue.send(range(10))
    queue.server.fail_next("DeleteMessageBatch", 503, 503)
    place.flow(source=queue.source())
    producer = produce(place, queue)
    producer.await_event("source_failed")
    producer.until(lambda: queue.left == 0)
    assert producer.terminate() == 0
    assert numbers(client, place) == list(range(10))


def test_a_delete_that_is_forbidden_ends_the_producer_with_2_and_says_so(place: Place, queue: Numbers) -> None:
    queue.send(range(5))
    queue.server.fail_next("DeleteMessageBatch", *[403] * 10)
    place.flow(source=queue.source())
    producer = produce(place, queue)
    producer.until(lambda: place.books().published == 5)
    queue.send(range(5, 10))
    assert producer.wait() == 2
    queue.server.fail_next("DeleteMessageBatch")
    (told,) = producer.events("producer_failed")
    assert "DeleteMessageBatch" in told["reason"]


def test_the_whole_message_holds_its_attributes(queue: Numbers) -> None:
    attributes = {
        "trace": {"DataType": "String", "StringValue": "abc"},
        "tries": {"DataType": "Number", "StringValue": "3"},
        "raw": {"DataType": "Binary", "BinaryValue": b"\xff"},
    }
    sent = queue.client.send_message(QueueUrl=queue.url, MessageBody='{"n": 1}', MessageAttributes=attributes)
    (record,) = queue.read(data="message")
    assert isinstance(record, Record)
    assert record.key == sent["MessageId"]
    data = json.loads(record.data)
    assert data.pop("sent").endswith("Z")
    assert data == {
        "id": sent["MessageId"],
        "received": 1,
        "group": None,
        "attributes": {"trace": "abc", "tries": "3", "raw": {"base64": "/w=="}},
        "body": {"n": 1},
    }


def test_text_is_taken_as_text_and_bad_json_is_set_aside_and_deleted(queue: Numbers) -> None:
    queue.client.send_message(QueueUrl=queue.url, MessageBody="{kein JSON é")
    (letter,) = queue.read()
    assert isinstance(letter, DeadLetter)
    assert (letter.original.decode(), "not JSON" in letter.reason) == ("{kein JSON é", True)
    assert queue.left == 0
    queue.client.send_message(QueueUrl=queue.url, MessageBody="{kein JSON é")
    (text,) = queue.read(format="text")
    assert isinstance(text, Record)
    assert json.loads(text.data) == "{kein JSON é"


def test_a_fifo_queue_is_read_in_its_order(server: MotoServer) -> None:
    queue = Numbers(server, "in-order.fifo", FifoQueue="true", ContentBasedDeduplication="true")
    queue.send(range(30), MessageGroupId="one")
    records = acknowledged(queue.reading())  # what is held keeps back what comes behind it
    assert [json.loads(record.data)["n"] for record in records if isinstance(record, Record)] == list(range(30))


def test_credentials_that_are_nowhere_are_refused_in_words(queue: Numbers, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with pytest.raises(SourceRefused, match="credentials"):
        queue.read(access_key=None, secret_key=None)
    with pytest.raises(SourceRefused, match="region"):
        queue.read(region=None)


@pytest.mark.parametrize(
    ("url", "region", "endpoint"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/1/q", "eu-west-1", None),
        ("https://eu-west-1.queue.amazonaws.com/1/q", "eu-west-1", None),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", "cn-north-1", None),
        ("http://localhost:4566/1/q", None, "http://localhost:4566"),
    ],
)
def test_region_and_endpoint_are_in_the_url(url: str, region: str | None, endpoint: str | None) -> None:
    options = SqsSource(url=url).client_options()
    assert (options.get("region_name"), options.get("endpoint_url")) == (region, endpoint)


def test_secrets_are_not_shown_and_a_url_that_is_none_is_said() -> None:
    source = SqsSource(url="http://localhost/1/q", access_key="AKIA", secret_key="hush", session_token="hush")  # type: ignore[arg-type]
    assert "hush" not in repr(source)
    declared = {"type": "sqs", "url": "https://user:hush@sqs.eu-west-1.amazonaws.com/1/q"}
    with pytest.raises(ConfigError, match="expected a URL such as") as refused:
        Component.model_validate(declared).build(SOURCES, Source)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize("option", ["wait", "visibility"])
def test_a_part_of_a_second_that_sqs_would_cut_off_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match="SQS counts whole seconds"):
        SqsSource(url="http://localhost/1/q", **{option: 1.5})  # type: ignore[arg-type]


def test_the_example_puts_a_queue_into_files(place: Place, queue: Numbers) -> None:
    place.example("sqs")
    queue.send(range(30))
    environ = queue.server.environ | {"QUEUE": queue.url, "DATA": "out", "WAIT": "1s"}
    assert place.start("check", **environ).wait() == 0
    running = [place.start(command, "orders", **environ) for command in ("produce", "consume")]
    running[0].until(lambda: len(place.records("orders")) == 30)
    eventually(lambda: queue.left == 0)
    assert [service.terminate() for service in running] == [0, 0]
    assert place.numbers("orders") == list(range(30))
