"""A user for each flow's producer and consumer: all that its flow needs, and nothing of any other flow."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from millrace.access import ROLES
from millrace.embedded import Embedded
from millrace_pipeline.errors import QueueMisuse
from millrace_pipeline.queue.keys import Keys
from millrace_pipeline.queue.roles import UNKNOWN_BEFORE
from millrace_pipeline.redis.scripts import SCRIPTS
from tests.conftest import eventually
from tests.integration.test_acl import consume, produce, steer
from tests.queues import Queue
from tests.services import NOWHERE, Place

MINE, THEIRS, OUT = "mine-key", "theirs-key", "out-key"
FLOWS = {
    "mine": {"source": {"type": "stdin"}, "queue": {"key": MINE}, "sink": {"type": "jsonl", "path": "out"}},
    "theirs": {"source": NOWHERE, "queue": {"key": THEIRS}, "sink": {"type": "stdout"}},
    "passing": {
        "source": NOWHERE,
        "queue": {"key": "passing-key"},
        "sink": [{"type": "redis", "key": OUT}, {"type": "redis", "key": THEIRS}],
    },
}
ARGUMENTS = {
    "blmove": f"{{}} {MINE} LEFT LEFT 0.01|{MINE} {{}} LEFT LEFT 0.01",
    "evalsha": "",  # of each script
    "exists": "{}",
    "expire": "{} 1",
    "get": "{}",
    "hdel": "{} f",
    "hget": "{} f",
    "hgetall": "{}",
    "hincrby": "{} f 1",
    "hkeys": "{}",
    "hlen": "{}",
    "hmget": "{} f",
    "hscan": "{} 0",
    "hset": "{} f x",
    "hsetnx": "{} f x",
    "incr": "{}",
    "lindex": "{} 0",
    "llen": "{}",
    "lmove": f"{{}} {MINE} LEFT LEFT|{MINE} {{}} LEFT LEFT",
    "lpos": "{} x",
    "lpush": "{} x",
    "lrange": "{} 0 0",
    "lrem": "{} 1 x",
    "lset": "{} 0 x",
    "ltrim": "{} 0 0",
    "pttl": "{}",
    "rpush": "{} x",
    "sort": f"{{}}|{MINE} BY nosort STORE {{}}",
    "strlen": "{}",
    "ttl": "{}",
    "type": "{}",
    "unlink": "{}|" + MINE + " {}",
    "watch": "{}",
    "xadd": "{} * f x",
    "xdel": "{} 1-1",
    "xlen": "{}",
    "xrange": "{} - +",
    "xrevrange": "{} + -",
    "zadd": "{} 1 m",
    "zcard": "{}",
    "zcount": "{} 0 1",
    "zlexcount": "{} - +",
    "zmscore": "{} m",
    "zrange": "{} 0 1",
    "zrem": "{} m",
    "zremrangebyscore": "{} 0 1",
    "zscan": "{} 0",
    "zscore": "{} a",
}
"""How each command that names keys is given with one of the other flow."""


def grant(folder: Path, *options: str, flows: object = FLOWS) -> subprocess.CompletedProcess[str]:
    """Runs it for these flows; its folders are in `access`."""
    (folder / "flows.yaml").write_text(json.dumps({"flows": flows}))
    return subprocess.run(
        [sys.executable, "-m", "millrace.access", *options, str(folder / "access"), str(folder / "flows.yaml")],
        env={"PYTHONPATH": ":".join(sys.path), "REDIS_URL": "redis://127.0.0.1:1/0"},
        capture_output=True,
        text=True,
        timeout=30,
    )


def users(folder: Path) -> dict[str, str]:
    lines = (folder / "access" / "redis" / "users.acl").read_text().splitlines()
    return {line.split()[1]: line for line in lines}


class Guarded:
    """A server that lets in whom the files say, by the URLs that they hold."""

    def __init__(self, folder: Path, flows: object = FLOWS) -> None:
        self.folder = folder
        for options in (("--folders",), ()):
            done = grant(folder, *options, flows=flows)
            assert done.returncode == 0, done.stderr
        file = folder / "access" / "redis" / "users.acl"
        lines = file.read_text().replace("user default reset off", "user default reset on nopass")
        file.chmod(0o600)
        file.write_text(lines)  # an embedded server is asked by `default` whether it is there
        self.server = Embedded(aof=True, config={"aclfile": str(file)})

    def url(self, name: str) -> str:
        text = (self.folder / "access" / name / "url").read_text()
        return text.replace(":1/", f":{self.server.port}/")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    guarded = Guarded(tmp_path_factory.mktemp("granted"))
    with guarded.server, redis.Redis.from_url(guarded.server.url) as admin:
        for text in SCRIPTS.values():
            admin.script_load(text)
        yield guarded


def every_key(name: str) -> list[str]:
    """All keys that a flow ever has."""
    keys = Keys(name)
    fixed = [value for attribute, value in vars(keys).items() if not attribute.startswith("_")]
    return [*fixed, keys.batch("b"), keys.batch("b", 2), keys.session("s")]


def test_the_whole_contract_of_a_flow_works_for_its_own_users(guarded: Guarded) -> None:
    produce(guarded.url("producer-mine"), MINE)
    consume(guarded.url("consumer-mine"), MINE)
    produce(guarded.url("producer-mine"), MINE)
    produce(guarded.url("producer-mine"), MINE)
    steer(guarded.url("operator-mine"), MINE)


def test_the_users_of_a_flow_with_partitions_reach_all_of_its_lists(tmp_path: Path) -> None:
    with Place(tmp_path, "", "mine") as place:
        place.module("def numbers():\n    for n in range(50):\n        yield {'n': n, 'key': f'k{n}'}\n")
        source = {"type": "python", "function": "theirs:numbers", "counted": True}
        place.flow("mine", source=source, queue={"partitions": 3, "by": "/key"})
        guarded = Guarded(tmp_path, place.flows)
        with guarded.server:
            for role, words in {"producer": "produce mine", "consumer": "consume --until-empty"}.items():
                service = place.start(*words.split(), REDIS_URL=guarded.url(f"{role}-mine"))
                assert service.wait() == 0, service.said
            for words in ("pause mine", "resume mine", "status", "verify --sink"):
                service = place.start(*words.split(), REDIS_URL=guarded.url("operator-mine"))
                assert service.wait() == 0, service.said
        assert place.numbers("mine") == list(range(50))


@pytest.mark.parametrize("role", ROLES)
def test_every_command_of_a_role_is_refused_on_every_key_of_another_flow(guarded: Guarded, role: str) -> None:
    with (
        redis.Redis.from_url(guarded.server.url) as admin,
        redis.Redis.from_url(guarded.url(f"{role}-mine")) as client,
    ):
        about = admin.command()
        given = [name for name in ROLES[role].commands if "|" not in name]
        with_keys = [name for name in given if about[name]["first_key_pos"] or "movablekeys" in about[name]["flags"]]
        assert set(with_keys) <= set(ARGUMENTS)
        tried = 0
        for key in every_key(THEIRS):
            lines = [f"{name} {form}" for name in with_keys for form in ARGUMENTS[name].split("|") if form]
            lines += [
                f"evalsha {admin.script_load(text)} {end}"
                for text in SCRIPTS.values()
                for end in ("1 {}", f"2 {MINE} {{}}")
            ]
            for line in lines:
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.execute_command(*line.format(key).split())
                tried += 1
        assert tried > 500
        for key in every_key(THEIRS):
            assert not admin.exists(key)


def test_a_queue_of_another_flow_is_refused_whatever_is_asked_of_it(guarded: Guarded) -> None:
    for name, ask in (
        ("producer-mine", lambda queue: queue.publish([b"{}"])),
        ("producer-mine", lambda queue: queue.lead(1)),
        ("consumer-mine", lambda queue: queue.claim(1)),
        ("consumer-mine", lambda queue: queue.wait(0.01)),
        ("consumer-mine", lambda queue: queue.books()),
    ):
        queue = Queue(guarded.url(name), THEIRS)
        with pytest.raises(QueueMisuse, match=r"(?i)permission"):
            ask(queue)
        queue.close_all()


def test_a_flow_that_writes_to_another_s_list_adds_to_it_and_can_do_nothing_else(guarded: Guarded) -> None:
    produce(guarded.url("producer-passing"), "passing-key")
    queue = Queue(guarded.url("consumer-passing"), "passing-key")
    claim = queue.claim(2)
    assert claim is not None
    queue.ack(claim, delivered=2, writes=[("LPUSH", OUT, "x", "y"), ("LPUSH", THEIRS, "x", "y")])
    queue.close_all()
    with (
        redis.Redis.from_url(guarded.url("consumer-passing")) as client,
        redis.Redis.from_url(guarded.server.url) as admin,
    ):
        assert admin.llen(OUT) == admin.llen(THEIRS) == 2
        for words in (
            "LTRIM {} 1 0",
            "UNLINK {}",
            "LRANGE {} 0 0",
            "LREM {} 1 x",
            "SORT {} BY nosort STORE {}",
            "LMOVE {} passing-key LEFT LEFT",
            "EXPIRE {} 1",
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*words.format(THEIRS, "{passing-key}:batch:b").split())
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.lpush("passing-key", "x")
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.hset(Keys(THEIRS).counters, "published", 0)
        admin.unlink(OUT, THEIRS)


def test_services_run_for_one_flow_as_its_own_users(guarded: Guarded, tmp_path: Path) -> None:
    (tmp_path / "flows.yaml").write_text(json.dumps({"flows": FLOWS}))
    urls = {}
    for name in ("producer-mine", "consumer-mine"):
        urls[name] = tmp_path / f"{name}.url"
        urls[name].write_text(guarded.url(name))
    with Place(tmp_path, "", "unused") as place, redis.Redis.from_url(guarded.server.url) as admin:
        admin.unlink(*every_key(MINE))
        producer = place.start(
            "produce", "mine", stdin=subprocess.PIPE, REDIS_URL="", REDIS_URL_FILE=str(urls["producer-mine"])
        )
        assert producer.process.stdin is not None
        producer.process.stdin.write(b'{"n": 1}\n')
        producer.process.stdin.close()
        assert producer.wait() == 0, producer.said
        for arguments in (("status", "mine"), ("verify", "mine"), ("consume", "mine", "--until-empty")):
            done = place.start(*arguments, REDIS_URL="", REDIS_URL_FILE=str(urls["consumer-mine"]))
            assert done.wait() == 0, done.said
        eventually(lambda: admin.hget(Keys(MINE).counters, "delivered") == b"1")
        for name, *arguments in (("producer-mine", "produce", "theirs"), ("consumer-mine", "consume", "theirs")):
            refused = place.start(*arguments, REDIS_URL="", REDIS_URL_FILE=str(urls[name]))
            assert refused.wait() != 0
            assert "refuses this user" in refused.said


def test_there_is_a_user_for_each_folder_and_for_no_other(tmp_path: Path) -> None:
    for name in ("redis", "producer", "consumer-mine", "consumer-gone"):
        (tmp_path / "access" / name).mkdir(parents=True)
    assert grant(tmp_path).returncode == 0
    assert set(users(tmp_path)) == {"default", "reader", "producer", "consumer-mine", "reloader"}
    assert MINE in users(tmp_path)["consumer-mine"]
    assert THEIRS not in users(tmp_path)["consumer-mine"]
    assert all(f"~{flow['queue']['key']} " in users(tmp_path)["producer"] for flow in FLOWS.values())


def test_the_password_of_tables_is_for_consumers_that_write_tables(tmp_path: Path) -> None:
    tables = {**FLOWS["theirs"], "sink": {"type": "postgres", "table": "t", "dsn": "postgresql://c@h/d"}}
    flows = {**FLOWS, "theirs": tables}
    assert grant(tmp_path, "--folders", flows=flows).returncode == 0
    (tmp_path / "access" / "postgres").mkdir()
    assert grant(tmp_path, flows=flows).returncode == 0
    holders = {path.parent.name for path in (tmp_path / "access").rglob("pgpass")}
    assert holders == {"consumer-theirs"}


def test_an_older_redis_gets_no_rule_that_it_does_not_know_and_would_not_start_with(tmp_path: Path) -> None:
    flows = {"s": {**FLOWS["theirs"], "queue": {"key": "k", "replicas": 1}}, "t": FLOWS["mine"]}
    for options in (("--folders",), ()):
        assert grant(tmp_path, *options, flows=flows).returncode == 0
    assert all("+waitaof" in users(tmp_path)[f"{role}-s"].split() for role in ROLES)
    assert all("+wait" in users(tmp_path)[f"{role}-s"].split() for role in ROLES)
    assert "+wait" not in users(tmp_path)["producer-t"].split()
    assert grant(tmp_path, "--redis", "7.0.15", flows=flows).returncode == 0
    assert not [name for name in UNKNOWN_BEFORE if f"+{name} " in "".join(users(tmp_path).values())]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = grant(tmp_path)
    assert done.returncode == 2
    assert "access/redis" in done.stderr
    assert "Traceback" not in done.stderr
