"""The rig on this machine: an embedded Valkey, and the services as supervised processes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TextIO

from millrace.cli.books import books_at
from millrace.cli.powercut import EmbeddedPower, PowerCut, can_be_cut
from millrace.embedded import Embedded
from millrace.practice.site import PracticeSite
from millrace.practice.stream import PracticeStream
from millrace_pipeline.errors import QueueError
from millrace_pipeline.flows.flow import Flow, load
from millrace_pipeline.process.supervisor import Child, Supervisor
from millrace_pipeline.queue import Books, Session
from millrace_pipeline.queue.spans import read_notes, spans, sums

PAGE_SECONDS = 0.3  # a crawl then takes long enough to be killed in
FOR_EVER = sys.maxsize
CRAWL = "producer-quotes"
"""The producer that can read everything again whenever it has come to its end."""


class LocalRig:
    """Runs these flows with so many consumers in a scratch folder, and takes what is done to it.

    `practice` says that the flows are those of `practiceflows`, whose crawl can be repeated at will. Power is cut only
    where all flows promise to outlive it.
    """

    answers_quickly = True

    def __init__(self, server: Embedded, flows: list[Flow], environ: Mapping[str, str], log: TextIO) -> None:
        self.flows = flows
        self._server = server
        self._log = log
        self._supervisor = Supervisor(environ=environ, say=self._say, longest_wait=2.0)
        self._power: PowerCut | None = None
        self._redis_back_at = 0.0
        self.no_power = ""
        """Why no power can be cut here, where none can."""
        self._once_more: set[str] = set()  # producers that are to be run again when they have come to their end

    @classmethod
    def start(
        cls,
        flows_file: Path,
        names: Sequence[str],
        *,
        consumers: int,
        folder: Path,
        environ: Mapping[str, str],
        practice: bool,
    ) -> LocalRig:
        """Return one that runs. Raises ConfigError."""
        server = Embedded(data_dir=folder / "valkey", aof=True)
        server.start()
        environ = {**environ, "REDIS_URL": server.url, "MILLRACE_LOG": "json", "MILLRACE_HTTP": ""}
        loaded = load(flows_file, environ)
        flows = [loaded[name] for name in names]
        rig = cls(server, flows, environ, (folder / "services.log").open("a", encoding="utf-8", buffering=1))
        if can_be_cut() and all(_keeps_its_promise(flow, practice=practice) for flow in flows):
            rig._power = PowerCut(EmbeddedPower(server))
            rig._power.start()
        else:
            rig.no_power = "they need Linux, and flows with `queue.fsync` whose sources can give again what they gave"
        where = ["--flows", str(flows_file)]
        for name in names:
            rig._supervisor.add(f"producer-{name}", "produce", name, *where, failures=FOR_EVER)
        for number in range(1, consumers + 1):
            rig._supervisor.add(f"consumer-{number}", "consume", *names, *where, failures=FOR_EVER)
        return rig

    @property
    def redis_url(self) -> str:
        """Where the flows' Redis answers."""
        return self._server.url

    def alive(self, kind: str) -> list[str]:
        """What can be killed: `producer`, `consumer` or `redis` by name; `power` if all flows outlive its loss."""
        if kind == "power":
            return ["power"] if self._power and self._server.running else []
        if kind == "redis":
            return ["redis"] if self._server.running else []
        return [name for name, child in self._supervisor.children.items() if child.running and name.startswith(kind)]

    def kill(self, name: str, down_seconds: float) -> str:
        """SIGKILL. Returns what was killed, for people; Redis stays away for so long, services as they please.

        A producer that has ended, or ends before it looks, can't notice what Redis lost of its last publishes. So each
        is run once more, on from its checkpoint. A mere SIGKILL loses something, too, where a slow disk made Redis put
        off its writes.
        """
        if name in ("redis", "power"):
            told = f"redis (pid {self._server.pid}), away for {down_seconds:.1f} s"
            if self._power:
                self._once_more.update(self._producers)
            if name == "power" and self._power:
                told += f", its file without the last {self._power.cut():,} bytes"
            else:
                self._server.kill()
            self._redis_back_at = time.monotonic() + down_seconds
            return told
        child = self._supervisor.children[name]
        told = f"{name} (pid {child.pid})"
        child.signal(signal.SIGKILL)
        return told

    def look(self, *, again: bool) -> None:
        """Starts what was killed; with `again` also the crawl that has ended: crawl it all once more."""
        if not self._server.running and time.monotonic() >= self._redis_back_at:
            self._server.start()
        self._supervisor.look()
        for name, child in self._producers.items():
            if child.done and self._server.running and (name in self._once_more or (again and name == CRAWL)):
                self._once_more.discard(name)
                child.start()

    def ended(self) -> bool:
        """Whether every producer has come to its end, and there is none that is to be run once more."""
        return not self._once_more and all(child.done for child in self._producers.values())

    def end_sources(self) -> None:
        """Tells the producers to stop, whose sources have no end."""
        self._once_more.clear()
        self._supervisor.stop(list(self._producers), grace_seconds=20)

    def books(self) -> dict[str, Books] | None:
        """The books, or None while Redis doesn't answer."""
        try:
            return {flow.name: books_at(self._server.url, flow) for flow in self.flows}
        except QueueError:
            return None

    def moved(self) -> dict[str, dict[str, int]]:
        """What each flow's history adds up to."""
        return {flow.name: self._moved(flow) for flow in self.flows}

    def _moved(self, flow: Flow) -> dict[str, int]:
        found: Counter[str] = Counter()
        for part in flow.lists:
            with closing(Session(self._server.url, part.queue.list_name)) as session:
                found.update(sums(spans(read_notes(session), 0, 24 * 3600)))
        return dict(found)

    def settle(self) -> None:
        """Stops the consumers; what they wrote can be read from here on."""
        self._supervisor.stop(grace_seconds=20)

    def close(self) -> None:
        """Ends everything."""
        self._supervisor.stop(grace_seconds=5)
        if self._power:
            self._power.close()
        self._server.close()
        self._log.close()

    @property
    def _producers(self) -> dict[str, Child]:
        return {name: child for name, child in self._supervisor.children.items() if name.startswith("producer")}

    def _say(self, name: str, line: str) -> None:
        with contextlib.suppress(ValueError):  # the log is closed: a last line of a killed process
            self._log.write(f"{name} {line}\n")


