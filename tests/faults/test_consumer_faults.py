"""What may become of consumers and what they leave behind: wrong clocks, crowds that come and go, torn files."""

from __future__ import annotations

import os
import signal
import time
from datetime import datetime
from pathlib import Path

import pytest

from tests.conftest import eventually
from tests.faults.clocks import clock_of
from tests.faults.conftest import Row
from tests.faults.flowrun import FlowRun
from tests.faults.ways import in_every_way
from tests.queues import Queue


@in_every_way
def test_consumers_whose_clocks_are_an_hour_wrong_take_over_what_is_due_and_nothing_else(
    flow: FlowRun, tmp_path: Path, row: Row
) -> None:
    row("consumer clock ± 1 h", flow.invariants)
    flow.declare(lease="1s", batch={"records": 100, "linger": "3s"})
    flow.publish(50)
    holder = flow.consume()
    eventually(lambda: flow.queue.books().leases)
    ahead, behind = (flow.consume(path=clock_of(tmp_path, seconds)) for seconds in (3600, -3600))
    for one in (ahead, behind):
        one.await_event("service_started")
    eventually(lambda: flow.queue.books().delivered == 50)
    assert not any(one.events("batch_reclaimed") for one in (holder, ahead, behind))

    flow.publish(50)
    eventually(lambda: flow.queue.books().leases)
    holders = [one for one in (holder, ahead, behind) if str(one.pid) in flow.queue.books().leases[0].consumer]
    assert len(holders) == 1
    holders[0].kill()
    others = [one for one in (holder, ahead, behind) if one.running]
    eventually(lambda: flow.queue.books().delivered == 100)
    assert sum(len(one.events("batch_reclaimed")) for one in others) == 1
    flow.settle()


@pytest.mark.parametrize("shift", [3600, -3600])
def test_the_clock_of_the_test_before_is_really_wrong(shift: int, flow: FlowRun, tmp_path: Path, row: Row) -> None:
    row("consumer clock ± 1 h", flow.invariants)
    flow.publish(1)
    consumer = flow.consume(path=clock_of(tmp_path, shift))
    eventually(lambda: list(flow.files.glob("*.jsonl")))
    (written,) = flow.files.glob("*.jsonl")
    named_at = datetime.strptime(written.name[:16], "%Y%m%dT%H%M%S%z").timestamp()
    assert abs(named_at - time.time() - shift) < 120
    flow.settle()
    assert consumer.terminate() == 0, consumer.said


@in_every_way
def test_a_crowd_that_shrinks_and_grows_delivers_everything_once(flow: FlowRun, row: Row) -> None:
    """Five consumers, two killed and two sent away under load, four more: what the dead held, several want at once."""
    row("scale 5 → 1 → 5", flow.invariants)
    flow.declare(lease="1s", batch={"records": 20, "linger": "50ms"})
    flow.publishing()  # until the end
    crowd = [flow.consume() for _ in range(5)]
    for one in crowd:
        one.await_event("batch_delivered")
    for one in crowd[:2]:
        one.kill()
    for one in crowd[2:4]:
        one.signal(signal.SIGTERM)
    assert [one.wait() for one in crowd[2:4]] == [0, 0]
    left = len(crowd[4].events("batch_delivered"))
    eventually(lambda: len(crowd[4].events("batch_delivered")) > left)
    crowd += [flow.consume() for _ in range(4)]
    for one in crowd[5:]:
        one.await_event("batch_delivered")
    flow.settle()
    for one in crowd[4:]:
        flow.invariants.check_bounded(one.pid, 200)
        assert one.terminate() == 0, one.said


@in_every_way
def test_batches_that_many_take_over_at_once_are_written_once(flow: FlowRun, row: Row) -> None:
    row("two reclaimers racing", flow.invariants)
    flow.publish(5000)
    dead = Queue(flow.url, flow.key, lease_seconds=0.05)
    while dead.claim(10):
        pass
    dead.close_all()
    crowd = [flow.consuming() for _ in range(4)]
    eventually(lambda: flow.queue.books().delivered == 5000)
    assert sum(one.consumer.delivered > 0 for one in crowd) > 1
    assert len(list(flow.files.glob("*.jsonl"))) == 500
    flow.settle()


@in_every_way
def test_a_file_torn_by_a_kill_is_never_read_and_goes_when_it_is_old(flow: FlowRun, row: Row) -> None:
    row("torn temporary files", flow.invariants)
    flow.publish(100)
    killed = flow.consume(MILLRACE_KILLPOINT="sink.mid_write")
    assert killed.wait() == -signal.SIGKILL
    (torn,) = flow.files.glob(".*.tmp-*")
    torn.write_bytes(torn.read_bytes()[:-30])
    os.utime(torn, (time.time() - 7200, time.time() - 7200))
    fresh = torn.with_name(".20261121T000000Z-0123456789-000001.jsonl.tmp-00000000")
    fresh.write_bytes(b'{"n":')
    flow.consume()
    eventually(lambda: flow.queue.books().delivered == 100)
    assert not torn.exists()
    assert fresh.exists()
    flow.settle()
