"""What the network between a service and Redis may do: lose replies, go silent, be slow, break off anywhere."""

from __future__ import annotations

import itertools
import random

import pytest

from millrace.embedded import Embedded
from tests.conftest import eventually
from tests.faults.conftest import Row
from tests.faults.flowrun import FlowRun
from tests.faults.proxy import Proxy, sent_as
from tests.faults.ways import in_every_way


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply that is not there after 1.5 seconds counts as lost."""
    monkeypatch.setattr("millrace_pipeline.redis.address.REPLY_SECONDS", 1.5)


@in_every_way
@pytest.mark.parametrize("verb", ["publish", "claim", "fill", "ack"])
def test_a_reply_lost_again_and_again_neither_loses_nor_doubles_a_record(
    verb: str, flow: FlowRun, proxy: Proxy, row: Row
) -> None:
    row(f"{verb} reply lost", flow.invariants)
    request = b"LPUSH" if verb == "publish" else sent_as(verb)
    flow.declare(batch={"records": 100, "linger": "50ms"})
    flow.publishing(proxy.url, pause=0.05)
    flow.consuming(proxy.url)
    for _ in range(5):
        lost = proxy.lose_reply_to(request)
        eventually(lost.is_set)
    flow.settle()


@in_every_way
def test_a_half_open_connection_is_given_up_and_what_arrives_late_changes_nothing(
    flow: FlowRun, proxy: Proxy, row: Row, impatient: None
) -> None:
    row("half-open TCP", flow.invariants)
    producing, consuming = flow.publishing(proxy.url), flow.consuming(proxy.url)
    for _ in range(2):
        producing.wait_for(100)
        consuming.wait_for(100)
        proxy.stall()
        eventually(lambda: producing.queue.outage and consuming.consumer.session.outage)
        proxy.stall(False)
        eventually(lambda: not (producing.queue.outage or consuming.consumer.session.outage))
    flow.settle()


@in_every_way
def test_a_consumer_that_waits_in_a_half_open_connection_takes_no_record_with_it(
    flow: FlowRun, proxy: Proxy, row: Row, impatient: None
) -> None:
    """BLMOVE stands on the server for a consumer that can't hear it; the record it moves goes to the next."""
    row("half-open TCP", flow.invariants)
    deaf = flow.consuming(proxy.url)
    eventually(lambda: flow.queue.ask(("CLIENT", "LIST"))[0].count(b"cmd=blmove") == 1)
    proxy.stall()
    flow.publish(50)
    hearing = flow.consuming()
    hearing.wait_for(1)
    eventually(lambda: deaf.consumer.session.outage)
    proxy.stall(False)
    flow.settle()


@in_every_way
@pytest.mark.parametrize("held_up", ["fill", "ack"])
def test_an_owner_cut_off_for_longer_than_its_lease_is_fenced_and_its_batch_is_written_once(
    held_up: str, flow: FlowRun, proxy: Proxy, row: Row
) -> None:
    row("partition longer than the lease", flow.invariants)
    row("duplicate delivery", flow.invariants)
    flow.declare(lease="500ms", batch={"records": 100, "linger": "100ms"})
    held = proxy.stall_at(sent_as(held_up))
    flow.publish(50)
    cut_off = flow.consuming(proxy.url)
    eventually(held.is_set)
    successor = flow.consuming()
    successor.wait_for(50)
    assert flow.queue.books().delivered == 50
    proxy.stall(False)
    flow.publishing().wait_for(100)
    flow.settle()
    assert cut_off.error is None


@in_every_way
def test_an_ack_of_the_old_owner_that_arrives_while_the_new_one_still_writes_is_refused(
    flow: FlowRun, server: Embedded, proxy: Proxy, row: Row
) -> None:
    row("partition longer than the lease", flow.invariants)
    assert server.port is not None
    with Proxy("127.0.0.1", server.port) as other_way:
        flow.declare(lease="3s")
        flow.publish(50)
        old_owners, new_owners = proxy.stall_at(sent_as("ack")), other_way.stall_at(sent_as("ack"))
        old = flow.consuming(proxy.url)
        eventually(old_owners.is_set)
        new = flow.consuming(other_way.url)
        eventually(new_owners.is_set)
        proxy.stall(False)
        eventually(lambda: old.consumer.idle)
        assert (old.consumer.delivered, flow.queue.books().delivered) == (0, 0)
        other_way.stall(False)
        eventually(lambda: old.consumer.delivered + new.consumer.delivered == 50)
        flow.settle()


@in_every_way
def test_a_slow_network_delays_and_nothing_else(flow: FlowRun, proxy: Proxy, row: Row) -> None:
    """With 60 ms each way a renewal takes half of what is left of the lease; no batch may change hands."""
    row("slow network", flow.invariants)
    flow.declare(lease="400ms", batch={"records": 1000, "linger": "1s"})
    proxy.latency = 0.06
    producing = flow.publishing(proxy.url)
    consuming = [flow.consuming(proxy.url) for _ in range(2)]
    for one in consuming:
        one.wait_for(1)
    producing.wait_for(100)
    flow.settle()
    assert all(one.consumer.session.outage is None for one in consuming)


@in_every_way
def test_a_connection_cut_anywhere_in_a_publish_leaves_all_of_it_or_nothing(
    flow: FlowRun, proxy: Proxy, row: Row
) -> None:
    row("connection cut after N bytes", flow.invariants)
    producing = flow.publishing(proxy.url, size=1000)
    flow.consuming()
    producing.wait_for(1)
    where = random.Random(1)
    sizes = itertools.chain(range(1, 12), (where.randrange(200_000) for _ in range(9)))
    for size in sizes:
        cut = proxy.cut_after(size)
        eventually(cut.is_set)
    flow.settle()


@in_every_way
def test_resets_under_load_lose_and_double_nothing(flow: FlowRun, proxy: Proxy, row: Row) -> None:
    row("connection reset", flow.invariants)
    producing = flow.publishing(proxy.url)
    consuming = [flow.consuming(proxy.url) for _ in range(2)]
    for _ in range(10):
        producing.wait_for(50)
        consuming[0].wait_for(1)
        proxy.reset()
    flow.settle()
