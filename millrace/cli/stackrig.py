"""The rig in Docker: the compose stack with the practice site and stream, under a project name of its own."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import msgspec

from millrace.cli.powercut import PowerCut
from millrace.cli.stack import COMPOSE_FILE, PRACTICE_FILE
from millrace.stack import Replica, Stack
from millrace_pipeline.errors import MillraceError, StackError
from millrace_pipeline.flows.flow import Flow, load
from millrace_pipeline.queue import Books
from millrace_pipeline.queue.spans import Span, sums

KINDS = {
    "producer": ("producer-quotes", "producer-wikipedia"),
    "consumer": ("consumer",),
    "redis": ("redis",),
}
SERVICES = frozenset(service for services in KINDS.values() for service in services)
LOOK_SECONDS = 5.0
LOG_LINES = 5000
START_SECONDS = 10.0  # what the containers take to be up; the stream's first event is then yet to come

OVERRIDE = """\
# Made by `millrace chaos --compose`.
x-flows: &flows {{type: bind, source: "{flows}", target: /app/flows.yaml, read_only: true}}
services:
  site:
    command: [python, -m, millrace.practice.site, --host, 0.0.0.0, --port, "8000", --delay, "0.3"]
  stream:
    command: [python, -m, millrace.practice.stream, --host, 0.0.0.0, --port, "8000", --rate, "{rate}",
              --start, "{start}", --total, "{events}", --end]
  producer-quotes: {{restart: "no", volumes: [*flows]}}
  producer-wikipedia: {{restart: "no", volumes: [*flows]}}
  consumer: {{restart: "no", volumes: [*flows]}}
  redis: {{restart: "no"}}
"""
"""No restarts but ours: Docker doesn't start again what somebody killed, and would what has come to its end."""


class RedisContainer:
    """The container of Redis, for a power cut: where the engine runs on this machine, and we may write its files."""

    def __init__(self, stack: Stack, container: str) -> None:
        self.container = container
        self._stack = stack
        self._pid = 0
        place = stack.place_of(container, "/data")
        self.append_folder = (place or Path("/nowhere")) / "appendonlydir"
        self.look()

    def look(self) -> None:
        """Learn its process anew, after it was started."""
        self._pid = self._stack.process_of(self.container)

    @property
    def pid(self) -> int:
        """See `Powered.pid`."""
        if not self._pid:
            raise StackError(f"{self.container} is not running")
        return self._pid

    @property
    def appendfsync(self) -> str:
        """See `Powered.appendfsync`."""
        command = self._stack.command_of(self.container)
        return command[command.index("--appendfsync") + 1] if "--appendfsync" in command else "everysec"

    def kill(self) -> None:
        """See `Powered.kill`."""
        self._stack.kill([self.container])
        self._pid = 0


