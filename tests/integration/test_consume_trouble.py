"""`millrace consume` as a real process: slow and broken sinks, deadly records, bad input, a Redis that goes away."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from millrace.embedded import Embedded
from tests.conftest import eventually
from tests.integration.usercode import GATED, THEIRS, in_the_sink, open_the_gate, terminate_twice
from tests.services import QUICKLY, Place, Service


@pytest.fixture
def place(place: Place) -> Place:
    place.module(THEIRS)
    return place


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Embedded]:
    """A server of the test's own, to be killed."""
    with Embedded(data_dir=tmp_path / "valkey", aof=True) as server:
        yield server


# -- leases -----------------------------------------------------------------------------------------------------------


def test_a_write_longer_than_the_lease_is_renewed_and_not_taken_over(place: Place) -> None:
    place.flow(sink=GATED, lease="500ms")
    place.publish(range(10))
    slow = place.consume()
    slow.until(lambda: in_the_sink(place, slow))
    other = place.consume()
    other.await_event("service_started")
    three_leases_later = time.monotonic() + 1.5
    eventually(lambda: time.monotonic() > three_leases_later)
    (held,) = place.books().leases
    assert (held.attempts, held.consumer.rpartition(":")[2]) == (1, str(slow.pid))
    open_the_gate(place)
    slow.await_event("batch_delivered", batch=held.batch)
    assert [slow.terminate(), other.terminate()] == [0, 0]
    assert not other.events("batch_reclaimed")
    place.assert_once(range(10))


def test_a_consumer_stopped_for_longer_than_its_lease_is_fenced_when_it_goes_on(place: Place) -> None:
    place.flow(sink=GATED, lease="500ms")
    place.publish(range(10))
    stopped = place.consume()
    stopped.until(lambda: in_the_sink(place, stopped))
    (held,) = place.books().leases
    stopped.signal(signal.SIGSTOP)
    open_the_gate(place)
    rest = place.deliver_the_rest()
    assert rest.events("batch_reclaimed", batch=held.batch)

    stopped.signal(signal.SIGCONT)
    stopped.await_event("lease_lost", batch=held.batch)
    assert not stopped.events("batch_delivered")
    place.assert_once(range(10))
    place.publish(range(10, 20))  # and it is as good a consumer as before
    stopped.await_event("batch_delivered")
    assert stopped.terminate() == 0
    place.assert_once(range(20))


# -- trouble ----------------------------------------------------------------------------------------------------------


def deliver_then_bar_the_way(place: Place, consumer: Service) -> None:
    """Let the consumer deliver ten records, and then put a file where its directory was."""
    place.publish(range(10))
    consumer.await_event("batch_delivered")
    (place.folder / "out").rename(place.folder / "kept")
    (place.folder / "out").write_text("a file where the directory should be")


def clear_the_way(place: Place) -> None:
    """Put the directory back, with what was in it."""
    (place.folder / "out").unlink()
    (place.folder / "kept").rename(place.folder / "out")


def test_a_sink_that_is_down_is_waited_for_without_burning_attempts_and_readyz_says_so(place: Place) -> None:
    place.flow(lease="500ms", max_attempts=1)
    consumer = place.consume(http=True)
    deliver_then_bar_the_way(place, consumer)
    place.publish(range(10, 30))
    consumer.await_event("sink_unavailable")
    assert consumer.get("/livez")[0] == 200
    status, why = consumer.get("/readyz")
    assert status == 503
    assert str(Path("out/numbers")) in why
    since = _metric(consumer, "millrace_sink_unavailable_timestamp_seconds")
    assert abs(since - time.time()) < 20
    several_leases_later = time.monotonic() + 1.2
    eventually(lambda: time.monotonic() > several_leases_later)
    assert {lease.attempts for lease in place.books().leases} == {1, 0}  # the one in hand, and the one ahead of it

    clear_the_way(place)
    consumer.until(lambda: place.books().delivered == 30)
    assert consumer.get("/readyz")[0] == 200
    assert _metric(consumer, "millrace_sink_unavailable_timestamp_seconds") == 0
    assert _metric(consumer, "millrace_records_delivered_total") == 30
    assert consumer.terminate() == 0
    assert len(consumer.events("sink_unavailable")) == 1
    assert len(consumer.events("sink_available")) == 1
    place.assert_once(range(30))


def test_sigterm_while_the_sink_is_down_gives_the_batch_back(place: Place) -> None:
    place.flow(lease="60s")
    consumer = place.consume()
    deliver_then_bar_the_way(place, consumer)
    place.publish(range(10, 20))
    consumer.await_event("sink_unavailable")
    assert consumer.terminate(QUICKLY) == 0
    assert consumer.events("batch_released")
    clear_the_way(place)
    place.deliver_the_rest()
    place.assert_once(range(20))


def test_a_bug_in_a_sink_loses_no_record_and_is_told_with_its_traceback(place: Place) -> None:
    place.flow(sink={"type": "theirs:Broken", "path": "out/numbers"})
    place.publish(range(10))
    consumer = place.consume("--until-empty")
    told = consumer.await_event("sink_unavailable", service="consumer")
    assert told["reason"] == "KeyError: 'no such column'"
    assert "theirs.py" in json.dumps(told)
    assert '"locals"' not in json.dumps(told)  # which hold records and passwords
    (place.folder / "mended").touch()
    assert consumer.wait() == 0
    place.assert_once(range(10))


