"""`millrace checkpoint`: shown in words, moved under a producer that goes on from there, refused where it must be."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from millrace.checkpoints import checked, checkpoint_of, meaning_of, move_checkpoint
from millrace_pipeline.errors import CheckpointMoved, ConfigError
from millrace_pipeline.flows.flow import Flow, load
from millrace_pipeline.queue import books_of
from millrace_pipeline.queue.changes import By, changes_of
from millrace_pipeline.queue.checkpoints import move
from millrace_pipeline.queue.pausing import pause, resume
from millrace_producer.sources import SOURCES
from millrace_producer.writer import Writer
from tests.conftest import eventually
from tests.contracts.test_pausing_contract import lines
from tests.integration.test_leadership import Running
from tests.queues import Queue
from tests.services import Place

ANN = By("operator", "ann", "box")
HTTP = "http://127.0.0.1:9/"
FORMS: dict[str, tuple[dict[str, Any], Any, str, Any]] = {
    "sse": ({"url": HTTP}, '[{"topic":"a","timestamp":1764423465000}]', "of 2025-11-29 13:37:45 UTC", 7),
    "websocket": ({"url": "ws://127.0.0.1:9/", "resume": {"field": "/id", "parameter": "since"}}, 7, "is 7", [7]),
    "rest": ({"url": HTTP}, {"page": HTTP, "record": 3}, "after 3 of its records", {"file": "x"}),
    "schedule": ({"every": "1h"}, "2026-01-01T00:00:00Z", "after the tick of 2026-01-01", "yesterday"),
    "files": ({"path": "*.jsonl"}, {"file": "a", "offset": 1234, "mark": "m"}, "in the file a, from 1,234", "a"),
    "kafka": ({"brokers": "127.0.0.1:9", "topics": ["t"]}, {"t:0": 5}, "t:0 from offset 5", {"t": 5}),
    "redis": ({"url": "redis://127.0.0.1:9/0", "key": "k", "kind": "stream"}, "5-0", "after the entry 5-0", 5),
    "python": ({"function": "itertools:count", "counted": True}, 5, "after the first 5 records", "5"),
}
"""For each source that has positions: options, a position, what is said of it, and what is none."""
WITHOUT = {
    "scrapy": {"spider": "quotes"},
    "sqs": {"queue": "https://sqs.eu-central-1.amazonaws.com/1/q"},
    "stdin": {},
    "external": {},
}


def declared(folder: Path, source: dict[str, Any], key: str = "k", **more: Any) -> Flow:
    file = folder / "flows.yaml"
    sink = {"type": "jsonl", "path": str(folder / "out")}
    file.write_text(yaml.safe_dump({"flows": {"s": {"source": source, "queue": {"key": key}, "sink": sink, **more}}}))
    return load(file)["s"]


def test_every_source_is_among_these() -> None:
    assert {*FORMS, *WITHOUT} == set(SOURCES)


@pytest.mark.parametrize("source", FORMS)
def test_a_position_is_said_in_words_and_one_of_another_source_is_refused(tmp_path: Path, source: str) -> None:
    options, position, words, other = FORMS[source]
    flow = declared(tmp_path, {"type": source, **options})
    assert words in checked(flow, position)
    with pytest.raises(ConfigError, match=f"s: its source \\({source}\\) can't be read from"):
        checked(flow, other)


@pytest.mark.parametrize("source", WITHOUT)
def test_a_source_without_positions_is_set_to_none(tmp_path: Path, queue: Queue, source: str) -> None:
    flow = declared(tmp_path, {"type": source, **WITHOUT[source]}, queue.keys.ready)
    with pytest.raises(ConfigError):
        move_checkpoint(flow, queue, 7)
    assert changes_of(queue) == []


def numbers(folder: Path, key: str) -> Flow:
    (folder / "counting.py").write_text(
        "import threading\nfrom millrace import Record\n\n"
        "def numbers(resume_from=None):\n"
        "    number = resume_from or 0\n"
        "    while True:\n"
        "        number += 1\n"
        "        if number % 1000 == 500:\n"
        "            threading.Event().wait()\n"
        "        yield Record({'n': number}, position=number)\n"
    )
    source = {"type": "python", "function": "counting:numbers"}
    return declared(folder, source, key, publish={"records": 10, "linger": "10ms"})


def on_the_list(queue: Queue) -> list[int]:
    return [json.loads(line)["data"]["n"] for line in reversed(queue.ask(("LRANGE", queue.keys.ready, 0, -1))[0])]


def test_a_running_producer_reads_on_from_where_a_person_put_it(tmp_path: Path, redis_url: str, queue: Queue) -> None:
    """Also while its source is silent; and it doesn't put its own position in the place of that one."""
    flow = numbers(tmp_path, queue.keys.ready)
    running = Running(flow, redis_url)
    eventually(lambda: queue.checkpoint("s") == 499)
    assert move_checkpoint(flow, queue, 7000, by=ANN) == 499
    eventually(lambda: queue.checkpoint("s") == 7499)
    move_checkpoint(flow, queue, None, by=ANN)
    eventually(lambda: queue.checkpoint("s") == 499 and queue.lag() == 3 * 499)
    running.stop()
    assert running.error is None
    assert on_the_list(queue) == [*range(1, 500), *range(7001, 7500), *range(1, 500)]
    assert books_of(queue).difference == 0
    assert [(change.what, change.detail) for change in changes_of(queue)] == [
        ("checkpoint reset", {"from": 7499}),
        ("checkpoint set", {"from": 499, "to": 7000}),
    ]


