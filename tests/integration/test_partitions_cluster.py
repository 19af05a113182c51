"""Partitions on a real Redis Cluster of three nodes: services are killed, a slot moves, and each record comes once."""

from __future__ import annotations

import json
import random
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace_pipeline.flows.flow import Flow, load
from tests.conftest import eventually
from tests.integration.cluster import Cluster, three_primaries
from tests.queues import Queue
from tests.services import Place, Service

COUNT = 4000
PARTITIONS = 6
KEYS = 53
DICE = random.Random(7)

SOURCE = """\
import time
from pathlib import Path

REACHED = Path(__file__).with_name("reached")


def numbers():
    before = int(REACHED.read_text()) if REACHED.exists() else 0
    for n in range({count}):
        if n > before:
            time.sleep(0.001)
            if n % 40 == 0:
                REACHED.write_text(str(n))
        yield {{"n": n, "key": f"k{{n % {keys}}}"}}
"""
"""What was given before is given at once, so that a producer which begins again is killed at new work."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with three_primaries() as cluster:
        yield cluster


@pytest.fixture
def numbers(cluster: Cluster, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    name = request.node.name.translate(str.maketrans("", "", "[]{} "))
    with Place(tmp_path, cluster.nodes[0].url, name) as place:
        place.module(SOURCE.format(count=COUNT, keys=KEYS))
        place.flow(
            source={"type": "python", "function": "theirs:numbers", "counted": True},
            queue={"partitions": PARTITIONS, "by": "/key"},
        )
        yield place


def parts_of(place: Place) -> list[Flow]:
    return load(place.folder / "flows.yaml")["numbers"].lists


class Killed:
    """A service that is started again whenever it was killed, until it ends by itself."""

    def __init__(self, place: Place, *words: str) -> None:
        self._place, self._words = place, words
        self.service = self._start()

    def kill(self) -> bool:
        """Kill it, and start another. Returns False where it has ended already."""
        if not self.service.running:
            return False
        self.service.kill()
        self.service = self._start()
        return True

    def end(self) -> Service:
        assert self.service.wait() == 0, self.service.said
        return self.service

    def _start(self) -> Service:
        return self._place.start(*self._words)


def reached(place: Place) -> int:
    """How far the source was read."""
    text = (place.folder / "reached").read_text() if (place.folder / "reached").exists() else ""
    return int(text or 0)


def kill_by_turns(place: Place, services: list[Killed], times: int, *, reads: bool = True) -> int:
    """Kills each in turn, so many times, each time after more was read. Returns how many kills hit one that ran.

    Where a slot is on its way all partitions wait for it: nothing `reads` then.
    """
    kills = 0
    for _ in range(times):
        before = reached(place)
        if reads:
            eventually(lambda before=before: reached(place) > before, 60)  # type: ignore[misc]
        for one in services:
            one.service.await_event("service_started")
            threading.Event().wait(DICE.uniform(0, 0.1))
            kills += one.kill()
    return kills


def test_partitions_are_on_all_masters(cluster: Cluster, numbers: Place) -> None:
    owners = [cluster.owner(part.queue.key) for part in parts_of(numbers)]
    assert owners == [0, 0, 1, 1, 2, 2]


def test_killed_producers_and_a_slot_that_moves_leave_each_key_in_its_order(cluster: Cluster, numbers: Place) -> None:
    moved = parts_of(numbers)[2].queue.key
    producer = Killed(numbers, "produce", "numbers")
    kills = kill_by_turns(numbers, [producer], 4)
    with cluster.moving(moved, 1, 2):
        kills += kill_by_turns(numbers, [producer], 2, reads=False)
    kills += kill_by_turns(numbers, [producer], 4)
    assert kills == 10
    producer.end()
    with cluster.moving(moved, 2, 1):
        pass
    found, places = [], defaultdict(set)
    for part in parts_of(numbers):
        queue = Queue(numbers.redis_url, part.queue.key)
        (lines,) = queue.ask(("LRANGE", part.queue.key, 0, -1))
        queue.close_all()
        last: dict[str, int] = {}
        for data in (json.loads(line)["data"] for line in reversed(lines)):
            assert last.get(data["key"], -1) < data["n"]
            last[data["key"]] = data["n"]
            places[data["key"]].add(part.name)
            found.append(data["n"])
    assert sorted(found) == list(range(COUNT))
    assert [len(names) for names in places.values()] == [1] * KEYS


def test_killed_producers_and_consumers_and_a_slot_that_moves_lose_and_double_nothing(
    cluster: Cluster, numbers: Place
) -> None:
    moved = parts_of(numbers)[4].queue.key
    producer, consumer = Killed(numbers, "produce", "numbers"), Killed(numbers, "consume")
    kills = kill_by_turns(numbers, [producer, consumer], 4)
    with cluster.moving(moved, 2, 0):
        kills += kill_by_turns(numbers, [producer, consumer], 2, reads=False)
    kills += kill_by_turns(numbers, [producer, consumer], 4)
    assert kills == 20
    producer.end()
    eventually(lambda: len(numbers.records()) >= COUNT, 60)
    assert consumer.service.terminate() == 0
    numbers.deliver_the_rest()
    assert numbers.numbers() == list(range(COUNT))
    total = 0
    for part in parts_of(numbers):
        queue = Queue(numbers.redis_url, part.queue.key)
        books = queue.books()
        queue.close_all()
        assert (books.difference, books.lag) == (0, 0), part.name
        total += books.delivered
    assert total == COUNT
    with cluster.moving(moved, 0, 2):
        pass
