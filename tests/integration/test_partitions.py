"""One flow over many lists: each record in one of them, wherever its producer is killed, in the order of its key."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import defaultdict

import pytest
import redis
from redis.crc import key_slot

from millrace_pipeline.flows.flow import Flow, load
from millrace_pipeline.redis.slot import SLOTS, spread_keys
from tests.services import Place, Service

COUNT = 300
PARTITIONS = 4


@pytest.fixture
def numbers(place: Place) -> Place:
    place.module(f"def numbers():\n    for n in range({COUNT}):\n        yield {{'n': n, 'key': f'k{{n % 17}}'}}\n")
    place.flow(
        source={"type": "python", "function": "theirs:numbers", "counted": True},
        queue={"partitions": PARTITIONS, "by": "/key"},
    )
    return place


def flow_of(place: Place) -> Flow:
    return load(place.folder / "flows.yaml")["numbers"]


def run(place: Place, *arguments: str) -> Service:
    service = place.start(*arguments)
    service.wait()
    return service


def lines_of(place: Place, flow: Flow) -> list[dict[str, object]]:
    """The data of what is ready in a partition, oldest first."""
    with redis.Redis.from_url(place.redis_url) as client:
        return [json.loads(line)["data"] for line in reversed(client.lrange(flow.queue.key, 0, -1))]  # type: ignore[arg-type]


def assert_each_once(place: Place) -> None:
    """All that the source gives is on the lists, once, each key in one of them and in its order."""
    places = defaultdict(set)
    found = []
    for part in flow_of(place).lists:
        last: dict[object, int] = {}
        for data in lines_of(place, part):
            number = data["n"]
            assert isinstance(number, int)
            assert last.get(data["key"], -1) < number
            last[data["key"]] = number
            places[data["key"]].add(part.name)
            found.append(number)
    assert sorted(found) == list(range(COUNT))
    assert all(len(names) == 1 for names in places.values())


@pytest.mark.parametrize("count", [2, 3, 5, 8, 64])
def test_partitions_lie_evenly_over_the_slots(count: int) -> None:
    slots = [key_slot(key.encode()) for key in spread_keys("list", count)]
    assert [slot * count // SLOTS for slot in slots] == list(range(count))


def test_records_of_a_key_are_in_one_partition_in_order(numbers: Place) -> None:
    assert numbers.produce().wait() == 0
    assert_each_once(numbers)
    assert all(lines_of(numbers, part) for part in flow_of(numbers).lists)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 7])
def test_a_producer_killed_in_the_midst_of_a_flush_loses_and_doubles_nothing(numbers: Place, number: int) -> None:
    killed = numbers.produce(MILLRACE_KILLPOINT=f"producer.between_partitions:{number}")
    assert killed.wait() == -signal.SIGKILL
    again = numbers.produce()
    assert again.wait() == 0, again.said
    assert_each_once(numbers)


@pytest.mark.parametrize("kind", ["files", "stream"])
@pytest.mark.parametrize("number", [3, 6])
def test_so_it_is_with_every_source_whose_positions_have_an_order(numbers: Place, kind: str, number: int) -> None:
    lines = [json.dumps({"n": n, "key": f"k{n % 17}"}) for n in range(COUNT)]
    source: dict[str, object] = {"type": "files", "path": "logs/*.jsonl"}
    if kind == "files":
        (numbers.folder / "logs").mkdir()
        for index in range(3):
            part = lines[index * 100 : index * 100 + 100]
            (numbers.folder / "logs" / f"{index}.jsonl").write_text("\n".join(part) + "\n")
    else:
        source = {"type": "redis", "url": numbers.redis_url, "kind": "stream", "key": numbers.key, "field": "data"}
        with redis.Redis.from_url(numbers.redis_url) as client:
            for line in lines:
                client.xadd(numbers.key, {"data": line})
    numbers.flow(source=source, queue={"partitions": PARTITIONS, "by": "/key"})
    killed = numbers.produce(MILLRACE_KILLPOINT=f"producer.between_partitions:{number}")
    assert killed.wait() == -signal.SIGKILL
    again = numbers.produce()
    if kind == "files":
        assert again.wait() == 0, again.said
    else:
        again.until(lambda: sum(len(lines_of(numbers, part)) for part in flow_of(numbers).lists) >= COUNT)
        assert again.terminate() == 0
    assert_each_once(numbers)


def test_a_leader_frozen_in_the_midst_of_a_flush_publishes_nothing_more(numbers: Place) -> None:
    frozen = numbers.produce(MILLRACE_KILLPOINT="none")
    frozen.await_event("source_opened")
    frozen.freeze()
    other = numbers.produce()
    assert other.wait() == 0, other.said
    frozen.signal(signal.SIGCONT)
    assert frozen.wait() == 0, frozen.said
    assert_each_once(numbers)


def test_consumers_deliver_all_partitions_and_the_books_are_summed(numbers: Place) -> None:
    assert numbers.produce().wait() == 0
    killed = numbers.consume(MILLRACE_KILLPOINT="consumer.after_write:2")
    assert killed.wait() == -signal.SIGKILL
    rest = numbers.consume("--until-empty")
    assert rest.wait() == 0, rest.said
    assert numbers.numbers() == list(range(COUNT))
    shown = json.loads(run(numbers, "verify", "--json", "--sink").printed)
    assert [*shown] == ["numbers", *(f"numbers.{index}" for index in range(PARTITIONS))]
    assert (shown["numbers"]["published"], shown["numbers"]["delivered"]) == (COUNT, COUNT)
    assert sum(shown[f"numbers.{index}"]["delivered"] for index in range(PARTITIONS)) == COUNT
    assert all(part["difference"] == 0 for part in shown.values())
    assert shown["numbers"]["sink"]["records"] == COUNT


def test_a_partition_is_named_by_its_number(numbers: Place) -> None:
    assert numbers.produce().wait() == 0
    shown = run(numbers, "checkpoint", "show", "numbers.3", "--json")
    assert json.loads(shown.printed)["position"] == COUNT
    refused = run(numbers, "produce", "numbers.3")
    assert refused.process.returncode == 2


def test_pause_holds_all_partitions_and_resume_lets_them_go_on(numbers: Place) -> None:
    assert run(numbers, "pause", "numbers").process.returncode == 0
    producer = numbers.produce()
    producer.await_event("service_started")
    assert not any(lines_of(numbers, part) for part in flow_of(numbers).lists)
    assert run(numbers, "resume", "numbers").process.returncode == 0
    assert producer.wait() == 0, producer.said
    assert_each_once(numbers)


@pytest.mark.parametrize(("queue", "says"), [({"partitions": 3}, "4 partitions"), ({}, "4 partitions")])
@pytest.mark.parametrize("command", ["produce numbers", "consume --until-empty", "status", "verify", "pause numbers"])
def test_a_flow_is_never_taken_to_be_kept_otherwise_than_it_is(
    numbers: Place, command: str, queue: dict[str, object], says: str
) -> None:
    assert numbers.produce().wait() == 0
    numbers.flow(source=numbers.flows["numbers"]["source"], queue=queue)
    refused = run(numbers, *command.split())
    assert refused.process.returncode == 2, refused.said
    assert says in refused.said
    numbers.flow(source=numbers.flows["numbers"]["source"], queue={"partitions": PARTITIONS, "by": "/key"})
    assert_each_once(numbers)


def test_a_list_that_was_used_without_partitions_does_not_get_them_unseen(numbers: Place) -> None:
    source = numbers.flows["numbers"]["source"]
    numbers.flow(source=source)
    assert numbers.produce().wait() == 0
    numbers.flow(source=source, queue={"partitions": 2})
    refused = numbers.produce()
    assert refused.wait() == 2
    assert "is kept in one list in this Redis" in refused.said


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"source": {"type": "python", "function": "theirs:numbers"}}, "positions that have an order"),
        ({"source": {"type": "sse", "url": "http://localhost:9/"}}, "positions that have an order"),
        ({"source": {"type": "files", "path": "log.jsonl", "mode": "tail"}}, "positions that have an order"),
        ({"alerts": [{"dead": ">0"}]}, "alerts look at one list"),
        ({"traces": {"sample": "1%"}}, "traces follow one list"),
        ({"queue": {"by": "/key"}}, "add `partitions: 8`"),
        ({"queue": {"partitions": 2, "key": "{tag}x"}}, "without braces"),
        ({"queue": {"partitions": 2, "by": "/a~b"}}, "JSON pointer"),
    ],
)
def test_check_refuses_what_partitions_cannot_have(numbers: Place, options: dict[str, object], says: str) -> None:
    numbers.flow(**{**numbers.flows["numbers"], **options})
    checked = subprocess.run(
        [*numbers.start("check").process.args], cwd=numbers.folder, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 2
    assert says in checked.stderr + checked.stdout
