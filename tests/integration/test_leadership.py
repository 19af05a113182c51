"""Two producers of a stream: one reads, the other stands by."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from millrace.practice.stream import PracticeStream
from millrace_pipeline.envelope import decode
from millrace_pipeline.flows.flow import Flow, load
from millrace_producer import leadership
from millrace_producer.runner import Producer
from tests.conftest import eventually
from tests.queues import Queue


@pytest.fixture(autouse=True)
def short_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leadership, "LEASE_SECONDS", 0.6)
    monkeypatch.setattr(leadership, "LOOK_SECONDS", 0.05)


class Running:
    """A producer in a thread of this process."""

    def __init__(self, flow: Flow, url: str) -> None:
        self.stopping, self.give_up = threading.Event(), threading.Event()
        self.producer = Producer(flow, url, stopping=self.stopping, give_up=self.give_up)
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.producer.run()
        except Exception as error:
            self.error = error

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join(10)


def flow(tmp_path: Path, url: str, key: str) -> Flow:
    file = tmp_path / "flows.yaml"
    file.write_text(
        f"flows: {{s: {{source: {{type: sse, url: '{url}'}}, queue: {{key: '{key}'}}, "
        "publish: {linger: 10ms}, sink: {type: stdout}}}"
    )
    return load(file)["s"]


def ids(queue: Queue) -> list[str]:
    return [
        decode(line, foreign_id=str).value["meta"]["id"] for line in queue.ask(("LRANGE", queue.keys.ready, 0, -1))[0]
    ]


def test_a_standby_reads_on_where_the_leader_stopped(tmp_path: Path, redis_url: str, key: str, queue: Queue) -> None:
    with PracticeStream(rate=300) as stream:
        declared = flow(tmp_path, stream.url, key)
        first = Running(declared, redis_url)
        eventually(lambda: queue.lag() > 50)
        second = Running(declared, redis_url)
        eventually(lambda: stream.connections == 1 and queue.lag() > 100)
        first.stop()
        at = queue.lag()
        eventually(lambda: queue.lag() > at + 50)
        second.stop()
        found = ids(queue)
    assert len(found) == len(set(found)) == queue.books().published


def test_a_leader_that_was_silent_too_long_is_fenced_and_stands_by_again(
    tmp_path: Path, redis_url: str, key: str, queue: Queue
) -> None:
    with PracticeStream(rate=300) as stream:
        declared = flow(tmp_path, stream.url, key)
        first = Running(declared, redis_url)
        eventually(lambda: queue.lag() > 20)
        # As if it had been stopped for longer than its lease: another leads now.
        other = Queue(redis_url, key)
        queue.ask(("HSET", queue.keys.leader, "until", 0))
        eventually(lambda: other.lead(30) == 0)
        eventually(lambda: first.producer._reading.leadership.stands_by)
        published = queue.books().published
        other.resign()
        eventually(lambda: queue.books().published > published + 20)
        first.stop()
        assert first.error is None
        found = ids(queue)
    assert len(found) == len(set(found)) == queue.books().published
