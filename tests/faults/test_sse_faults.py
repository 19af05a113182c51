"""A stream through the whole pipeline, when power fails, connections drop and what comes is a bomb."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from millrace.embedded import Embedded
from millrace.practice.stream import PracticeStream
from tests.conftest import eventually
from tests.faults.conftest import Row
from tests.faults.flowrun import NAME, FlowRun
from tests.faults.ways import Way, with_a_leader
from tests.integration.sse_server import OK, ScriptedServer

TOTAL = 2000


def event_id(data: bytes) -> str:
    return str(json.loads(data)["meta"]["id"])


@pytest.fixture
def stream() -> Iterator[PracticeStream]:
    with PracticeStream(total=TOTAL, end=True, keep_alive=0.1) as stream:
        yield stream


@pytest.fixture
def events(server: Embedded, tmp_path: Path, stream: PracticeStream, way: Way) -> Iterator[FlowRun]:
    """A flow of that stream's events into files."""
    with FlowRun(tmp_path, server.url, way, id_of=event_id) as flow:
        flow.declare(source={"type": "sse", "url": stream.url, "key": "/meta/id", "backoff_initial": 0.05})
        flow.invariants.published((stream.data(n) for n in range(TOTAL)), acknowledged=False)
        yield flow


def aof(server: Embedded) -> Path:
    """The file that grows with every write."""
    return max((server.data_dir / "appendonlydir").glob("*.incr.aof"))


def acknowledge_all(flow: FlowRun, stream: PracticeStream) -> None:
    """The producer has ended well: every event of the stream is on the list."""
    flow.invariants.published(stream.data(n) for n in range(TOTAL))


@with_a_leader
@pytest.mark.parametrize("producer_dies", [True, False])
def test_a_stream_is_read_on_from_the_checkpoint_that_lost_its_second_with_the_records(
    producer_dies: bool, events: FlowRun, server: Embedded, stream: PracticeStream, row: Row
) -> None:
    """Power fails. What consumers had delivered is on disk; of what came since, the file holds a part."""
    row("AOF tail cut, SSE resumes from its checkpoint", events.invariants)
    stream.total, stream.end = 500, False
    consumer, producer = events.consume(), events.place.produce(NAME)
    eventually(lambda: events.queue.books().delivered == 500)
    assert consumer.terminate() == 0, consumer.said
    on_disk = aof(server).stat().st_size
    stream.total = 900
    eventually(lambda: events.queue.books().published == 900)
    server.kill()
    if producer_dies:
        producer.kill()
    with aof(server).open("r+b") as file:
        file.truncate((on_disk + aof(server).stat().st_size) // 2)
    server.start()
    assert 500 <= events.queue.books().published < 900
    stream.total, stream.end = TOTAL, True
    if producer_dies:
        producer = events.place.produce(NAME)
    assert producer.wait(60) == 0, producer.said
    assert len(producer.events("publishes_lost")) == (not producer_dies)
    assert producer.events("source_opened")[-1]["resume_from"]
    acknowledge_all(events, stream)
    events.consume()
    events.settle()


@with_a_leader
@pytest.mark.parametrize("fsync", ["off", "acknowledge", "write"])
def test_a_silent_stream_gives_again_what_redis_forgot(
    fsync: str, events: FlowRun, server: Embedded, stream: PracticeStream, row: Row
) -> None:
    """Nothing new comes that could tell the producer, and its reader blocks in the stream."""
    row("AOF tail cut, the stream silent since", events.invariants)
    events.declare(**{**events.place.flows[NAME], "queue": {"fsync": fsync}})
    stream.total, stream.end = 500, False
    producer = events.place.produce(NAME)
    eventually(lambda: events.queue.books().published == 500)
    on_disk = aof(server).stat().st_size
    stream.total = 800
    eventually(lambda: events.queue.books().published == 800)
    server.kill()
    with aof(server).open("r+b") as file:
        file.truncate(on_disk)
    server.start()
    eventually(lambda: producer.events("publishes_lost"))
    eventually(lambda: events.queue.books().published == 800)
    events.invariants.published(stream.data(n) for n in range(800))
    events.consume()
    events.settle()


@with_a_leader
def test_drops_in_the_middle_of_events_lose_and_double_none(events: FlowRun, stream: PracticeStream, row: Row) -> None:
    row("SSE: cut mid-event", events.invariants)
    stream.drop_next(10, 0, 100, 1, 250, 3)
    producer = events.place.produce(NAME)
    events.consume()
    assert producer.wait(60) == 0, producer.said
    acknowledge_all(events, stream)
    events.settle()


@with_a_leader
def test_a_gzip_bomb_is_refused_and_takes_no_memory(flow: FlowRun, row: Row) -> None:
    """64 MB of one event, 60 kB on the wire; the events around it arrive."""
    row("SSE: gzip bomb", flow.invariants)
    one, two = b'{"n":1}', b'{"n":2}'

    def bomb() -> Iterable[bytes]:
        pack = zlib.compressobj(wbits=31)
        yield OK.removesuffix(b"\r\n") + b"Content-Encoding: gzip\r\n\r\n"
        yield pack.compress(b"data: " + one + b"\nid: 1\n\ndata: ")
        for _ in range(64):
            yield pack.compress(b"x" * (1 << 20))
        yield pack.compress(b"\n\ndata: " + two + b"\nid: 3\n\n") + pack.flush()

    with ScriptedServer(bomb) as server:
        flow.declare(source={"type": "sse", "url": server.url})
        producer = flow.place.produce(NAME)
        producer.await_event("sse_event_too_large")
        eventually(lambda: flow.queue.books().published == 2)
        flow.invariants.check_bounded(producer.pid, 200)
        assert producer.wait(30) == 0, producer.said
    flow.invariants.published([one, two])
    flow.consume()
    flow.settle()
