"""Who was held up, told to stop or killed, and who goes on in its place: producers and consumers, under load."""

from __future__ import annotations

import signal

import pytest

from millrace_pipeline.errors import ProducerFenced
from tests.conftest import eventually
from tests.faults.conftest import Row
from tests.faults.flowrun import NAME, FlowRun
from tests.faults.points import CONSUMER_POINTS
from tests.faults.proxy import Proxy
from tests.faults.ways import Way, in_every_way, with_a_leader
from tests.services import PATIENCE

pytestmark = pytest.mark.timeout(300)


@with_a_leader
def test_a_leader_frozen_for_longer_than_its_lease_stands_by_when_it_wakes(flow: FlowRun, row: Row) -> None:
    row("leader frozen longer than its lease", flow.invariants)
    flow.consuming()
    leader = flow.produce(20_000, pause=0.3)
    leader.await_event("source_opened")
    standby = flow.produce(20_000, pause=0.3)
    standby.await_event("producer_stands_by")
    leader.freeze()
    standby.await_event("producer_takes_over")
    taken_over_at = flow.queue.books().published
    eventually(lambda: flow.queue.books().published > taken_over_at + 100, PATIENCE)
    leader.signal(signal.SIGCONT)
    leader.await_event("producer_stands_by")
    standby.kill()
    leader.await_event("producer_takes_over")
    assert leader.terminate() == 0, leader.said
    flow.acknowledge(range(flow.queue.checkpoint(NAME) + 1))
    flow.settle()


@pytest.mark.parametrize(
    ("way", "held_up"),
    [
        (Way(leader=True), b"LPUSH"),
        (Way(leader=True, dedupe=True), b"LPUSH"),
        (Way(leader=True, dedupe=True), b"ZMSCORE"),
    ],
    indirect=["way"],
    ids=str,
)
def test_a_publish_of_a_leader_that_arrives_behind_a_takeover_is_not_applied(
    held_up: bytes, flow: FlowRun, proxy: Proxy, row: Row
) -> None:
    row("old producer comes back as a zombie", flow.invariants)
    old = flow.publishing(proxy.url)
    old.wait_for(100)
    reached = proxy.stall_at(held_up)
    eventually(reached.is_set, PATIENCE)
    flow.queue.ask(("HSET", flow.queue.keys.leader, "until", 0))  # its lease has run out
    assert flow.queue.lead(60) == 0
    proxy.stall(False)
    with pytest.raises(ProducerFenced):
        old.stop()
    old.error = None
    assert flow.queue.books().published == old.publisher.published
    flow.acknowledge(range(old.publisher.published))
    flow.publish(50)
    assert flow.queue.checkpoint(NAME) == old.put + 49
    flow.consuming()
    flow.settle()


@in_every_way
def test_services_stopped_under_load_and_started_again_lose_and_double_nothing(flow: FlowRun, row: Row) -> None:
    row("SIGTERM and a restart", flow.invariants)
    for _ in range(3):
        producer, consumer = flow.produce(6000, pause=0.3), flow.consume()
        before = flow.queue.books()
        eventually(lambda before=before: flow.queue.books().published > before.published + 100, PATIENCE)
        eventually(lambda before=before: flow.queue.books().delivered > before.delivered + 100, PATIENCE)
        for service in (producer, consumer):
            service.signal(signal.SIGTERM)
        assert [service.wait() for service in (producer, consumer)] == [0, 0], producer.said + consumer.said
        assert all(lease.seconds_left < 0 for lease in flow.queue.books().leases), "what was held is not given back"
    producer = flow.produce(6000)
    flow.consuming()
    assert producer.wait() == 0, producer.said
    flow.acknowledge(range(6000))
    flow.settle()


@in_every_way
def test_consumers_killed_at_every_point_under_load_lose_and_double_nothing(flow: FlowRun, row: Row) -> None:
    row("consumer killed at each point", flow.invariants)
    flow.declare(lease="1s")
    flow.publishing()
    for point in CONSUMER_POINTS:
        killed = flow.consume(MILLRACE_KILLPOINT=f"{point}:2")
        assert killed.wait() == -signal.SIGKILL, killed.said
    flow.consuming()
    flow.settle()


@in_every_way
def test_a_consumer_frozen_for_longer_than_its_lease_is_replaced_and_goes_on(flow: FlowRun, row: Row) -> None:
    row("SIGSTOP longer than the lease, then CONT", flow.invariants)
    flow.declare(lease="1s")
    flow.publishing()
    frozen = flow.consume()
    frozen.await_event("batch_delivered")

    def frozen_with_a_batch() -> bool:
        frozen.freeze()
        if any(lease.consumer.endswith(f":{frozen.pid}") for lease in flow.queue.books().leases):
            return True
        frozen.signal(signal.SIGCONT)
        return False

    eventually(frozen_with_a_batch, PATIENCE)
    before = len(frozen.events("batch_delivered"))
    flow.consume().await_event("batch_reclaimed")
    frozen.signal(signal.SIGCONT)
    frozen.until(lambda: len(frozen.events("batch_delivered")) > before)
    flow.settle()
