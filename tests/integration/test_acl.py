"""What the users of a Redis may do: all that their service needs, and nothing else."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from millrace.embedded import Embedded
from millrace_pipeline.envelope import DeadLetter, Record, encode
from millrace_pipeline.errors import QueueMisuse, RetryLater, SinkUnavailable
from millrace_pipeline.flows.project import Project
from millrace_pipeline.moment import now
from millrace_pipeline.queue import DeadLetters, Done, Variants, audit, books_of
from millrace_pipeline.queue.alerts import Board
from millrace_pipeline.queue.changes import changes_of
from millrace_pipeline.queue.checkpoints import move, written_of
from millrace_pipeline.queue.frontier import Settlement, crawls_of
from millrace_pipeline.queue.frontier.books import all_crawl_books
from millrace_pipeline.queue.frontier.dead import DeadRequests
from millrace_pipeline.queue.frontier.steering import pause_crawl, resume_crawl
from millrace_pipeline.queue.history import History
from millrace_pipeline.queue.keys import Keys
from millrace_pipeline.queue.listener import Listener
from millrace_pipeline.queue.marks import mark, mark_of
from millrace_pipeline.queue.pausing import pause, resume
from millrace_pipeline.queue.presence import Doing, beat, crawl_progress_of, leave
from millrace_pipeline.queue.purging import purge, requeue
from millrace_pipeline.queue.roles import CONSUMER, OPERATOR, PRODUCER, READER, RELOADER, Role, user
from millrace_pipeline.queue.spans import read_notes
from millrace_pipeline.queue.troubles import end_trouble, tell_trouble, troubles_of
from millrace_pipeline.redis.connection import in_our_words
from millrace_pipeline.redis.preflight import preflight
from tests.frontiers import frontier, page
from tests.queues import Queue

KEY = "DATA-PIPELINE-KEY"
OTHER = "OTHER-KEY"
MINE = Project("", "s", "sse:1", "stdout:1", "here")
ROLES = {"producer": PRODUCER, "consumer": CONSUMER, "reader": READER, "operator": OPERATOR}
REFUSED_TO_ALL = (
    "FLUSHALL",
    "CONFIG SET maxmemory 1",
    "CONFIG GET requirepass",
    "KEYS *",
    "SCAN 0",
    "ACL LIST",
    "SAVE",
    "SHUTDOWN",
    "CLIENT LIST",
    "CLIENT KILL TYPE normal",
    "MONITOR",
    "SLOWLOG GET",
    "SCRIPT FLUSH",
    "EVAL return(1) 0",
    "FUNCTION LIST",
    "PUBLISH a b",
    "SUBSCRIBE a",
    f"DEL {KEY}",
    f"SET {KEY} 1",
    f"RENAME {KEY} x",
    f"COPY {KEY} x",
    f"RESTORE {KEY} 0 x",
    f"MIGRATE 127.0.0.1 1 {KEY} 0 1",
    "REPLICAOF 127.0.0.1 1",
)
REFUSED_TO = {
    "producer": (
        f"LRANGE {{{KEY}}}:variants 0 0",
        *(f"{command} {KEY}" for command in ("LRANGE 0 0", "RPOP", "LTRIM 0 0", "UNLINK", "SORT")),
        f"LPUSH {OTHER} x",
        f"LPUSH {KEY}2 x",
        f"HGETALL {{{KEY}}}:claims",
        f"HGET {{{KEY}}}:claims b",
        f"HSET {{{KEY}}}:claims b x",
        f"LPUSH {{{KEY}}}:batch:b x",
        f"XRANGE {{{KEY}}}:dead - +",
        f"HSET {{{KEY}}}:steering producers x",
        f"LPUSH {{{KEY}}}:changes x",
    ),
    "consumer": (
        f"LPUSH {KEY} x",
        f"LLEN {OTHER}",
        f"LLEN {{{OTHER}}}:batch:b",
        f"SORT {KEY} BY nosort STORE {OTHER}",
        f"LMOVE {KEY} {OTHER} LEFT LEFT",
        f"HSET {{{KEY}}}:checkpoints s 1",
        f"HSET {{{KEY}}}:leader session me",
        f"INCR {{{KEY}}}:epochs",
        f"ZADD {{{KEY}}}:seen 1 a",
        f"RPUSH {KEY} x",
        f"XDEL {{{KEY}}}:dead 1-1",
        f"LPUSH {{{KEY}}}:changes x",
    ),
    "operator": (
        f"LLEN {OTHER}",
        f"HSET {{{KEY}}}:leader session me",
        f"INCR {{{KEY}}}:epochs",
        f"HSET {{{KEY}}}:project name me",
        f"BLMOVE {KEY} {{{KEY}}}:woken RIGHT LEFT 1",
        "ACL SETUSER operator +@all",
    ),
    "reader": (
        f"LPUSH {KEY} x",
        f"RPUSH {KEY} x",
        f"LTRIM {KEY} 1 0",
        f"BLMOVE {KEY} {{{KEY}}}:woken RIGHT LEFT 1",
        f"SORT {KEY} BY nosort STORE {{{KEY}}}:batch:b",
        f"HSET {{{KEY}}}:counters published 0",
        f"HINCRBY {{{KEY}}}:counters published 1",
        f"EXPIRE {{{KEY}}}:counters 1",
        f"XDEL {{{KEY}}}:dead 1-1",
        f"UNLINK {{{KEY}}}:dead",
        "SCRIPT LOAD return(1)",
        f"LLEN {OTHER}",
        f"HGETALL {{{OTHER}}}:counters",
    ),
}


def version_of(server: Embedded) -> tuple[int, int]:
    """The version by which an ACL is written: a server refuses to name what it doesn't know."""
    with redis.Redis.from_url(server.url) as client:
        major, minor, *_ = client.info("server")["redis_version"].split(".")
    return int(major), int(minor)


