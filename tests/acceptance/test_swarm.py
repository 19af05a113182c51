"""The flows on a swarm of three engines, while a node is cut off, another loses its power, and an update goes on.

One run, some minutes long, gives the evidence; each test is one claim about it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from millrace.practice import recentchange
from tests.acceptance.stackrun import CommandFailed, read, until
from tests.acceptance.swarmnodes import HOST, Nodes, run, why_not

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1500)]

ROOT = Path(__file__).parents[2]
NAME = "mr-swarm"
IMAGES = (f"{NAME}:1", f"{NAME}:2")
REDIS = "redis:8.0-bookworm"
RATE, LEASE = 100, 8.0

FLOWS = f"""\
flows:
  wikipedia:
    source: {{type: sse, url: "${{STREAM}}", key: /meta/id, time: /meta/dt, allow_private: true}}
    queue: {{key: WIKIPEDIA-PIPELINE-KEY}}
    transforms: [flows:drop_canaries]
    batch: {{records: 50, linger: 1s}}
    lease: {LEASE}s
    sink: {{type: jsonl, path: "${{DATA:-data}}/wikipedia"}}
"""

# One folder for all nodes, as NFS is. A node that is cut off from the others can write to it even then: worse than NFS.
VALUES = """\
name: {name}
image: {image}
env: {{STREAM: "{stream}"}}
data: {{shared: true, options: {{type: none, o: bind, device: "{shared}"}}}}
redis: {{nodes: {{hostname: node1}}, maxmemory: 256MiB, memory: 600MiB}}
consumer: {{replicas: 3, reserve: 64MiB}}
producer: {{reserve: 64MiB}}
"""


@dataclass
class Evidence:
    """What a run left behind."""

    records: list[dict[str, Any]] = field(default_factory=list)
    books: dict[str, int] = field(default_factory=dict)
    images: set[str] = field(default_factory=set)
    updates: dict[str, str] = field(default_factory=dict)
    nodes: list[set[str]] = field(default_factory=list)
    away: float = 0.0


class SwarmRun:
    """The stack on the nodes, and what can be asked of it from outside."""

    def __init__(self, folder: Path, nodes: Nodes, stream: str) -> None:
        self.folder, self.nodes, self.stream = folder, nodes, stream
        self.shared = folder / "shared"
        self.shared.mkdir()
        self.shared.chmod(0o777)
        (folder / "flows.yaml").write_text(FLOWS)
        (folder / "flows.py").write_text((ROOT / "flows.py").read_text())
        self.millrace("access", "secrets")

    def millrace(self, *words: str) -> str:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE_", "REDIS_"))}
        command = [sys.executable, "-P", "-m", "millrace", *words]
        done = subprocess.run(command, cwd=self.folder, env=environ, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def deploy(self, image: str) -> None:
        """`millrace render swarm | docker stack deploy -c - NAME`."""
        values = VALUES.format(name=NAME, image=image, stream=self.stream, shared=self.shared)
        (self.folder / "values.yaml").write_text(values)
        text = self.millrace("render", "swarm", "--values", "values.yaml")
        here = Path.cwd()
        os.chdir(self.folder)  # where the file's ./flows.yaml is
        try:
            self.nodes.on(1, "stack", "deploy", "--prune", "--resolve-image", "never", "-c", "-", NAME, stdin=text)
        finally:
            os.chdir(here)

    def tasks(self, service: str = "") -> list[dict[str, str]]:
        """What runs, as the manager sees it."""
        said = self.nodes.on(1, "stack", "ps", NAME, "--no-trunc", "--format", "json")
        found = [json.loads(line) for line in said.splitlines()]
        return [
            task
            for task in found
            if task["DesiredState"] == "Running"
            and task["CurrentState"].startswith("Running")
            and service in task["Name"]
        ]

    def update(self, service: str) -> str:
        words = ("service", "inspect", f"{NAME}_{service}", "--format", "{{json .UpdateStatus}}")
        return str((json.loads(self.nodes.on(1, *words)) or {}).get("State"))

    def books(self) -> dict[str, int]:
        """What `millrace verify --json` says, in a consumer on the manager."""
        container = self.nodes.on(1, "ps", "--quiet", "--filter", f"name={NAME}_consumer").split()
        if not container:
            raise CommandFailed("no consumer runs on the manager")
        said = self.nodes.on(1, "exec", container[0], "millrace", "verify", "--json")
        books: dict[str, int] = json.loads(said)["wikipedia"]
        return books

    def delivered(self) -> int:
        """How many records are in files."""
        return sum(file.read_bytes().count(b"\n") for file in self.shared.rglob("*.jsonl"))

    def goes_on(self, records: int) -> None:
        """Returns once so many more are in files."""
        goal = self.delivered() + records
        until(f"{records} more records in files", lambda: self.delivered() >= goal, 300)


@pytest.fixture(scope="module")
def evidence(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evidence]:
    """The whole run. Nothing is left of it afterwards, however it ends."""
    if reason := why_not():
        if os.environ.get("MILLRACE_SWARM") == "required":
            pytest.fail(f"MILLRACE_SWARM=required, but {reason}")
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("swarm")
    for image in IMAGES:
        run("docker", "build", "--quiet", "--label", f"is={image}", "--tag", image, str(ROOT), patience=900)
    nodes = Nodes(folder, 3)
    stream: subprocess.Popen[bytes] | None = None
    try:
        nodes.up()
        nodes.load(*IMAGES)
        nodes.load(REDIS, onto=[1])
        with socket.create_server((HOST, 0)) as free:
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "millrace.practice.stream", "--host", HOST, "--port", str(port)]
        stream = subprocess.Popen([*command, "--rate", str(RATE)], stdout=subprocess.DEVNULL)
        yield play(SwarmRun(folder, nodes, f"http://{HOST}:{port}/v2/stream/recentchange"))
    finally:
        if stream:
            stream.kill()
            stream.wait()
        nodes.down()
        for image in IMAGES:
            run("docker", "rmi", image)


def play(stack: SwarmRun) -> Evidence:
    """Up; a node cut for longer than the lease while an update begins; healed; another killed; updated; drained."""
    evidence = Evidence()
    nodes = stack.nodes
    stack.deploy(IMAGES[0])
    until("all of it runs", lambda: len(stack.tasks()) == 6)
    evidence.nodes.append({task["Node"] for task in stack.tasks()})
    stack.goes_on(200)

    nodes.cut(2)
    since = time.monotonic()
    stack.deploy(IMAGES[1])
    until("the lease is over", lambda: time.monotonic() - since > 2 * LEASE)
    stack.goes_on(int(RATE * LEASE))
    evidence.away = time.monotonic() - since
    nodes.heal(2)
    until("the update goes on", lambda: any(task["Image"] == IMAGES[1] for task in stack.tasks()))
    nodes.kill(3)
    stack.goes_on(int(RATE * LEASE))

    services = ("consumer-wikipedia", "producer-wikipedia")
    until("the update is through", lambda: all(stack.update(service) == "completed" for service in services), 600)
    until("all of it runs again", lambda: len(stack.tasks()) == 6, 600)
    evidence.updates = {service: stack.update(service) for service in services}
    evidence.images = {task["Image"] for name in services for task in stack.tasks(name)}
    evidence.nodes.append({task["Node"] for task in stack.tasks()})
    nodes.on(1, "service", "scale", "--detach", f"{NAME}_producer-wikipedia=0")
    until("no producer runs", lambda: not stack.tasks("producer"))
    until("drained", lambda: stack.books()["ready"] == stack.books()["in_flight"] == 0)
    evidence.books = stack.books()
    evidence.records = [record for file in stack.shared.rglob("*.jsonl") for record in read(file)]
    return evidence


def sent(evidence: Evidence) -> set[str]:
    """`meta.id` of every event that was published, from the first on, and is no canary."""
    events: list[Any] = [json.loads(recentchange.event(0, number, 0)) for number in range(evidence.books["published"])]
    return {event["meta"]["id"] for event in events if event["meta"]["domain"] != "canary"}


def test_the_services_are_spread_over_all_nodes(evidence: Evidence) -> None:
    assert evidence.nodes[0] == {"node1", "node2", "node3"}
    assert evidence.nodes[1] == {"node1", "node2"}


def test_a_node_was_cut_off_for_longer_than_the_lease(evidence: Evidence) -> None:
    assert evidence.away > 2 * LEASE


def test_no_record_is_lost(evidence: Evidence) -> None:
    missing = sent(evidence) - {record["meta"]["id"] for record in evidence.records}
    assert not missing, f"{len(missing)} of {evidence.books['published']} are missing"


def test_no_record_comes_twice(evidence: Evidence) -> None:
    counts = Counter(record["meta"]["id"] for record in evidence.records)
    assert not [name for name, count in counts.items() if count > 1]


def test_nothing_comes_that_was_not_sent(evidence: Evidence) -> None:
    assert {record["meta"]["id"] for record in evidence.records} <= sent(evidence)


def test_the_books_balance(evidence: Evidence) -> None:
    books = evidence.books
    assert books["published"] == books["delivered"] + books["filtered"]
    assert books["delivered"] == len(evidence.records)


def test_the_update_is_through_although_a_node_died_meanwhile(evidence: Evidence) -> None:
    assert evidence.updates == {"consumer-wikipedia": "completed", "producer-wikipedia": "completed"}
    assert evidence.images == {IMAGES[1]}
