"""A sink that takes nothing is seen from outside, and the batch waits for it under its lease."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from millrace_consumer.runner import Consumer
from millrace_pipeline.envelope import Record, encode
from millrace_pipeline.flows.flow import load
from millrace_pipeline.moment import now
from tests.conftest import eventually
from tests.queues import Queue
from tests.services import Place

DOWN = """\
from pathlib import Path
from millrace_consumer.sinks.base import SinkUnavailable
from millrace_consumer.sinks.jsonl import JsonlSink


class Down(JsonlSink):
    \"\"\"Exactly once: JSON lines, while there is no file called `down`.\"\"\"

    def write(self, batch):
        self.ask()
        super().write(batch)

    def has_batch(self, batch_id):
        self.ask()
        return super().has_batch(batch_id)

    def ask(self):
        if Path("down").exists():
            raise SinkUnavailable("down")
"""


def test_a_sink_that_is_down_shows_in_the_lease_and_the_batch_is_delivered_once_it_is_back(
    tmp_path: Path, redis_url: str, key: str, queue: Queue
) -> None:
    place = tmp_path / "out"
    file = tmp_path / "flows.yaml"
    file.write_text(
        f"flows: {{s: {{source: {{type: sse, url: 'http://127.0.0.1:1/'}}, queue: {{key: '{key}'}}, lease: 300ms, "
        f"batch: {{linger: 0}}, sink: {{type: jsonl, path: '{place}'}}}}}}"
    )
    flow = load(file)["s"]
    stopping = threading.Event()
    consumer = Consumer(flow, redis_url, stopping=stopping, give_up=threading.Event())
    place.write_text("in the way")
    running = threading.Thread(target=consumer.run, daemon=True)
    running.start()
    queue.publish([encode(Record({"n": 1}), id="1", source="s", time=now(), mark=queue.keys.ready)])
    eventually(lambda: any("sink unavailable since" in lease.note for lease in queue.books().leases))
    # Far beyond the lease, it is still the same holder, and no attempt was burnt.
    first = queue.books().leases[0]
    eventually(lambda: queue.books().leases[0].age_seconds > 1.0)
    assert (queue.books().leases[0].consumer, queue.books().leases[0].attempts) == (first.consumer, 1)
    assert consumer.unwell() is not None
    place.unlink()
    eventually(lambda: queue.books().delivered == 1, 40)
    assert consumer.unwell() is None
    assert [line for written in place.iterdir() for line in written.read_text().splitlines()] == ['{"n":1}']
    stopping.set()
    running.join(5)
    assert not running.is_alive()


@pytest.mark.parametrize("error", ['SinkUnavailable("down")', 'KeyError("a bug of the sink")'])
def test_a_batch_that_killed_its_consumers_stays_whole_while_the_sink_cannot_say_whether_it_holds_it(
    place: Place, error: str
) -> None:
    place.module(DOWN.replace('SinkUnavailable("down")', error))
    place.flow(max_attempts=1, sink={"type": "theirs:Down", "path": "out/numbers"})
    place.publish(range(10))
    assert place.consume(MILLRACE_KILLPOINT="consumer.before_write").wait() < 0
    (place.folder / "down").touch()
    rest = place.consume("--until-empty")
    rest.await_event("sink_unavailable")
    assert not rest.events("batch_split")
    (place.folder / "down").unlink()
    assert rest.wait() == 0, rest.said
    place.assert_once(range(10))
    assert len(place.files()) == 1
