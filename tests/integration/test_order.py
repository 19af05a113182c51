"""`queue: {in_order: true}`: a sink gets what is on a list in its order, with many consumers, whatever is killed."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import load
from tests.queues import Queue
from tests.services import Place, Service

COUNT = 600
PARTITIONS = 3
KILLS = 20
DICE = random.Random(11)

SINK = """\
import json, os
from pathlib import Path

from millrace import RetryLater

OUT = Path(__file__).with_name("written")
LATER = Path(__file__).with_name("later")


def numbers():
    for n in range({count}):
        yield {{"n": n, "key": f"k{{n % 17}}"}}


def append(batch):
    line = json.dumps({{"batch": batch.id, "n": [record["n"] for record in batch.records]}}) + "\\n"
    to = os.open(OUT, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(to, line.encode())
    os.close(to)


def deadly(record):
    if record["n"] == 17:
        os.kill(os.getpid(), 9)
    return record


def later(record):
    if record["n"] == 5 and not LATER.exists():
        LATER.touch()
        raise RetryLater(1, "not yet")
    return record
"""
"""The sink appends in one write, so that the file says what came after what; it takes a batch that comes again."""


@pytest.fixture
def ordered(place: Place) -> Place:
    place.module(SINK.format(count=COUNT))
    return place


def flow(place: Place, queue: dict[str, Any], **options: Any) -> None:
    place.flow(
        source={"type": "python", "function": "theirs:numbers", "counted": True},
        queue={"in_order": True, **queue},
        sink={"type": "python", "function": "theirs:append"},
        **options,
    )


def written(place: Place) -> list[tuple[str, list[int]]]:
    """What was written, batch after batch; one that came again at once counts as one, and none comes later again."""
    path: Path = place.folder / "written"
    batches: list[tuple[str, list[int]]] = []
    last: dict[str, int] = {}
    for line in map(json.loads, path.read_text().splitlines() if path.exists() else []):
        at = last.setdefault(line["batch"], len(batches))
        if at == len(batches):
            batches.append((line["batch"], line["n"]))
        else:
            assert batches[at] == (line["batch"], line["n"])
            others = {n % 17 for _, numbers in batches[at + 1 :] for n in numbers}
            assert not others & {n % 17 for n in line["n"]}, "a batch came again after what follows it"
    return batches


def numbers_of(place: Place) -> list[int]:
    return [n for _, numbers in written(place) for n in numbers]


@pytest.fixture
def queues(redis_url: str, key: str) -> Iterator[tuple[Queue, Queue]]:
    pair = (
        Queue(redis_url, key, lease_seconds=30, in_order=True),
        Queue(redis_url, key, lease_seconds=30, in_order=True),
    )
    yield pair
    for queue in pair:
        queue.close_all()


def test_nothing_is_taken_while_a_batch_is_taken(queues: tuple[Queue, Queue]) -> None:
    one, other = queues
    one.publish([b'{"n":%d}' % n for n in range(6)])
    first = one.claim(2)
    assert first is not None
    assert (other.claim(2), other.reclaim(), one.claim(2)) == (None, None, None)
    assert other.leases.behind
    other.wait(1)
    assert int(other.ask(("LLEN", other.keys.woken))[0]) == 0
    one.ack(first, delivered=2)
    second = other.claim(2)
    assert second is not None
    assert second.lines == [b'{"n":2}', b'{"n":3}']
    assert not other.leases.behind


def test_the_younger_half_of_a_batch_waits_for_the_elder(queues: tuple[Queue, Queue]) -> None:
    one, other = queues
    one.publish([b'{"n":%d}' % n for n in range(4)])
    whole = one.claim(4)
    assert whole is not None
    one.split(whole, attempts=1)
    elder = one.reclaim()
    assert elder is not None
    assert elder.lines == [b'{"n":0}', b'{"n":1}']
    assert (other.reclaim(), other.claim(1)) == (None, None)
    one.abandon(elder, "killed")
    again = other.reclaim()
    assert again is not None
    assert again.id == elder.id
    other.ack(again, delivered=2)
    younger = one.reclaim()
    assert younger is not None
    assert younger.lines == [b'{"n":2}', b'{"n":3}']


def test_killed_consumers_leave_each_partition_in_its_order(ordered: Place) -> None:
    flow(ordered, {"partitions": PARTITIONS, "by": "/key"}, batch={"records": 5}, max_attempts=100)
    assert ordered.produce().wait() == 0
    running = [killed_soon(ordered), killed_soon(ordered)]
    for kill in range(KILLS):
        first = running.pop(0)
        assert first.wait() == -signal.SIGKILL, first.said
        if kill < KILLS - len(running):
            running.append(killed_soon(ordered))
    assert len(numbers_of(ordered)) < COUNT
    ordered.deliver_the_rest()
    assert_in_order(ordered)


def killed_soon(place: Place) -> Service:
    """A consumer that is killed at one of its first batches, at one step or another."""
    step = DICE.choice(["after_claim", "before_write", "after_write", "after_ack"])
    return place.consume(MILLRACE_KILLPOINT=f"consumer.{step}:{DICE.randint(1, 4)}")


def assert_in_order(place: Place) -> None:
    """All that the source gives was written once, each key in its order, and the books of each partition balance."""
    found = numbers_of(place)
    assert sorted(found) == list(range(COUNT))
    for key in range(17):
        of_key = [n for n in found if n % 17 == key]
        assert of_key == sorted(of_key)
    for part in load(place.folder / "flows.yaml")["numbers"].lists:
        queue = Queue(place.redis_url, part.queue.key)
        books = queue.books()
        queue.close_all()
        assert (books.difference, books.lag) == (0, 0), part.name


def test_a_consumer_that_stands_still_holds_the_others_until_its_lease_is_over(ordered: Place) -> None:
    flow(ordered, {})
    ordered.publish(range(40))
    frozen = ordered.consume(MILLRACE_KILLPOINT="consumer.after_write:2")
    assert frozen.wait() == -signal.SIGKILL
    assert numbers_of(ordered) == list(range(20))
    ordered.deliver_the_rest()
    assert numbers_of(ordered) == list(range(40))


def test_a_record_that_kills_its_consumer_is_passed_in_its_place(ordered: Place) -> None:
    flow(ordered, {}, transforms=["theirs:deadly"], max_attempts=1)
    ordered.publish(range(40))
    for _ in range(12):
        if ordered.consume("--until-empty").wait() == 0:
            break
    assert numbers_of(ordered) == [n for n in range(40) if n != 17]
    assert ordered.books().dead == 1


def test_a_batch_that_is_put_off_is_put_off_whole(ordered: Place) -> None:
    flow(ordered, {}, transforms=["theirs:later"])
    ordered.publish(range(40))
    ordered.deliver_the_rest()
    assert numbers_of(ordered) == list(range(40))


def test_a_reader_refuses_a_list_in_order(ordered: Place) -> None:
    from millrace_consumer.reader import Reader

    flow(ordered, {})
    with pytest.raises(ConfigError, match=r"queue\.in_order"):
        Reader(load(ordered.folder / "flows.yaml")["numbers"], ordered.redis_url).open()
