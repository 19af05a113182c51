"""Two projects in two folders whose flows have the same name and the same list, and a Redis that is nobody's."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import redis

from millrace.embedded import _binary
from millrace.home import FOLDER, Home
from millrace_pipeline.queue import Books
from tests.conftest import eventually
from tests.integration.ports import free_port
from tests.queues import Queue
from tests.services import PATIENCE, Service

KEY = "millrace:log"

FLOWS = """\
{head}flows:
  log:
    source: {{type: python, function: "theirs:{function}", arguments: {{count: {count}}}, counted: true}}
    model: theirs:Row
    contract: quarantine
    transforms: [theirs:careful]
    batch: {{records: 10, linger: 50ms}}
    lease: 1s
    sink: {{type: jsonl, path: {path}}}
"""

THEIRS = """\
import itertools

from pydantic import BaseModel


class Row(BaseModel):
    n: int


def some(count):
    for n in range(count):
        yield {"n": n}
    yield {"n": "no number"}
    yield {"n": -1}


others = some


def endless(count):
    yield from some(count)
    for n in itertools.count(count):
        __import__("time").sleep(0.05)
        yield {"n": n}


def careful(record):
    if record["n"] < 0:
        raise ValueError("below nothing")
    return record
"""


class Folder:
    """A project's folder, and commands that run in it. `default` is what stands for redis://localhost:6379/0."""

    def __init__(self, path: Path, default: str) -> None:
        self.path = path
        self.default = default
        self.home = Home(path / FOLDER)
        self.services: list[Service] = []

    def write(self, count: int, *, function: str = "some", path: str = "out", head: str = "") -> Folder:
        """Writes its flow: so many records, one that doesn't fit the model, and one that fails in a transform."""
        self.path.mkdir(exist_ok=True)
        (self.path / "theirs.py").write_text(THEIRS)
        (self.path / "flows.yaml").write_text(FLOWS.format(count=count, function=function, path=path, head=head))
        return self

    def copy(self, path: Path) -> Folder:
        """The folder as it is, elsewhere; its server is to be down."""
        shutil.copytree(self.path, path)
        return Folder(path, self.default)

    def environ(self, **environ: str) -> dict[str, str]:
        mine = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE_", "REDIS_"))}
        return mine | {"MILLRACE_DEFAULT_REDIS_URL": self.default, "MILLRACE_LOG": "json", "COLUMNS": "200"} | environ

    def call(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """`millrace WORDS`, to its end."""
        return subprocess.run(
            [sys.executable, "-P", "-m", "millrace", *words],
            cwd=self.path,
            env=self.environ(**environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def start(self, *words: str, **environ: str) -> Service:
        """`millrace WORDS`, which goes on."""
        service = Service(words, self.path, self.environ(**environ))
        self.services.append(service)
        return service

    def end(self) -> None:
        """Kills what was started here, and returns once the server is down."""
        for service in self.services:
            if service.running:
                service.kill()
        eventually(lambda: not self.home.running())

    @contextlib.contextmanager
    def server(self) -> Iterator[str]:
        """Its embedded server."""
        visit = self.home.visit()
        try:
            yield visit.url
        finally:
            visit.close()

    def books(self) -> Books:
        with self.server() as url:
            return books_at(url)


def books_at(url: str, key: str = KEY) -> Books:
    queue = Queue(url, key)
    try:
        return queue.books()
    finally:
        queue.close_all()


@contextlib.contextmanager
def plain_server() -> Iterator[str]:
    """A Valkey that Millrace didn't start, such as one has at localhost:6379."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="plain-") as folder:
        words = [str(_binary()), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        server = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL)
        try:
            with redis.Redis(port=port) as client:
                eventually(lambda: answers(client))
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.kill()
            server.wait()


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def all_of(url: str) -> Mapping[bytes, bytes]:
    """Every key of a server, with all that it holds."""
    with redis.Redis.from_url(url) as client:
        return {key: client.dump(key) or b"" for key in client.scan_iter(count=1000)}
