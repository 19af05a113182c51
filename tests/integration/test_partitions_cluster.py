"""Partitions on a real Redis Cluster: services are killed, slots move, and each record comes once, in its order."""

from __future__ import annotations

import itertools
import json
import os
import random
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace_pipeline.flows.flow import Flow, load
from millrace_pipeline.queue import Books
from tests.conftest import eventually
from tests.integration.cluster import Cluster, three_primaries
from tests.queues import Queue
from tests.services import Place, Service

COUNT = 4000
PARTITIONS = 6
KEYS = 53
DICE = random.Random(7)
KILLS = int(os.environ.get("MILLRACE_KILLS", "24"))
"""Of the test with a sink in order; some hundreds for a proof."""

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
                REACHED.with_suffix(".new").write_text(str(n))  # it may be killed in the midst of this
                REACHED.with_suffix(".new").replace(REACHED)
        yield {{"n": n, "key": f"k{{n % {keys}}}"}}
"""
"""What was given before is given at once, so that a producer which begins again is killed at new work."""


WITHOUT_END = """\
import itertools, json, os, time
from pathlib import Path

HERE = Path(__file__).parent
REACHED, END, OUT = HERE / "reached", HERE / "end", HERE / "written"


def numbers():
    before = int(REACHED.read_text() or 0) if REACHED.exists() else 0
    for n in itertools.count():
        if n > before:
            time.sleep(0.001)
            if n % 40 == 0:
                REACHED.with_suffix(".new").write_text(str(n))
                REACHED.with_suffix(".new").replace(REACHED)
                if END.exists() and n >= int(END.read_text()):
                    return
        yield {{"n": n, "key": f"k{{n % {keys}}}"}}


def append(batch):
    line = json.dumps({{"batch": batch.id, "n": [record["n"] for record in batch.records]}}) + "\\n"
    to = os.open(OUT, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(to, line.encode())
    os.close(to)
"""
"""The same until a file says that it is enough; and a sink whose file says what was written after what."""


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


@pytest.fixture
def six_nodes() -> Iterator[Cluster]:
    with three_primaries(replicas=1) as cluster:
        yield cluster


@pytest.mark.timeout(120 + 10 * KILLS)
def test_on_six_nodes_kills_and_moving_slots_never_break_the_order_of_a_key(six_nodes: Cluster, tmp_path: Path) -> None:
    with Place(tmp_path, six_nodes.nodes[0].url, "six") as place:
        place.module(WITHOUT_END.format(keys=KEYS))
        place.flow(
            source={"type": "python", "function": "theirs:numbers", "counted": True},
            queue={"partitions": PARTITIONS, "by": "/key", "in_order": True},
            batch={"records": 50, "linger": "20ms"},
            sink={"type": "python", "function": "theirs:append"},
            max_attempts=1000,
        )
        parts = parts_of(place)
        services = [Killed(place, "produce", "numbers"), Killed(place, "consume"), Killed(place, "consume")]
        at = [six_nodes.owner(part.queue.key) for part in parts]
        turns = itertools.cycle(range(len(parts)))
        kills = 0
        while kills < KILLS:
            part = next(turns)
            kills += kill_by_turns(place, services, 2)
            there = (at[part] + 1) % 3
            with six_nodes.moving(parts[part].queue.key, at[part], there):
                kills += kill_by_turns(place, services, 1, reads=False)
            at[part] = there
        (place.folder / "end").write_text("0")
        services[0].end()
        count = written_to_the_end(place, parts)
        for consumer in services[1:]:
            assert consumer.service.terminate() == 0
        place.deliver_the_rest()
        found = written_in_turn(place)
        assert sorted(found) == list(range(count))
        for key in range(KEYS):
            of_key = [n for n in found if n % KEYS == key]
            assert of_key == sorted(of_key)
        assert sum(books_of(place, part).delivered for part in parts) == count
        assert all((books_of(place, part).difference, books_of(place, part).lag) == (0, 0) for part in parts)


def books_of(place: Place, part: Flow) -> Books:
    queue = Queue(place.redis_url, part.queue.key)
    try:
        return queue.books()
    finally:
        queue.close_all()


def written_to_the_end(place: Place, parts: list[Flow]) -> int:
    """Returns how many records there are, once all were delivered."""
    count = sum(books_of(place, part).published for part in parts)
    eventually(lambda: sum(books_of(place, part).delivered for part in parts) >= count, 60)
    return count


def written_in_turn(place: Place) -> list[int]:
    """The numbers as they were written. A batch that came again, whole and before what follows it, counts once."""
    batches: dict[str, list[int]] = {}
    newest: dict[int, str] = {}
    for line in map(json.loads, (place.folder / "written").read_text().splitlines()):
        if line["batch"] in batches:
            assert batches[line["batch"]] == line["n"]
            assert all(newest[n % KEYS] == line["batch"] for n in line["n"]), "a batch came after what follows it"
        batches[line["batch"]] = line["n"]
        newest |= {n % KEYS: line["batch"] for n in line["n"]}
    return [n for numbers in batches.values() for n in numbers]
