"""What each command does of a flow with partitions: all of them, their sum, or it asks which one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest

import millrace
from millrace_pipeline.flows.flow import load
from tests.conftest import eventually
from tests.integration.test_projects import commands
from tests.services import Place, Service

COUNT, PARTITIONS = 40, 3

SHOWS_EACH = {
    "status": "status",
    "top": "top --once",
    "verify": "verify",
    "dead ls": "dead ls",
    "variants ls": "variants ls",
    "audit": "audit",
}
"""Shows a row of each partition."""

ASKS_WHICH = {
    "tap": "tap numbers",
    "history": "history numbers",
    "where": "where numbers 7",
    "checkpoint show": "checkpoint show numbers",
    "checkpoint set": "checkpoint set numbers 7 --yes",
    "checkpoint reset": "checkpoint reset numbers --yes",
    "dead show": "dead show numbers 1-1",
    "dead export": "dead export numbers",
    "dead replay": "dead replay numbers --all",
    "dead drop": "dead drop numbers --all",
    "dead edit": "dead edit numbers 1-1",
    "variants export": "variants export numbers",
    "variants replay": "variants replay numbers --all",
    "variants drop": "variants drop numbers --all",
    "requeue": "requeue numbers b-1",
    "crawl add": "crawl add numbers http://127.0.0.1:1/",
    "crawl pause": "crawl pause numbers",
    "crawl resume": "crawl resume numbers",
    "crawl stop": "crawl stop numbers --yes",
    "crawl export": "crawl export numbers",
    "crawl dead ls": "crawl dead ls numbers",
    "crawl dead show": "crawl dead show numbers 1",
    "crawl dead replay": "crawl dead replay numbers 1",
    "crawl dead drop": "crawl dead drop numbers --all --yes",
}
"""Works on one list, and says how one is named."""

LEAVES_THEM = {
    "check": "check --connect",
    "crawl status": "crawl status",
    "alerts ls": "alerts ls",
    "schema": "schema",
    "docs": "docs",
    "test": 'test numbers --record {"n":1}',
    "chaos": "chaos --flows flows.yaml --seconds 2",
}
"""Takes the flow as it takes any other."""

ELSEWHERE = {
    *("produce", "consume", "run", "pause", "resume", "purge", "scaler", "autoscale", "access", "repartition"),
    *("demo", "init", "ui", "up", "down", "scale", "logs", "ps", "lake vacuum", "alerts test"),
    *("lake compact", "render compose", "render swarm", "render kubernetes", "render secrets"),
}
"""Looked at below or in another file, or asks nothing of the flow's lists."""


