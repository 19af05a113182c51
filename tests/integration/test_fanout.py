"""Real consumers with several sinks: killed between two of them, and with one that is away."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from millrace.practice.stream import PracticeStream
from tests.http_receiver import Answer, Receiver
from tests.services import Place

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FILES = {"type": "jsonl", "path": "out/numbers"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def posted(receiver: Receiver) -> list[int]:
    return sorted(record["n"] for record in receiver.stored.get("/in", []))


@pytest.mark.parametrize("point", ["fanout.between", "fanout.between:2", "consumer.after_write"])
def test_a_consumer_killed_between_two_sinks_leaves_each_with_every_record_once(
    place: Place, receiver: Receiver, point: str
) -> None:
    place.flow(sink=[FILES, {"type": "http", "url": f"{receiver.url}/in"}])
    place.publish(range(25))
    assert place.consume(MILLRACE_KILLPOINT=point).wait() < 0
    place.deliver_the_rest()
    place.assert_once(range(25))
    assert posted(receiver) == list(range(25))


def test_a_batch_waits_for_all_that_are_required(place: Place, receiver: Receiver) -> None:
    receiver.always = Answer(503)
    place.flow(sink=[FILES, {"type": "http", "url": f"{receiver.url}/in"}])
    place.publish(range(10))
    consumer = place.consume("--until-empty")
    unavailable = consumer.await_event("sink_unavailable")
    assert unavailable["reason"].startswith("http: ")
    assert place.numbers() == list(range(10))
    assert place.books().delivered == 0
    receiver.always = None
    assert consumer.wait() == 0
    place.assert_once(range(10))
    assert posted(receiver) == list(range(10))


def test_a_sink_that_is_not_required_and_away_holds_nothing_back_and_verify_looks_at_both(
    place: Place, receiver: Receiver
) -> None:
    receiver.always = Answer(500)
    beside = {"type": "jsonl", "path": "out/beside"}
    away = {"type": "http", "url": f"{receiver.url}/in", "required": False}
    place.flow(sink=[FILES, beside, away])
    place.publish(range(25))
    consumer = place.consume("--until-empty")
    assert consumer.wait() == 0, consumer.said
    place.assert_once(range(25))
    assert sum(missed["records"] for missed in consumer.events("records_missed", sink="http")) == 25
    verify = place.start("verify", "--sink", "--json")
    assert verify.wait() == 0, verify.said
    files, others, posts = json.loads(verify.printed)["numbers"]["sinks"]
    assert (files["records"], others["records"], posts["read"]) == (25, 25, False)
    next((place.folder / "out" / "beside").iterdir()).unlink()
    assert place.start("verify", "--sink").wait() == 1


def test_the_example_keeps_every_edit_and_shows_what_the_view_takes(place: Place, receiver: Receiver) -> None:
    shutil.copytree(EXAMPLES / "fan-out", place.folder, dirs_exist_ok=True)
    receiver.script = [Answer(500)]
    with PracticeStream(total=1100, end=True) as stream:
        run = place.start(
            "run", "--until-empty", REDIS_URL="", WIKIPEDIA_URL=stream.url, VIEW_URL=f"{receiver.url}/edits"
        )
        assert run.wait() == 0, run.said
        sent = sorted(json.loads(stream.data(number))["meta"]["id"] for number in range(1100))
    files = (place.folder / "data" / "edits").rglob("*.jsonl.zst")
    assert sorted(edit["meta"]["id"] for file in files for edit in read(file)) == sent
    told = [json.loads(line) for line in run.said.splitlines() if '"records_missed"' in line]
    missed = [line["records"] for line in told]
    assert missed
    assert len(receiver.stored.get("/edits", [])) + sum(missed) == 1100


def read(file: Path) -> list[dict[str, Any]]:
    with pa.input_stream(str(file), compression="zstd") as stream:
        return [json.loads(line) for line in stream.read().splitlines()]
