"""`millrace consume` as a real process on a real server: what arrives, and what a signal does."""

from __future__ import annotations

import json
import signal
import time

import pytest

from tests.conftest import eventually
from tests.integration.usercode import GATED, THEIRS, in_the_sink, open_the_gate, terminate_twice
from tests.services import QUICKLY, Place


@pytest.fixture
def place(place: Place) -> Place:
    place.module(THEIRS)
    return place


# -- what arrives -----------------------------------------------------------------------------------------------------


def test_everything_published_arrives_once_and_until_empty_ends_with_0(place: Place) -> None:
    place.flow()
    place.flow("letters")
    place.publish(range(105))
    place.publish(range(7), "letters")
    place.deliver_the_rest()
    place.assert_once(range(105))
    place.assert_once(range(7), "letters")
    assert all(len(path.read_text().splitlines()) <= 10 for path in place.files())


def test_two_consumers_share_a_list_and_deliver_each_record_once(place: Place) -> None:
    place.flow()
    both = [place.consume("--until-empty"), place.consume("--until-empty")]
    for start in range(0, 400, 100):
        place.publish(range(start, start + 100))
    assert [consumer.wait() for consumer in both] == [0, 0]
    place.deliver_the_rest()  # both may have come before the first record
    place.assert_once(range(400))


def test_a_consumer_takes_only_the_flows_it_is_given(place: Place) -> None:
    place.flow()
    place.flow("letters")
    place.publish(range(3))
    place.publish(range(3), "letters")
    assert place.consume("letters", "--until-empty").wait() == 0
    assert place.numbers("letters") == [0, 1, 2]
    assert (place.files(), place.books().ready) == ([], 3)


def test_an_idle_consumer_is_woken_at_once_by_the_first_record(place: Place) -> None:
    place.flow(batch={"linger": 0})
    consumer = place.consume()
    place.publish([0])
    consumer.until(place.files)
    for number in (1, 2, 3):
        published_at = time.monotonic()
        place.publish([number])
        consumer.until(lambda wanted=number + 1: len(place.files()) == wanted)  # type: ignore[misc]
        assert time.monotonic() - published_at < 0.5
    assert consumer.terminate() == 0


def test_a_batch_is_delivered_when_it_has_its_bytes(place: Place) -> None:
    place.flow(batch={"records": 1000, "bytes": "20kB", "linger": "200ms"})
    place.publish(range(60), filler="x" * 2000)
    place.deliver_the_rest()
    sizes = [path.stat().st_size for path in place.files()]
    assert max(sizes) <= 22_500
    assert sorted(sizes)[1] >= 10_000  # all but the last are well filled
    place.assert_once(range(60))


def test_a_batch_lingers_for_the_records_that_come_meanwhile_and_no_longer(place: Place) -> None:
    place.flow(batch={"records": 1000, "linger": "1s"})
    consumer = place.consume()
    place.publish([0])
    consumer.until(lambda: place.books().in_flight == 1)
    claimed_at = time.monotonic()
    place.publish([1, 2])
    consumer.until(lambda: place.books().in_flight == 3)
    consumer.until(place.files)
    assert 0.5 < time.monotonic() - claimed_at < 2.5
    assert consumer.terminate() == 0
    place.assert_once(range(3))
    assert len(place.files()) == 1


# -- signals ----------------------------------------------------------------------------------------------------------


def test_sigterm_ends_an_idle_consumer_quickly_with_0(place: Place) -> None:
    place.flow()
    consumer = place.consume()
    consumer.await_event("service_started")
    assert consumer.terminate(QUICKLY) == 0
    assert consumer.events("service_stopped")


def test_sigterm_under_load_finishes_what_is_held_and_leaves_no_lease(place: Place) -> None:
    place.flow(batch={"records": 5, "linger": 0})
    place.publish(range(5000))
    consumer = place.consume()
    consumer.until(place.files)
    assert consumer.terminate(QUICKLY) == 0
    books = place.books()
    assert [lease.consumer for lease in books.leases if lease.seconds_left > 0] == []
    assert books.difference == 0
    assert 0 < books.delivered < 5000
    assert len(place.numbers()) == len(set(place.numbers())) == books.delivered


def test_sigterm_waits_for_a_slow_write_and_delivers_it(place: Place) -> None:
    place.flow(sink=GATED)
    place.publish(range(15))
    consumer = place.consume()
    consumer.until(lambda: in_the_sink(place, consumer))
    consumer.signal(signal.SIGTERM)
    consumer_stops = time.monotonic() + 0.5
    eventually(lambda: time.monotonic() > consumer_stops)
    assert consumer.running
    open_the_gate(place)
    assert consumer.wait(QUICKLY) == 0
    assert place.numbers() == list(range(10))
    assert place.books().lag == 5
    assert all(lease.seconds_left <= 0 for lease in place.books().leases)  # given back, for whoever comes next


def test_a_second_sigterm_gives_back_at_once_and_the_batch_is_never_filled_again(place: Place) -> None:
    place.flow(sink=GATED, lease="60s")
    place.publish(range(5))
    consumer = place.consume()
    consumer.until(lambda: in_the_sink(place, consumer))
    (held,) = place.books().leases
    terminate_twice(consumer)
    assert consumer.wait(QUICKLY) == 0
    assert consumer.events("batch_released", batch=held.batch, records=5)

    place.publish(range(5, 10))
    open_the_gate(place)
    place.deliver_the_rest()  # at once: the lease of a minute is over
    place.assert_once(range(10))
    first = next(path for path in place.files() if path.stem == held.batch)
    assert [json.loads(line)["n"] for line in first.read_text().splitlines()] == list(range(5))


def test_the_end_of_the_grace_gives_back_what_a_slow_sink_holds(place: Place) -> None:
    place.flow(sink=GATED, lease="60s")
    place.publish(range(5))
    consumer = place.consume(MILLRACE_GRACE_SECONDS="0.5")
    consumer.until(lambda: in_the_sink(place, consumer))
    assert consumer.terminate(QUICKLY) == 0
    assert consumer.events("grace_expired")
    assert consumer.events("batch_released")
    assert place.books().leases[0].attempts == 0
