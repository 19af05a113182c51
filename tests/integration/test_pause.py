"""`millrace pause` and `resume` on real services: they stand still, say so, lose nothing, and go on."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.embedded import Embedded
from millrace.practice.stream import PracticeStream
from millrace_pipeline.queue.changes import By
from millrace_pipeline.queue.pausing import pause, pauses_of, resume
from millrace_pipeline.queue.purging import purge
from millrace_producer import leadership
from tests.conftest import eventually
from tests.integration.test_leadership import Running, flow, ids
from tests.integration.usercode import GATED, THEIRS, in_the_sink, open_the_gate
from tests.queues import Queue
from tests.services import PATIENCE, QUICKLY, Place, Service

ANN = By("operator", "ann", "box")

NUMBERS = """
import threading
from pathlib import Path
from millrace import Record

def given():
    return len(Path("given").read_text().splitlines())

def placed(resume_from=None):
    yield from numbers((resume_from or 0) + 1, True)

def placeless():
    yield from numbers(1, False)

def numbers(n, placed):
    while True:
        with open("given", "a") as file:
            file.write(f"{n}\\n")
        yield Record({"n": n}, position=n if placed else None)
        n += 1
        threading.Event().wait(0.002)
"""


@pytest.fixture
def place(place: Place) -> Place:
    place.module(THEIRS + NUMBERS)
    return place


def steer(place: Place, *arguments: str) -> str:
    """Runs a command that steers, which must succeed."""
    done = place.start(*arguments)
    assert done.wait() == 0, done.said
    return done.printed


def reads(place: Place, function: str = "placed") -> None:
    place.flow(source={"type": "python", "function": f"theirs:{function}"})


def given(place: Place) -> int:
    return len((place.folder / "given").read_text().splitlines())


def test_a_paused_producer_stands_still_is_well_says_so_and_goes_on(place: Place) -> None:
    reads(place)
    producer = place.produce(http=True)
    producer.until(lambda: place.books().published > 20)
    assert "producers paused since" in steer(place, "pause", "numbers", "--producers", "--note", "a [move]")
    published = place.books().published
    producer.await_event("flow_paused", part="producers")
    read = given(place)
    status, body = producer.get("/readyz")
    assert (status, body.startswith("ok, producers paused since")) == (200, True)
    shown = steer(place, "status", "numbers")
    assert "numbers: producers paused since" in shown
    assert "a [move]; `millrace resume numbers`" in shown
    assert (place.books().published, given(place)) == (published, read)
    with place.queue() as queue:
        resume(queue, by=ANN)
    producer.until(lambda: place.books().published > published + 20)
    assert producer.get("/readyz") == (200, "ok\n")
    assert producer.terminate() == 0
    place.deliver_the_rest()
    place.assert_once(range(1, place.books().published + 1))


def test_whoever_looks_sees_what_is_paused_and_what_people_did(place: Place) -> None:
    place.flow()
    with place.queue() as queue:
        pause(queue, ["producers"], by=ANN, note="a [move]")
    assert steer(place, "pause", "numbers", "--producers").startswith("numbers: producers already paused since")
    assert json.loads(steer(place, "status", "--json"))["numbers"]["paused"]["producers"]["note"] == "a [move]"
    assert "paused: producers paused since" in steer(place, "top", "--once")
    assert "producers go on; they were paused since" in steer(place, "resume", "numbers")
    told = json.loads(steer(place, "audit", "numbers", "--json"))
    assert [(change["flow"], change["what"]) for change in told] == [("numbers", "resume"), ("numbers", "pause")]
    assert (told[0]["by"]["user"], told[1]["by"]["os_user"]) == ("default", "ann")
    assert "a [move]" in steer(place, "audit")


def test_what_starts_while_paused_reads_and_takes_nothing_until_it_may(place: Place) -> None:
    reads(place)
    place.publish([-1])
    with place.queue() as queue:
        pause(queue, by=ANN)
    producer, consumer = place.produce(), place.consume(http=True)
    for service, part in ((producer, "producers"), (consumer, "consumers")):
        assert "by ann@box" in service.await_event("flow_paused", part=part)["reason"]
    assert consumer.get("/readyz")[1].startswith("ok, consumers paused since")
    assert not (place.folder / "given").exists()
    assert (place.books().published, place.files()) == (1, [])
    with place.queue() as queue:
        resume(queue, by=ANN)
    producer.until(lambda: place.books().delivered > 20)
    assert (producer.terminate(), consumer.terminate()) == (0, 0)
    place.deliver_the_rest()
    place.assert_once([-1, *range(1, place.books().published)])


@pytest.mark.parametrize("function", ["placed", "placeless"])
def test_a_paused_producer_that_is_stopped_loses_nothing(place: Place, function: str) -> None:
    """What its source gives again is left there; what it can't is put on the list all the same."""
    reads(place, function)
    producer = place.produce()
    producer.until(lambda: place.books().published > 20)
    with place.queue() as queue:
        pause(queue, ["producers"], by=ANN)
    producer.await_event("flow_paused")
    published, read = place.books().published, given(place)
    assert producer.terminate(QUICKLY) == 0
    assert place.books().published == (published if function == "placed" else read)
    assert bool(producer.events("records_left_in_the_source")) == (function == "placed")
    with place.queue() as queue:
        resume(queue, by=ANN)
    if function == "placed":
        again = place.produce()
        again.until(lambda: place.books().published > read + 10)
        assert again.terminate() == 0
    place.deliver_the_rest()
    place.assert_once(range(1, place.books().published + 1))


