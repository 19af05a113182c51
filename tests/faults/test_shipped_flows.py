"""What ships, as it ships: each fault done to both flows of the repository's own `flows.yaml`, every record counted."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from millrace.cli.powercut import EmbeddedPower, PowerCut
from millrace.embedded import Directive, Embedded
from tests.conftest import eventually
from tests.faults.clocks import clock_of
from tests.faults.conftest import Row
from tests.faults.mishaps import is_loading, started_without_its_data
from tests.faults.points import CONSUMER_POINTS, PRODUCER_POINTS
from tests.faults.proxy import Proxy, sent_as
from tests.faults.shippedrun import QUOTES_FLOW, STREAM_FLOW, ShippedRun
from tests.services import PATIENCE, Service

pytestmark = pytest.mark.timeout(300)


@contextmanager
def noticed_by(*services: Service) -> Iterator[None]:
    """Does what makes Redis unusable, and returns once all of these wait for it."""
    before = [len(one.events("redis_unavailable")) for one in services]
    yield
    for one, count in zip(services, before, strict=True):
        one.until(lambda one=one, count=count: len(one.events("redis_unavailable")) > count)  # type: ignore[misc]


def test_shipped_flows_outlive_what_a_network_may_do(shipped: ShippedRun, proxy: Proxy, row: Row) -> None:
    for verb in ("publish", "claim", "fill", "ack"):
        row(f"{verb} reply lost", shipped)
    row("connection cut after N bytes", shipped)
    row("connection reset", shipped)
    row("slow network", shipped)
    shipped.produce(REDIS_URL=proxy.url)
    shipped.consume(REDIS_URL=proxy.url)
    shipped.await_published(1)
    for request in (b"LPUSH", *map(sent_as, ("claim", "fill", "ack"))) * 2:
        lost = proxy.lose_reply_to(request)
        eventually(lost.is_set, PATIENCE)
    for size in (0, 10, 1000, 10_000, 30_000, 50_000):
        cut = proxy.cut_after(size)
        eventually(cut.is_set, PATIENCE)
    for _ in range(3):
        shipped.await_published(50)
        proxy.reset()
    proxy.latency = 0.06
    shipped.await_published(100)
    shipped.await_delivered(100)
    shipped.settle()


def test_shipped_flows_outlive_a_partition_longer_than_every_lease(shipped: ShippedRun, proxy: Proxy, row: Row) -> None:
    """All that one machine runs is cut off, until even its replies are given up; another machine goes on."""
    row("half-open TCP", shipped)
    row("partition longer than the lease", shipped)
    row("duplicate delivery", shipped)
    cut_off = [*shipped.produce(REDIS_URL=proxy.url), shipped.consume(REDIS_URL=proxy.url)]
    shipped.await_delivered(100)
    reached = proxy.stall_at(sent_as("ack"))
    eventually(reached.is_set, PATIENCE)
    _, stream = shipped.produce()
    shipped.consume().await_event("batch_reclaimed")
    stream.await_event("source_opened")
    for one in cut_off:
        one.await_event("redis_unavailable")
    proxy.stall(False)
    for one in cut_off:
        one.await_event("redis_available")
    shipped.settle()


# Each key of the snapshot takes a millisecond to load.
@pytest.mark.parametrize("config", [{"key-load-delay": 1000, "loading-process-events-interval-bytes": 1024}], ids=str)
def test_shipped_flows_wait_for_a_redis_that_refuses_them(shipped: ShippedRun, server: Embedded, row: Row) -> None:
    for fault in ("SCRIPT FLUSH", "READONLY", "MISCONF", "Redis at maxmemory, noeviction", "LOADING"):
        row(fault, shipped)
    _, stream = shipped.produce()
    consumer = shipped.consume()
    shipped.await_delivered(100)
    with redis.Redis.from_url(server.url) as admin:
        for _ in range(10):
            admin.script_flush()
            shipped.await_published(10)

        with noticed_by(stream, consumer):
            admin.replicaof("127.0.0.1", "9")
        admin.replicaof("no", "one")
        shipped.await_delivered(100)

        in_the_way = server.data_dir / "dump.rdb"
        (in_the_way / "full").mkdir(parents=True)
        admin.config_set("save", "3600 1")
        with noticed_by(stream, consumer):
            admin.bgsave()
        shutil.rmtree(in_the_way)
        admin.bgsave()
        shipped.await_delivered(100)

        admin.config_set("maxmemory", 1)
        stream.await_event("producer_held_back")
        admin.config_set("maxmemory", 0)
        shipped.await_delivered(100)

        admin.mset({f"other:{number}": b"x" * 2000 for number in range(2000)})
        admin.bgrewriteaof()
        eventually(lambda: not admin.info("persistence")["aof_rewrite_in_progress"], PATIENCE)
        with noticed_by(stream, consumer):
            server.kill()
        starting = threading.Thread(target=server.start)
        starting.start()
        eventually(lambda: is_loading(admin), PATIENCE)
        starting.join()
    shipped.settle()


@pytest.mark.parametrize("config", [{"appendfsync": "everysec"}, {"appendfsync": "always"}], ids=str)
def test_shipped_flows_outlive_a_redis_killed_under_load(
    config: dict[str, Directive], shipped: ShippedRun, server: Embedded, row: Row
) -> None:
    row(f"Redis SIGKILLed under load, AOF {config['appendfsync']}", shipped)
    shipped.produce()
    shipped.consume()
    for _ in range(3):
        shipped.await_published(100)
        shipped.await_delivered(100)
        server.kill()
        server.start()
    shipped.settle()


def test_shipped_flows_fill_a_redis_that_came_back_empty(shipped: ShippedRun, server: Embedded, row: Row) -> None:
    """What Redis has lost is read again. A crawl has no position to go back to: it is run again."""
    row("Redis back empty", shipped)
    crawl, stream = shipped.produce()
    eventually(lambda: all(count >= 20 for count in shipped.published().values()), PATIENCE)
    started_without_its_data(server)
    assert stream.await_event("publishes_lost", level="error")
    assert crawl.wait() == 0, crawl.said
    assert crawl.events("publishes_lost", level="error")
    shipped.consume()
    shipped.settle(again=QUOTES_FLOW)


def await_sync(power: PowerCut) -> None:
    """Returns when there was one more sync."""
    began = time.monotonic()
    eventually(lambda: 0 < power.since_sync < time.monotonic() - began, PATIENCE)


def test_shipped_flows_outlive_a_power_cut_of_redis(shipped: ShippedRun, server: Embedded, row: Row) -> None:
    """Redis comes back without what it had not synced. Nothing of that was delivered, so nothing may be there twice."""
    row("AOF tail cut, producer lives", shipped)
    row("AOF tail cut, SSE resumes from its checkpoint", shipped)
    with PowerCut(EmbeddedPower(server)) as power:
        _, stream = shipped.produce()
        consumer = shipped.consume()
        shipped.await_delivered(200)
        assert consumer.terminate() == 0, consumer.said
        await_sync(power)
        await_sync(power)  # the one before may have begun too early
        while not stream.events("publishes_lost"):
            shipped.await_published(50)
            eventually(lambda: 0.3 < power.since_sync < 0.6, PATIENCE)
            power.cut()
            server.start()
            shipped.await_published(50)
    shipped.consume()
    shipped.settle(again=QUOTES_FLOW)


@pytest.mark.parametrize("point", PRODUCER_POINTS)
def test_shipped_flows_outlive_killed_producers(point: str, shipped: ShippedRun, row: Row) -> None:
    """A stream is read on from its checkpoint; a crawl starts over, and what was published before is left out."""
    row("producer killed before and after a publish", shipped)
    shipped.consume()
    for one in shipped.produce(MILLRACE_KILLPOINT=f"{point}:3"):
        assert one.wait() == -signal.SIGKILL, one.said
    _, stream = shipped.produce()
    shipped.await_published(300)
    stream.kill()
    shipped.produce(STREAM_FLOW)
    shipped.settle()


def test_shipped_flows_outlive_producers_that_stop_while_redis_is_away(
    shipped: ShippedRun, server: Embedded, row: Row
) -> None:
    """The stream's producer goes on from where it stopped; a crawl that was stopped is run again."""
    row("publisher closed in an outage", shipped)
    row("SIGTERM and a restart", shipped)
    consumer = shipped.consume()
    stopped = shipped.produce()
    shipped.await_delivered(100)
    with noticed_by(stopped[1], consumer):
        server.kill()
    for one in (*stopped, consumer):
        one.signal(signal.SIGTERM)
        one.await_event("service_stopping")
    server.start()
    assert [one.wait() for one in (*stopped, consumer)] == [0, 0, 0], stopped[1].said + consumer.said
    shipped.produce()
    shipped.consume()
    shipped.await_delivered(100)
    shipped.settle()


