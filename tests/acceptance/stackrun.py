"""One run of the real stack on the bundled sites, and what is known of it afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow.parquet as pq
import pytest

from millrace.stack import Stack

ROOT = Path(__file__).parents[2]
PATIENCE = 240.0  # seconds for any one thing: two cores, and maybe others on them


class StackRun:
    """The compose project of one run, with a name, a network and volumes of its own."""

    def __init__(self, override: Path) -> None:
        self.files = [ROOT / "docker-compose.yml", ROOT / "docker-compose.practice.yml", override]
        self.project = f"millrace-test-{uuid4().hex[:8]}"
        self.stack = Stack(self.files, project=self.project)

    @classmethod
    @contextmanager
    def built(cls, folder: Path, override: str, **environ: str) -> Iterator[StackRun]:
        """A run whose image is built, with this override and environment of docker compose.

        Its containers, networks and volumes are gone afterwards, however it ends; where it fails, its logs are shown.
        """
        file = folder / "docker-compose.run.yml"
        file.write_text(override)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environ.items():
                patch.setenv(name, value)
            run = cls(file)
            try:
                run.compose("build", "--quiet")
                yield run
            except BaseException:
                sys.stderr.write(run.logs())
                raise
            finally:
                run.down()

    def compose(self, *words: str) -> str:
        """What `docker compose …` prints."""
        command = ["docker", "compose", "--project-name", self.project]
        for file in self.files:
            command += ["--file", str(file)]
        return _run([*command, *words])

    def execute(self, service: str, *words: str) -> str:
        """What a command in a running container of the service prints."""
        return self.compose("exec", "--no-TTY", service, *words)

    def redis_cli(self, *words: str) -> str:
        """`docker compose exec redis redis-cli …`, as the README has it."""
        return self.execute("redis", "redis-cli", *words).rstrip("\n")

    def running(self, service: str) -> list[str]:
        """The names of the service's containers that run."""
        return [one.name for one in self.stack.ps() if one.service == service and one.state == "running"]

    def inspect(self, name: str) -> dict[str, Any]:
        """`docker inspect` of one container."""
        found: list[dict[str, Any]] = json.loads(_run(["docker", "inspect", name]))
        return found[0]

    def books(self) -> dict[str, dict[str, int]]:
        """What `millrace verify --json` says."""
        books: dict[str, dict[str, int]] = json.loads(self.execute("consumer", "millrace", "verify", "--json"))
        return books

    def data(self, directory: Path) -> list[dict[str, Any]]:
        """Copies the volume that the replicas share into a directory, and reads every record in its files."""
        self.compose("cp", "consumer:/data/.", str(directory))
        return [record for file in sorted(directory.rglob("*")) for record in read(file)]

    def logs(self) -> str:
        return self.compose("logs", "--no-color", "--tail", "60")

    def down(self) -> None:
        self.stack.down(volumes=True)


@dataclass
class Evidence:
    """What a run left behind."""

    quotes: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    books: dict[str, dict[str, int]] = field(default_factory=dict)
    listed: int = 0
    newest: str = ""
    containers: dict[str, dict[str, Any]] = field(default_factory=dict)
    status: dict[str, str] = field(default_factory=dict)
    unwritable: dict[str, bool] = field(default_factory=dict)
    restarts: int = 0
    consumer_exits: list[int] = field(default_factory=list)
    replicas: list[int] = field(default_factory=list)


def read(file: Path) -> list[dict[str, Any]]:
    """The records in a file of a sink; of others none."""
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_bytes().split(b"\n") if line]
    if file.suffix == ".parquet":
        rows = pq.ParquetFile(file).read().to_pylist()
        return [json.loads(row["data"]) if isinstance(row.get("data"), str) else row for row in rows]
    return []


def until(what: str, condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Waits until the condition holds and returns what it said. A command that fails meanwhile counts as not yet."""
    give_up = time.monotonic() + patience
    last: object = None
    while time.monotonic() < give_up:
        try:
            last = condition()
        except CommandFailed as error:
            last = error
        else:
            if last:
                return last
        threading.Event().wait(0.3)
    raise AssertionError(f"{what}: not in {patience:.0f} s; last: {last}")


class CommandFailed(Exception):
    """A docker command said no."""


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE)
    if done.returncode:
        raise CommandFailed(f"{' '.join(command[-4:])}: exit {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout
