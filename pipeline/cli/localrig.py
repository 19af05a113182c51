"""The rig on this machine: an embedded Valkey, and the services as supervised processes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.cli.books import books_at
from pipeline.embedded import Embedded
from pipeline.errors import QueueError
from pipeline.flow import Flow, load
from pipeline.practice.site import PracticeSite
from pipeline.practice.stream import PracticeStream
from pipeline.queue import Books
from pipeline.supervisor import Supervisor

PAGE_SECONDS = 0.3  # a crawl then takes long enough to be killed in
FOR_EVER = sys.maxsize


class LocalRig:
    """Runs these flows with so many consumers in a scratch folder, and takes what is done to it.

    `sites` are the practice sites' addresses by environment variable; empty for flows with sources of their own.
    """

    answers_quickly = True

    def __init__(
        self, flows_file: Path, names: Sequence[str], *, consumers: int, folder: Path, environ: Mapping[str, str]
    ) -> None:
        self._server = Embedded(data_dir=folder / "valkey", aof=True)
        self._server.start()
        self._log = (folder / "services.log").open("a", encoding="utf-8", buffering=1)
        environ = {**environ, "REDIS_URL": self._server.url, "MILLRACE_LOG": "json", "MILLRACE_HTTP": ""}
        loaded = load(flows_file, environ)
        self.flows: list[Flow] = [loaded[name] for name in names]
        self._supervisor = Supervisor(environ=environ, say=self._say, longest_wait=2.0)
        self._redis_back_at = 0.0
        where = ["--flows", str(flows_file)]
        for name in names:
            self._supervisor.add(f"producer-{name}", "produce", name, *where, failures=FOR_EVER)
        for number in range(1, consumers + 1):
            self._supervisor.add(f"consumer-{number}", "consume", *names, *where, failures=FOR_EVER)

    def alive(self, kind: str) -> list[str]:
        """The names of what can be killed: `producer`, `consumer` or `redis`."""
        if kind == "redis":
            return ["redis"] if self._server.running else []
        return [name for name, child in self._supervisor.children.items() if child.running and name.startswith(kind)]

    def kill(self, name: str, down_seconds: float) -> str:
        """SIGKILL. Returns what was killed, for people; Redis stays away for so long, services as they please."""
        if name == "redis":
            told = f"{name} (pid {self._server.pid}), away for {down_seconds:.1f} s"
            self._server.kill()
            self._redis_back_at = time.monotonic() + down_seconds
            return told
        child = self._supervisor.children[name]
        told = f"{name} (pid {child.pid})"
        child.signal(signal.SIGKILL)
        return told

    def look(self, *, again: bool) -> None:
        """Starts what was killed; with `again` also the producers whose source has ended: read it all once more."""
        if not self._server.running and time.monotonic() >= self._redis_back_at:
            self._server.start()
        self._supervisor.look()
        for name, child in self._supervisor.children.items():
            if again and child.done and name == "producer-quotes":
                child.start()

    def ended(self) -> bool:
        """Whether every producer has come to its end."""
        children = self._supervisor.children.items()
        return all(child.done for name, child in children if name.startswith("producer"))

    def end_sources(self) -> None:
        """Tells the producers to stop, whose sources have no end."""
        producers = [name for name in self._supervisor.children if name.startswith("producer")]
        self._supervisor.stop(producers, grace_seconds=20)

    def books(self) -> dict[str, Books] | None:
        """The books, or None while Redis doesn't answer."""
        try:
            return {flow.name: books_at(self._server.url, flow) for flow in self.flows}
        except QueueError:
            return None

    def settle(self) -> None:
        """Stops the consumers; what they wrote can be read from here on."""
        self._supervisor.stop(grace_seconds=20)

    def close(self) -> None:
        """Ends everything."""
        self._supervisor.stop(grace_seconds=5)
        self._server.close()
        self._log.close()

    def _say(self, name: str, line: str) -> None:
        with contextlib.suppress(ValueError):  # the log is closed: a last line of a killed process
            self._log.write(f"{name} {line}\n")


@contextlib.contextmanager
def practice_sites(events: int, rate: float) -> Iterator[dict[str, str]]:
    """The addresses of a practice site and of a stream that ends after so many events, by environment variable."""
    with PracticeSite(delay=PAGE_SECONDS) as site, PracticeStream(rate=rate, total=events, end=True) as stream:
        yield {"QUOTES_URL": site.url, "WIKIPEDIA_URL": stream.url}


def environment(folder: Path, sites: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with the sites' addresses and the folder for files."""
    return {**os.environ, **sites, "DATA": str(folder / "files")}
