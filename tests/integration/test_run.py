"""`millrace run` as real processes: it ends when it should, restarts what fails, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from millrace.cli.running import RunningFlow
from millrace.practice.stream import PracticeStream
from millrace_pipeline.flows.flow import load
from millrace_pipeline.process.settings import Settings
from millrace_pipeline.process.supervisor import Child, Supervisor
from tests.conftest import eventually
from tests.integration.test_sink_down import DOWN
from tests.services import PATIENCE, QUICKLY, Place, Service, children_of, lives

BLOCKING = '''\
import threading
from pathlib import Path
from millrace_consumer.sinks.jsonl import JsonlSink


class Blocking(JsonlSink):
    """Never comes back."""

    def write(self, batch):
        Path("writing").touch()
        threading.Event().wait()
'''


SLOW = """\
import threading
from millrace_consumer.sinks.jsonl import JsonlSink


class Slow(JsonlSink):
    \"\"\"Takes a moment for a batch.\"\"\"

    def write(self, batch):
        threading.Event().wait(0.1)
        super().write(batch)
"""


LEAVES_AT_ONCE = """\
import os, sys

if os.environ.get("MILLRACE_SUPERVISED") and "consume" in sys.argv:
    os._exit(3)


def unchanged(record):
    return record
"""


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
        event["pid"]
        for event in map(json.loads, run.said.splitlines())
        if event["event"] == "service_started" and event["service"].startswith("consumer")
    ]


def test_until_empty_ends_with_0_once_bounded_sources_are_delivered_and_leaves_no_process(place: Place) -> None:
    with PracticeStream(total=200, end=True) as stream:
        place.flow(source=sse(stream))
        place.flow("letters", source=sse(stream))
        run = place.start("run", "--until-empty", "-n", "2")
        run.until(lambda: len(children_of(run.pid)) == 6)  # a producer and two consumers each
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
        assert len(children) == 5  # a producer, a consumer, the Valkey, who watches it and who keeps it
        assert run.terminate(2 * QUICKLY) == 0, run.said
    assert none_lives(children)
    assert run.said.count('"service_stopped"') == 2
    assert not run.events("redis_preflight")  # the Valkey that it brings is as it should be


def test_ctrl_c_delivers_all_that_was_read_though_the_sink_is_slow(place: Place) -> None:
    place.module(SLOW)
    with PracticeStream(rate=10_000, total=300) as stream:
        place.flow(source=sse(stream), sink={"type": "theirs:Slow", "path": "out/numbers"})
        run = place.start("run", MILLRACE_GRACE_SECONDS="60")
        run.until(lambda: place.books().published == 300)
        assert place.books().lag > 0
        run.signal(signal.SIGINT)
        assert run.wait() == 0, run.said
        assert ids_in(place) == ids_of(stream, 300)
    assert place.books().lag == 0
    assert run.events("run_drains")
    assert not run.events("records_left")


def test_ctrl_c_waits_for_no_linger(place: Place) -> None:
    with PracticeStream(total=5) as stream:
        place.flow(source=sse(stream), batch={"records": 10, "linger": "1h"})
        run = place.start("run", MILLRACE_GRACE_SECONDS="60")
        run.until(lambda: place.books().in_flight == 5)
        run.signal(signal.SIGINT)
        assert run.wait() == 0, run.said
        assert ids_in(place) == ids_of(stream, 5)
    assert not run.events("run_drains")


def test_what_ctrl_c_leaves_is_said_with_what_to_do(place: Place) -> None:
    place.module(DOWN)
    with PracticeStream(total=30) as stream:
        place.flow(source=sse(stream), sink={"type": "theirs:Down", "path": "out/numbers"})
        (place.folder / "down").touch()
        run = place.start("run", MILLRACE_GRACE_SECONDS="60")
        run.await_event("sink_unavailable")
        run.until(lambda: place.books().published == 30)
        run.signal(signal.SIGINT)
        assert run.wait() == 0, run.said
        (told,) = run.events("records_left")
        assert told["left"] == 30
        command = re.search(r"30 records wait on the list: `millrace (consume numbers --until-empty)`", told["reason"])
        assert command, told
        (place.folder / "down").unlink()
        assert place.start(*command[1].split()).wait() == 0
        assert ids_in(place) == ids_of(stream, 30)


def test_kill_9_of_the_supervisor_leaves_no_process(place: Place) -> None:
    with PracticeStream(rate=300) as stream:
        place.flow(source=sse(stream))
        run = place.start("run", REDIS_URL="", MILLRACE_GRACE_SECONDS="1")
        run.until(lambda: len(place.files()) > 2)
        children = children_of(run.pid)
        assert len(children) == 5
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
        run.await_event("service_failed", service="consumer-numbers", flow="numbers", code=-signal.SIGKILL)
        assert run.wait() == 0, run.said
        assert len(consumers_of(run)) == 2
        assert ids_in(place) == ids_of(stream, 1000)


def test_a_flow_that_is_refused_is_given_up_while_the_other_is_delivered(place: Place) -> None:
    with PracticeStream(total=50, end=True) as stream:
        place.flow(source={"type": "sse", "url": stream.url + "/nowhere"})
        place.flow("letters", source=sse(stream))
        run = place.start("run")  # not until-empty: it ends since nothing can come any more
        assert run.wait() == 2
        assert ids_in(place, "letters") == ids_of(stream, 50)
    (told,) = run.events("service_given_up")
    assert told["service"] == "producer-numbers"
    assert "answered 404 Not Found" in told["reason"]
    assert not run.events("service_failed")  # it would be refused again
    assert json.loads(run.said.splitlines()[-1])["reason"] == told["reason"]


FAILS = [sys.executable, "-c", "print('no luck'); raise SystemExit(1)"]


def test_a_service_is_started_again_so_often_and_no_more() -> None:
    said: list[str] = []
    child = Child("wrong", FAILS, os.environ, lambda _, line: said.append(line), failures=1, longest_wait=0.1)
    child.start()

    def given_up() -> bool:
        child.look()
        return child.gave_up

    eventually(given_up)
    assert child.failed
    eventually(lambda: said == ["no luck"] * 2)
    assert child.trouble == "no luck"


def test_a_service_whose_configuration_is_wrong_is_not_started_again(place: Place) -> None:
    said: list[str] = []
    supervisor = Supervisor(environ=os.environ, say=lambda _, line: said.append(line), longest_wait=0.1)
    child = supervisor.add("wrong", "consume", "--flows", str(place.folder / "none.yaml"))

    def given_up() -> bool:
        supervisor.look()
        return child.gave_up

    eventually(given_up, PATIENCE)
    assert (child.starts, supervisor.failed, len(said)) == (1, ["wrong"], 1)
    assert child.trouble == json.loads(said[0])["reason"]


def test_after_a_healthy_while_a_failure_is_the_first_in_a_row_again() -> None:
    said: list[str] = []
    child = Child(
        *("wrong", FAILS, os.environ, lambda _, line: said.append(line)), failures=1, longest_wait=0.1, healthy=0
    )
    child.start()

    def failed_often() -> bool:
        child.look()
        return len(said) > 3

    eventually(failed_often, PATIENCE)
    assert not child.gave_up
    child.signal(signal.SIGTERM)
    child.wait(10)


def test_a_flow_whose_consumers_are_given_up_is_read_no_more_and_the_others_go_on(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.module(LEAVES_AT_ONCE)
    with PracticeStream(rate=100) as stream:
        place.flow(source=sse(stream), max_attempts=1, batch={"records": 1}, transforms=["theirs:unchanged"])
        place.flow("letters", source=sse(stream))
        monkeypatch.chdir(place.folder)
        settings = Settings(flows=place.folder / "flows.yaml")
        environ = {**os.environ, "REDIS_URL": place.redis_url, "MILLRACE_LOG": "json"}
        supervisor = Supervisor(environ=environ, say=lambda *_: None, longest_wait=0.05)
        flows = load(place.folder / "flows.yaml")
        running = [RunningFlow(flow, supervisor, settings, consumers=1) for flow in flows.values()]

        def given_up() -> bool:
            supervisor.look()
            for flow in running:
                flow.look()
            return running[0].given_up and running[0].producers[0].done

        try:
            eventually(given_up, PATIENCE)
            assert (running[0].consumers[0].state, running[0].producers[0].state) == ("given up", "ended")
            assert [child.state for child in running[1].services] == ["runs", "runs"]
            delivered = place.books("letters").delivered
            eventually(lambda: place.books("letters").delivered > delivered, PATIENCE)
        finally:
            supervisor.stop(grace_seconds=20)
        assert supervisor.failed == ["consumer-numbers"]


MAY_BE_DOWN = """\
from pathlib import Path

