"""The flows of the shipped `flows.yaml` at work: the file as it is, its URLs pointed at the practice servers."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from millrace.practice.quotes import QUOTES
from millrace.practice.site import PracticeSite
from millrace.practice.stream import PracticeStream
from millrace_pipeline.flows.flow import Flow, load
from tests.conftest import eventually
from tests.faults.flowrun import python_path
from tests.queues import Queue
from tests.services import PATIENCE, Place, Service, read

FILE = Path(__file__).resolve().parents[2] / "flows.yaml"
QUOTES_FLOW, STREAM_FLOW = "quotes", "wikipedia"
EVENTS_A_SECOND = 300
PAGE_SECONDS = 0.2  # of the site: a crawl then takes long enough for a fault to come in between

SAME = ("type", "wiki", "title", "user", "comment", "timestamp", "id")
"""What a row of the stream has from its event, character for character."""


class ShippedRun:
    """Both flows on one server, and what they should deliver. What was started ends with the block.

    The stream goes on until `settle`, which is how a test ends: it lets both sources come to their end, waits until all
    is delivered, and counts.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self._stack = ExitStack()
        self.place = self._stack.enter_context(Place(folder, url, ""))
        self.stream = self._stack.enter_context(PracticeStream(rate=EVENTS_A_SECOND))
        self.site = self._stack.enter_context(PracticeSite(delay=PAGE_SECONDS))
        self.environ = {"QUOTES_URL": self.site.url, "WIKIPEDIA_URL": self.stream.url, "PYTHONPATH": python_path()}
        self.environ |= {"DATA": str(folder), "LEASE": "2s", "BATCH": "100", "LINGER": "200ms"}
        self.flows: dict[str, Flow] = dict(load(FILE, {**os.environ, **self.environ}))
        self.queues = {name: Queue(url, flow.queue.key) for name, flow in self.flows.items()}
        self.folder = folder
        self.checked: list[str] = []

    def produce(self, *names: str, **environ: str) -> list[Service]:
        """A producer for each of these flows, or of all."""
        return [self._start("produce", name, **environ) for name in names or self.flows]

    def consume(self, *, path: Path | None = None, **environ: str) -> Service:
        """A consumer of all flows, with modules of `path` before all others."""
        return self._start("consume", **{"PYTHONPATH": python_path(path), **environ})

    def published(self) -> dict[str, int]:
        return {name: queue.books().published for name, queue in self.queues.items()}

    def delivered(self) -> dict[str, int]:
        return {name: queue.books().delivered for name, queue in self.queues.items()}

    def await_published(self, more: int) -> None:
        """Returns once so many more events are on their list."""
        target = self.published()[STREAM_FLOW] + more
        eventually(lambda: self.published()[STREAM_FLOW] >= target, PATIENCE)

    def await_delivered(self, more: int) -> None:
        """Returns once so many more events are in files."""
        target = self.delivered()[STREAM_FLOW] + more
        eventually(lambda: self.delivered()[STREAM_FLOW] >= target, PATIENCE)

    def settle(self, *, again: str | None = None) -> None:
        """Ends the sources, reads to their end, one of them `again`, delivers and counts: C, S, D, L."""
        so_far = int(self.stream.timeline.happened(time.time() * 1000))
        sent = self.stream.total = so_far + EVENTS_A_SECOND // 2  # some are still to come
        self.stream.end = True
        for producer in self.place.services:
            if producer.arguments[0] == "produce" and producer.process.returncode != -signal.SIGKILL:
                assert producer.wait() == 0, producer.said
        for producer in self.produce(again) if again else []:
            assert producer.wait() == 0, producer.said
        eventually(lambda: not any(queue.lag() for queue in self.queues.values()), PATIENCE)
        for name, expected in {QUOTES_FLOW: quotes(), STREAM_FLOW: self.events(sent)}.items():
            self._count(name, expected)
        self.checked += "CSDL"

    def events(self, count: int) -> dict[Any, dict[str, Any]]:
        """What should be known of each event in the files, by its id."""
        sent = (json.loads(self.stream.data(number)) for number in range(count))
        return {
            event["meta"]["id"]: {name: event.get(name) for name in SAME}
            for event in sent
            if event["meta"]["domain"] != "canary"
        }

    def _count(self, name: str, expected: dict[Any, dict[str, Any]]) -> None:
        rows = list(self._rows(name))
        times = Counter(map(known_by, rows))
        lost = sorted(expected.keys() - times.keys())
        assert not lost, f"{name}: {len(lost)} of {len(expected)} are lost: {lost[:10]}"
        twice = [key for key, count in times.items() if count > 1]
        assert not twice, f"{name}: {len(twice)} of {len(expected)} are there more than once: {twice[:10]}"
        assert times.keys() == expected.keys(), f"{name}: nobody sent {sorted(times.keys() - expected.keys())[:10]}"
        for row in rows:
            sent = expected[known_by(row)]
            assert {field: row[field] for field in sent} == sent
        books = self.queues[name].books()
        assert (books.difference, books.dead, books.delivered) == (0, 0, len(expected)), books

    def _rows(self, name: str) -> Iterator[dict[str, Any]]:
        for path in sorted((self.folder / name).rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                yield from read(path)

    def _start(self, *arguments: str, **environ: str) -> Service:
        return self.place.start(*arguments, "--flows", str(FILE), **(self.environ | environ))

    def __enter__(self) -> ShippedRun:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        for queue in self.queues.values():
            queue.close_all()


def known_by(row: dict[str, Any]) -> Any:
    """The key of a row: as `flows.yaml` says, the event's id, and a quote's own text."""
    return row["meta"]["id"] if "meta" in row else row["text"]


def quotes() -> dict[Any, dict[str, Any]]:
    """What should be known of each quote in the files, by its text."""
    found = ((f"“{text}”", author, list(tags)) for text, author, tags in QUOTES)
    return {text: {"text": text, "author": author, "tags": tags} for text, author, tags in found}