def test_a_paused_consumer_finishes_what_it_holds_and_takes_no_more(place: Place) -> None:
    place.flow(sink=GATED)
    place.publish(range(60))
    consumer = place.consume()
    consumer.until(lambda: in_the_sink(place, consumer))
    with place.queue() as queue:
        pause(queue, ["consumers"], by=ANN)
    open_the_gate(place)
    consumer.await_event("flow_paused")
    consumer.until(lambda: all(lease.seconds_left < 0 for lease in place.books().leases))
    held = place.books()
    assert 10 <= held.delivered <= 30
    assert held.lag == 60 - held.delivered
    with place.queue() as queue:
        resume(queue, by=ANN)
    consumer.until(lambda: place.books().lag == 0)
    assert consumer.terminate() == 0
    place.assert_once(range(60))


def test_until_empty_ends_with_a_code_of_its_own_where_consumers_are_paused(place: Place) -> None:
    place.flow()
    place.publish(range(5))
    with place.queue() as queue:
        pause(queue, ["consumers"], by=ANN)
    consumer = place.consume("--until-empty")
    assert consumer.wait() == 5
    assert "`millrace resume numbers`" in consumer.await_event("ends_while_paused")["reason"]
    assert place.books().lag == 5
    with place.queue() as queue:
        purge(queue, 5, to_dead=False, by=ANN)
    assert place.consume("--until-empty").wait() == 0  # nothing waits: it is empty, paused or not


@pytest.mark.parametrize("part", ["producers", "consumers"])
def test_an_ending_run_says_what_is_paused_and_does_not_hang(place: Place, part: str) -> None:
    numbers = {"type": "python", "function": "builtins:range", "arguments": {}, "counted": True}
    place.module(THEIRS + "\ndef few():\n    yield from range(12)\n")
    numbers = {"type": "python", "function": "theirs:few", "counted": True}
    place.flow(source=numbers)
    with place.queue() as queue:
        pause(queue, [part], by=ANN)  # type: ignore[list-item]
    running = place.start("run", "--until-empty")
    assert running.wait() == 5, running.said
    assert part in running.await_event("ends_while_paused", flow="numbers")["reason"]
    assert place.books().published == (0 if part == "producers" else 12)
    with place.queue() as queue:
        resume(queue, by=ANN)
    again = place.start("run", "--until-empty")
    assert again.wait() == 0, again.said
    assert place.books().delivered == 12


def test_a_run_that_is_stopped_does_not_drain_into_paused_consumers(place: Place) -> None:
    reads(place)
    with place.queue() as queue:
        pause(queue, ["consumers"], by=ANN)
    running: Service = place.start("run", MILLRACE_GRACE_SECONDS="30")
    running.until(lambda: place.books().published > 5)
    running.until(lambda: running.events("flow_paused", part="consumers"))
    running.signal(signal.SIGINT)
    assert running.wait(PATIENCE / 3) == 0
    assert place.books().delivered == 0


@pytest.fixture
def short_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leadership, "LEASE_SECONDS", 0.6)
    monkeypatch.setattr(leadership, "LOOK_SECONDS", 0.05)


@pytest.fixture
def stream() -> Iterator[PracticeStream]:
    with PracticeStream(rate=300) as stream:
        yield stream


@pytest.mark.usefixtures("short_lease")
def test_a_paused_leader_leads_on(
    tmp_path: Path, redis_url: str, key: str, queue: Queue, stream: PracticeStream
) -> None:
    declared = flow(tmp_path, stream.url, key)
    first = Running(declared, redis_url)
    eventually(lambda: queue.lag() > 20)
    second = Running(declared, redis_url)
    eventually(lambda: second.producer._reading and second.producer._reading.leadership.stands_by)
    pause(queue, ["producers"], by=ANN)
    eventually(lambda: first.producer.paused)
    (session, until), published = (queue.ask(("HMGET", queue.keys.leader, "session", "until"))[0], queue.lag())
    threading.Event().wait(1.2)  # two leases long
    assert queue.ask(("HMGET", queue.keys.leader, "session", "until"))[0][0] == session
    assert int(queue.ask(("HGET", queue.keys.leader, "until"))[0]) > int(until)
    assert queue.lag() == published
    resume(queue, by=ANN)
    eventually(lambda: queue.lag() > published + 20)
    first.stop()
    second.stop()
    assert len(found := ids(queue)) == len(set(found)) == queue.books().published


def test_a_pause_outlives_redis_restart(tmp_path: Path, key: str) -> None:
    with Embedded(data_dir=tmp_path, aof=True) as server:
        queue = Queue(server.url, key)
        pause(queue, by=ANN, note="over night")
        queue.close_all()
    with Embedded(data_dir=tmp_path, aof=True) as server:
        queue = Queue(server.url, key)
        assert pauses_of(queue)["consumers"].note == "over night"
        queue.close_all()
