"""A flow of numbers at work: producers and consumers as threads where only the wire fails, else as processes."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from millrace_consumer.runner import Consumer
from millrace_pipeline.envelope import Record
from millrace_pipeline.errors import QueueError
from millrace_pipeline.flows.flow import Flow, load
from millrace_producer.leadership import LEASE_SECONDS, Leadership
from millrace_producer.publisher import Publisher
from millrace_producer.reading import open_publisher
from millrace_producer.sources import SOURCES
from millrace_producer.sources.base import Source
from tests.conftest import eventually
from tests.faults.counting import text
from tests.faults.invariants import Invariants, number_in
from tests.faults.ways import PLAIN, Way
from tests.queues import Queue
from tests.services import Place, Service

NAME = "numbers"

W = TypeVar("W", bound="Work")


def python_path(first: Path | None = None) -> str:
    """Where a process finds what this one finds, tests included; before all that, in `first`."""
    return os.pathsep.join([*([str(first)] if first else []), *sys.path])


class FlowRun:
    """One flow on one server, from numbers to JSON Lines under `files`; what was started ends with the block.

    `way` is how it publishes. `declare` changes the flow's options before anything is started. `settle` is how a test
    of a fault ends: it lets everything arrive, and checks the invariants C, S, D and L.
    """

    def __init__(
        self, directory: Path, url: str, way: Way = PLAIN, *, id_of: Callable[[bytes], Any] = number_in
    ) -> None:
        self.way = way
        self.place = Place(directory, url, "faults")
        self.url = url
        self.key = self.place.key_of(NAME)
        self.files = directory / "out"
        self.invariants = Invariants(url, self.key, self.files, id_of=id_of)
        self.queue = Queue(url, self.key)
        self._numbers = itertools.count()
        self._crew: list[Work] = []
        self.declare()

    def declare(self, **options: Any) -> None:
        """The flow: small batches, a short lease, and the options given."""
        flow: dict[str, Any] = {
            **self.way.options,
            "source": self.numbers(0),
            "publish": {"records": 50, "linger": "10ms"},
            "batch": {"records": 100, "linger": "20ms"},
            "lease": "2s",
            "sink": {"type": "jsonl", "path": str(self.files)},
        }
        self.place.flow(NAME, **{**flow, **options})
        self.flow: Flow = load(self.place.folder / "flows.yaml")[NAME]
        self.source: Source = self.flow.source.build(SOURCES, Source)

    def numbers(self, total: int, **options: Any) -> dict[str, Any]:
        """The source of numbers up to `total`."""
        return {"type": "tests.faults.counting:CountingSource", "total": total, "alone": self.way.leader, **options}

    # -- threads ------------------------------------------------------------------------------------------------------

    def publishing(
        self, url: str | None = None, *, size: int = 100, pause: float = 0.02, positions: bool = True
    ) -> Publishing:
        """Publishes numbers from now on, by way of `url`: ten at once, then a pause."""
        return self._hire(Publishing(self, url or self.url, self._numbers, size, pause, positions))

    def consuming(self, url: str | None = None) -> Consuming:
        """Consumes from now on, by way of `url`."""
        return self._hire(Consuming(self.flow, url or self.url))

    def publish(self, count: int) -> None:
        """Puts so many numbers on the list, acknowledged."""
        numbers = list(itertools.islice(self._numbers, count))
        if self.way.leader:
            assert self.queue.lead(LEASE_SECONDS) == 0, "another producer leads"
        publisher = self.open_publisher(self.queue)
        for number in numbers:
            publisher.put(Record(text(number), key=str(number), position=number))
        publisher.close()
        self.queue.resign()
        self.queue.stand_by()
        self.acknowledge(numbers)

    def open_publisher(self, queue: Queue) -> Publisher:
        """A publisher as the flow says."""
        return open_publisher(self.flow, queue.publishing, self.source, threading.Event())

    # -- processes ----------------------------------------------------------------------------------------------------

    def produce(
        self, total: int, *, url: str | None = None, size: int = 100, pause: float = 0, **environ: str
    ) -> Service:
        """`millrace produce` of the numbers up to `total`; acknowledged are those that its checkpoint has passed."""
        self.declare(**{**self.place.flows[NAME], "source": self.numbers(total, size=size, pause=pause)})
        self.acknowledge(range(total), size=size, sure=False)
        return self.place.produce(NAME, PYTHONPATH=python_path(), REDIS_URL=url or self.url, **environ)

    def consume(self, *, url: str | None = None, path: Path | None = None, **environ: str) -> Service:
        """`millrace consume`, with modules of `path` before all others."""
        return self.place.consume(PYTHONPATH=python_path(path), REDIS_URL=url or self.url, **environ)

    def acknowledge(self, numbers: Iterable[int], *, size: int = 100, sure: bool = True) -> None:
        """The producer says that these are on the list, or (not sure) may be."""
        self.invariants.published((text(n, size) for n in numbers), acknowledged=sure)

    # -- the end ------------------------------------------------------------------------------------------------------

    def settle(self, seconds: float = 40.0) -> None:
        """Ends the publishing, waits until all is delivered, and checks C, S, D and L."""
        for one in self._crew:
            if isinstance(one, Publishing):
                one.stop()
        eventually(self.invariants.all_delivered, seconds)
        self.invariants.check_live()
        self.invariants.check_complete()
        self.invariants.check_sound()
        self.invariants.check_distinct()

    def __enter__(self) -> FlowRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in self._crew:
            one.stopping.set()
        for one in self._crew:
            one.end()
        self.place.__exit__(kind, error, trace)
        self.invariants.close()
        self.queue.close_all()

    def _hire(self, one: W) -> W:
        self._crew.append(one)
        return one


class Work:
    """Something that runs in a thread until it is told to stop."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.give_up = threading.Event()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)

    def stop(self) -> None:
        """Tells it to stop, waits for it, and raises what it died of."""
        self.stopping.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), f"{self._thread.name} does not stop"
        if self.error is not None:
            raise self.error

    def end(self) -> None:
        """Ends it whatever it waits for."""
        self.stopping.set()
        self.give_up.set()
        self._thread.join(10)

    def work(self) -> None:
        raise AssertionError("a kind of work says what it does")

    def _run(self) -> None:
        try:
            self.work()
        except BaseException as error:
            self.error = error