def test_nothing_that_was_read_before_a_move_is_published_after_it(queue: Queue, redis_url: str, key: str) -> None:
    other = Queue(redis_url, key)
    queue.publishing.begin_at("s")
    queue.publish(lines(1), checkpoint=("s", 1))
    move(other, "s", 40, by=ANN)
    for _ in range(2):
        with pytest.raises(CheckpointMoved):
            queue.publish(lines(2), checkpoint=("s", 2))
    assert (queue.checkpoint("s"), books_of(queue).published) == (40, 1)
    assert queue.publishing.begin_at("s") == 40
    queue.publish(lines(41), checkpoint=("s", 41))
    assert (queue.checkpoint("s"), books_of(queue).published) == (41, 2)
    other.close_all()


def test_a_writer_whose_position_was_moved_says_so_and_begins_there_next(
    tmp_path: Path, redis_url: str, queue: Queue
) -> None:
    flow = declared(tmp_path, {"type": "external"}, queue.keys.ready)
    writer = Writer(flow, redis_url).open()
    writer.write({"n": 1}, position=1)
    writer.flush()
    move(queue, "s", 9, by=ANN)
    writer.write({"n": 2}, position=2)
    with pytest.raises(CheckpointMoved):
        writer.close()
    with Writer(flow, redis_url).open() as writer:
        assert writer.position == 9
    assert books_of(queue).published == 1


def test_a_move_while_paused_is_read_from_when_they_go_on(tmp_path: Path, redis_url: str, queue: Queue) -> None:
    flow = numbers(tmp_path, queue.keys.ready)
    running = Running(flow, redis_url)
    eventually(lambda: queue.checkpoint("s") == 499)
    pause(queue, ["producers"], by=ANN)
    eventually(lambda: running.producer.paused)
    move_checkpoint(flow, queue, 7000, by=ANN)
    threading.Event().wait(0.5)
    assert (queue.checkpoint("s"), queue.lag()) == (7000, 499)
    resume(queue, by=ANN)
    eventually(lambda: queue.checkpoint("s") == 7499)
    running.stop()
    assert on_the_list(queue) == [*range(1, 500), *range(7001, 7500)]


def test_what_it_will_mean_is_said_before_and_when_it_was_written(tmp_path: Path, queue: Queue) -> None:
    flow = numbers(tmp_path, queue.keys.ready)
    assert (checkpoint_of(flow, queue).position, checkpoint_of(flow, queue).written) == (None, None)
    queue.publish(lines(1), checkpoint=("s", 1))
    assert checkpoint_of(flow, queue).written is not None
    move_checkpoint(flow, queue, 3, by=ANN)
    written = checkpoint_of(flow, queue).written
    assert written is not None
    assert written.by == ANN
    assert "delivered twice: this flow has no dedupe" in meaning_of(flow, None)
    deduped = declared(
        tmp_path, {"type": "python", "function": "counting:numbers"}, dedupe={"key": "/n", "window": "1h"}
    )
    assert "within the last 3600 s is left out by dedupe" in meaning_of(deduped, 5)


def test_a_person_is_asked_and_a_script_says_yes(place: Place) -> None:
    place.flow(source={"type": "python", "function": "itertools:count", "counted": True})
    with place.queue() as queue:
        queue.publish(lines(1, 2), checkpoint=("numbers", 2))
    for arguments, code, said in (
        (["set", "numbers", "x"], 2, "text stands in double quotes"),
        (["set", "numbers", '"x"'], 2, "a number of records"),
        (["set", "numbers", "1"], 2, "--yes"),
        (["set", "numbers", "1", "--dry-run"], 0, "after the first 1 records"),
        (["set", "numbers", "1", "--yes"], 0, "moved; it was 2"),
        (["show", "numbers"], 0, "after the first 1 records"),
    ):
        done = place.start("checkpoint", *arguments)
        assert done.wait() == code, done.said
        assert said in done.printed + done.said
