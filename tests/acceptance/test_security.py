"""The stack keeps its secrets, and lets nobody do what he needn't, while it delivers.

One run on the bundled sites gives the evidence; each test is one claim about it.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.acceptance.stackrun import CommandFailed, StackRun, until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

KEY = "DATA-PIPELINE-KEY"
MINE = "WIKIPEDIA-PIPELINE-KEY"  # of the producer that is asked
QUOTES = 100
LOGINS = {"producer": "producer-wikipedia", "consumer": "consumer"}

OVERRIDE = """
services:
  consumer:
    environment: {BATCH: "100", LINGER: 1s, LEASE: 10s}
"""

REFUSED = {
    "reader": (
        f"LPUSH {KEY} x",
        f"DEL {KEY}",
        f"LTRIM {KEY} 1 0",
        f"HSET {{{KEY}}}:counters published 0",
        "SET another-key 1",
        "GET another-key",
        "FLUSHALL",
        "KEYS *",
        "CONFIG GET *",
        "CONFIG SET maxmemory 1",
        "ACL LIST",
        "ACL LOAD",
        "SHUTDOWN NOSAVE",
        "MONITOR",
        "EVAL return(1) 0",
        "CLIENT LIST",
    ),
    "producer": (
        f"LRANGE {MINE} 0 0",
        f"RPOP {MINE}",
        f"DEL {MINE}",
        f"HSET {{{MINE}}}:claims b x",
        f"LPUSH {KEY} x",
        f"LLEN {KEY}",
        f"HSET {{{KEY}}}:counters published 0",
        f"HSET {{{KEY}}}:checkpoints quotes 0",
        "SET another-key 1",
        "FLUSHALL",
        "CONFIG GET *",
        "KEYS *",
        "ACL LIST",
    ),
    "consumer": (
        f"LPUSH {KEY} x",
        f"HSET {{{KEY}}}:checkpoints s 1",
        "SET another-key 1",
        "FLUSHALL",
        "CONFIG GET *",
        "KEYS *",
        "ACL LIST",
    ),
}

ASK = """
import os, redis, sys
client = redis.Redis.from_url(open(os.environ["REDIS_URL_FILE"]).read())
for line in sys.argv[1:]:
    try:
        client.execute_command(*line.split())
        print("done")
    except redis.exceptions.NoPermissionError:
        print("NOPERM")
"""
"""Run in a service's container, as that service's user."""


ASK_AS_NOBODY = """
import redis
try:
    print(redis.Redis(host="redis").ping())
except redis.exceptions.AuthenticationError:
    print("refused")
