"""A source that fails at the same place again and again is given up, with the reason; one that comes further is not."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs
from websockets.sync.server import ServerConnection

from millrace_pipeline.backoff import Backoff
from millrace_pipeline.errors import SourceUnavailable
from millrace_pipeline.flows.flow import load
from millrace_producer import reading
from millrace_producer.runner import Producer
from millrace_producer.sources import retry
from tests.integration.api_server import Answer, ApiServer, Asked, json_answer
from tests.integration.socket_server import SocketServer, break_off
from tests.integration.sse_server import OK, ScriptedServer
from tests.services import Place, on_the_list

TEN = reading.FAILURES_BEFORE_GIVING_UP
FAST: dict[str, Any] = {"max_failures": 2, "backoff_initial": "1ms"}

THEIRS = '''\
from itertools import count

from millrace import Record, Source

readings = count()


class Told(Source):
    """Is told what was published, and takes no note of it: of nothing with `every` 0, else of all but each so many."""

    every: int
    until: int

    def read(self, resume_from):
        number = next(readings)
        if number < self.until:
            yield Record({"a": 1})
            raise RuntimeError("theirs")

    def published(self, records):
        if not self.every or next(told) % self.every:
            raise RuntimeError("theirs")


told = count()


def same():
    next(readings)
    yield {"a": 1}
    raise RuntimeError("theirs")


def later_each_time(until):
    number = next(readings)
    yield from range(number)
    if number < until:
        raise RuntimeError("theirs")


def at_one_position(resume_from=None):
    yield Record({"a": 1}, position=1)
    raise RuntimeError("theirs")


def at_the_next(resume_from=None):
    number = (resume_from or 0) + 1
    yield Record({"a": number}, position=number)
    if number < 15:
        raise RuntimeError("theirs")
'''


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Has nobody wait long, or for ever; returns how many failures in a row each reading's wait was for."""

    def soon(waits: list[int]) -> type[Backoff]:
        class Soon(Backoff):
            def next(self, at_least: float = 0.0) -> float:
                super().next(at_least)
                waits.append(self.failures)
                assert len(waits) < 10 * TEN, "it goes on for ever"
                return 0.001

        return Soon

    waits: list[int] = []
    monkeypatch.setattr(reading, "Backoff", soon(waits))
    monkeypatch.setattr(retry, "Backoff", soon([]))
    return waits


def run(place: Place, source: dict[str, Any]) -> None:
    """Runs a producer until it ends."""
    place.flow(source=source)
    flow, never = load(place.folder / "flows.yaml")["numbers"], threading.Event()
    Producer(flow, place.redis_url, stopping=never, give_up=never).run()


def given_up(place: Place, source: dict[str, Any], reason: str) -> None:
    with pytest.raises(SourceUnavailable, match=rf"gave up after {TEN} failures in a row: .*{reason}"):
        run(place, source)