class Publishing(Work):
    """Puts numbers on the list. `put` is how many it has put; all of them are acknowledged once `stop` returns."""

    def __init__(
        self, run: FlowRun, url: str, numbers: itertools.count[int], size: int, pause: float, positions: bool
    ) -> None:
        super().__init__()
        self.put = 0
        self.queue = Queue(url, run.key, give_up=self.give_up)
        self._run_of, self._numbers, self._size, self._pause, self._positions = run, numbers, size, pause, positions
        self._sent: list[bytes] = []
        self.publisher = run.open_publisher(self.queue)
        self._leadership = Leadership(
            self.queue.leading,
            NAME,
            exclusive=True,
            stopping=self.stopping,
            heard=self.queue.publishing.hear,
            lost=self._fenced,
        )
        self._leads = run.source.exclusive
        self._thread.start()

    def work(self) -> None:
        try:
            if self._leads:
                assert self._leadership.wait(), "another producer leads"
            while not self.stopping.wait(self._pause):
                for number in itertools.islice(self._numbers, 10):
                    data = text(number, self._size)
                    self._sent.append(data)
                    self.publisher.put(Record(data, key=str(number), position=number if self._positions else None))
                    self.put += 1
            self.publisher.close()
            self._run_of.invariants.published(self._sent)
        except QueueError:
            self._run_of.invariants.published(self._sent, acknowledged=False)
            raise
        finally:
            self._leadership.leave()
            self.queue.close_all()

    def _fenced(self, error: QueueError) -> None:
        """Nobody else publishes here: to be taken for replaced is a fault."""
        self.error = error

    def wait_for(self, more: int) -> None:
        """Returns once so many more records are on the list."""
        target = self.publisher.published + more
        eventually(lambda: self.publisher.published >= target or self.error)


class Consuming(Work):
    """A consumer."""

    def __init__(self, flow: Flow, url: str) -> None:
        super().__init__()
        self.consumer = Consumer(flow, url, stopping=self.stopping, give_up=self.give_up)
        self._thread.start()

    def work(self) -> None:
        try:
            self.consumer.run()
        finally:
            self.consumer.claiming.close()
            self.consumer.session.close()

    def wait_for(self, more: int) -> None:
        """Returns once it has delivered so many more records."""
        target = self.consumer.delivered + more
        eventually(lambda: self.consumer.delivered >= target or self.error)
