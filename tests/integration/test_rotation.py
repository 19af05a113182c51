"""New passwords while the services run: two are valid for a while, no record is lost, none comes twice."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from millrace.access import grant, make_folders
from millrace.embedded import Embedded
from millrace.rotation import Step, rotate
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import Flows, load
from tests.conftest import eventually
from tests.services import PATIENCE, Service

FLOWS = """\
flows:
  count:
    source: {type: python, function: "counting:upwards", counted: true}
    publish: {records: 20, linger: 10ms}
    batch: {records: 20, linger: 50ms}
    lease: 2s
    sink: {type: jsonl, path: out}
"""
COUNTING = """\
import itertools, time


def upwards():
    for number in itertools.count():
        time.sleep(0.002)
        yield {"n": number}
"""


class Rotating:
    """A Redis that reads its users from a file, and a producer and a consumer by the URLs of today."""

    def __init__(self, folder: Path, server: Embedded, flows: Flows) -> None:
        self.folder, self.server, self.flows = folder, server, flows
        self.running: dict[str, Service] = {}

    def write(self) -> None:
        """Writes what the users may do; `default` may come in, for the test to look."""
        place = f"redis://127.0.0.1:{self.server.port or 1}/0"
        grant(self.folder / "access", place, list(self.flows.values()), reload=False)
        users = self.folder / "access" / "redis" / "users.acl"
        users.chmod(0o600)
        users.write_text(users.read_text().replace("user default reset off", "user default reset on nopass"))

    def deploy(self) -> None:
        """Has Redis read its users, and each service started anew, the consumer's successor first."""
        with redis.Redis(port=self.server.port) as default:
            default.acl_load()
        for role, command in (("consumer", "consume"), ("producer", "produce")):
            before = self.running.get(role)
            mine = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE_", "REDIS_"))}
            url = self.folder / f"{role}-url"  # as a secret has it, which stays what it is
            url.unlink(missing_ok=True)
            url.write_text((self.folder / "access" / f"{role}-count" / "url").read_text())
            self.running[role] = Service([command, "count"], self.folder, {**mine, "REDIS_URL_FILE": str(url)})
            if before:
                before.process.terminate()
                assert before.wait() == 0, before.said

    def delivered(self) -> list[int]:
        files = sorted((self.folder / "out").rglob("*.jsonl"))
        return [json.loads(line)["n"] for file in files for line in file.read_text().splitlines()]

    def goes_on(self) -> None:
        """Returns once more is delivered than there was."""
        before = len(self.delivered())
        eventually(lambda: len(self.delivered()) > before + 40, PATIENCE)

    def let_in(self, url: str) -> bool:
        user = urlsplit(url)
        with redis.Redis(port=self.server.port, username=user.username, password=user.password) as client:
            try:
                return bool(client.ping())
            except redis.exceptions.AuthenticationError:
                return False


@pytest.fixture
def rotating(tmp_path: Path) -> Iterator[Rotating]:
    (tmp_path / "flows.yaml").write_text(FLOWS)
    (tmp_path / "counting.py").write_text(COUNTING)
    flows = load(tmp_path / "flows.yaml")
    make_folders(tmp_path / "access", list(flows.values()))
    users = tmp_path / "access" / "redis" / "users.acl"
    users.write_text("user default on nopass ~* &* +@all\n")
    with Embedded(config={"aclfile": str(users)}) as server:
        found = Rotating(tmp_path, server, flows)
        found.write()
        yield found
        for service in found.running.values():
            service.process.kill()
            service.process.wait()


def test_passwords_change_while_records_flow_and_each_comes_once(rotating: Rotating) -> None:
    access = rotating.folder / "access"
    rotating.deploy()
    rotating.goes_on()
    first = {role: (access / f"{role}-count" / "url").read_text() for role in ("producer", "consumer")}
    steps: tuple[Step, ...] = ("add", "use", "drop")
    for step in steps:
        assert rotate(access, step) == 3  # the operator, too
        rotating.write()
        rotating.deploy()
        rotating.goes_on()
        now = {role: (access / f"{role}-count" / "url").read_text() for role in first}
        assert (now == first) == (step == "add")
        assert all(map(rotating.let_in, now.values()))
        assert all(map(rotating.let_in, first.values())) == (step != "drop")
    producer, consumer = rotating.running["producer"], rotating.running["consumer"]
    producer.process.terminate()
    assert producer.wait() == 0, producer.said
    with redis.Redis(port=rotating.server.port) as default:
        published = int(default.hget("{millrace:count}:counters", "published") or 0)  # type: ignore[arg-type]
    eventually(lambda: len(rotating.delivered()) >= published, PATIENCE)
    consumer.process.terminate()
    assert consumer.wait() == 0, consumer.said
    assert sorted(rotating.delivered()) == list(range(published))


def test_a_step_out_of_turn_is_refused_and_one_broken_off_is_taken_again(rotating: Rotating) -> None:
    access = rotating.folder / "access"
    first = (access / "consumer-count" / "url").read_text()
    for step, why in (("use", "no second passwords"), ("drop", "no password to drop")):
        with pytest.raises(ConfigError, match=why):
            rotate(access, step)
    rotate(access, "add")
    second = (access / "consumer-count" / "url.next").read_text()
    assert second != first
    rotate(access, "add")
    assert (access / "consumer-count" / "url.next").read_text() == second
    with pytest.raises(ConfigError, match="aren't in use"):
        rotate(access, "drop")
    (access / "consumer-count" / "url.old").write_text(first)  # as a step leaves it that was broken off
    rotate(access, "use")
    assert (access / "consumer-count" / "url").read_text() == second
    with pytest.raises(ConfigError, match="under way"):
        rotate(access, "add")
    rotate(access, "drop")
    assert not list(access.rglob("*.old")) + list(access.rglob("*.next"))
