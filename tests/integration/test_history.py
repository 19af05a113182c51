"""History: what moved in a flow, noted as it moved, kept for two years, and told by `millrace history`."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import redis

from millrace_pipeline.envelope import DeadLetter
from millrace_pipeline.errors import QueueUnavailable, RetryLater
from millrace_pipeline.queue import DeadLetters
from millrace_pipeline.queue import history as notes
from millrace_pipeline.queue.history import MOVED, STOOD, History
from millrace_pipeline.queue.spans import Span, read_notes, spans
from tests.conftest import eventually
from tests.integration.verbs import lines, taken
from tests.queues import Queue
from tests.services import Place

HOUR, DAY = 3600, 24 * 3600


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step is a second, so that several pass."""
    monkeypatch.setattr(notes, "STEP_SECONDS", 1)


def told(queue: Queue, seconds: int = 10) -> list[Span]:
    return spans(read_notes(queue), 0, seconds)


def total(queue: Queue, name: str) -> int:
    return sum(getattr(span, name) for span in told(queue))


def test_what_moved_adds_up_to_the_counters_and_stands_in_its_second(queue: Queue, quick: None) -> None:
    moments = []
    for number in range(3):
        queue.publish(lines(number), dead=[DeadLetter(b"{", "no JSON")])
        claim = taken(lambda: queue.claim(10))
        queue.ack(claim, delivered=len(claim.lines))
        moments.append(read_notes(queue)[-1].moment)
        eventually(lambda: read_notes(queue)[-1].moment >= int(moments[-1]) + 1)
    DeadLetters(queue).drop(next(DeadLetters(queue).newest()))
    seconds = [span for span in told(queue, 1) if span.published]
    assert sum(span.published for span in seconds) == 6
    assert len(seconds) >= 2
    assert [total(queue, name) for name in ("delivered", "filtered", "discarded")] == [3, 0, 1]
    assert total(queue, "bytes_in") == total(queue, "bytes_out") + 3
    last = told(queue)[-1]
    assert (last.ready, last.in_flight, last.dead) == (0, 0, 2)


def test_what_is_put_off_is_in_flight_in_every_row(queue: Queue, quick: None) -> None:
    queue.publish(lines(1, 2, 3))
    queue.delay(taken(lambda: queue.claim(2)), {0: RetryLater(60)})
    eventually(lambda: queue.publish(lines(4)) and len(read_notes(queue)) > 2)  # a note that Redis made since
    *_, noted, now = read_notes(queue)
    in_flight = len(MOVED) + STOOD.index("in_flight")
    assert (noted.numbers[in_flight], now.numbers[in_flight]) == (2, 2)


def test_an_hour_in_tens_a_day_in_minutes_ninety_days_in_hours(queue: Queue, client: redis.Redis) -> None:
    now = int(time.time())
    made = [
        *range(20, HOUR - 700, 10),
        *range(2 * HOUR, 3 * HOUR, 10),
        *range(2 * DAY, 3 * DAY, 60),
        *range(100 * DAY, 102 * DAY, HOUR),
        *range(731 * DAY, 740 * DAY, DAY),
    ]
    note = " ".join(["0"] * (len(notes.MOVED) + len(notes.STOOD)))
    client.hset(queue.keys.history, mapping={str(now - age): note for age in made})
    queue.publish(lines(1))
    kept = sorted(now - int(name) for name in client.hkeys(queue.keys.history) if name.isdigit())
    for younger, older, unit in (
        (20, HOUR, 10),
        (2 * HOUR, DAY, 60),
        (2 * DAY, 4 * DAY, HOUR),
        (5 * DAY, 730 * DAY, DAY),
    ):
        there = {(now - age) // unit for age in made if younger <= age < older}
        assert len([age for age in kept if younger <= age < older]) == len(there)
    assert kept[-1] < 730 * DAY
    size = client.hlen(queue.keys.history)
    queue.history._due = 0
    queue.publish(lines(2))
    assert client.hlen(queue.keys.history) <= size + 1


def test_two_parties_note_a_step_once(queue: Queue, redis_url: str, key: str) -> None:
    other = Queue(redis_url, key)
    queue.publish(lines(1))
    other.publish(lines(2))
    assert len(read_notes(queue)) <= 3  # one more where a step began between the two
    other.close_all()


def test_a_history_that_may_not_be_kept_keeps_no_record_waiting(queue: Queue, client: redis.Redis) -> None:
    client.set(queue.keys.history, "somebody's")
    assert queue.publish(lines(1)).records == 1
    assert queue.publish(lines(2)).records == 1
    assert queue.history.refused
    assert client.get(queue.keys.history) == b"somebody's"


def test_nothing_is_asked_twice_within_a_step(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    history = History(queue.keys, lambda *call: asked.append(call) or [5000])  # type: ignore[func-returns-value]
    for _ in range(100):
        history.note()
    assert len(asked) == 1


def test_a_note_that_redis_forgot_is_made_again_before_counters_move(queue: Queue, client: redis.Redis) -> None:
    queue.publish(lines(3))
    client.delete(queue.keys.history, queue.keys.counters)
    client.client_kill_filter(_type="normal", skipme=True)
    queue.publish(lines(2))
    forgotten, now = read_notes(queue)
    assert (forgotten.numbers[0], now.numbers[0]) == (0, 1)


def test_a_note_is_made_again_where_only_a_call_that_is_made_once_met_the_outage(
    queue: Queue, client: redis.Redis
) -> None:
    queue.publish(lines(3))
    client.delete(queue.keys.history, queue.keys.counters)
    queue.ask(("PING",))
    client.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(QueueUnavailable):
        queue.ask_once(("PING",))
    queue.ask(("HINCRBY", queue.keys.counters, "published", 1))
    forgotten, now = read_notes(queue)
    assert (forgotten.numbers[0], now.numbers[0]) == (0, 1)


def test_the_command_shows_it_to_people_and_to_scripts(place: Place) -> None:
    place.flow(transforms=[{"type": "filter", "where": "n != `3`"}])
    place.publish(range(10))
    place.deliver_the_rest()
    shown = place.start("history", "numbers", "--since", "10m")
    assert shown.wait() == 0, shown.said
    assert "10 published, 9 delivered, 1 filtered in this time" in shown.printed
    found = place.start("history", "numbers", "--by", "hour", "--json")
    assert found.wait() == 0, found.said
    assert sum(span["delivered"] for span in json.loads(found.printed)) == 9
    quiet = place.start("history", "numbers", "--since", "soon")
    assert quiet.wait() == 2
    assert "--since soon: " in quiet.said
