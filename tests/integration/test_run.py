"""`millrace run` as real processes: it ends when it should, restarts what fails, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import redis

from pipeline.practice.stream import PracticeStream
from pipeline.supervisor import Supervisor
from tests.conftest import eventually
from tests.services import QUICKLY, Place, Service, children_of, lives

BLOCKING = '''\
import threading
from pathlib import Path
from consumer.sinks.jsonl import JsonlSink


class Blocking(JsonlSink):
    """Never comes back."""

    def write(self, batch):
        Path("writing").touch()
        threading.Event().wait()
'''


def sse(stream: PracticeStream) -> dict[str, Any]:
    return {"type": "sse", "url": stream.url}


def ids_in(place: Place, name: str = "numbers") -> list[str]:
    return sorted(record["meta"]["id"] for record in place.records(name))


def ids_of(stream: PracticeStream, count: int) -> list[str]:
    return sorted(json.loads(stream.data(number))["meta"]["id"] for number in range(count))


def none_lives(pids: list[int]) -> bool:
    return not any(map(lives, pids))


def consumers_of(run: Service) -> list[int]:
    """The pids of consumers as they told them in the log."""
    return [
        json.loads(line.partition("│ ")[2])["pid"]
        for line in run.said.splitlines()
        if line.startswith("consumer") and '"service_started"' in line
    ]


def test_until_empty_ends_with_0_once_bounded_sources_are_delivered_and_leaves_no_process(place: Place) -> None:
    with PracticeStream(total=200, end=True) as stream:
        place.flow(source=sse(stream))
        place.flow("letters", source=sse(stream))
        run = place.start("run", "--until-empty", "-n", "2")
        run.until(lambda: len(children_of(run.pid)) == 4)
        children = children_of(run.pid)
        assert run.wait() == 0, run.said
        assert ids_in(place) == ids_in(place, "letters") == ids_of(stream, 200)
    assert none_lives(children)
    assert place.books().lag == place.books().difference == 0


def test_without_redis_url_it_brings_a_valkey_whose_data_the_next_run_goes_on_with(place: Place) -> None:
    with PracticeStream(rate=300, total=400, end=True) as stream:
        place.flow(source=sse(stream))
        run = place.start("run", REDIS_URL="")
        with redis.Redis.from_url(run.await_event("valkey_started")["url"]) as client:
            run.until(lambda: int(client.hget(f"{{{place.key_of()}}}:counters", "published") or 0) > 50)
        assert run.terminate() == 0, run.said
        assert (place.folder / ".millrace" / "valkey").is_dir()
        run = place.start("run", "--until-empty", REDIS_URL="")
        assert run.wait() == 0, run.said
        assert '"resume_from": null' not in run.said
        assert ids_in(place) == ids_of(stream, 400)


def test_sigterm_stops_everything_in_good_order_and_leaves_no_process(place: Place) -> None:
    with PracticeStream(rate=300) as stream:
        place.flow(source=sse(stream))
        run = place.start("run", REDIS_URL="")
        run.until(lambda: len(place.files()) > 2)
        children = children_of(run.pid)
        assert len(children) == 4  # a producer, a consumer, the Valkey and who watches it
        assert run.terminate(2 * QUICKLY) == 0, run.said
    assert none_lives(children)
    assert run.said.count('"service_stopped"') == 2


def test_kill_9_of_the_supervisor_leaves_no_process(place: Place) -> None:
    with PracticeStream(rate=300) as stream:
        place.flow(source=sse(stream))
        run = place.start("run", REDIS_URL="", MILLRACE_GRACE_SECONDS="1")
        run.until(lambda: len(place.files()) > 2)
        children = children_of(run.pid)
        assert len(children) == 4
        run.kill()
        eventually(lambda: none_lives(children))


def test_a_second_sigterm_does_not_wait_for_a_slow_sink(place: Place) -> None:
    place.module(BLOCKING)
    with PracticeStream(total=5) as stream:
        place.flow(source=sse(stream), sink={"type": "theirs:Blocking", "path": "out/numbers"})
        run = place.start("run", MILLRACE_GRACE_SECONDS="60")
        run.until(lambda: (place.folder / "writing").exists())
        run.signal(signal.SIGTERM)
        run.until(lambda: '"service_stopping"' in run.said)
        assert run.running
        run.signal(signal.SIGTERM)
        assert run.wait(QUICKLY) == 0, run.said
    assert place.books().leases[0].attempts == 0


def test_a_consumer_that_is_killed_is_started_again_and_each_event_is_delivered_once(place: Place) -> None:
    with PracticeStream(rate=500, total=1000, end=True) as stream:
        place.flow(source=sse(stream))
        run = place.start("run", "--until-empty")
        run.until(lambda: consumers_of(run) and place.files())
        os.kill(consumers_of(run)[0], signal.SIGKILL)
        run.await_event("service_failed", service="consumer-1", code=-signal.SIGKILL)
        assert run.wait() == 0, run.said
        assert len(consumers_of(run)) == 2
        assert ids_in(place) == ids_of(stream, 1000)


def test_a_flow_that_keeps_failing_is_given_up_while_the_other_is_delivered_and_the_end_is_1(place: Place) -> None:
    with PracticeStream(total=50, end=True) as stream:
        place.flow(source={"type": "sse", "url": stream.url + "/nowhere"})
        place.flow("letters", source=sse(stream))
        run = place.start("run")  # not until-empty: it ends since nothing can come any more
        assert run.wait() == 1
        assert ids_in(place, "letters") == ids_of(stream, 50)
    (told,) = run.events("service_given_up")
    assert told["service"] == "producer-numbers"
    assert len(run.events("service_failed")) == told["failures"] == 5
    assert run.events("services_failed", services=["producer-numbers"])


def test_a_service_is_started_again_so_often_and_no_more(place: Place) -> None:
    said: list[str] = []
    supervisor = Supervisor(environ=os.environ, say=lambda _, line: said.append(line), longest_wait=0.1)
    child = supervisor.add("wrong", "consume", "--flows", str(place.folder / "none.yaml"), failures=1)

    def given_up() -> bool:
        supervisor.look()
        return child.gave_up

    eventually(given_up)
    assert supervisor.failed == ["wrong"]
    eventually(lambda: len(said) == 2)


def test_a_wrong_flow_is_told_once_with_2_before_anything_is_started(place: Place) -> None:
    place.flow(sink={"type": "jsonl", "path": "out", "compress": True})
    run = place.start("run", REDIS_URL="")
    assert run.wait() == 2
    assert len(run.said.splitlines()) == 1
    assert run.said.startswith("flows.yaml:")
    assert not (place.folder / ".millrace").exists()
