"""Real consumers and a real receiver: what one refuses, asks for and forgets to answer, the other puts up with."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.practice.stream import PracticeStream
from millrace_pipeline.queue import DeadLetters
from tests.http_receiver import Answer, Receiver
from tests.services import Place

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def numbers_at(receiver: Receiver) -> list[int]:
    return sorted(record["n"] for record in receiver.stored.get("/in", []))


def test_a_consumer_waits_as_long_as_the_receiver_asks_and_delivers_then(place: Place, receiver: Receiver) -> None:
    came: list[float] = []
    busy = Answer(503, {"Retry-After": "1"}, before=lambda: came.append(time.monotonic()))
    receiver.script = [busy, Answer(200, stores=True, before=lambda: came.append(time.monotonic()))]
    place.flow(sink={"type": "http", "url": f"{receiver.url}/in"})
    place.publish(range(10))
    consumer = place.consume("--until-empty")
    assert consumer.wait() == 0, consumer.said
    assert "503 Service Unavailable" in consumer.events("sink_unavailable")[0]["reason"]
    assert came[1] - came[0] >= 1
    assert numbers_at(receiver) == list(range(10))
    assert place.books().delivered == 10


def test_refused_records_are_set_aside_with_what_the_receiver_said_and_the_rest_is_there_once(
    place: Place, receiver: Receiver
) -> None:
    place.module("def tell(record):\n    return {**record, 'refuse': record['n'] % 7 == 3}\n")
    place.flow(transforms=["theirs:tell"], sink={"type": "http", "url": f"{receiver.url}/in"})
    place.publish(range(20))
    consumer = place.consume("--until-empty")
    assert consumer.wait() == 0, consumer.said
    assert numbers_at(receiver) == [n for n in range(20) if n % 7 != 3]
    books = place.books()
    assert (books.delivered, books.dead, books.difference) == (17, 3, 0)
    with place.queue() as queue:
        assert all("422" in letter.reason and "refused" in letter.reason for letter in DeadLetters(queue).newest())


@pytest.mark.parametrize("point", ["sink.after_request", "consumer.after_write"])
def test_a_consumer_killed_once_the_receiver_has_it_leaves_nothing_twice(
    place: Place, receiver: Receiver, point: str
) -> None:
    place.flow(sink={"type": "http", "url": f"{receiver.url}/in"})
    place.publish(range(10))
    assert place.consume(MILLRACE_KILLPOINT=point).wait() < 0
    assert numbers_at(receiver) == list(range(10))
    place.deliver_the_rest()
    assert len(receiver.asked) == 2
    assert numbers_at(receiver) == list(range(10))
    assert place.books().delivered == 10


def test_the_example_tells_a_webhook_of_every_page_that_was_created(place: Place, receiver: Receiver) -> None:
    shutil.copytree(EXAMPLES / "webhook", place.folder, dirs_exist_ok=True)
    with PracticeStream(total=300, end=True) as stream:
        environ = {"WIKIPEDIA_URL": stream.url, "WEBHOOK_URL": f"{receiver.url}/in", "WEBHOOK_TOKEN": "s3cret"}
        run = place.start("run", "--until-empty", REDIS_URL="", **environ)
        assert run.wait() == 0, run.said
        events = [json.loads(stream.data(number)) for number in range(300)]
    new = {event["meta"]["dt"] + event["title"] for event in events if event["type"] == "new"}
    assert new
    assert {record["at"] + record["title"] for record in receiver.stored["/in"]} == new
    assert {asked.headers["authorization"] for asked in receiver.asked} == {"Bearer s3cret"}
    assert "s3cret" not in run.said