def _keeps_its_promise(flow: Flow, *, practice: bool) -> bool:
    """Whether a power cut of Redis loses nothing of this flow's: its source can give again what it gave."""
    if flow.queue.fsync == "off":
        return False
    return (practice and flow.source.type == "scrapy") or REPEATS.get(flow.source.type, _never)(flow.source.options)


def _never(_: Mapping[str, object]) -> bool:
    return False


REPEATS: dict[str, Callable[[Mapping[str, object]], bool]] = {
    "files": lambda _: True,
    "kafka": lambda _: True,
    "redis": lambda options: options.get("kind") != "channel",
    "rest": lambda options: "incremental" in options,
    "sqs": lambda _: True,
    "sse": lambda _: True,
    "websocket": lambda options: "resume" in options,
}
"""Sources by type, and with which options they give again what they gave: from a position, or until they are told."""


@contextlib.contextmanager
def practice_sites(events: int, rate: float) -> Iterator[dict[str, str]]:
    """The addresses of a practice site and of a stream that ends after so many events, by environment variable."""
    with PracticeSite(delay=PAGE_SECONDS) as site, PracticeStream(rate=rate, total=events, end=True) as stream:
        yield {"QUOTES_URL": site.url, "WIKIPEDIA_URL": stream.url}


def environment(folder: Path, sites: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with the sites' addresses and the folder for files."""
    return {**os.environ, **sites, "DATA": str(folder / "files")}
