"""The stack's users and passwords: made once, hashed for Redis, and fitting the flows of today."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from millrace.embedded import Embedded

FLOW = (
    "{{source: {{type: sse, url: 'http://127.0.0.1:1/?t=${{NOT_SET}}'}}, queue: {{key: {}}}, sink: {{type: stdout}}}}"
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("redis", "producer", "consumer"):
        (tmp_path / "access" / name).mkdir(parents=True)
    return tmp_path


def grant(place: Path, *lists: str, port: int = 1, flows: str = "") -> subprocess.CompletedProcess[str]:
    """Runs it as the stack does, for flows on these lists, or for these flows."""
    flows = flows or ", ".join(f"f{number}: {FLOW.format(name)}" for number, name in enumerate(lists))
    (place / "flows.yaml").write_text(f"flows: {{{flows}}}")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE_", "REDIS_"))}
    done = subprocess.run(
        [sys.executable, "-m", "millrace.access", str(place / "access")],
        cwd=place,
        env={**environ, "REDIS_URL": f"redis://127.0.0.1:{port}/0"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done


def text(place: Path, name: str) -> str:
    return (place / "access" / name).read_text()


def password(place: Path, name: str) -> str:
    return text(place, name).partition("@")[0].rpartition(":")[2]


def test_passwords_are_made_once_and_redis_gets_only_hashes(place: Path) -> None:
    said = grant(place, "A").stderr
    names = ("producer/url", "consumer/url", "redis/reload")
    first = {name: text(place, name) for name in names}
    said += grant(place, "A", "B").stderr
    assert {name: text(place, name) for name in names} == first
    assert len({password(place, name) for name in names}) == 3
    for name in names:
        assert len(password(place, name)) == 64
        assert password(place, name) not in text(place, "redis/users.acl") + said
        assert stat.S_IMODE((place / "access" / name).stat().st_mode) == 0o400
    assert stat.S_IMODE((place / "access" / "redis" / "users.acl").stat().st_mode) == 0o444


def test_the_consumer_may_write_where_a_redis_sink_of_this_server_does_and_nobody_else_may(place: Path) -> None:
    sink = "[{type: stdout}, {type: redis, key: OUT}, {type: redis, key: FAR, url: 'redis://h/'}]"
    flow = f"{{source: {{type: sse, url: 'http://127.0.0.1:1/'}}, queue: {{key: A}}, sink: {sink}}}"
    grant(place, flows=f"f: {flow}")
    users = {line.split()[1]: line for line in text(place, "redis/users.acl").splitlines()}
    assert users["consumer"].endswith(" ~OUT) (+llen +xlen +hget +lpush +rpush +xadd +hset ~OUT)")
    assert "OUT" not in users["producer"] + users["reader"]
    assert "FAR" not in text(place, "redis/users.acl")


def test_a_redis_that_runs_lets_the_services_at_the_list_of_a_new_flow(place: Path) -> None:
    grant(place, "A")
    # An embedded server is asked by `default` whether it is there, which in the stack nobody can be.
    users = place / "access" / "redis" / "users.acl"
    nobody = "user default reset off ~* &* +@all"
    lines = users.read_text()
    assert nobody in lines.splitlines()
    users.chmod(0o600)
    users.write_text(lines.replace(nobody, "user default reset on nopass ~* &* +@all"))
    with Embedded(config={"aclfile": str(users)}) as server:
        assert server.port
        producer = redis.Redis(port=server.port, username="producer", password=password(place, "producer/url"))
        looking = redis.Redis(port=server.port, username="reader", password="none")
        producer.lpush("A", "x")
        with pytest.raises(redis.exceptions.NoPermissionError):
            producer.lpush("B", "x")
        assert "access_reloaded" in grant(place, "A", "B", port=server.port).stderr
        producer.lpush("B", "x")
        assert looking.llen("B") == 1
        with pytest.raises(redis.exceptions.NoPermissionError):
            looking.lpush("B", "x")
        with redis.Redis(port=server.port) as default, pytest.raises(redis.exceptions.AuthenticationError):
            default.ping()
        looking.close()
        producer.close()


def test_a_redis_that_does_not_run_is_no_reason_to_fail(place: Path) -> None:
    grant(place, "A")
    assert "access_waits" in grant(place, "A").stderr