@pytest.fixture
def module(place: Place, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's, by a name of its own: another test's would be found."""
    name = f"theirs_{place.folder.name}".replace("-", "_")
    (place.folder / f"{name}.py").write_text(THEIRS)
    monkeypatch.syspath_prepend(place.folder)
    return name


@pytest.mark.parametrize(("function", "copies"), [("same", TEN), ("at_one_position", TEN + 1)])
def test_a_function_that_fails_after_the_same_records_each_time_is_given_up(
    place: Place, client: redis.Redis, module: str, at_once: list[int], function: str, copies: int
) -> None:
    given_up(place, {"type": "python", "function": f"{module}:{function}"}, "theirs")
    assert len(on_the_list(client, place.key_of())) <= copies
    assert at_once[-TEN:] == list(range(1, TEN + 1)), "the waits grow"


@pytest.mark.parametrize(("function", "arguments"), [("later_each_time", {"until": 15}), ("at_the_next", {})])
def test_a_function_that_comes_further_each_time_goes_on(
    place: Place, module: str, at_once: list[int], function: str, arguments: dict[str, Any]
) -> None:
    run(place, {"type": "python", "function": f"{module}:{function}", "arguments": arguments})
    assert len(at_once) > TEN
    assert set(at_once) <= {1, 2}


def test_a_source_that_never_takes_note_of_what_was_published_is_given_up(place: Place, module: str) -> None:
    given_up(place, {"type": f"{module}:Told", "every": 0, "until": 99}, "theirs")


def test_a_source_that_takes_note_now_and_then_of_what_was_published_goes_on(
    place: Place, module: str, at_once: list[int]
) -> None:
    run(place, {"type": f"{module}:Told", "every": 3, "until": 15})
    assert len(at_once) > TEN


def test_what_gives_once_more_what_it_gave_before_is_not_well(place: Place, module: str) -> None:
    with pytest.raises(SourceUnavailable), capture_logs() as logs:
        run(place, {"type": "python", "function": f"{module}:same"})
    assert len([log for log in logs if log["event"] == "source_resumed"]) <= 1


@pytest.mark.parametrize("pagination", [{"type": "page"}, {"type": "offset"}])
def test_pages_whose_second_always_fails_are_given_up(place: Place, pagination: dict[str, Any]) -> None:
    def route(asked: Asked) -> Answer:
        later = asked.query.get("page", "1") != "1" or asked.query.get("offset", "0") != "0"
        return Answer(500) if later else json_answer([{"n": 1}, {"n": 2}])

    with ApiServer(route) as server:
        given_up(place, {"type": "rest", "url": server.url, "pagination": pagination, **FAST}, "500")
        assert len(server.asked) <= 3 * (TEN + 1)


def test_pages_that_fail_once_each_go_on(place: Place, client: redis.Redis, at_once: list[int]) -> None:
    failed: set[int] = set()

    def route(asked: Asked) -> Answer:
        page = int(asked.query.get("page", "1"))
        if page not in failed:
            failed.add(page)
            return Answer(500)
        return json_answer([{"n": page}] if page <= 15 else [])

    with ApiServer(route) as server:
        run(place, {"type": "rest", "url": server.url, "pagination": {"type": "page"}, **FAST, "max_failures": 1})
    assert [record["n"] for record in on_the_list(client, place.key_of())] == list(range(1, 16))
    assert len(at_once) > TEN


def test_an_event_stream_that_sends_one_event_and_hangs_up_each_time_is_given_up(place: Place) -> None:
    with ScriptedServer(*[OK + b"data: 1\n\n"] * 3 * (TEN + 1)) as server:
        given_up(place, {"type": "sse", "url": server.url, **FAST}, "closed by the server")


def test_an_event_stream_that_sends_another_event_each_time_goes_on(place: Place, at_once: list[int]) -> None:
    with ScriptedServer(*[OK + b"data: %d\n\n" % number for number in range(2 * TEN)]) as server:
        run(place, {"type": "sse", "url": server.url, **FAST, "backoff_initial": "1ms"})
    assert not at_once


@pytest.mark.parametrize("ignore", [[], ["hello"]])
def test_a_websocket_that_greets_and_hangs_up_each_time_is_given_up(place: Place, ignore: list[str]) -> None:
    def talk(client: ServerConnection) -> None:
        client.send("hello")
        break_off(client)

    with SocketServer(talk) as server:
        given_up(place, {"type": "websocket", "url": server.url, "ignore": ignore, **FAST}, "closed by the server")


def test_a_websocket_that_says_something_new_each_time_goes_on(place: Place, at_once: list[int]) -> None:
    numbers = itertools.count()

    def talk(client: ServerConnection) -> None:
        number = next(numbers)
        client.send(str(number))
        if number < 2 * TEN:
            break_off(client)

    with SocketServer(talk) as server:
        run(place, {"type": "websocket", "url": server.url, "end_at_close": True, **FAST})
    assert not at_once
