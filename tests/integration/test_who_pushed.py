"""A loss and a double in every state of a record, among what others pushed: `millrace verify` finds each."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from typer.testing import CliRunner

from millrace.cli import verify
from millrace_consumer.runner import Consumer
from millrace_pipeline.envelope import DeadLetter
from millrace_pipeline.flows.flow import load
from millrace_pipeline.queue import Claim, auditing
from tests.conftest import eventually
from tests.queues import Queue
from tests.services import NOWHERE, Place

EVENT = b'{"specversion":"1.0","id":"%d","source":"numbers","type":"record","data":{"n":%d}}'


class Mixed:
    """A flow with five records of ours and two of others in each state; `plant` knows how to lose and double one."""

    def __init__(self, place: Place, queue: Queue, client: redis.Redis) -> None:
        self._place, self._queue, self._client = place, queue, client
        self._pushed = 1000
        place.flow(source={**NOWHERE, "key": "/n"}, sink={"type": "jsonl", "path": "out/numbers", "envelope": True})
        self._put(0)
        self._deliver()
        self._put(10)
        letters = self._claim()
        dead = [DeadLetter(line, "rejected") for line in letters.lines]
        queue.ack(letters, delivered=0, foreign=2, dead=dead)
        self._put(20)
        self._held = queue.keys.batch(self._claim().id)
        self._put(30)

    def push(self) -> None:
        """Somebody else puts one on the list, as bare JSON and as a CloudEvent in turn."""
        self._pushed += 1
        number = self._pushed
        self._client.lpush(self._queue.keys.ready, EVENT % (number, number) if number % 2 else b'{"n":%d}' % number)

    def lose(self, state: str) -> None:
        """One of ours is gone, and nobody counted it."""
        if state == "dead":
            self._client.xdel(self._queue.keys.dead, self._letter()[0])
        elif state == "delivered":
            path, lines, at = self._file()
            path.write_bytes(b"".join(lines[:at] + lines[at + 1 :]))
        else:
            key = self._lists()[state]
            assert self._client.lrem(key, 1, self._ours(self._client.lrange(key, 0, -1))) == 1

    def double(self, state: str) -> None:
        """One of ours is there once more, byte for byte."""
        if state == "dead":
            self._client.xadd(self._queue.keys.dead, self._letter()[1])
        elif state == "delivered":
            path, lines, at = self._file()
            path.write_bytes(b"".join([*lines, lines[at]]))
        else:
            key = self._lists()[state]
            self._client.lpush(key, self._ours(self._client.lrange(key, 0, -1)))

    def take_foreign(self) -> bytes:
        """One that somebody else pushed is gone from the batch in flight. Return it."""
        line = next(line for line in self._client.lrange(self._held, 0, -1) if b'"millrace":' not in line)
        assert self._client.lrem(self._held, 1, line) == 1
        return bytes(line)

    def put_foreign(self, line: bytes) -> None:
        """One is in the batch in flight, and the batch knows nothing of it."""
        self._client.rpush(self._held, line)

    def verify(self, *, code: int) -> str:
        """What `millrace verify --sink` says."""
        environ = {"REDIS_URL": self._place.redis_url, "COLUMNS": "200"}
        done = CliRunner().invoke(verify.app, ["--sink"], env=environ)
        assert done.exit_code == code, (done.output, done.exception)
        return done.stdout

    def _put(self, first: int) -> None:
        self._place.publish(range(first, first + 3))
        self.push()
        self.push()
        self._place.publish(range(first + 3, first + 5))

    def _claim(self) -> Claim:
        claim = self._queue.claim(7)
        assert claim is not None
        return claim

    def _deliver(self) -> None:
        flow = load(self._place.folder / "flows.yaml")["numbers"]
        never = threading.Event()
        Consumer(flow, self._place.redis_url, stopping=never, give_up=never, until_empty=True).run()

    def _lists(self) -> dict[str, str]:
        return {"ready": self._queue.keys.ready, "in flight": self._held}

    def _ours(self, lines: list[bytes]) -> bytes:
        return next(line for line in lines if b'"millrace":' in line)

    def _letter(self) -> tuple[bytes, dict[bytes, bytes]]:
        letters = self._client.xrange(self._queue.keys.dead)
        return next((id, fields) for id, fields in letters if b'"millrace":' in fields[b"record"])

    def _file(self) -> tuple[Path, list[bytes], int]:
        path = self._place.files()[0]
        lines = path.read_bytes().splitlines(keepends=True)
        return path, lines, next(at for at, line in enumerate(lines) if b'"millrace":' in line)


@pytest.fixture(params=["at once", "in pages"])
def mixed(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    redis_url: str,
    key: str,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Mixed]:
    monkeypatch.chdir(tmp_path)
    if request.param == "in pages":
        monkeypatch.setattr(auditing, "AT_ONCE_RECORDS", 5)
    with Place(tmp_path, redis_url, key) as place, place.queue() as queue:
        yield Mixed(place, queue, client)


STATES = ["ready", "in flight", "dead", "delivered"]


def test_with_foreign_records_in_every_state_nothing_is_found_where_nothing_is(mixed: Mixed) -> None:
    said = mixed.verify(code=0)
    assert "balanced" in said
    assert "7 records of 7 delivered: each once" in said
    assert ("+ foreign", "4") in [tuple(line.rsplit(maxsplit=1)) for line in said.splitlines()]
    assert ("+ foreign waiting", "4") in [tuple(line.rsplit(maxsplit=1)) for line in said.splitlines()]


@pytest.mark.parametrize("state", STATES)
def test_a_loss_is_found_in_every_state_and_a_foreign_record_hides_none(mixed: Mixed, state: str) -> None:
    mixed.lose(state)
    assert "1 missing" in mixed.verify(code=1)
    mixed.push()
    assert "1 missing" in mixed.verify(code=1)


def test_what_others_pushed_is_missed_from_a_batch_and_found_there_twice(mixed: Mixed) -> None:
    line = mixed.take_foreign()
    assert "1 missing" in mixed.verify(code=1)
    mixed.put_foreign(line)
    assert "balanced" in mixed.verify(code=0)
    mixed.put_foreign(line)
    assert "1 too many" in mixed.verify(code=1)


@pytest.mark.parametrize("state", STATES)
def test_a_double_is_found_in_every_state_and_is_not_taken_for_foreign(mixed: Mixed, state: str) -> None:
    mixed.double(state)
    told = "1 twice" if state == "delivered" else "1 too many"
    assert told in mixed.verify(code=1)
    mixed.push()
    assert told in mixed.verify(code=1)


def test_what_moves_while_it_is_read_in_pages_is_said_not_to_be_exact(
    place: Place, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditing, "AT_ONCE_RECORDS", 0)
    place.flow()
    place.publish(range(100))
    client.lpush(place.key_of(), b'{"n":1}')
    monkeypatch.chdir(place.folder)

    def look(*arguments: str) -> str:
        done = CliRunner().invoke(verify.app, list(arguments), env={"REDIS_URL": place.redis_url, "COLUMNS": "200"})
        assert done.exit_code == 0, done.output
        return done.stdout

    with moving(lambda: place.publish([1])):
        eventually(lambda: "waiting records were not looked at one by one" in look())
        eventually(lambda: json.loads(look("--json"))["numbers"]["unread"] >= 101)
        eventually(lambda: "surplus 1" in look())
    found = json.loads(look("--json"))["numbers"]
    assert (found["unread"], found["foreign_waiting"], found["difference"]) == (0, 1, 0)


class moving:
    """Does a thing over and over while the block runs."""

    def __init__(self, what: Callable[[], object]) -> None:
        self._what, self._stop = what, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._what()
