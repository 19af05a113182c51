"""The machine of Redis loses power: its file keeps what was synced. What becomes of what came since, by source.

All cases of a source are flows in one Redis, so that one cut is all of theirs. It counts for those of which Redis has
really lost some records; until each was hit, another second is cut.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from millrace.cli.powercut import EmbeddedPower, PowerCut
from millrace.embedded import Embedded
from millrace_consumer.runner import Consumer
from millrace_pipeline.flows.flow import load
from tests.conftest import eventually
from tests.faults.conftest import Row
from tests.faults.flowrun import Work, python_path
from tests.faults.origins import ORIGINS, Origin
from tests.queues import Queue
from tests.services import Place

ATTEMPTS = 20
PATIENCE = 100.0
SECOND = 0.6  # the next sync is further away
SYNC_SECONDS = 0.05  # after so long a sync is over, or it is not one that this machine is done with within a test
SETTLED_SECONDS = 25.0  # what is given back to a queue, or to a group, is there again within this


@dataclass(frozen=True)
class Case:
    """A flow, and what is special about it."""

    fsync: str
    dies: bool
    delivered: bool
    dedupe: bool

    @property
    def name(self) -> str:
        return "-".join(
            [
                self.fsync,
                "dies" if self.dies else "lives",
                "delivered" if self.delivered else "waiting",
                "dedupe" if self.dedupe else "plain",
            ]
        )


def cases(*fsyncs: str) -> dict[str, Case]:
    """All there are with these settings of `fsync`, by name."""
    either = (False, True)
    return {case.name: case for case in itertools.starmap(Case, itertools.product(fsyncs, either, either, either))}


class Consuming(Work):
    """A consumer in a thread."""

    def __init__(self, place: Place, name: str) -> None:
        super().__init__()
        flow = load(place.folder / "flows.yaml")[name]
        self.consumer = Consumer(flow, place.redis_url, stopping=self.stopping, give_up=self.give_up)
        self._thread.start()

    def work(self) -> None:
        try:
            self.consumer.run()
        finally:
            self.consumer.claiming.close()
            self.consumer.session.close()


class Outage:
    """All cases of one origin at once: their flows lie in one Redis, whose power is cut once for all."""

    def __init__(self, folder: Path, origin: type[Origin], server: Embedded, cases: dict[str, Case]) -> None:
        self.folder = folder
        self.server = server
        self.cases = cases
        self.stack = ExitStack()
        self.place = self.stack.enter_context(Place(folder, server.url, "power"))
        self.power = self.stack.enter_context(PowerCut(EmbeddedPower(server)))
        self.origin = self.stack.enter_context(origin(folder, self.cases))
        self.queues = {name: Queue(server.url, self.place.key_of(name)) for name in self.cases}
        self.consumers: dict[str, Consuming] = {}
        for name, case in self.cases.items():
            self.place.flow(
                name,
                source=self.origin.options(name),
                queue={"fsync": case.fsync},
                publish={"records": 50, "linger": "10ms"},
                batch={"records": 100, "linger": "20ms"},
                lease="2s",
                sink={"type": "jsonl", "path": str(folder / "out" / name)},
                dedupe={"window": "10m", "key": "/n"} if case.dedupe else None,
            )

    def run(self) -> None:
        """Before, the second that is cut, and after. Returns when there is nothing to be awaited any more."""
        living = [name for name, case in self.cases.items() if not case.dies]
        dying = [name for name, case in self.cases.items() if case.dies]
        self.produce(living)
        mortal = self.produce(dying)
        self.origin.feed(self.origin.before)
        for name in self.cases:
            self.consume(name)
        # More where a slow machine lets a source give a thing again.
        eventually(lambda: all(found >= self.origin.before for found in self.delivered().values()), PATIENCE)
        waiting = [self.consumers.pop(name) for name, case in self.cases.items() if not case.delivered]
        for one in waiting:
            one.stopping.set()
        for one in waiting:
            one.stop()
        lost: set[str] = set()
        for _ in range(ATTEMPTS):
            self.await_sync()  # all of it is on disk
            self.await_sync()  # and the origin has been told so
            lost |= self.lose_a_second(mortal)
            if len(lost) == len(self.cases):
                break
            mortal = self.produce(dying)
            # What was lost is there again: on a busy machine, and behind a leader that died, that takes its time.
            eventually(self.all_published, PATIENCE)
            self.await_quiet(self.published)
        else:
            raise AssertionError(f"{ATTEMPTS} cuts took something of these flows only: {sorted(lost)}")
        self.produce(dying)
        for name in self.cases:
            if name not in self.consumers:
                self.consume(name)
        self.origin.feed(self.origin.after)
        self.settle()

    def lose_a_second(self, mortal: subprocess.Popen[bytes]) -> set[str]:
        """Feeds, cuts the power and kills the producers that die. The flows of which Redis has lost some by that."""
        feeding = threading.Thread(target=self.origin.feed, args=(self.origin.in_the_second,))
        feeding.start()
        began = time.monotonic()
        while time.monotonic() - began < SECOND and not self.all_there():
            threading.Event().wait(0.01)
        seen = self.published()
        self.power.cut()
        mortal.kill()
        mortal.wait()
        feeding.join(PATIENCE)
        self.server.start()
        left = self.published()
        return {name for name in self.cases if left[name] < seen[name]}

    def all_there(self) -> bool:
        """Whether everything has been published, and delivered where it is to be."""
        delivered = self.delivered()
        return all(
            (delivered[name] if name in self.consumers else count) == self.origin.fed[name]
            for name, count in self.published().items()
        )

    def all_published(self) -> bool:
        """Whether everything is on the list, or was: some sources give a thing again though it was published."""
        return all(count >= self.origin.fed[name] for name, count in self.published().items())

    def await_quiet(self, look: Callable[[], object], seconds: float = 2.0) -> None:
        """Returns when there was nothing new for so long."""
        last, since = look(), time.monotonic()
        while time.monotonic() - since < seconds:
            threading.Event().wait(0.05)
            if (now := look()) != last:
                last, since = now, time.monotonic()

    def settle(self) -> None:
        """Waits until everything is in the files, or nothing has changed for long."""
        with contextlib.suppress(AssertionError):
            eventually(lambda: not any(lost for lost, _ in self.outcome().values()), SETTLED_SECONDS)
        self.await_quiet(self.outcome, 1.0)

    def outcome(self) -> dict[str, tuple[int, int]]:
        """How many numbers are lost, and how many are in the files more than once, by flow."""
        found = {name: Counter(self.place.numbers(name)) for name in self.cases}
        return {
            name: (self.origin.fed[name] - len(times), sum(count > 1 for count in times.values()))
            for name, times in found.items()
        }

    def published(self) -> dict[str, int]:
        return {name: queue.books().published for name, queue in self.queues.items()}

    def delivered(self) -> dict[str, int]:
        return {name: queue.books().delivered for name, queue in self.queues.items()}

    def await_sync(self) -> None:
        """Returns when a sync that began since is over."""
        began = time.monotonic()
        self.queues[next(iter(self.cases))].client().set("something to sync", 1)
        eventually(lambda: SYNC_SECONDS < self.power.since_sync < time.monotonic() - began)

    def produce(self, names: list[str]) -> subprocess.Popen[bytes]:
        log = self.stack.enter_context((self.folder / "producers.log").open("ab"))
        environ = {**os.environ, "PYTHONPATH": python_path(), "REDIS_URL": self.server.url}
        command = [sys.executable, "-m", "tests.faults.producers", str(self.folder / "flows.yaml"), *names]
        process = subprocess.Popen(command, cwd=self.folder, env=environ, stderr=log, stdin=subprocess.DEVNULL)
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return process

    def consume(self, name: str) -> None:
        self.consumers[name] = consuming = Consuming(self.place, name)
        self.stack.callback(consuming.end)

    def __enter__(self) -> Outage:
        return self

    def __exit__(self, *_: Any) -> None:
        for one in self.consumers.values():
            one.stopping.set()
        self.stack.close()
        for queue in self.queues.values():
            queue.close_all()


@contextmanager
def outage(folder: Path, origin: str, cases: dict[str, Case]) -> Iterator[Outage]:
    with (
        Embedded(aof=True, data_dir=folder / "valkey") as server,
        Outage(folder, ORIGINS[origin], server, cases) as found,
    ):
        yield found


# A server that answers slowly is asked by half of the flows at a time.
RUNS = [(origin, ("acknowledge", "write")) for origin in ORIGINS if origin != "sqs"]
RUNS += [("sqs", ("acknowledge",)), ("sqs", ("write",))]


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("origin", "fsyncs"), RUNS, ids=[f"{origin}-{'-'.join(fsyncs)}" for origin, fsyncs in RUNS])
def test_a_power_cut_of_redis_loses_no_record_of_a_source(
    origin: str, fsyncs: tuple[str, ...], tmp_path: Path, row: Row
) -> None:
    row(f"power loss: {origin}", "CDL" if "write" in fsyncs else "CL")
    with outage(tmp_path, origin, cases(*fsyncs)) as run:
        run.run()
        found = run.outcome()
        told = json.dumps({name: f"{lost} lost, {twice} twice" for name, (lost, twice) in found.items()}, indent=2)
        assert not any(lost for lost, _ in found.values()), told
        written_once = {name for name, case in run.cases.items() if case.fsync == "write"}
        if run.origin.redelivers:
            written_once = {name for name in written_once if run.cases[name].dedupe}
        assert not any(found[name][1] for name in written_once), told
