"""SIGKILL at every point of a delivery and of a publish: nothing lost, nothing twice, and the batch keeps its id."""

from __future__ import annotations

import signal

import pytest

from millrace_pipeline.envelope import decode
from tests.faults.conftest import Row
from tests.faults.flowrun import FlowRun
from tests.faults.invariants import number_in
from tests.faults.points import CONSUMER_POINTS, PRODUCER_POINTS
from tests.faults.ways import in_every_way
from tests.services import Place

ALL = range(20)
KILLED = "consumer killed at each point"


@pytest.mark.parametrize(
    ("sink", "point"),
    [*(("jsonl", point) for point in CONSUMER_POINTS), ("parquet", "sink.mid_write"), ("parquet", "sink.after_rename")],
)
def test_the_batch_of_a_consumer_killed_anywhere_is_delivered_once_under_the_same_id(
    place: Place, point: str, sink: str, row: Row
) -> None:
    row(KILLED, "CSD")
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


def test_a_consumer_killed_after_its_ack_leaves_nothing_to_take_over(place: Place, row: Row) -> None:
    row(KILLED, "CSD")
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


def test_two_consumers_killed_one_after_the_other_over_the_same_batch_deliver_it_once(place: Place, row: Row) -> None:
    row(KILLED, "CSD")
    place.flow(lease="500ms", max_attempts=3)
    place.publish(range(10))
    for point in ("sink.after_rename", "consumer.after_write"):
        assert place.consume(MILLRACE_KILLPOINT=point).wait() == -signal.SIGKILL
    assert place.books().leases[0].attempts == 2
    place.deliver_the_rest()
    place.assert_once(range(10))
    assert len(place.files()) == 1


@in_every_way
@pytest.mark.parametrize("point", PRODUCER_POINTS)
def test_a_producer_killed_around_a_publish_goes_on_so_that_every_record_is_on_the_list_once(
    flow: FlowRun, point: str, row: Row
) -> None:
    row("producer killed before and after a publish", flow.invariants)
    killed = flow.produce(300, MILLRACE_KILLPOINT=f"{point}:3")
    assert killed.wait() == -signal.SIGKILL, killed.said
    before = flow.queue.books()
    assert before.published == (100 if "before" in point else 150)
    assert before.difference == 0

    again = flow.produce(300)
    assert again.wait() == 0, again.said
    assert again.await_event("source_opened")["resume_from"] == before.published - 1
    on_the_list = [number_in(decode(line, foreign_id=str).text) for line in flow.invariants.on_the_list()]
    assert on_the_list[::-1] == list(range(300))
    assert flow.queue.books().published == 300
    flow.acknowledge(range(300))
    flow.consuming()
    flow.settle()
