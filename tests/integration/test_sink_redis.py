"""Real consumers that write to the queue's own Redis with the ack: killed around it, and kept from it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import redis

from millrace.practice.stream import PracticeStream
from tests.services import Place

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def numbers(client: redis.Redis, key: str) -> list[int]:
    return sorted(json.loads(line)["n"] for line in client.lrange(key, 0, -1))


@pytest.mark.parametrize("point", ["consumer.before_write", "consumer.after_write", "consumer.after_ack"])
def test_a_consumer_killed_around_the_ack_leaves_every_record_once(
    place: Place, client: redis.Redis, point: str
) -> None:
    place.flow(sink={"type": "redis", "key": f"{place.key}-out"})
    place.publish(range(25))
    assert place.consume(MILLRACE_KILLPOINT=point).wait() < 0
    written = numbers(client, f"{place.key}-out")
    assert len(written) == (10 if point == "consumer.after_ack" else 0)
    place.deliver_the_rest()
    assert numbers(client, f"{place.key}-out") == list(range(25))
    assert (place.books().delivered, place.books().difference) == (25, 0)


def test_a_key_that_holds_something_else_is_waited_for_under_the_lease_and_burns_no_attempt(
    place: Place, client: redis.Redis
) -> None:
    client.set(f"{place.key}-out", "a string")
    place.flow(max_attempts=1, sink={"type": "redis", "key": f"{place.key}-out"})
    place.publish(range(10))
    consumer = place.consume("--until-empty")
    assert "WRONGTYPE" in consumer.await_event("sink_unavailable")["reason"]
    (lease,) = place.books().leases
    assert (lease.attempts, place.books().delivered) == (1, 0)
    client.delete(f"{place.key}-out")
    assert consumer.wait() == 0, consumer.said
    assert consumer.events("sink_available")
    assert numbers(client, f"{place.key}-out") == list(range(10))


@pytest.mark.parametrize("envelope", [False, True])
def test_the_list_of_another_flow_is_a_sink_too(place: Place, envelope: bool) -> None:
    place.flow("first", sink={"type": "redis", "key": place.key_of("second"), "envelope": envelope})
    place.flow("second")
    place.publish(range(25), "first")
    place.deliver_the_rest()
    while place.books("second").lag:  # the consumer of the second may have found its list empty before the first was
        place.deliver_the_rest()
    assert place.numbers("second") == list(range(25))
    books = place.books("second")
    assert (books.foreign, books.delivered, books.difference) == (25, 25, 0)


def test_a_file_and_a_list_get_the_batch_together(place: Place, client: redis.Redis) -> None:
    place.flow(sink=[{"type": "jsonl", "path": "out/numbers"}, {"type": "redis", "key": f"{place.key}-out"}])
    place.publish(range(25))
    assert place.consume(MILLRACE_KILLPOINT="fanout.between:2").wait() < 0
    assert not client.exists(f"{place.key}-out")
    place.deliver_the_rest()
    place.assert_once(range(25))
    assert numbers(client, f"{place.key}-out") == list(range(25))


def test_the_example_has_the_latest_edit_of_each_wiki(place: Place, client: redis.Redis) -> None:
    shutil.copytree(EXAMPLES / "redis", place.folder, dirs_exist_ok=True)
    flows = place.folder / "flows.yaml"
    flows.write_text(flows.read_text().replace("  latest:\n", f"  latest:\n    queue: {{key: '{place.key}'}}\n"))
    with PracticeStream(total=300, end=True) as stream:
        run = place.start("run", "--until-empty", WIKIPEDIA_URL=stream.url, HASH=f"{place.key}-latest")
        assert run.wait() == 0, run.said
        events = [json.loads(stream.data(number)) for number in range(300)]
    latest = {event["wiki"]: event["title"] for event in events if event["type"] == "edit"}
    found = client.hgetall(f"{place.key}-latest")
    assert {wiki.decode(): json.loads(text)["title"] for wiki, text in found.items()} == latest