class Guarded:
    """A server whose `default` user may do anything, with a user for each role on database 1."""

    def __init__(self, server: Embedded) -> None:
        self.server = server
        self.version = version_of(server)
        self.admin = redis.Redis.from_url(self.url("default"))
        self.give("producer", PRODUCER)
        self.give("consumer", CONSUMER)
        self.give("reader", READER)
        self.give("operator", OPERATOR)

    def url(self, name: str) -> str:
        userinfo = "" if name == "default" else f"{name}:secret@"
        return f"redis://{userinfo}127.0.0.1:{self.server.port}/1"

    def give(self, name: str, role: Role, *, key: str = KEY, without: str = "") -> None:
        rules = role.rules([key], version=self.version).split()
        if without:
            rules.remove(without)
        self.admin.execute_command("ACL", "SETUSER", name, "reset", "on", ">secret", *rules)

    def empty(self) -> None:
        self.admin.flushall()
        self.admin.script_flush()


@pytest.fixture(scope="module")
def server() -> Iterator[Guarded]:
    with Embedded(aof=True, config={"maxmemory": "64mb"}) as server:
        yield Guarded(server)


@pytest.fixture
def guarded(server: Guarded) -> Guarded:
    server.empty()
    return server


@pytest.fixture(autouse=True)
def a_disk_that_needs_no_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked is what matters here, for each right that is left out."""
    monkeypatch.setattr("millrace_pipeline.queue.disk.EVERYSEC_SECONDS", 0.0)


def keep_history(queue: Queue) -> None:
    """Have the first note of a step made, and the older ones thinned."""
    (found,) = queue.ask(("HKEYS", queue.keys.history))
    queue.ask(("HDEL", queue.keys.history, "thinned", *found), ("HSET", queue.keys.history, "1", "0", "2", "0"))
    history = History(queue.keys, queue.ask_script)
    history.note()
    assert history.refused is None


def watch_alerts(queue: Queue) -> None:
    """What a process of a flow with alerts says and asks."""
    board = Board(queue)
    assert board.watch(60, {"rule:dead >0": b"{}", "rule:age >1s": b""})[0] == 0
    assert board.stand().came
    History(queue.keys, queue.ask_script_once).note()
    assert board.notes()
    assert board.shares("nobody's", 0) == (0, 0)
    board.watch(0, {"rule:dead >0": b""})


def crawl(queue: Queue) -> None:
    """Everything that a spider ever says of a crawl that others share."""
    spider = frontier(queue, crawl=queue.id, start=True)
    assert spider.offer([page("a"), page("b"), page("b")]) == 2
    first, second, third = spider.claim(5).requests
    assert spider.renew([first, second, third]) == [True] * 3
    ends = [Settlement(first, "done"), Settlement(second, "later"), Settlement(third, "dead", why={"reason": "bad"})]
    assert spider.settle(ends) == [True] * 3
    spider.stop("finished")


def steer_crawl(queue: Queue) -> None:
    """Everything that a person ever changes of a crawl."""
    assert frontier(queue, crawl=queue.id).offer([page("a")]) == 1
    assert pause_crawl(queue, queue.id)
    assert resume_crawl(queue, queue.id)
    crawled = next(name for name in crawls_of(queue) if len(DeadRequests(queue, name)))
    (dead,) = DeadRequests(queue, crawled)
    assert DeadRequests(queue, crawled).replay([dead.number]) == 1


def produce(url: str, key: str = KEY) -> None:
    """Everything that a producer ever says to Redis."""
    lines = [encode(Record({"n": n}), id=str(n), source="s", time=now(), mark=key) for n in range(7)]
    queue = Queue(url, key)
    try:
        mark(queue, MINE)
        assert queue.lead(30) == 0
        assert queue.checkpoint("s") in (None, "7")
        dead = [DeadLetter(b"{", "no JSON")]
        _, listened = queue.ask(("XADD", queue.keys.tap_in, "*", "listener", "somebody"), ("XLEN", queue.keys.tap_in))
        done = queue.publish(lines, ids=list("0123456"), seen_seconds=60, dead=dead, checkpoint=("s", "7"))
        queue.publishing.tap.close()
        assert queue.ask(("XLEN", queue.keys.tap_in)) == [listened + bool(done.records)]
        queue.publishing._fence.close()
        queue.publish(lines, ids=list("0123456"), seen_seconds=60)
        queue.publish(lines[:2], variants=[0, 1])
        queue.publishing._fence.raise_()
        assert queue.lag() >= 0
        tell_trouble(queue, "down", None)
        end_trouble(queue)
        assert beat(queue, "p", Doing("p", 2.0), look=True, role="producer") == 1
        leave(queue, "p", "producer")
        watch_alerts(queue)
        crawl(queue)
        assert queue.publishes_on_disk(threading.Event()) == 3
        assert queue.publishing._disk.reason is None
        queue.resign()
        keep_history(queue)
    finally:
        queue.close_all()


def consume(url: str, key: str = KEY) -> None:
    """Everything that a consumer, `status`, `verify` and `dead ls` ever say to Redis."""
    queue = Queue(url, key, lease_seconds=30, fsync="write")
    try:
        mark(queue, MINE)
        assert beat(queue, "c", Doing("c", 2.0), look=True) == 1
        leave(queue, "c")
        queue.wait(0.01)
        claim = queue.claim(2)
        assert claim is not None
        queue.secure(claim)
        assert queue.claiming._disk.reason is None
        queue.renew(claim)
        assert queue.fill(claim, 2) == 2
        queue.release(claim)
        again = queue.reclaim()
        assert again is not None
        queue.split(again, attempts=0)
        queue.split(again, attempts=0)  # as after a lost reply
        half = queue.reclaim()
        assert half is not None
        for key in (queue.keys.tap_in, queue.keys.tap_out):
            Listener(queue, key).look()
        (listened,) = queue.ask(("XLEN", queue.keys.tap_out))
        queue.ack(half, delivered=0, filtered=1, dead=[DeadLetter(half.lines[0], "mine")])
        other = queue.reclaim()
        assert other is not None
        assert queue.state("r") is None
        queue.settle([Done(other, 1, 1)], name="r", state=1)
        for tap in (queue.leases.tap, queue.settling.tap):
            tap.take(1)
            tap.close()
        assert queue.ask(("XLEN", queue.keys.tap_out)) == [listened + 2]
        queue.abandon(other, "failed")
        rest = queue.reclaim()
        assert rest is not None
        queue.delay(rest, {0: RetryLater(0)})
        (lease,) = queue.books().leases
        assert lease.delayed
        for _ in range(2):
            queue.ask(("ZADD", queue.keys.leases, 0, lease.batch))  # its time has come
            delayed = queue.reclaim()
            assert delayed is not None
            queue.put_off(delayed, RetryLater(60))
        queue.ask(("ZADD", queue.keys.leases, 0, lease.batch))
        delayed = queue.reclaim()
        assert delayed is not None
        queue.ack(delayed, delivered=1)
        assert audit(queue).difference == queue.books().difference == 0
        watch_alerts(queue)
        Board(queue).add_shares({"price": (5, 1)})
        queue.ask(("HSET", queue.keys.shares, "1 looked price", 1))
        Board(queue).add_shares({"price": (5, 1)})
        assert Board(queue).shares("price", 0)[0] % 10 == 0
        assert mark_of(queue) == MINE
        assert troubles_of(queue) == []
        assert crawl_progress_of(queue) is None
        assert [books.difference for books in all_crawl_books(queue)] == [0]
        letters = DeadLetters(queue)
        assert len(letters) == 2
        newest, _ = letters.newest()
        assert letters.get(newest.id) == newest
        assert len(list(Variants(queue).newest())) == 2
        keep_history(queue)
    finally:
        queue.close_all()


def steer(url: str, key: str = KEY) -> None:
    """Everything that a person who steers ever says to Redis, beside what one who looks does."""
    queue = Queue(url, key)
    try:
        steer_crawl(queue)
        assert pause(queue, note="a test").keys() == {"producers", "consumers"}
        assert resume(queue)["consumers"].by.user.startswith("operator")
        batch = next(iter(books_of(queue).leases), None)
        if batch is not None:
            assert requeue(queue, batch.batch, whole=True, force=True) == batch.records
            assert requeue(queue, batch.batch) == batch.records
        assert purge(queue, 2, to_dead=True) == 2
        assert purge(queue, 1, to_dead=False) == 1
        assert move(queue, "s", "8") == "7"
        assert move(queue, "s", None) == "8"
        assert written_of(queue, None) is not None
        letters = DeadLetters(queue)
        first, second = list(letters.newest())[:2]
        assert letters.replay(first)
        assert letters.replay(second, edited=b"{}")
        newer, older = list(Variants(queue).newest())[:2]
        assert Variants(queue).replay(newer)
        assert Variants(queue).drop(older)
        third, fourth = list(letters.newest())[:2]
        assert letters.drop(third)
        assert letters.drop(fourth)
        assert all(change.by.user.startswith("operator") for change in changes_of(queue))
        assert next(change.what for change in changes_of(queue)) == "dead drop"
        for tap in (queue.keys.tap_in, queue.keys.tap_out):
            Listener(queue, tap).look()
        keep_history(queue)
    finally:
        queue.close_all()


def read(url: str) -> None:
    """What somebody who only looks asks for, by Millrace and by redis-cli."""
    queue = Queue(url, KEY)
    try:
        assert audit(queue).difference == queue.books().difference == 0
        assert audit(queue).exact
        letters = DeadLetters(queue)
        assert [letters.get(letter.id) for letter in letters.newest()]
        assert queue.checkpoint("s") == "7"
        assert queue.lag() == 7
        assert troubles_of(queue) == []
        assert read_notes(queue)[-1].numbers[:2] == (10, 0)
        assert len(Variants(queue)) == len(list(Variants(queue).newest())) == 2
    finally:
        queue.close_all()
    client = redis.Redis.from_url(url)
    keys = Keys(KEY)
    assert client.llen(KEY) == 7
    assert len(client.lrange(KEY, 0, 0)) == 1
    assert client.hgetall(keys.counters)[b"published"] == b"10"
    assert client.zrange(keys.leases, 0, -1, withscores=True) == []
    assert client.xlen(keys.dead) == 1
    client.close()


def test_every_role_can_do_all_that_its_services_do(guarded: Guarded) -> None:
    produce(guarded.url("producer"))
    read(guarded.url("reader"))
    consume(guarded.url("consumer"))
    produce(guarded.url("producer"))


@pytest.mark.parametrize("role", ["producer", "consumer"])
def test_preflight_finds_a_server_fit_for_these_users(guarded: Guarded, role: str) -> None:
    (unknown,) = (found for found in preflight(guarded.url(role)) if found.level != "ok")
    assert (unknown.level, "CONFIG is refused" in unknown.message) == ("unknown", True)


def test_preflight_refuses_a_user_who_may_only_read(guarded: Guarded) -> None:
    (finding,) = preflight(guarded.url("reader"))
    assert (finding.level, finding.lasting) == ("error", True)
    assert "docs/how-to/redis.md" in finding.mend


@pytest.mark.parametrize(("role", "command"), [(r, c) for r in ROLES for c in (*REFUSED_TO_ALL, *REFUSED_TO[r])])
def test_what_a_role_does_not_need_is_refused(guarded: Guarded, role: str, command: str) -> None:
    words = command.split()
    if words[-1] == KEY and words[0] in ("LRANGE", "RPOP", "LTRIM", "UNLINK", "SORT"):
        words = [words[0], KEY, *words[1:-1]]
    client = redis.Redis.from_url(guarded.url(role))
    with pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*words)
    client.close()


def test_a_consumer_may_write_to_a_sink_s_key_with_the_ack_and_no_more_to_its_list(guarded: Guarded) -> None:
    hashed = hashlib.sha256(b"secret").hexdigest()
    line = user("consumer", [hashed], CONSUMER, [KEY], written=["out*"], version=guarded.version)
    rules = re.findall(r"\([^)]*\)|\S+", line.split(" ", 2)[2])
    guarded.admin.execute_command("ACL", "SETUSER", "consumer", *rules)
    produce(guarded.url("producer"))
    queue = Queue(guarded.url("consumer"), KEY)
    try:
        for write in (("LPUSH", "out*", "x"), ("XADD", "out*", "*", "f", "x"), ("HSET", "out*", "f", "x")):
            claim = queue.claim(1)
            assert claim is not None
            queue.ack(claim, delivered=1, writes=[write])
            with pytest.raises(QueueMisuse, match="refuses"):
                queue.ask(("UNLINK", "out*"))  # it may be another flow's list
            guarded.admin.unlink("out*")
        claim = queue.claim(1)
        assert claim is not None
        with pytest.raises(SinkUnavailable, match="permission"):
            queue.ack(claim, delivered=1, writes=[("LPUSH", "outside", "x")])
    finally:
        queue.close_all()
    with redis.Redis.from_url(guarded.url("consumer")) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.lpush(KEY, "x")


def test_a_script_gives_nobody_more_than_he_has(guarded: Guarded) -> None:
    """Not even one that somebody else has loaded, as long as its name is known."""
    sha = guarded.admin.script_load("return redis.call('DEL', KEYS[1])")
    guarded.admin.lpush(KEY, "x")
    for role in ("producer", "consumer"):
        client = redis.Redis.from_url(guarded.url(role))
        with pytest.raises(redis.ResponseError) as caught:
            client.evalsha(sha, 1, KEY)
        assert "Redis refuses this user: " in str(in_our_words(caught.value))
        client.close()
    assert guarded.admin.llen(KEY) == 1


DISPENSABLE = {"+client|setinfo", "+ping"}
"""redis-py says the first and does not mind a refusal, which would only fill `ACL LOG`; health checks ask the other."""


def rules(role: Role) -> list[str]:
    needed = [rule for rule in role.rules([KEY]).split() if rule[0] in "+~%" and rule not in DISPENSABLE]
    return [rule for rule in needed if rule != "+info"]  # preflight alone asks for it


def work(name: str, guarded: Guarded) -> None:
    """All that the service does."""
    url = guarded.url(name)
    {"producer": produce, "consumer": consume, "operator": steer}[name](url)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        (name, rule)
        for name in ("producer", "consumer", "operator")
        for rule in rules(ROLES[name])
        if name != "operator" or rule not in rules(READER)
    ],
)
def test_nothing_in_a_role_can_be_left_out(guarded: Guarded, name: str, rule: str) -> None:
    guarded.give(name, ROLES[name], without=rule)
    if name != "producer":
        produce(guarded.url("producer"))
    if name == "operator":
        for _ in range(3):
            produce(guarded.url("producer"))
        queue = Queue(guarded.url("consumer"), KEY)
        for _ in range(2):
            assert queue.claim(1) is not None
        queue.close_all()
    try:
        with pytest.raises((QueueMisuse, AssertionError)):
            work(name, guarded)
    finally:
        guarded.give(name, ROLES[name])


@pytest.mark.parametrize("key", ["millrace:quotes", "{tag}:list", "odd*[key]?\\"])
def test_a_role_fits_any_list_and_that_list_alone(guarded: Guarded, key: str) -> None:
    for name in ("producer", "consumer"):
        guarded.give(name, ROLES[name], key=key)
    try:
        produce(guarded.url("producer"), key)
        consume(guarded.url("consumer"), key)
        for name in ("producer", "consumer"):
            client = redis.Redis.from_url(guarded.url(name))
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.llen(KEY)
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.llen("oddly-key-x")
            client.close()
    finally:
        for name in ("producer", "consumer"):
            guarded.give(name, ROLES[name])


def test_an_acl_file_with_hashes_lets_the_roles_in_and_default_only_look(tmp_path: Path) -> None:
    hashed = hashlib.sha256(b"s3cret").hexdigest()
    file = tmp_path / "users.acl"
    with Embedded() as server:
        version = version_of(server)
    lines = [
        user("default", [], READER, [KEY], version=version),
        user("producer", [hashed], PRODUCER, [KEY], version=version),
        user("consumer", [hashed], CONSUMER, [KEY], version=version),
        user("reloader", [hashed], RELOADER, [], version=version),
    ]
    file.write_text("\n".join(lines) + "\n")
    with Embedded(aof=True, config={"aclfile": str(file)}) as server:
        base = f"127.0.0.1:{server.port}/0"
        produce(f"redis://producer:s3cret@{base}")
        read(f"redis://{base}")
        consume(f"redis://consumer:s3cret@{base}")
        with pytest.raises(QueueMisuse, match=r"(?i)NOPERM|permission"):
            produce(f"redis://{base}")
        client = redis.Redis.from_url(f"redis://reloader:s3cret@{base}")
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.ping()
        looks = user("default", [], READER, [OTHER], version=version)
        file.write_text("\n".join([looks, *lines[1:]]) + "\n")
        assert client.execute_command("ACL", "LOAD")
        with redis.Redis.from_url(f"redis://{base}") as looking:
            assert looking.llen(OTHER) == 0


@pytest.mark.parametrize("command", ["status", "verify", "dead ls s", "dead export s", "variants ls s"])
def test_who_only_looks_needs_no_more_than_a_reader_has(guarded: Guarded, tmp_path: Path, command: str) -> None:
    produce(guarded.url("producer"))
    (tmp_path / "flows.yaml").write_text(
        f"flows: {{s: {{source: {{type: sse, url: 'http://127.0.0.1:1/'}}, "
        f"queue: {{key: {KEY}}}, sink: {{type: stdout}}}}}}"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE_", "REDIS_"))}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "millrace", *command.split()],
        cwd=tmp_path,
        env={**environ, "REDIS_URL": guarded.url("reader")},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr


DOCS = Path(__file__).parents[2] / "docs" / "how-to" / "redis.md"


@pytest.mark.parametrize("name", ROLES)
def test_the_documented_rules_are_these(name: str) -> None:
    found = re.search(rf"ACL SETUSER {name} on >\S+\s(.*?)\n(?=ACL|```)", DOCS.read_text(), re.DOTALL)
    assert found, f"no ACL SETUSER {name} in {DOCS}"
    assert found[1].split() == ROLES[name].rules([KEY]).split()