@pytest.mark.parametrize("names", [0, 99])
def test_a_sink_that_rejects_no_record_or_one_it_was_not_given_loses_none_and_is_waited_for(
    place: Place, names: int
) -> None:
    place.flow(sink={"type": "theirs:Broken", "path": "out/numbers", "names": names})
    place.publish(range(10))
    consumer = place.consume("--until-empty")
    assert consumer.await_event("sink_unavailable")["reason"].startswith("RecordsRejected: ")
    (place.folder / "mended").touch()
    assert consumer.wait() == 0
    place.assert_once(range(10))


def test_a_record_that_kills_its_consumers_ends_as_one_dead_letter_and_all_others_are_delivered(place: Place) -> None:
    place.flow(transforms=["theirs:kill_at_seven"], max_attempts=2, lease="300ms", batch={"records": 4, "linger": 0})
    place.publish(range(4, 12))
    codes = [-1]
    while codes[-1] != 0:
        codes.append(place.consume("--until-empty").wait())
        assert len(codes) < 10, codes
    assert place.numbers() == [4, 5, 6, 8, 9, 10, 11]
    books = place.books()
    assert (books.dead, books.delivered, books.difference, books.lag) == (1, 7, 0, 0)
    assert set(codes[1:]) == {9, 0}


def test_a_transform_that_ends_the_program_ends_it_with_1_and_not_in_silence(place: Place) -> None:
    place.flow(transforms=["theirs:leave_at_seven"])
    place.flow("letters")
    place.publish(range(10))
    consumer = place.consume()
    assert consumer.wait() == 1
    (told,) = consumer.events("consumer_failed", flow="numbers")
    assert told["reason"] == "SystemExit: no more"
    assert place.books().in_flight == 10


def test_bad_input_stops_nobody_and_is_set_aside_byte_for_byte(place: Place, client: redis.Redis) -> None:
    bad = [
        b"not json",
        b"\xff\xfe{}",
        b'{"n": NaN}',
        b"18446744073709551616",
        b"[" * 200_000 + b"]" * 200_000,
        b"",
        b'{"specversion": "9.9", "id": "1", "source": "s", "type": "t", "data": {}}',
        b'{"specversion": "1.0", "id": "1"}',
    ]
    good = [b'{"n": 18446744073709551616}', b'{"n": 1, "id": 7}']
    place.flow()
    client.lpush(place.key_of(), *bad, *good)
    place.publish([2])
    place.deliver_the_rest()
    assert sorted(line for path in place.files() for line in path.read_bytes().splitlines()) == sorted(
        [*good, b'{"n":2}']
    )
    letters = client.xrange(f"{{{place.key_of()}}}:dead")
    assert [fields[b"record"] for _, fields in letters] == bad
    assert all(fields[b"reason"] for _, fields in letters)
    books = place.books()
    assert (books.dead, books.delivered, books.published, books.difference) == (len(bad), 3, 1, 0)


def test_redis_killed_and_started_again_is_an_outage_that_is_logged_once(place: Place, server: Embedded) -> None:
    place.redis_url = server.url
    place.flow(batch={"linger": 0})
    place.publish(range(3000))
    consumer = place.consume(http=True)
    consumer.until(place.files)
    server.kill()
    consumer.await_event("redis_unavailable")
    assert consumer.get("/readyz")[0] == 503
    server.start()
    consumer.until(lambda: place.books().lag == 0)
    assert consumer.get("/readyz")[0] == 200
    assert consumer.terminate() == 0
    place.assert_once(range(3000))
    assert len(consumer.events("redis_unavailable")) == len(consumer.events("redis_available")) == 1


def test_giving_back_while_redis_is_away_leaves_the_batch_to_its_lease_and_ends_with_0(
    place: Place, server: Embedded
) -> None:
    place.redis_url = server.url
    place.flow(sink=GATED)
    place.publish(range(5))
    consumer = place.consume()
    consumer.until(lambda: in_the_sink(place, consumer))
    server.kill()
    terminate_twice(consumer)
    assert consumer.wait(QUICKLY) == 0
    assert consumer.events("batch_release_failed", records=5)
    assert "Traceback" not in consumer.said


def test_redis_away_at_the_start_is_waited_for(place: Place, server: Embedded) -> None:
    place.redis_url = server.url
    place.flow()
    place.publish(range(10))
    server.kill()
    consumer = place.consume("--until-empty")
    consumer.await_event("redis_unavailable")
    server.start()
    assert consumer.wait() == 0
    place.assert_once(range(10))


def _metric(consumer: Service, name: str) -> float:
    """The value of a metric for the flow `numbers`."""
    line = next(
        line for line in consumer.get("/metrics")[1].splitlines() if line.startswith(f'{name}{{flow="numbers"}}')
    )
    return float(line.rpartition(" ")[2])
