"""The stack as people run it, in Docker, on the bundled web site and event stream, while things are killed.

One run, some minutes long, gives the evidence; each test is one claim about it.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from millrace.practice import recentchange
from tests.acceptance.stackrun import CommandFailed, Evidence, StackRun, until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1500)]

RATE = 200  # events a second, without end: however long a step takes, the stream is in the middle of it
QUOTES = 100
KEY = "DATA-PIPELINE-KEY"

OVERRIDE = f"""
services:
  stream:
    command: [python, -m, millrace.practice.stream, --host, 0.0.0.0, --port, "8000", --rate, "{RATE}",
              --start, "{{start}}"]
  consumer:
    environment: {{{{BATCH: "500", LINGER: 2s, LEASE: 10s}}}}
"""


@pytest.fixture(scope="module")
def evidence(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evidence]:
    """The whole run. Its containers, networks and volumes are gone afterwards, however it ends."""
    directory = tmp_path_factory.mktemp("stack")
    with StackRun.built(directory, OVERRIDE.format(start=int(time.time()))) as run:
        run.files[-1].write_text(OVERRIDE.format(start=int(time.time())))  # now, so that nothing piles up meanwhile
        yield play(run, directory / "data")


def play(run: StackRun, directory: Path) -> Evidence:
    """Up without consumers, then 1, 4 and 1 of them; one is killed, a producer crashes, Redis restarts; drained."""
    evidence = Evidence()
    run.stack.up(scale={"consumer": 0})
    until("all quotes on the list", lambda: run.redis_cli("LLEN", KEY) == str(QUOTES))
    evidence.listed = int(run.redis_cli("LLEN", KEY))
    evidence.newest = run.redis_cli("LRANGE", KEY, "0", "0")

    run.stack.scale({"consumer": 1})
    until("one consumer at work", lambda: run.books()["wikipedia"]["in_flight"])
    evidence.replicas.append(len(run.running("consumer")))

    run.stack.scale({"consumer": 4})
    until("four consumers healthy", lambda: _healthy(run, "consumer") == 4)
    evidence.replicas.append(len(run.running("consumer")))
    inspect(run, evidence)

    until("a batch in flight", lambda: run.books()["wikipedia"]["in_flight"])
    run.compose("kill", "--signal", "KILL", "consumer")  # all four at once: worse than any one of them
    assert run.running("consumer") == []
    run.stack.scale({"consumer": 4})

    crash(run, "producer-wikipedia")
    until("the producer is back", lambda: _restarts(run, "producer-wikipedia") and _healthy(run, "producer-wikipedia"))
    evidence.restarts = _restarts(run, "producer-wikipedia")

    # Their logs go with the containers that are scaled away, so this is looked at before.
    until("a killed consumer's batch is taken over", lambda: "batch_reclaimed" in run.compose("logs", "consumer"))

    run.compose("restart", "redis")
    until("redis is back", lambda: run.redis_cli("PING") == "PONG")
    run.stack.scale({"consumer": 1})
    evidence.replicas.append(len(run.running("consumer")))

    before = run.books()["wikipedia"]["delivered"]
    until("the last consumer delivers", lambda: run.books()["wikipedia"]["delivered"] > before)
    run.compose("stop", "producer-wikipedia")
    until("drained", lambda: all(book["ready"] == book["in_flight"] == 0 for book in run.books().values()))
    evidence.books = run.books()
    directory.mkdir()
    records = run.data(directory)
    evidence.events = [record for record in records if "meta" in record]
    evidence.quotes = [record for record in records if "author" in record]

    last = run.running("consumer")
    run.compose("stop", "consumer")
    evidence.consumer_exits = [run.inspect(name)["State"]["ExitCode"] for name in last]
    return evidence


def inspect(run: StackRun, evidence: Evidence) -> None:
    """Looks at a running container of each service from outside and from inside."""
    for service in ("redis", "producer-wikipedia", "consumer", "site", "stream"):
        name = run.running(service)[0]
        evidence.containers[service] = run.inspect(name)
        evidence.status[service] = run.execute(service, "cat", "/proc/1/status")
        try:
            run.execute(service, "touch", "/usr/written")
            evidence.unwritable[service] = False
        except CommandFailed as error:
            evidence.unwritable[service] = "Read-only file system" in str(error)


def crash(run: StackRun, service: str) -> None:
    """SIGKILL from inside, which Docker takes for a crash: `docker kill` would count as a wish to stop it."""
    run.execute(service, "sh", "-c", "kill -KILL $(cat /proc/1/task/1/children)")


def _restarts(run: StackRun, service: str) -> int:
    name = next(one.name for one in run.stack.ps() if one.service == service)
    return int(run.inspect(name)["RestartCount"])


def _healthy(run: StackRun, service: str) -> int:
    return sum(one.service == service and one.health == "healthy" for one in run.stack.ps())


def twice(values: list[str]) -> list[tuple[str, int]]:
    return [(value, count) for value, count in Counter(values).most_common(5) if count > 1]


def sent(evidence: Evidence) -> set[str]:
    """`meta.id` of every event that was published, from the first on, and is no canary."""
    published = range(evidence.books["wikipedia"]["published"])
    events: list[Any] = [json.loads(recentchange.event(0, number, 0)) for number in published]
    return {event["meta"]["id"] for event in events if event["meta"]["domain"] != "canary"}


def test_every_event_arrives_though_consumers_and_a_producer_were_killed(evidence: Evidence) -> None:
    missing = sent(evidence) - {event["meta"]["id"] for event in evidence.events}
    assert not missing, f"{len(missing)} events are missing"


def test_no_event_arrives_twice(evidence: Evidence) -> None:
    assert not twice([event["meta"]["id"] for event in evidence.events])


def test_nothing_arrives_that_was_not_sent(evidence: Evidence) -> None:
    assert {event["meta"]["id"] for event in evidence.events} <= sent(evidence)


def test_every_quote_arrives_once(evidence: Evidence) -> None:
    texts = [quote["text"] for quote in evidence.quotes]
    assert not twice(texts)
    assert len(texts) == QUOTES


def test_the_books_balance(evidence: Evidence) -> None:
    for flow, book in evidence.books.items():
        accounted = book["delivered"] + book["filtered"] + book["dead"] + book["discarded"]
        assert book["published"] == accounted, flow
        assert book["dead"] == 0, flow
    assert evidence.books["wikipedia"]["delivered"] == len(evidence.events)
    assert evidence.books["quotes"]["published"] == QUOTES


def test_redis_cli_shows_the_list_as_documented(evidence: Evidence) -> None:
    assert evidence.listed == QUOTES
    envelope = json.loads(evidence.newest)
    assert envelope["specversion"] == "1.0"
    assert set(envelope["data"]) == {"text", "author", "tags", "url"}


def test_the_stack_scales_up_and_down_while_it_runs(evidence: Evidence) -> None:
    assert evidence.replicas == [1, 4, 1]


def test_a_producer_that_crashes_is_started_again(evidence: Evidence) -> None:
    assert evidence.restarts == 1


def test_a_consumer_that_is_told_to_stop_ends_with_exit_code_0(evidence: Evidence) -> None:
    assert evidence.consumer_exits == [0]


@pytest.mark.parametrize("service", ["redis", "producer-wikipedia", "consumer", "site", "stream"])
def test_a_container_has_no_root_no_capabilities_and_no_writable_system(evidence: Evidence, service: str) -> None:
    status = dict(line.split(":\t", 1) for line in evidence.status[service].splitlines() if ":\t" in line)
    assert "0" not in status["Uid"].split()
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"
    assert evidence.unwritable[service]


@pytest.mark.parametrize("service", ["redis", "producer-wikipedia", "consumer"])
def test_a_container_publishes_no_port_and_bounds_its_log(evidence: Evidence, service: str) -> None:
    settings = evidence.containers[service]["HostConfig"]
    assert not settings["PortBindings"]
    assert set(settings["LogConfig"]["Config"]) == {"max-size", "max-file"}