"""


@dataclass
class Evidence:
    """What a run showed."""

    listed: str = ""
    newest: str = ""
    without_user: str = ""
    published: tuple[int, int] = (0, 0)
    redis_log: str = ""
    passwords: list[str] = field(default_factory=list, repr=False)
    answers: dict[str, list[str]] = field(default_factory=dict)
    seen: dict[str, str] = field(default_factory=dict, repr=False)
    books: dict[str, dict[str, int]] = field(default_factory=dict)
    books_after: dict[str, dict[str, int]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict, repr=False)


@pytest.fixture(scope="module")
def evidence(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evidence]:
    """The whole run. Its containers, networks and volumes are gone afterwards, however it ends."""
    with StackRun.built(tmp_path_factory.mktemp("stack"), OVERRIDE) as run:
        yield look(run)


def look(run: StackRun) -> Evidence:
    """Up without consumers; looked at with redis-cli; delivered; looked at from all sides; down and up again."""
    evidence = Evidence()
    run.stack.up(scale={"consumer": 0})
    until("all quotes on the list", lambda: run.redis_cli("LLEN", KEY) == str(QUOTES))
    evidence.listed = run.redis_cli("LLEN", KEY)
    evidence.newest = run.redis_cli("LRANGE", KEY, "0", "0")
    run.stack.scale({"consumer": 1})
    until("quotes delivered", lambda: run.books()["quotes"]["delivered"] == QUOTES)
    until("events delivered", lambda: run.books()["wikipedia"]["delivered"])

    for user, service in LOGINS.items():
        evidence.passwords.append(run.execute(service, "cat", "/access/url").partition("@")[0].rpartition(":")[2])
        evidence.answers[user] = run.execute(service, "python", "-c", ASK, *REFUSED[user]).splitlines()
        evidence.files[user] = run.execute(service, "sh", "-c", "ls -A /access; stat -c %a /access/url")
    evidence.answers["reader"] = [
        "NOPERM" if run.redis_cli(*line.split()).startswith("NOPERM") else "done" for line in REFUSED["reader"]
    ]
    evidence.without_user = run.execute("consumer", "python", "-c", ASK_AS_NOBODY)
    evidence.files["redis"] = run.execute("redis", "cat", "/access/users.acl")
    evidence.files["reload, read by redis"] = _said(run, "redis", "cat", "/access/reload")
    evidence.files["users.acl, written by redis"] = _said(run, "redis", "sh", "-c", "echo x >> /access/users.acl")
    evidence.seen = everything(run)
    evidence.books = run.books()

    before = published(run)
    run.stack.down()
    run.stack.up(["redis"])
    evidence.published = before, until("redis is back", lambda: published(run))
    run.stack.up(scale={"consumer": 1})
    until("events delivered again", lambda: run.books()["wikipedia"]["delivered"] > delivered(evidence))
    again = [run.execute(service, "cat", "/access/url") for service in LOGINS.values()]
    evidence.files["the passwords after down and up"] = "\n".join(again)
    evidence.books_after = run.books()
    evidence.redis_log = run.compose("logs", "--no-color", "redis")
    return evidence


def published(run: StackRun) -> int:
    """How many events ever were, as Redis remembers it."""
    said = run.redis_cli("HGET", "{WIKIPEDIA-PIPELINE-KEY}:counters", "published")
    return int(said) if said.isdigit() else 0  # it may still be loading its file, and say so


def delivered(evidence: Evidence) -> int:
    return evidence.books["wikipedia"]["delivered"]


def everything(run: StackRun) -> dict[str, str]:
    """All that somebody with Docker is shown of the stack without going into a container for it."""
    names = [one.name for one in run.stack.ps()]
    seen = {f"docker inspect {name}": json.dumps(run.inspect(name)) for name in names}
    seen |= {
        "docker compose config": run.compose("config"),
        "docker compose logs": run.compose("logs", "--no-color"),
    }
    for one in run.stack.ps():
        if one.state == "running":
            seen[f"docker top {one.name}"] = subprocess.run(
                ["docker", "top", one.name, "-eo", "pid,args"], capture_output=True, text=True, check=True
            ).stdout
    for service in (*LOGINS.values(), "redis"):
        seen[f"the environment of {service}"] = run.execute(service, "env")
    return seen


def _said(run: StackRun, service: str, *words: str) -> str:
    try:
        return run.execute(service, *words)
    except CommandFailed as error:
        return str(error)


def test_redis_cli_shows_the_list_without_a_password(evidence: Evidence) -> None:
    assert evidence.listed == str(QUOTES)
    assert json.loads(evidence.newest)["specversion"] == "1.0"


@pytest.mark.parametrize(
    ("user", "number"), [(user, number) for user in REFUSED for number in range(len(REFUSED[user]))]
)
def test_nobody_can_do_what_he_need_not(evidence: Evidence, user: str, number: int) -> None:
    assert evidence.answers[user][number] == "NOPERM", f"{user}: {REFUSED[user][number]}"


def test_each_service_has_a_password_of_its_own(evidence: Evidence) -> None:
    assert [len(password) for password in evidence.passwords] == [64, 64]
    assert len(set(evidence.passwords)) == 2


def test_passwords_are_nowhere_to_be_seen(evidence: Evidence) -> None:
    assert len(evidence.seen) > 12
    for where, text in evidence.seen.items():
        assert text, where
        assert not [password for password in evidence.passwords if password in text], where


def test_a_service_finds_only_its_own_password(evidence: Evidence) -> None:
    assert evidence.files["producer"].split() == ["url", "400"]
    assert evidence.files["consumer"].split() == ["pgpass", "url", "400"]


def test_redis_holds_hashes_and_can_not_change_who_may_what(evidence: Evidence) -> None:
    assert "user producer-wikipedia reset on #" in evidence.files["redis"]
    assert not [password for password in evidence.passwords if password in evidence.files["redis"]]
    assert "Permission denied" in evidence.files["reload, read by redis"]
    assert "cannot create" in evidence.files["users.acl, written by redis"]


def test_the_stack_delivers(evidence: Evidence) -> None:
    assert evidence.books["quotes"]["delivered"] == QUOTES
    for book in (*evidence.books.values(), *evidence.books_after.values()):
        assert book["difference"] == 0
        assert book["dead"] == 0


def test_redis_forgets_nothing_over_down_and_up(evidence: Evidence) -> None:
    """Redis 8.0 replays its file as `default`, and would leave out what that user may not do."""
    before, after = evidence.published
    assert after >= before > 0
    assert "CRITICAL" not in evidence.redis_log


def test_who_names_no_user_is_nobody(evidence: Evidence) -> None:
    assert evidence.without_user.strip() == "refused"


def test_passwords_outlive_down_and_up(evidence: Evidence) -> None:
    assert all(password in evidence.files["the passwords after down and up"] for password in evidence.passwords)
    assert evidence.books_after["wikipedia"]["delivered"] > delivered(evidence)