def test_shipped_flows_outlive_what_becomes_of_consumers(shipped: ShippedRun, tmp_path: Path, row: Row) -> None:
    """Killed at each point and leaving torn files, frozen, sent away, replaced by many, with clocks an hour wrong."""
    for fault in ("consumer killed at each point", "torn temporary files", "two reclaimers racing"):
        row(fault, shipped)
    for fault in ("SIGSTOP longer than the lease, then CONT", "scale 5 → 1 → 5", "consumer clock ± 1 h"):
        row(fault, shipped)
    shipped.produce()
    for point in CONSUMER_POINTS:
        killed = shipped.consume(MILLRACE_KILLPOINT=f"{point}:2")
        assert killed.wait() == -signal.SIGKILL, killed.said
    clocks = [clock_of(tmp_path, seconds, datetimes=False) for seconds in (3600, -3600)]
    crowd = [shipped.consume(), *(shipped.consume(path=clock) for clock in clocks)]
    for one in crowd:
        one.await_event("batch_delivered")
    frozen, killed, left = crowd
    frozen.freeze()
    killed.kill()
    left.signal(signal.SIGTERM)
    assert left.wait() == 0, left.said
    crowd = [shipped.consume() for _ in range(2)]
    eventually(lambda: any(one.events("batch_reclaimed") for one in crowd), PATIENCE)
    frozen.signal(signal.SIGCONT)
    for one in (*crowd, frozen):
        before = len(one.events("batch_delivered"))
        one.until(lambda one=one, before=before: len(one.events("batch_delivered")) > before)  # type: ignore[misc]
    shipped.settle()


def test_shipped_flows_outlive_a_frozen_leader(shipped: ShippedRun, row: Row) -> None:
    """Two producers of each flow: the stream's leader is frozen for longer than its lease, and wakes up as a zombie."""
    row("leader frozen longer than its lease", shipped)
    row("old producer comes back as a zombie", shipped)
    shipped.consume()
    _, leader = shipped.produce()
    leader.await_event("source_opened")
    _, standby = shipped.produce()
    standby.await_event("producer_stands_by")
    shipped.await_published(100)
    leader.freeze()
    standby.await_event("producer_takes_over")
    shipped.await_published(100)
    leader.signal(signal.SIGCONT)
    leader.await_event("producer_starts_over")
    leader.await_event("producer_stands_by")
    standby.kill()
    leader.await_event("producer_takes_over")
    shipped.settle()
