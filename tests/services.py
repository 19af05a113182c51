"""Real services for tests: a folder with a `flows.yaml`, `millrace` processes that run on it, and what they wrote."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import pyarrow.parquet as pq
import redis
import yaml

from millrace_pipeline import envelope
from millrace_pipeline.envelope import Record
from millrace_pipeline.moment import now
from millrace_pipeline.queue import Books
from tests.conftest import eventually
from tests.forkserver import Command
from tests.queues import Queue

NOWHERE = {"type": "sse", "url": "http://127.0.0.1:9/"}
"""A source for flows that only consume: `check` likes it, and nobody reads it."""

PATIENCE = 60.0
"""Seconds for what may take long on a machine that is busy."""

QUICKLY = 4.0
"""Seconds for what happens at once. Less than the grace of five: nobody waited that out."""


class Service:
    """One `millrace` command as a process of its own. Its log is JSON lines in a file, read anew at each look."""

    def __init__(
        self, arguments: Iterable[str], folder: Path, environ: Mapping[str, str], stdin: int = subprocess.DEVNULL
    ) -> None:
        number = len(list(folder.glob("*.log"))) + 1
        self.arguments = list(arguments)
        self.log_path = folder / f"{number:02d}-{self.arguments[0]}.log"
        self.output_path = self.log_path.with_suffix(".out")
        with self.log_path.open("wb") as log, self.output_path.open("wb") as output:
            self.process = Command(self.arguments, folder, environ, stdin=stdin, stdout=output, stderr=log)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def said(self) -> str:
        """All that it wrote to standard error so far."""
        return self.log_path.read_text(errors="replace")

    @property
    def printed(self) -> str:
        """All that it wrote to standard output so far."""
        return self.output_path.read_text(errors="replace")

    def events(self, name: str, **fields: Any) -> list[dict[str, Any]]:
        """The lines of its log for an event of this name that hold these fields."""
        found = []
        for line in self.said.splitlines(keepends=True):
            if line.startswith("{") and line.endswith("\n"):
                event = json.loads(line)
                if event.get("event") == name and fields.items() <= event.items():
                    found.append(event)
        return found

    def await_event(self, name: str, **fields: Any) -> dict[str, Any]:
        """The first such event, once there is one. Fails, showing the log, if the process ends without."""
        self.until(lambda: self.events(name, **fields))
        return self.events(name, **fields)[0]

    def until(self, claim: Callable[[], object]) -> None:
        """Returns once the claim holds. Fails, showing the log, if the process ends without."""

        def holds() -> bool:
            running = self.running
            if claim():
                return True
            assert running, f"{self.arguments} ended with {self.process.returncode}:\n{self.said}"
            return False

        eventually(holds, PATIENCE)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def freeze(self) -> None:
        """SIGSTOP, and waits until it stands still."""
        self.signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def terminate(self, seconds: float = PATIENCE) -> int:
        """SIGTERM; the exit code, which must come within so many seconds."""
        self.signal(signal.SIGTERM)
        return self.wait(seconds)

    def kill(self) -> None:
        """SIGKILL, and waits until it is gone."""
        self.process.kill()
        self.process.wait()

    def wait(self, seconds: float = PATIENCE) -> int:
        """The exit code, which must come within so many seconds."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.arguments} still runs after {seconds} s:\n{self.said}") from None

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of what its health port answers; it must have been started with `http=True`."""
        host, _, port = self.await_event("service_started")["http"].rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=5)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()


class Place:
    """A folder with flows of a test's own, on lists of its own. Ends what it started, when left.

    Batches are of 10 records, lingers short, leases a second: what takes over need not be waited for.
    """

    def __init__(self, folder: Path, redis_url: str, key: str) -> None:
        self.folder = folder
        self.redis_url = redis_url
        self.key = key
        self.flows: dict[str, dict[str, Any]] = {}
        self.services: list[Service] = []

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for service in self.services:
            if service.running:
                service.kill()

    def at(self, redis_url: str, folder: Path | None = None) -> Place:
        """The same place with another Redis, or in another folder. What is started there ends with this one."""
        other = Place(folder or self.folder, redis_url, self.key)
        other.services = self.services
        return other

    def flow(self, name: str = "numbers", **options: Any) -> None:
        """Writes this flow into `flows.yaml`; by default its source is nowhere and its sink JSON lines."""
        self.flows[name] = {
            "source": NOWHERE,
            "queue": {"key": self.key_of(name), **options.pop("queue", {})},
            "publish": {"records": 10, "linger": "50ms"},
            "batch": {"records": 10, "linger": "50ms", **options.pop("batch", {})},
            "lease": "1s",
            "sink": {"type": "jsonl", "path": f"out/{name}"},
            **options,
        }
        # JSON is YAML too.
        (self.folder / "flows.yaml").write_text(json.dumps({"flows": self.flows}, indent=2))

    def example(self, name: str) -> None:
        """Puts an example of `examples/` here, as it is but for its lists, which are of the test's own."""
        folder = Path(__file__).resolve().parents[1] / "examples" / name
        for path in folder.glob("*.py"):
            (self.folder / path.name).write_text(path.read_text())
        self.flows = yaml.safe_load((folder / "flows.yaml").read_text())["flows"]
        for flow, options in self.flows.items():
            options["queue"] = {**options.get("queue", {}), "key": self.key_of(flow)}
        (self.folder / "flows.yaml").write_text(json.dumps({"flows": self.flows}, indent=2))

    def module(self, text: str) -> None:
        """A module of the user's, `theirs.py` beside `flows.yaml`."""
        (self.folder / "theirs.py").write_text(text)

    def key_of(self, name: str = "numbers") -> str:
        return f"{self.key}-{name}"

    def start(self, *arguments: str, http: bool = False, stdin: int = subprocess.DEVNULL, **environ: str) -> Service:
        """Starts `millrace ARGUMENTS` with this environment; `REDIS_URL=""` leaves it out.

        `stdin` is as `subprocess.Popen` takes it: with PIPE, write to `process.stdin` of what is returned.
        """
        mine = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE_", "REDIS_"))}
        mine |= {"REDIS_URL": self.redis_url, "MILLRACE_LOG": "json", "MILLRACE_GRACE_SECONDS": "5"}
        mine |= {"MILLRACE_HTTP": "127.0.0.1:0"} if http else {}
        environment = {name: value for name, value in (mine | environ).items() if value}
        service = Service(arguments, self.folder, environment, stdin)
        self.services.append(service)
        return service

    def consume(self, *arguments: str, **environ: Any) -> Service:
        return self.start("consume", *arguments, **environ)

    def produce(self, name: str = "numbers", **environ: Any) -> Service:
        return self.start("produce", name, **environ)

    def deliver_the_rest(self) -> Service:
        """A consumer that takes over what others left, delivers all there is, and must end with exit code 0."""
        rest = self.consume("--until-empty")
        assert rest.wait() == 0, rest.said
        return rest

    @contextlib.contextmanager
    def queue(self, name: str = "numbers") -> Iterator[Queue]:
        queue = Queue(self.redis_url, self.key_of(name))
        try:
            yield queue
        finally:
            queue.close_all()

    def publish(self, numbers: Iterable[int], name: str = "numbers", filler: str = "") -> None:
        """Puts a record `{"n": number}` on the list for each number, as a producer does."""
        with self.queue(name) as queue:
            more = {"filler": filler} if filler else {}
            queue.publish(
                [
                    envelope.encode(
                        Record({"n": number, **more}),
                        id=str(number),
                        source=name,
                        time=now(),
                        mark=queue.keys.ready,
                    )
                    for number in numbers
                ]
            )

    def books(self, name: str = "numbers") -> Books:
        with self.queue(name) as queue:
            return queue.books()

    def files(self, name: str = "numbers") -> list[Path]:
        """The finished files of a flow's sink."""
        return sorted(
            path for path in (self.folder / "out" / name).rglob("*") if path.is_file() and path.name[0] != "."
        )

    def batches(self, name: str = "numbers") -> set[str]:
        """The ids of the batches that have a file."""
        return {path.stem for path in self.files(name)}

    def records(self, name: str = "numbers") -> list[dict[str, Any]]:
        """Every record in the files, as often as it is there."""
        return [record for path in self.files(name) for record in read(path)]

    def numbers(self, name: str = "numbers") -> list[int]:
        """The `n` of every record in the files, in order, as often as it is there."""
        return sorted(record["n"] for record in self.records(name))

    def assert_once(self, numbers: Iterable[int], name: str = "numbers") -> None:
        """These numbers, and no others, are in the files, each once, and the books say so too."""
        expected = sorted(numbers)
        assert self.numbers(name) == expected
        books = self.books(name)
        assert (books.difference, books.lag, books.delivered) == (0, 0, len(expected)), books


def on_the_list(client: redis.Redis, key: str) -> list[Any]:
    """The data of every record that is ready on a list, oldest first."""
    return [json.loads(line)["data"] for line in reversed(cast("list[bytes]", client.lrange(key, 0, -1)))]


def read(path: Path) -> list[dict[str, Any]]:
    """The records in a file of a sink."""
    if path.suffix == ".parquet":
        rows = pq.ParquetFile(path).read().to_pylist()
        return [json.loads(row["data"]) if isinstance(row.get("data"), str) else row for row in rows]
    return [json.loads(line) for line in path.read_bytes().splitlines()]  # text has more kinds of line ends


def lives(pid: int) -> bool:
    """Whether there is such a process, and not only its exit code waiting for its parent."""
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(shown) and not shown.startswith("Z")


def children_of(pid: int) -> list[int]:
    """The processes that this one started and that live, and theirs."""
    table = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(child): int(parent) for child, parent in map(str.split, table.splitlines())}
    found = [child for child, parent in parents.items() if parent == pid]
    return [*found, *(deeper for child in found for deeper in children_of(child))]
