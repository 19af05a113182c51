"""A compose file that `millrace render compose` wrote for somebody's own flows, as Docker takes it and runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.acceptance.stackrun import CommandFailed, until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
COUNT = 500
FLOWS = f"""\
flows:
  my_numbers:
    source: {{type: python, function: "counting:upwards", arguments: {{count: {COUNT}, word: "${{WORD}}"}}}}
    batch: {{records: 50, linger: 500ms}}
    sink: {{type: jsonl, path: "${{DATA:-data}}/numbers"}}
"""
COUNTING = """\
from helping import record


def upwards(count, word):
    for number in range(count):
        yield record(number, word)
"""
HELPING = """\
def record(number, word):
    return {"n": number, "word": word}
"""
VALUES = """\
name: {name}
image: {name}-base
secrets: {{WORD: word}}
flows: {{my_numbers: {{producer: {{ends: true}}, consumer: {{replicas: 2, memory: 300MiB}}}}}}
"""


class Rendered:
    """A folder with flows of somebody's own, and the compose project that comes of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"rendered-{uuid4().hex[:6]}"
        for file, text in (("flows.yaml", FLOWS), ("counting.py", COUNTING), ("helping.py", HELPING)):
            (folder / file).write_text(text)
        (folder / "word").write_text("s3cr3t$word\n")
        (folder / "values.yaml").write_text(VALUES.format(name=self.name))
        text = self.run(sys.executable, "-P", "-m", "millrace", "render", "compose", "--values", "values.yaml")
        (folder / "docker-compose.yml").write_text(text)

    def run(self, *command: str) -> str:
        mine = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE_", "REDIS_"))}
        environ = {**mine, "WORD": "s3cr3t$word"}
        done = subprocess.run(command, cwd=self.folder, env=environ, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise CommandFailed(f"{command}: {done.stderr or done.stdout}")
        return done.stdout

    def compose(self, *words: str) -> str:
        return self.run("docker", "compose", *words)


@pytest.fixture(scope="module")
def rendered(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rendered]:
    found = Rendered(tmp_path_factory.mktemp("rendered"))
    found.run("docker", "build", "--quiet", "--tag", f"{found.name}-base", str(ROOT))
    try:
        yield found
    finally:
        found.compose("down", "--volumes", "--remove-orphans")
        found.run("docker", "rmi", f"{found.name}-base", f"{found.name}-flows:latest")


def test_docker_takes_it(rendered: Rendered) -> None:
    services = json.loads(rendered.compose("config", "--format", "json"))["services"]
    assert set(services) == {"access", "redis", "producer-my-numbers", "consumer-my-numbers"}
    assert all(service["read_only"] and service["cap_drop"] == ["ALL"] for service in services.values())


def test_it_runs_and_each_record_comes_once(rendered: Rendered) -> None:
    rendered.compose("up", "--detach", "--build")
    try:
        _deliver(rendered)
    except BaseException:
        sys.stderr.write(rendered.compose("logs", "--no-color", "--tail", "40"))
        raise


def _deliver(rendered: Rendered) -> None:
    def books() -> dict[str, int]:
        said = rendered.compose("exec", "-T", "consumer-my-numbers", "millrace", "verify", "my_numbers", "--json")
        found: dict[str, int] = json.loads(said)["my_numbers"]
        return found

    until("all is delivered", lambda: books()["delivered"] == COUNT)

    def running() -> list[str]:
        return sorted(rendered.compose("ps", "--format", "{{.Service}}").split())

    until("the producer has ended", lambda: running() == ["consumer-my-numbers", "consumer-my-numbers", "redis"])
    rendered.compose("cp", "consumer-my-numbers:/data", "out")
    files = (rendered.folder / "out").rglob("*.jsonl")
    records = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert sorted(record["n"] for record in records) == list(range(COUNT))
    assert {record["word"] for record in records} == {"s3cr3t$word"}
