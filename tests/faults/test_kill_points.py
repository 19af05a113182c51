"""SIGKILL at every point of a delivery and of a publish: nothing lost, nothing twice, and the batch keeps its id."""

from __future__ import annotations

import json
import signal

import pytest
import redis

from millrace.practice.stream import PracticeStream
from tests.services import Place

ALL = range(20)

CONSUMER_POINTS = [
    "consumer.after_claim",
    "consumer.before_write",
    "sink.before_write",
    "sink.mid_write",
    "sink.before_rename",
    "sink.after_rename",
    "consumer.after_write",
]


@pytest.mark.parametrize(
    ("sink", "point"),
    [*(("jsonl", point) for point in CONSUMER_POINTS), ("parquet", "sink.mid_write"), ("parquet", "sink.after_rename")],
)
def test_the_batch_of_a_consumer_killed_anywhere_is_delivered_once_under_the_same_id(
    place: Place, point: str, sink: str
) -> None:
    place.flow(sink={"type": sink, "path": "out/numbers"}, lease="500ms")
    place.publish(ALL)

    killed = place.consume(MILLRACE_KILLPOINT=point if sink == "parquet" else f"{point}:2")
    assert killed.wait() == -signal.SIGKILL, killed.said
    held = [lease for lease in place.books().leases if lease.attempts]  # and not the one that was claimed ahead
    assert [(lease.records, lease.attempts) for lease in held] == [(10, 1)]
    assert place.books().difference == 0

    rest = place.deliver_the_rest()
    assert rest.events("batch_reclaimed", batch=held[0].batch, attempts=2)
    assert held[0].batch in place.batches()
    assert len(place.files()) == 2
    place.assert_once(ALL)


def test_a_consumer_killed_after_its_ack_leaves_nothing_to_take_over(place: Place) -> None:
    place.flow()
    place.publish(ALL)
    killed = place.consume(MILLRACE_KILLPOINT="consumer.after_ack")
    assert killed.wait() == -signal.SIGKILL, killed.said
    books = place.books()
    assert (books.lag, books.delivered, books.difference) == (10, 10, 0)
    (delivered,) = place.batches()

    rest = place.deliver_the_rest()
    assert not rest.events("batch_reclaimed", batch=delivered)
    place.assert_once(ALL)


def test_two_consumers_killed_one_after_the_other_over_the_same_batch_deliver_it_once(place: Place) -> None:
    place.flow(lease="500ms", max_attempts=3)
    place.publish(range(10))
    for point in ("sink.after_rename", "consumer.after_write"):
        assert place.consume(MILLRACE_KILLPOINT=point).wait() == -signal.SIGKILL
    assert place.books().leases[0].attempts == 2
    place.deliver_the_rest()
    place.assert_once(range(10))
    assert len(place.files()) == 1


@pytest.mark.parametrize("point", ["producer.before_publish:3", "producer.after_publish:3"])
def test_a_producer_killed_around_a_publish_goes_on_so_that_every_event_is_on_the_list_once(
    place: Place, client: redis.Redis, point: str
) -> None:
    with PracticeStream(total=60, end=True) as stream:
        place.flow(source={"type": "sse", "url": stream.url})
        killed = place.produce(MILLRACE_KILLPOINT=point)
        assert killed.wait() == -signal.SIGKILL, killed.said
        before = int(client.llen(place.key_of()))
        assert before == (20 if "before" in point else 30)
        assert place.books().difference == 0

        again = place.produce()
        assert again.wait() == 0, again.said
        expected = [json.loads(stream.data(number)) for number in range(60)]
    assert again.await_event("source_opened")["resume_from"] is not None
    assert [json.loads(line)["data"] for line in reversed(client.lrange(place.key_of(), 0, -1))] == expected
    assert place.books().published == 60
