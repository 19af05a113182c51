"""A sink with `required: false` that is away holds nothing back, and is seen wherever somebody looks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import eventually
from tests.http_receiver import Answer, Receiver
from tests.integration.test_top import Terminal
from tests.pages import Ui, text_of
from tests.services import Place

FILES = {"type": "jsonl", "path": "out/numbers"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        receiver.always = Answer(503)
        yield receiver


@pytest.fixture
def place(place: Place, receiver: Receiver) -> Place:
    place.flow(sink=[FILES, {"type": "http", "url": f"{receiver.url}/in", "required": False}])
    place.publish(range(25))
    return place


def printed(place: Place, *arguments: str) -> str:
    done = place.start(*arguments)
    assert done.wait() == 0, done.said
    return done.printed


def missing(place: Place) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(printed(place, "status", "--json"))["numbers"]["missing"]
    return found


def test_what_an_optional_sink_misses_is_in_status_top_and_the_page(place: Place, receiver: Receiver) -> None:
    consumer = place.start("consume", http=True)
    eventually(lambda: sum(one["records"] for one in missing(place)) == 25, 60)
    (told,) = missing(place)
    assert told["sink"] == "http"
    assert "503" in told["reason"]
    said = printed(place, "status")
    assert "numbers: sink http takes nothing since " in said
    assert ", and misses 25: " in said
    (seen,) = json.loads(printed(place, "top", "--json"))["flows"]
    assert (seen["missing"], seen["trouble"]) == ([told], "")
    assert "sink http takes nothing, and misses 25: " in printed(place, "top", "--once")
    ui = Ui(place)
    page = text_of(ui.page("/flows/numbers"))
    assert "sink away" in page
    assert "sink http misses 25 records: " in page
    assert "sink away" in text_of(ui.page("/"))
    assert consumer.get("/readyz")[0] == 200  # it goes on
    assert place.books().delivered == 25
    receiver.always = None
    place.publish(range(25, 30))
    eventually(lambda: len(receiver.stored.get("/in", [])) or place.publish([99]), 60)
    eventually(lambda: missing(place) == [], 60)
    assert "takes nothing" not in printed(place, "status")


def test_what_an_optional_sink_misses_is_in_the_live_table_of_run(place: Place) -> None:
    terminal = Terminal(place.folder, url=place.redis_url, columns=200, command="run")
    try:
        terminal.has_shown(lambda said: "numbers: sink http takes nothing since " in said and "misses 25: " in said)
        assert "consumer-numbers: since" not in terminal.output.decode(errors="replace")  # nothing is in its way
    finally:
        terminal.interrupt()
        assert terminal.ends() == 0


def test_two_consumers_that_miss_add_up(place: Place) -> None:
    first, second = place.consume(), place.consume()
    for consumer in (first, second):
        consumer.until(lambda consumer=consumer: consumer.events("records_missed") or place.publish([1]))  # type: ignore[misc]
    published = place.books().published
    eventually(lambda: place.books().delivered == published, 60)
    eventually(lambda: [one["records"] for one in missing(place)] == [published], 60)