from millrace_consumer.sinks.base import SinkUnavailable
from millrace_consumer.sinks.jsonl import JsonlSink


class MayBeDown(JsonlSink):
    def write(self, batch):
        if Path("down").exists():
            raise SinkUnavailable("can't write to the moon")
        super().write(batch)
"""


def test_on_a_terminal_a_table_shows_every_flow_below_the_services_lines(place: Place) -> None:
    with PracticeStream(total=50, end=True) as stream:
        place.flow(source=sse(stream))
        place.flow("letters", source=sse(stream))
        with on_a_terminal(place) as pieces:
            shown = "".join(pieces)
    columns = ("flow", "producer", "consumers", "ready", "flight", "dead", "delivered", "/s")
    assert re.search("^" + " +".join(columns), shown, re.MULTILINE)
    for flow in ("numbers", "letters"):
        assert re.search(rf"^{flow} +ended +ended +0 +0 +0 +50 +\d+", shown, re.MULTILINE), shown
        assert re.search(rf"^producer-{flow} +│ .*service_started", shown, re.MULTILINE)
        assert len(re.findall(rf"^consumer-{flow} +│ .*batches_delivered", shown, re.MULTILINE)) == 1
        assert re.search(rf"^{flow}: 50 delivered\r?$", shown, re.MULTILINE), shown
    assert len(place.records()) == len(place.records("letters")) == 50


def test_on_a_terminal_a_sink_that_cannot_write_shows_below_the_table(place: Place) -> None:
    (place.folder / "in.jsonl").write_text('{"n": 1}\n')
    down = place.folder / "down"
    down.touch()
    place.module(MAY_BE_DOWN)
    place.flow(source={"type": "files", "path": "in.jsonl"}, sink={"type": "theirs:MayBeDown", "path": "out"})
    shown = ""
    with on_a_terminal(place) as pieces:
        for piece in pieces:
            shown += piece
            if re.search(r"^numbers: waits: can't write to the moon \(since [\d:]{8} UTC\)$", shown, re.MULTILINE):
                down.unlink(missing_ok=True)
    assert not down.exists(), shown
    assert shown.count("numbers: consumer-numbers:") == 0  # what it waits for is said once
    assert re.search(r"^numbers +ended +ended +0 +0 +0 +1 ", shown, re.MULTILINE), shown


@contextlib.contextmanager
def on_a_terminal(place: Place) -> Iterator[Iterator[str]]:
    """Run all flows until they are empty on a terminal of 80 columns; what is shown there comes in pieces."""
    terminal, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 80, 0, 0))
    environ = {**os.environ, "REDIS_URL": place.redis_url, "TERM": "xterm-256color", "MILLRACE_LOG": "auto"}
    run = subprocess.Popen(
        [sys.executable, "-P", "-m", "millrace", "run", "--until-empty"],
        cwd=place.folder,
        env={name: value for name, value in environ.items() if name not in ("COLUMNS", "LINES")},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        yield (_plain(piece) for piece in all_of(terminal))
        assert run.wait(PATIENCE) == 0
    finally:
        run.kill()
        run.wait()
        os.close(terminal)


def _plain(piece: bytes) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", piece.decode(errors="replace")).replace("\r", "\n")


def all_of(terminal: int) -> Iterator[bytes]:
    """What is written to a terminal, until nobody can write to it any more."""
    with contextlib.suppress(OSError):  # that is how Linux says so
        while chunk := os.read(terminal, 65_536):
            yield chunk


def test_a_wrong_flow_is_told_once_with_2_before_anything_is_started(place: Place) -> None:
    place.flow(sink={"type": "jsonl", "path": "out", "compress": True})
    run = place.start("run", REDIS_URL="")
    assert run.wait() == 2
    assert len(run.said.splitlines()) == 1
    assert json.loads(run.said)["reason"].startswith("flows.yaml:")
    assert not (place.folder / ".millrace").exists()