@pytest.fixture(scope="module")
def numbers(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A flow with partitions, all of its records on the lists, that was paused and resumed once."""
    with Place(tmp_path_factory.mktemp("commands"), redis_url, "partitions-commands") as place:
        write(place)
        assert place.produce().wait() == 0
        assert run(place, "pause", "numbers").process.returncode == 0
        assert run(place, "resume", "numbers").process.returncode == 0
        yield place


def write(place: Place, path: str = "out/numbers") -> None:
    place.module(f"def numbers():\n    for n in range({COUNT}):\n        yield {{'n': n, 'key': f'k{{n % 17}}'}}\n")
    place.flow(
        source={"type": "python", "function": "theirs:numbers", "counted": True},
        queue={"partitions": PARTITIONS, "by": "/key"},
        sink={"type": "parquet", "path": path},
    )


def run(place: Place, *arguments: str) -> Service:
    service = place.start(*arguments)
    service.wait()
    return service


def ready(place: Place) -> list[int]:
    """How many records wait in each partition."""
    shown = json.loads(run(place, "status", "--json").printed)
    return [shown[part.name]["ready"] for part in load(place.folder / "flows.yaml")["numbers"].lists]


def test_of_every_command_it_is_known_what_it_does_of_partitions() -> None:
    """A new command goes into one of the tables above, and so through the tests below."""
    known = {*SHOWS_EACH, *ASKS_WHICH, *LEAVES_THEM, *ELSEWHERE}
    assert known == commands()


@pytest.mark.parametrize("command", SHOWS_EACH)
def test_what_shows_flows_shows_each_partition(numbers: Place, command: str) -> None:
    shown = run(numbers, *SHOWS_EACH[command].split())
    assert shown.process.returncode == 0, shown.said
    assert all(f"numbers.{index}" in shown.printed for index in range(PARTITIONS)), shown.printed


@pytest.mark.parametrize("command", ASKS_WHICH)
def test_what_works_on_one_list_asks_which(numbers: Place, command: str) -> None:
    refused = run(numbers, *ASKS_WHICH[command].split())
    assert refused.process.returncode == 2, refused.said
    assert "name a partition, numbers.0 … numbers.2" in " ".join(refused.said.split())
    assert "Traceback" not in refused.said


@pytest.mark.parametrize("command", LEAVES_THEM)
def test_what_takes_a_flow_takes_one_with_partitions(numbers: Place, command: str) -> None:
    done = run(numbers, *LEAVES_THEM[command].split())
    assert "Traceback" not in done.said
    assert "partition" not in done.said
    assert done.process.returncode == 0, done.said


@pytest.fixture
def own(place: Place) -> Place:
    """The same flow, to be changed."""
    write(place)
    return place


def test_pause_holds_and_resume_lets_go_each_partition(own: Place) -> None:
    for command in ("pause", "resume"):
        done = run(own, command, "numbers")
        assert done.process.returncode == 0
        assert done.printed.count("numbers.2: ") == 2


def test_purge_takes_what_waits_in_all_partitions_or_in_one(own: Place) -> None:
    assert own.produce().wait() == 0
    first, *others = ready(own)
    one = run(own, "purge", "numbers.0", "--to-dead", "--yes")
    assert f"{first} records became dead letters" in one.printed
    assert ready(own) == [0, *others]
    rest = run(own, "purge", "numbers", "--away", "--yes")
    assert f"{sum(others)} records were thrown away" in rest.printed
    assert not any(ready(own))
    assert run(own, "verify").process.returncode == 0


def test_one_partition_is_consumed_alone(own: Place) -> None:
    assert own.produce().wait() == 0
    before = ready(own)
    assert own.consume("numbers.1", "--until-empty").wait() == 0
    assert ready(own) == [before[0], 0, before[2]]


def test_a_run_goes_until_all_partitions_are_empty(own: Place) -> None:
    ran = run(own, "run", "--until-empty")
    assert ran.process.returncode == 0, ran.said
    assert own.numbers() == list(range(COUNT))


def test_the_scaler_tells_of_the_flow_as_one(own: Place) -> None:
    assert own.produce().wait() == 0
    scaler = own.start("scaler", "--min", "0", "--max", "3", http=True)
    scaler.await_event("service_started")
    eventually(lambda: scaler.get("/scale/numbers")[0] == 200)
    found = json.loads(scaler.get("/scale/numbers")[1])
    assert (found["ready"], found["desired"]) == (COUNT, 1)
    assert scaler.get("/scale/numbers.0")[0] == 404
    assert f'millrace_ready_records{{flow="numbers.0"}} {ready(own)[0]}.0' in scaler.get("/metrics")[1]


def test_autoscale_wakes_the_consumers_of_a_flow_with_partitions(own: Place) -> None:
    running = own.start("run", "--consumers", "1")
    running.await_event("service_started", service="consumer-numbers")
    scaling = own.start("autoscale", "--min", "0", "--max", "2")
    scaling.await_event("autoscale_started")
    eventually(lambda: own.numbers() == list(range(COUNT)), 30)


def test_lake_compact_leaves_the_batches_of_all_partitions_alone(own: Place) -> None:
    assert own.produce().wait() == 0
    own.deliver_the_rest()
    done = run(own, "lake", "compact", "--older-than", "0s")
    assert done.process.returncode == 0, done.said
    assert own.numbers() == list(range(COUNT))
    checked = run(own, "verify", "--sink")
    assert checked.process.returncode == 0, checked.said


def test_a_program_of_ones_own_reads_one_partition_and_writes_to_none(
    own: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert own.produce().wait() == 0
    monkeypatch.setenv("REDIS_URL", own.redis_url)
    flows = own.folder / "flows.yaml"
    waits = ready(own)[1]
    with millrace.reader("numbers.1", until_empty=True, flows=flows) as messages:
        assert sum(1 for _ in messages) == waits > 0
    for name in ("numbers", "numbers.1"):
        with pytest.raises(millrace.ConfigError, match="leave `partitions` out"):
            millrace.writer(name, flows=flows)
    with pytest.raises(millrace.ConfigError, match="Name a partition"):
        millrace.reader("numbers", flows=flows)


def test_no_other_flow_has_the_list_of_a_partition(own: Place) -> None:
    key = load(own.folder / "flows.yaml")["numbers"].lists[1].queue.key
    own.flow("other", queue={"key": key})
    refused = run(own, "check")
    assert refused.process.returncode == 2
    assert "is the list of the partition numbers.1 already" in refused.said


def test_what_is_deployed_is_let_at_the_list_of_each_partition(own: Place) -> None:
    write(own, path="${DATA:-data}/numbers")
    for engine in ("swarm", "kubernetes"):
        (own.folder / "secrets").exists() and shutil.rmtree(own.folder / "secrets")
        at = "redis://millrace-redis:6379/0" if engine == "kubernetes" else "redis://redis:6379/0"
        for command in (f"access secrets --at {at}", f"render {engine}"):
            done = run(own, *command.split())
            assert done.process.returncode == 0, done.said
    users = (own.folder / "secrets" / "redis" / "users.acl").read_text()
    for part in load(own.folder / "flows.yaml")["numbers"].lists:
        assert users.count(f" ~{part.queue.key} ") >= 2
