"""What takes itself for SQS, a login page or a proxy with a mind of its own, is taken for nothing."""

from __future__ import annotations

import json
from typing import Any

import botocore.client
import botocore.parsers
import pytest

from millrace_consumer.sinks.base import SinkUnavailable
from millrace_consumer.sinks.sqs import SqsSink
from millrace_producer.sources.base import SourceUnavailable
from millrace_producer.sources.held import Held
from millrace_producer.sources.sqs import SqsSource
from tests.conftest import eventually
from tests.contracts.broken_clients import AWS, receiver
from tests.contracts.sink_records import batch_of, bulk
from tests.http_receiver import Answer, Receiver

__all__ = ["receiver"]

JSON = {"Content-Type": "application/x-amz-json-1.0"}
NONSENSE = [b"[]", b'"x"', b'{"Successful": 5, "Messages": 5}', b"\xff\xfe", b'{"Successful": [3], "Messages": [3]}']


@pytest.mark.parametrize("said", [*NONSENSE, b"<html>log in</html>", b"{}", b'{"Successful": [{"Id": "1"}]}'])
def test_an_answer_of_sqs_that_does_not_say_what_was_placed_keeps_the_batch(receiver: Receiver, said: bytes) -> None:
    receiver.script = [Answer(200, JSON, said)]
    with pytest.raises(SinkUnavailable):
        SqsSink(url=f"{receiver.url}/1/q", **AWS).write(batch_of("b", bulk(3, 10)))


def test_of_requests_side_by_side_one_that_fails_oddly_takes_no_other_with_it(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqs, batch = SqsSink(url=f"{receiver.url}/1/q", **AWS), batch_of("b", bulk(30, 10))
    sent: list[list[str]] = []

    def call(_: object, __: str, request: dict[str, Any]) -> dict[str, Any]:
        ids = [entry["Id"] for entry in request["Entries"]]
        sent.append(ids)
        if ids[0] == "0" and len(sent) <= 3:
            raise botocore.parsers.ResponseParserError("Unable to parse response")
        return {"Successful": [{"Id": id} for id in ids]}

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", call)
    with pytest.raises(SinkUnavailable, match="Unable to parse"):
        sqs.write(batch)
    sqs.write(batch)
    assert sorted(id for ids in sent for id in ids) == sorted([*map(str, range(30)), *map(str, range(10))])
    sqs.close()


@pytest.mark.parametrize("said", [*NONSENSE, b"<html>log in</html>"])
def test_an_answer_that_is_none_of_sqs_makes_the_source_unavailable(receiver: Receiver, said: bytes) -> None:
    receiver.script = [Answer(200, {"Content-Type": "text/html"} if b"html" in said else JSON, said)]
    source = SqsSource(url=f"{receiver.url}/1/q", until_empty=True, **AWS)
    with pytest.raises(SourceUnavailable):
        list(source.read(None))
    source.close()


def test_what_sqs_does_not_answer_is_asked_once(receiver: Receiver) -> None:
    receiver.script = [Answer(500), Answer(500)]
    source = SqsSource(url=f"{receiver.url}/1/q", until_empty=True, **AWS)
    with pytest.raises(SourceUnavailable):
        list(source.read(None))
    with pytest.raises(SinkUnavailable):
        SqsSink(url=f"{receiver.url}/1/q", **AWS).write(batch_of("b", bulk(3, 10)))
    assert len(receiver.asked) == 2


def test_messages_of_which_sqs_does_not_say_that_they_are_deleted_are_not(receiver: Receiver) -> None:
    message = {"MessageId": "m", "ReceiptHandle": "r", "Body": "{}"}
    receiver.script = [Answer(200, JSON, json.dumps({"Messages": [message]}).encode()), Answer(200, JSON, b"{}")]
    source = SqsSource(url=f"{receiver.url}/1/q", until_empty=True, **AWS)
    reading = source.read(None)
    source.published([next(reading)])
    receiver.script = [Answer(200, JSON, b"{}")]
    with pytest.raises(SourceUnavailable, match="deleted"):
        next(reading)
    source.close()


def test_what_is_held_goes_on_being_held_whatever_holding_it_raises() -> None:
    held: list[int] = []

    def hold(_: object) -> None:
        held.append(len(held))
        raise KeyError("what nobody foresaw")

    holding = Held(hold, every=0.001)
    holding.add({"m": "r"})
    eventually(lambda: len(held) > 2)
    holding.close()
