"""`millrace produce` on a REST API: killed, stopped, held back, and the example as it is."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
import redis

from millrace_pipeline.errors import SourceUnavailable
from millrace_pipeline.flows.flow import load
from millrace_producer.runner import Producer
from tests.integration.api_server import Answer, ApiServer, Asked, json_answer
from tests.services import QUICKLY, Place, on_the_list

PAGE = 7
ROUND = 2 * PAGE


def by_page(asked: Asked) -> Answer:
    """Numbers without end, page after page."""
    begin = int(asked.query.get("page", 0)) * PAGE
    return json_answer([{"n": n} for n in range(begin, begin + PAGE)], Link=f'</?page={begin // PAGE + 1}>; rel="next"')


def by_field(asked: Asked) -> Answer:
    """The next few numbers from one on; two of them are 'at' each value of the field."""
    begin = int(asked.query.get("since", 0)) * 2
    return json_answer([{"n": n, "at": n // 2} for n in range(begin, begin + PAGE)])


def by_field_backwards(asked: Asked) -> Answer:
    """The same, the other way round and on two pages: the highest comes first."""
    begin = int(asked.query.get("since", 0)) * 2
    rows = [{"n": n, "at": n // 2} for n in reversed(range(begin, begin + ROUND))]
    if "page" in asked.query:
        return json_answer(rows[PAGE:])
    return json_answer(rows[:PAGE], Link=f'</?page=2&since={asked.query.get("since", 0)}>; rel="next"')


def backwards() -> Iterator[int]:
    """What comes of that: every round begins with the two of the value that the last one ended with."""
    yield from reversed(range(ROUND))
    for begin in itertools.count(ROUND - 2, ROUND - 2):
        yield from reversed(range(begin + 2, begin + ROUND))


FLOWS: dict[str, tuple[Any, dict[str, Any], Callable[[], Iterator[int]]]] = {
    "pages": (by_page, {"pagination": {"type": "link"}}, itertools.count),
    "a field": (
        by_field,
        {"every": "5ms", "incremental": {"field": "/at", "parameter": "since"}},
        itertools.count,
    ),
    "a field, in any order": (
        by_field_backwards,
        {
            "every": "5ms",
            "pagination": {"type": "link"},
            "incremental": {"field": "/at", "parameter": "since", "ordered": False},
        },
        backwards,
    ),
}


@pytest.mark.parametrize("name", FLOWS)
def test_killed_again_and_again_every_record_is_on_the_list_once(name: str, place: Place, client: redis.Redis) -> None:
    route, options, expected = FLOWS[name]
    with ApiServer(route) as server:
        place.flow(source={"type": "rest", "url": server.url, **options})
        for _ in range(2):
            before = client.llen(place.key_of())
            producer = place.produce()
            producer.until(lambda before=before: client.llen(place.key_of()) > before + 50)  # type: ignore[misc]
            producer.kill()
    numbers = [record["n"] for record in on_the_list(client, place.key_of())]
    assert numbers == list(islice(expected(), len(numbers)))


def test_sigterm_between_two_rounds_ends_at_once(place: Place, client: redis.Redis) -> None:
    with ApiServer(lambda asked: json_answer([{"n": 1}])) as server:
        place.flow(source={"type": "rest", "url": server.url, "every": "1h"})
        producer = place.produce()
        producer.until(lambda: client.llen(place.key_of()) == 1)
        assert producer.terminate(QUICKLY) == 0, producer.said


def test_sigterm_while_the_server_is_silent_ends_at_once(place: Place) -> None:
    asked, over = threading.Event(), threading.Event()

    def route(_: Asked) -> Answer:
        asked.set()
        over.wait(60)
        return Answer(204)

    with ApiServer(route) as server:
        place.flow(source={"type": "rest", "url": server.url})
        producer = place.produce()
        producer.until(asked.is_set)
        assert producer.terminate(QUICKLY) == 0, producer.said
        over.set()


def test_no_page_is_asked_for_while_the_list_is_full(place: Place, client: redis.Redis) -> None:
    with ApiServer(by_page) as server:
        place.flow(source={"type": "rest", "url": server.url, "pagination": {"type": "link"}}, queue={"max_ready": 50})
        producer = place.produce()
        producer.await_event("producer_held_back")
        # The list at its mark, the batch that waits, a buffer of two batches, a page in hand and the one ahead of it.
        most = 50 + 10 + 20 + 2 * PAGE
        assert len(server.asked) * PAGE <= most
        consumer = place.consume()
        producer.until(lambda: len(server.asked) * PAGE > most)
        assert consumer.terminate() == 0
        assert producer.terminate(QUICKLY) == 0, producer.said


def test_an_outage_is_waited_out_and_readyz_says_so_meanwhile(place: Place, client: redis.Redis) -> None:
    with ApiServer(lambda asked: json_answer([{"n": 1}])) as server:
        server.script.extend([Answer(503)] * 2)
        place.flow(source={"type": "rest", "url": server.url, "max_failures": 1})
        producer = place.produce(http=True)
        producer.await_event("source_failed")
        assert producer.wait() == 0, producer.said
    assert on_the_list(client, place.key_of()) == [{"n": 1}]


def test_the_example_takes_issues_in_and_goes_on_with_what_has_changed(place: Place, client: redis.Redis) -> None:
    issues = [{"id": n, "updated_at": f"2026-11-02T10:{n:02}:00Z", "title": f"issue {n}"} for n in range(30)]

    def route(asked: Asked) -> Answer:
        assert asked.path == "/repos/python/cpython/issues"
        assert (asked.query["sort"], asked.query["direction"]) == ("updated", "asc")
        found = sorted((i for i in issues if i["updated_at"] >= asked.query["since"]), key=lambda i: i["updated_at"])  # type: ignore[operator, arg-type, return-value]
        page = int(asked.query.get("page", 1))
        rest = {name: value for name, value in asked.query.items() if name != "page"}
        query = "&".join(f"{name}={value}" for name, value in rest.items())
        link = f'<{server.url}{asked.path}?{query}&page={page + 1}>; rel="next"'
        return json_answer(found[page * 10 - 10 : page * 10], **({"Link": link} if page * 10 < len(found) else {}))

    with ApiServer(route) as server:
        place.example("rest")
        key = place.key_of("issues")
        producer = place.produce("issues", GITHUB=server.url, EVERY="50ms")
        producer.until(lambda: client.llen(key) == 30)
        producer.kill()
        issues[3]["updated_at"] = "2026-11-03T00:00:00Z"
        producer = place.produce("issues", GITHUB=server.url, EVERY="50ms")
        producer.until(lambda: client.llen(key) == 31)
        rounds = len(server.asked)
        producer.until(lambda: len(server.asked) > rounds + 3)
        assert producer.terminate(QUICKLY) == 0, producer.said
    assert [record["id"] for record in on_the_list(client, key)] == [*range(30), 3]
    place.deliver_the_rest()
    files = (place.folder / "data" / "issues").rglob("*.jsonl")
    assert len([json.loads(line) for path in files for line in path.read_text().splitlines()]) == 31


def test_failures_between_rounds_that_bring_nothing_new_are_not_in_a_row(place: Place) -> None:
    """Twelve outages, more than a producer puts up with in a row, and an answer without records between any two."""
    with ApiServer(lambda asked: json_answer([])) as server:
        for _ in range(12):
            server.script.extend([json_answer([]), Answer(503, b"", {"Retry-After": "0"})])
        place.flow(source={"type": "rest", "url": server.url, "every": "5ms", "max_failures": 1})
        producer = place.produce()
        producer.until(lambda: len(server.asked) > 30)
        assert len(producer.events("source_failed")) == 12
        assert producer.terminate(QUICKLY) == 0, producer.said


def test_failures_in_a_row_end_the_producer_where_everybody_sees_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millrace_producer.reading.FAILURES_BEFORE_GIVING_UP", 3)
    with ApiServer(lambda asked: Answer(503)) as server:
        place.flow(source={"type": "rest", "url": server.url, "max_failures": 2, "backoff_initial": "1ms"})
        flow = load(place.folder / "flows.yaml")["numbers"]
        producer = Producer(flow, place.redis_url, stopping=threading.Event(), give_up=threading.Event())
        with pytest.raises(SourceUnavailable, match=r"gave up after 3 failures in a row: .*503"):
            producer.run()
        assert len(server.asked) == 6
