"""`millrace top` on real flows and real consumers."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from millrace.embedded import Embedded
from millrace.observing import FlowSeen, Observer
from millrace_consumer.runner import Consumer
from millrace_pipeline import envelope
from millrace_pipeline.envelope import Record
from millrace_pipeline.flows.flow import load
from millrace_pipeline.process import pulse
from millrace_pipeline.process.supervisor import SERVICE
from millrace_pipeline.queue.presence import Doing, Role, beat, leave, presences
from millrace_pipeline.queue.roles import READER
from millrace_pipeline.queue.troubles import tell_trouble
from tests.conftest import eventually
from tests.integration.test_acl import version_of
from tests.queues import Queue
from tests.services import NOWHERE, Place

SLOW = {"type": "python", "function": "theirs:slow"}
THEIRS = """
import pathlib, time

def slow(batch):
    time.sleep(0.2)

def broken(batch):
    if pathlib.Path("broken").exists():
        raise OSError("no route to host")
"""


@pytest.fixture
def place(tmp_path: Path, redis_url: str, key: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    with Place(tmp_path, redis_url, key) as place:
        place.module(THEIRS)
        yield place


def observer(place: Place, **options: Any) -> Observer:
    return Observer(place.redis_url, list(load(place.folder / "flows.yaml").values()), **options)


def once(place: Place, *arguments: str, **environ: str) -> str:
    done = place.start("top", *arguments, **environ)
    assert done.wait() == 0, done.said
    return done.printed


class Terminal:
    """`millrace top`, or another command, on a terminal of 80 columns. `screen` is what top shows, as text."""

    def __init__(self, folder: Path, *arguments: str, url: str, columns: int = 80, command: str = "top") -> None:
        environ = {**os.environ, "REDIS_URL": url, "TERM": "xterm", "COLUMNS": str(columns), "LINES": "24"}
        self._main, side = pty.openpty()
        words = [sys.executable, "-P", "-m", "millrace", command, *arguments]
        self._process = subprocess.Popen(
            words, cwd=folder, env=environ, stdin=side, stdout=side, stderr=side, start_new_session=True
        )
        os.close(side)
        self.output = b""

    @property
    def screen(self) -> str:
        """The last whole page."""
        while select.select([self._main], [], [], 0)[0]:
            try:
                self.output += os.read(self._main, 1 << 20)
            except OSError:
                break
        pages = self.output.split(b"\x1b[H")
        page = pages[-1] if pages[-1].count(b"\n") >= 20 else pages[-2] if len(pages) > 1 else b""
        return re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", page).decode(errors="replace")

    def shows(self, claim: Callable[[str], bool]) -> str:
        """The page, once the claim holds of it."""
        eventually(lambda: claim(self.screen), 30)
        return self.screen

    def has_shown(self, claim: Callable[[str], bool]) -> None:
        """Return once the claim holds of all that was printed."""
        eventually(lambda: (self.screen, claim(self.output.decode(errors="replace")))[1], 60)

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def press(self, keys: str) -> None:
        os.write(self._main, keys.encode())

    def ends(self) -> int:
        try:
            eventually(lambda: (self.screen, self._process.poll())[1] is not None, 30)
            return self._process.returncode
        finally:
            os.close(self._main)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def test_a_slow_sink_is_named_with_what_more_consumers_would_do(place: Place) -> None:
    place.flow(source=NOWHERE, sink=SLOW)
    place.publish(range(5000))
    for _ in range(2):
        place.consume()
    eventually(lambda: place.books().delivered > 30, 30)
    eventually(lambda: "sink-bound" in once(place, "--once"), 60)
    printed = once(place, "--once")
    assert re.search(
        r"numbers: sink-bound: \d\d+ % of 2 consumers' time is writing; empty in .*; 1 more consumer: ", printed
    )
    told = json.loads(once(place, "--json"))["flows"][0]
    assert told["books"]["difference"] == 0
    assert [consumer["write_share"] > 0.6 for consumer in told["consumers"]] == [True, True]
    assert told["out_a_second"] > 0


def test_idle_unconsumed_and_broken_flows_look_different(place: Place) -> None:
    (place.folder / "broken").touch()
    place.flow("idle")
    place.flow("alone")
    place.flow("bad", sink={"type": "python", "function": "theirs:broken"})
    place.publish(range(3), "alone")
    place.publish(range(3), "bad")
    place.consume("idle")
    place.consume("bad").await_event("sink_unavailable")

    def told() -> dict[str, str]:
        return {one["name"]: one["bottleneck"] for one in json.loads(once(place, "--json"))["flows"]}

    eventually(lambda: told()["bad"].startswith("stopped: sink of bad: no route to host"), 60)
    assert told()["alone"] == "no consumer: 3 wait"
    assert told()["idle"] == "idle: nothing comes and nothing waits; 1 consumer ready"
    since = json.loads(once(place, "--json", "bad"))["flows"][0]["trouble_since"]
    assert 0 < time.time() - since < 120
    (place.folder / "broken").unlink()
    eventually(lambda: not told()["bad"].startswith("stopped"), 60)


def test_what_keeps_a_source_from_giving_anything_is_told_with_since_when(place: Place) -> None:
    place.flow()
    with place.queue() as queue:
        tell_trouble(queue, "no route to host", int(time.time() * 1000) - 90_000)
    (told,) = json.loads(once(place, "--json"))["flows"]
    assert told["trouble"] == "source: no route to host"
    assert 80 < time.time() - told["trouble_since"] < 120


def test_a_consumer_says_that_it_is_there_and_takes_itself_off_when_it_ends(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "EVERY_SECONDS", 0.05)
    place.flow()
    stopping = threading.Event()
    flow = load(place.folder / "flows.yaml")["numbers"]
    consumer = Consumer(flow, place.redis_url, stopping=stopping, give_up=threading.Event())
    running = threading.Thread(target=consumer.run)
    running.start()
    watching = observer(place)
    eventually(lambda: watching.look()[0].consumers)
    (seen,) = watching.seen[0].consumers
    assert (seen.name, seen.works, seen.restarts) == (consumer.session.name, True, 0)
    stopping.set()
    running.join(30)
    assert watching.look()[0].consumers == []
    watching.close()


def test_one_that_is_killed_is_silent_and_its_next_life_a_restart(place: Place, client: redis.Redis) -> None:
    with place.queue() as queue, place.queue() as again:
        for session, times in ((queue, 2), (again, 2)):
            for _ in range(times):
                beat(session, "host:1/consumer-numbers", Doing("host:7", 0.01))
        now_ms = int(time.time() * 1000)
        (seen,) = presences(queue.ask(("HGETALL", queue.keys.consumers))[0], now_ms)
        assert seen.starts == 2
        assert not seen.silent
        (late,) = presences(queue.ask(("HGETALL", queue.keys.consumers))[0], now_ms + 60_000)
        assert late.silent
        leave(again, "host:1/consumer-numbers")
        assert not client.exists(queue.keys.consumers)


def test_those_silent_for_a_day_are_forgotten(place: Place, client: redis.Redis) -> None:
    with place.queue() as queue:
        beat(queue, "old", Doing("old", 2.0))
        text = client.hget(queue.keys.consumers, "old")
        assert isinstance(text, bytes)
        client.hset(queue.keys.consumers, "old", re.sub(rb'"at":\d+', b'"at":1000', text))
        client.hset(queue.keys.consumers, "odd", b"no JSON")
        assert beat(queue, "new", Doing("new", 2.0), look=True) == 1
        assert client.hkeys(queue.keys.consumers) == [b"new"]
        assert 86_000 < client.ttl(queue.keys.consumers) <= 86_400


def test_many_consumers_speak_more_rarely(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with place.queue() as queue:
        for number in range(150):
            beat(queue, f"c-{number}", Doing(f"c-{number}", 2.0))
        monkeypatch.setattr(pulse, "EVERY_SECONDS", 0.01)
        said: list[Doing] = []
        speak = pulse.beat

        def noting(queue: Queue, name: str, doing: Doing, *, look: bool, role: Role) -> int:
            said.append(doing)
            return speak(queue, name, doing, look=look, role=role)

        monkeypatch.setattr(pulse, "beat", noting)
        mine = pulse.Pulse(queue, "numbers", lambda: pulse.Progress(0.0, 0, 0, ""))
        mine.start()
        eventually(lambda: len(said) > 1, 30)
        mine.close()
        assert said[1].every == pytest.approx(151 / pulse.BEATS_A_SECOND)


def test_a_user_without_the_right_consumes_all_the_same(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "EVERY_SECONDS", 0.05)
    with Embedded() as server:
        own = place.at(server.url)
        own.flow()
        own.publish(range(5))
        with redis.Redis.from_url(server.url) as admin:
            admin.execute_command("ACL", "SETUSER", "old", "on", ">secret", "+@all", f"~{own.key_of()}", "~*batch*")
            rest = ("woken", "leases", "claims", "counters", "dead", "project", "fsync", "states", "variants")
            admin.execute_command(
                "ACL", "SETUSER", "old", *(f"~{{{own.key_of()}}}:{name}" for name in (*rest, "steering", "session:*"))
            )
        done = own.consume("--until-empty", REDIS_URL=f"redis://old:secret@127.0.0.1:{server.port}/0")
        assert done.wait() == 0, done.said
        assert own.numbers() == list(range(5))
        assert done.events("consumer_unseen")


def test_a_reader_may_look_and_nobody_there_ends_it_with_4(place: Place) -> None:
    place.flow()
    with Embedded() as server:
        own = place.at(server.url)
        own.publish(range(7))
        with redis.Redis.from_url(server.url) as admin:
            rules = READER.rules([own.key_of()], version=version_of(server)).split()
            admin.execute_command("ACL", "SETUSER", "looker", "reset", "on", ">secret", *rules)
        url = f"redis://looker:secret@127.0.0.1:{server.port}/0"
        assert "no consumer: 7 wait" in once(own, "--once", REDIS_URL=url)
    gone = place.start("top", "--once", REDIS_URL="redis://127.0.0.1:9/0")
    assert gone.wait() == 4, gone.said
    wrong = place.start("top", "--columns", "reddy")
    assert wrong.wait() == 2
    assert "there are: flow, consumers, ready" in wrong.said


def old(number: int, mark: str) -> bytes:
    """A record that was published now, and happened in 2020."""
    moment = datetime(2020, 1, 1, tzinfo=UTC)
    return envelope.encode(Record({"n": number}, time=moment), id=str(number), source="s", mark=mark)


def test_the_age_is_since_the_publish_also_of_records_with_an_older_time(place: Place) -> None:
    place.flow(source={**NOWHERE, "time": "/at"})
    clock = [1000.0]
    watching = observer(place, clock=lambda: clock[0])
    watching.look()
    with place.queue() as queue:
        for seconds in range(5):
            clock[0] = 1001.0 + seconds
            queue.publish([old(seconds, queue.keys.ready)])
            watching.look()
        clock[0] = 1100.0
        (seen,) = watching.look()
        assert (seen.age_seconds, seen.age_known) == (100.0, "")  # after the look at 1000, before that at 1001
        claim = queue.claim(2)
        assert claim is not None
        queue.ack(claim, delivered=2)
        (seen,) = watching.look()
        assert (seen.age_seconds, seen.age_known) == (98.0, "")
    watching.close()


def test_of_what_was_there_before_the_age_is_a_bound_and_said_to_be_one(place: Place) -> None:
    place.flow(source={**NOWHERE, "time": "/at"})
    with place.queue() as queue:
        queue.publish([old(1, queue.keys.ready)])
    watching = observer(place)
    (seen,) = watching.look()
    assert seen.age_known == "<="
    assert seen.age_seconds > 5 * 365 * 86400
    watching.close()


def test_two_hundred_flows_are_looked_at_in_less_than_a_second(place: Place) -> None:
    for number in range(200):
        place.flows[f"f{number}"] = {
            "source": NOWHERE,
            "queue": {"key": place.key_of(f"f{number}")},
            "sink": {"type": "null"},
        }
    place.flow("last")
    watching = observer(place)
    watching.look()
    began = time.monotonic()
    assert len(watching.look()) == 201
    assert time.monotonic() - began < 1
    watching.close()


def test_at_each_instant_under_kills_its_counts_add_up(place: Place) -> None:
    place.flow(sink=SLOW)
    place.publish(range(2000))
    watching = observer(place)
    victims = [place.consume() for _ in range(2)]
    for number in range(1000):
        (seen,) = watching.look()
        assert seen.books is not None
        assert seen.books.difference == 0
        if number % 250 == 249:
            victims[0].kill()
            victims = [*victims[1:], place.consume()]
    watching.close()


def looked(place: Place, claim: Callable[[FlowSeen], bool]) -> FlowSeen:
    watching = observer(place)
    try:
        eventually(lambda: claim(watching.look()[0]), 30)
        return watching.seen[0]
    finally:
        watching.close()


def test_a_supervised_consumer_keeps_its_name_over_its_restarts(place: Place) -> None:
    place.flow()
    for _ in range(2):
        consumer = place.consume(**{SERVICE: "consumer-numbers"})
        looked(place, lambda seen, consumer=consumer: any(f":{consumer.pid}" in one.name for one in seen.consumers))
        consumer.kill()
    seen = looked(place, lambda seen: bool(seen.consumers))
    (one,) = seen.consumers
    assert one.restarts == 1


def test_on_a_terminal_it_says_that_redis_is_away_and_goes_on_when_it_is_back(place: Place) -> None:
    place.flow()
    with Embedded() as server:
        own = place.at(server.url)
        own.publish(range(12))
        top = Terminal(place.folder, "--interval", "200ms", url=server.url)
        try:
            page = top.shows(lambda page: "no consumer: 12 wait" in page)
            assert max(map(len, page.splitlines())) <= 80
            server.stop()
            page = top.shows(lambda page: "Redis doesn't answer" in page)
            assert "12" in page
            server.start()
            own.publish(range(5))
            top.shows(lambda page: "Redis doesn't answer" not in page and "5" in page)
            top.press("/nothing\r")
            top.shows(lambda page: "only *nothing*" in page)
            top.press("s")
            top.shows(lambda page: "by flow" in page)
            top.press("q")
            assert top.ends() == 0
            assert top.output.rstrip().endswith(b"\x1b[?25h") or b"\x1b[?1049l" in top.output
        finally:
            top.kill()


def test_started_without_redis_it_waits_for_one(place: Place) -> None:
    place.flow()
    top = Terminal(place.folder, "--interval", "200ms", url="redis://127.0.0.1:9/0")
    try:
        top.shows(lambda page: "Redis doesn't answer" in page)
        top._process.send_signal(signal.SIGTERM)
        assert top.ends() == 0
    finally:
        top.kill()


def test_a_moment_without_a_batch_is_not_taken_for_a_standstill(place: Place) -> None:
    place.flow()
    place.publish(range(500))
    with place.queue() as queue:
        beat(queue, "host:1/consumer-numbers", Doing("host:7", 600.0, records_a_second=120.0))
    clock = [1000.0]
    watching = observer(place, clock=lambda: clock[0])
    watching.look()
    clock[0] += 0.4
    (seen,) = watching.look()
    assert seen.out_a_second == 120.0
    assert not seen.bottleneck.startswith("stuck")
    clock[0] += 9.0
    (seen,) = watching.look()
    assert seen.bottleneck.startswith("stuck")
    watching.close()
