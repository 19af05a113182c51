"""`millrace autoscale` with a real `millrace run`, and what it does when much, little or nothing is to be done."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from millrace.control import Steering
from millrace.observing import Observer
from millrace_pipeline.flows.flow import load
from tests.conftest import eventually
from tests.services import Place, Service, children_of

pytestmark = pytest.mark.timeout(400)

BURST = int(os.environ.get("MILLRACE_BURST", "20000"))
"""500,000 is what the promise is made for; CI does with fewer."""

PUSHED = {"source": {"type": "external"}}
SCALE_DOWNS = int(os.environ.get("MILLRACE_SCALE_DOWNS", "12"))
"""50 are what the promise is made for."""

THEIRS = """
import pathlib, time

def slow(batch):
    while not pathlib.Path("go").exists():
        time.sleep(0.05)

def dawdle(record):
    time.sleep(0.003)
    return record
"""


@pytest.fixture
def place(tmp_path: Path, redis_url: str, key: str) -> Iterator[Place]:
    with Place(tmp_path, redis_url, key) as place:
        place.module(THEIRS)
        yield place


AGE = "30s"


def started(place: Place, *options: str, consumers: int = 1) -> tuple[Service, Service]:
    """A run, and what scales it."""
    run = place.start("run", "numbers", "-n", str(consumers))
    run.until(lambda: len(children_of(run.pid)) == consumers)
    return run, scaled(place, *options)


def scaled(place: Place, *options: str) -> Service:
    """What scales the run of this place from now on."""
    autoscale = place.start("autoscale", "numbers", *options)
    autoscale.await_event("autoscale_started")
    return autoscale


def ages(place: Place) -> Callable[[], float]:
    """The age of the oldest record of a flow, as whoever looks on sees it."""
    observer = Observer(place.redis_url, list(load(place.folder / "flows.yaml").values()))
    return lambda: observer.look()[0].age_seconds


def test_a_burst_at_no_consumers_is_claimed_at_once_and_through_in_time(place: Place) -> None:
    batch = {"records": 500, "linger": "50ms"}
    place.flow(**PUSHED, batch=batch, lease="60s", sink={"type": "jsonl", "path": "out/numbers"})
    run, autoscale = started(place, "--idle", "1s", "--calm", "1s", "--age", AGE)
    autoscale.until(lambda: autoscale.events("autoscaled", consumers=0) and not children_of(run.pid))

    lots = [range(first, min(first + 10_000, BURST)) for first in range(0, BURST, 10_000)]
    publishing = threading.Thread(target=lambda: [place.publish(lot) for lot in lots])
    began = time.monotonic()
    publishing.start()
    autoscale.until(lambda: place.books().in_flight or place.books().delivered)
    claimed = time.monotonic() - began
    age, late = ages(place), 0.0

    def through() -> bool:
        nonlocal late
        if age() > 30:
            late = time.monotonic() - began
        return not publishing.is_alive() and place.books().delivered == BURST

    eventually(through, 180)
    through_after = time.monotonic() - began
    sys.stdout.write(
        f"{BURST:,} at once: claimed after {claimed:.1f} s, last older than 30 s after {late:.1f} s, "
        f"all delivered after {through_after:.1f} s\n"
    )
    assert claimed <= 5
    assert late <= 90
    place.assert_once(range(BURST))


def test_a_slow_sink_keeps_every_consumer_though_its_list_is_empty(place: Place) -> None:
    slow = {"type": "python", "function": "theirs:slow"}
    place.flow(**PUSHED, batch={"records": 10, "linger": "0s"}, lease="60s", sink=slow)
    run = place.start("run", "numbers", "-n", "4")
    published = 0
    while len({lease.consumer for lease in place.books().leases}) < 4:
        place.publish(range(published, published := published + 10))
        run.until(lambda: place.books().ready == 0)
    books = place.books()
    assert (books.ready, books.in_flight) == (0, published)
    assert llen_scaler(place) == 0  # it would take all four away, in the midst of their work
    autoscale = scaled(place, "--idle", "1s", "--calm", "3s", "--age", "1h")

    # Its whole calm passes, and more, and what came in is forgotten.
    with place.queue() as queue:
        since = queue.ask(("TIME",))[0][0]
        run.until(lambda: int(queue.ask(("TIME",))[0][0]) - int(since) > 20)
    assert not autoscale.events("autoscaled"), autoscale.said
    assert len(children_of(run.pid)) == 4

    (place.folder / "go").touch()
    autoscale.until(lambda: autoscale.events("autoscaled", consumers=0) and not children_of(run.pid))
    assert place.books().delivered == published


def llen_scaler(place: Place, length: int = 10) -> int:
    """How many consumers KEDA's own scaler of Redis lists wants: by the length of the list and nothing else."""
    return -(-place.books().ready // length)


def test_scaled_down_again_and_again_among_kills_nothing_is_lost(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.folder)
    place.flow(**PUSHED, transforms=["theirs:dawdle"], batch={"records": 20, "linger": "10ms"}, max_attempts=1000)
    run = place.start("run", "numbers", "-n", "4")
    run.await_event("service_started")
    steering, random, published, downs, kills = Steering.of("numbers"), Random(7), 0, 0, 0
    while downs < SCALE_DOWNS:
        steering.consumers(more := random.randint(2, 5))
        run.until(lambda more=more: len(children_of(run.pid)) >= more)
        place.publish(range(published, published := published + 300))
        run.until(lambda: place.books().leases)
        if victims := random.random() < 0.6 and children_of(run.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(random.choice(victims), signal.SIGKILL)
                kills += 1
        steering.consumers(random.randint(0, more - 1))
        downs += 1
    steering.consumers(3)
    run.until(lambda: place.books().lag == 0)
    steering.close()
    assert run.terminate() == 0
    sys.stdout.write(f"{downs} scale-downs, {kills} kills, {published:,} records\n")
    place.assert_once(range(published))


def test_one_that_scales_and_dies_at_no_consumers_leaves_one(place: Place) -> None:
    place.flow(**PUSHED)
    run, autoscale = started(place, "--idle", "1s", "--calm", "1s")
    autoscale.until(lambda: autoscale.events("autoscaled", consumers=0) and not children_of(run.pid))
    autoscale.kill()
    place.publish(range(10))
    run.until(lambda: place.books().delivered == 10)


def test_without_a_run_it_says_what_to_start(place: Place) -> None:
    place.flow(**PUSHED)
    autoscale = place.start("autoscale", "numbers")
    assert autoscale.wait() == 2
    assert "start it first" in autoscale.said


def test_a_run_that_ends_ends_what_scales_it(place: Place) -> None:
    place.flow(**PUSHED)
    run, autoscale = started(place)
    assert run.terminate() == 0
    assert autoscale.wait() == 0
    assert "has ended" in autoscale.said


def test_it_goes_by_a_scaler_where_redis_cannot_be_reached(place: Place) -> None:
    place.flow(**PUSHED)
    scaler = place.start("scaler", http=True)
    address = f"http://{scaler.await_event('service_started')['http']}"
    run = place.start("run", "numbers")
    run.until(lambda: children_of(run.pid))
    nowhere = {"REDIS_URL": "redis://127.0.0.1:1/0"}
    options = ("--idle", "1s", "--calm", "1s", "--scaler", address)
    autoscale = place.start("autoscale", "numbers", *options, **nowhere)
    autoscale.until(lambda: autoscale.events("autoscaled", consumers=0) and not children_of(run.pid))
    place.publish(range(10))
    run.until(lambda: place.books().delivered == 10)