class StackRig:
    """The stack of the compose files in this folder with `consumers` replicas: up from `start` to `close`."""

    answers_quickly = False

    def __init__(self, stack: Stack, flows: list[Flow], folder: Path) -> None:
        self.flows = flows
        self._folder = folder
        self._stack = stack
        self._back_at: dict[str, float] = {}
        self._looked = 0.0
        self._replicas: list[Replica] = []
        self._power: PowerCut | None = None
        self._redis: RedisContainer | None = None
        self._once_more: set[str] = set()  # producers that are to be run again when they have come to their end
        self.no_power = ""
        """Why no power can be cut here, where none can."""

    @classmethod
    def start(cls, flows_file: Path, *, consumers: int, folder: Path, events: int, rate: float) -> StackRig:
        """Return one that is up. Raises StackError."""
        override = folder / "docker-compose.chaos.yml"
        said = OVERRIDE.format(flows=flows_file, rate=rate, events=events, start=int(time.time() + START_SECONDS))
        override.write_text(said, encoding="utf-8")
        flows_file.chmod(0o644)  # the services are another user
        loaded = load(flows_file, {**os.environ, "DATA": str(folder / "files")})
        stack = Stack([COMPOSE_FILE, PRACTICE_FILE, override], project=f"millrace-chaos-{uuid4().hex[:8]}")
        rig = cls(stack, list(loaded.values()), folder)
        try:
            stack.up(scale={"consumer": consumers, "ui": 0}, build=True)
        except StackError:
            rig.close()
            raise
        rig._see()
        rig._reach_for_power()
        return rig

    def alive(self, kind: str) -> list[str]:
        """The names of the containers that can be killed, of kind `producer`, `consumer` or `redis`, as last seen.

        Of kind `power` Redis' one, where its process and its files are within reach.
        """
        if kind == "power":
            return ["power"] if self._power and self.alive("redis") else []
        seen = (one.name for one in self._replicas if one.service in KINDS[kind] and one.state == "running")
        return [name for name in seen if name not in self._back_at]

    def kill(self, name: str, down_seconds: float) -> str:
        """SIGKILL. Returns what was killed, for people, or nothing if it ended just then; it stays away for so long."""
        if name == "power":
            return self._cut(down_seconds)
        try:
            self._stack.kill([name])
        except StackError:
            self._see()
            if any(one.name == name and one.state == "running" for one in self._replicas):
                raise
            return ""
        self._back_at[name] = time.monotonic() + down_seconds
        if name in self._of("redis"):
            self._once_more.update(self._of("producer"))
        return f"{name}, away for {down_seconds:.1f} s"

    def look(self, *, again: bool) -> None:
        """Starts what was killed or failed; with `again` also the crawl that has ended: crawl it all once more."""
        now = time.monotonic()
        names = {name for name, back_at in self._back_at.items() if back_at <= now}
        if now - self._looked >= LOOK_SECONDS:  # seldom: it takes docker a second and more
            self._see()
            self._looked = now
            ended = [one for one in self._replicas if one.service in SERVICES and one.state == "exited"]
            names |= {one.name for one in ended if one.exit_code or (again and one.service == "producer-quotes")}
            names |= {one.name for one in ended if one.name in self._once_more}
            names -= {name for name, back_at in self._back_at.items() if back_at > now}
        if names:
            self._stack.start(sorted(names))
            self._once_more -= names
            if self._redis and self._redis.container in names:
                self._redis.look()
            for name in names:
                self._back_at.pop(name, None)

    def ended(self) -> bool:
        """Whether every producer has come to its end, and there is none that is to be run once more."""
        self._see()
        producers = [one for one in self._replicas if one.service in KINDS["producer"]]
        return not self._once_more and all(one.state == "exited" and one.exit_code == 0 for one in producers)

    def end_sources(self) -> None:
        """Nothing to do: the practice sources have an end."""

    def books(self) -> dict[str, Books] | None:
        """The books as a consumer's container sees them, or None while that or Redis doesn't answer."""
        try:
            said = self._stack.execute("consumer", ["millrace", "status", "--json"])
        except StackError:
            return None
        found: Mapping[str, object] = json.loads(said)
        return {flow.name: msgspec.convert(found[flow.name], Books) for flow in self.flows}

    def moved(self) -> dict[str, dict[str, int]]:
        """What each flow's history adds up to."""
        asked = ["millrace", "history", "--since", "2d", "--by", "day", "--json"]
        said = {flow.name: self._stack.execute("consumer", [*asked, flow.name]) for flow in self.flows}
        return {name: sums(msgspec.json.decode(text, type=list[Span])) for name, text in said.items()}

    def settle(self) -> None:
        """Fetches the files that the consumers wrote, and what all services said."""
        with (self._folder / "services.log").open("w", encoding="utf-8") as log:
            log.writelines(f"{line}\n" for line in self._stack.logs(tail=LOG_LINES))
        self._stack.copy("consumer", "/data/.", self._folder / "files")

    def close(self) -> None:
        """Removes the containers, networks and volumes."""
        if self._power:
            self._power.close()
        self._stack.down(volumes=True)

    def _reach_for_power(self) -> None:
        (container,) = self._of("redis")
        self._redis = RedisContainer(self._stack, container)
        power = PowerCut(self._redis)
        try:
            power.start()
        except MillraceError as error:
            self.no_power = str(error)
        else:
            self._power = power

    def _cut(self, down_seconds: float) -> str:
        assert self._power
        assert self._redis
        taken = self._power.cut()
        self._once_more.update(self._of("producer"))
        self._back_at[self._redis.container] = time.monotonic() + down_seconds
        return f"{self._redis.container}, away for {down_seconds:.1f} s, its file without the last {taken:,} bytes"

    def _of(self, kind: str) -> list[str]:
        return [one.name for one in self._replicas if one.service in KINDS[kind]]

    def _see(self) -> None:
        self._replicas = self._stack.ps()
