"""What may become of Redis: killed, full, read-only, loading, unable to save, without scripts, empty."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
import structlog

from millrace.embedded import Directive, Embedded
from millrace_pipeline.errors import QueueUnavailable
from tests.conftest import eventually
from tests.faults.conftest import Row
from tests.faults.counting import text
from tests.faults.flowrun import FlowRun
from tests.faults.invariants import Invariants, forget_peak
from tests.faults.mishaps import cut_tail, flushed, is_loading, started_without_its_data
from tests.faults.ways import in_every_way
from tests.services import PATIENCE


@pytest.fixture
def admin(server: Embedded) -> Iterator[redis.Redis]:
    """What an operator says to the server."""
    with redis.Redis.from_url(server.url) as client:
        yield client


@in_every_way
@pytest.mark.parametrize("config", [{"appendfsync": "everysec"}, {"appendfsync": "always"}], ids=str)
def test_a_redis_killed_under_load_again_and_again_loses_and_doubles_nothing(
    config: dict[str, Directive], flow: FlowRun, server: Embedded, row: Row
) -> None:
    row(f"Redis SIGKILLed under load, AOF {config['appendfsync']}", flow.invariants)
    producer = flow.produce(8000, pause=0.03)
    consumers = [flow.consume() for _ in range(2)]
    for _ in range(4):
        before = flow.queue.books().delivered
        eventually(lambda before=before: flow.queue.books().delivered > before + 200, PATIENCE)
        server.kill()
        server.start()
    assert producer.wait(60) == 0, producer.said
    flow.acknowledge(range(8000))
    flow.settle()
    for one in consumers:
        flow.invariants.check_bounded(one.pid, 200)
        assert one.terminate() == 0, one.said


@in_every_way
def test_scripts_flushed_all_the_time_disturb_nothing(flow: FlowRun, admin: redis.Redis, row: Row) -> None:
    row("SCRIPT FLUSH", flow.invariants)
    producing = flow.publishing()
    consuming = [flow.consuming() for _ in range(2)]
    for _ in range(200):
        admin.script_flush()
        producing.wait_for(1)
    for one in consuming:
        one.wait_for(1)
    flow.settle()


@in_every_way
@pytest.mark.parametrize("config", [{"maxmemory": "24mb"}], ids=str)
def test_a_full_redis_holds_producers_back_and_consumers_drain_it(flow: FlowRun, admin: redis.Redis, row: Row) -> None:
    row("Redis at maxmemory, noeviction", flow.invariants)
    held_before = forget_peak("self")
    producing = flow.publishing(size=20_000, pause=0.001)
    eventually(lambda: producing.publisher._held_back)
    held_at = producing.publisher.published
    consuming = [flow.consuming() for _ in range(2)]
    eventually(lambda: producing.publisher.published > 2 * held_at)
    flow.settle()
    assert sum(one.consumer.delivered for one in consuming) > 2 * held_at
    assert admin.info("memory")["used_memory_peak"] < 32 << 20
    flow.invariants.check_bounded("self", held_before + 200)


@in_every_way
@pytest.mark.parametrize("config", [{"maxmemory": "24mb"}], ids=str)
def test_a_consumer_that_starts_at_a_full_redis_drains_it(flow: FlowRun, admin: redis.Redis, row: Row) -> None:
    row("Redis at maxmemory, noeviction", flow.invariants)
    producer = flow.produce(2000, size=20_000)
    producer.await_event("producer_held_back")
    admin.config_set("maxmemory", "16mb")  # full beyond doubt: not only while a publish is on its way
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        admin.set("more", b"x" * 1_000_000)
    flow.consume()
    assert producer.wait(60) == 0, producer.said
    flow.acknowledge(range(2000), size=20_000)
    flow.settle()


@in_every_way
def test_a_read_only_redis_is_waited_for(flow: FlowRun, admin: redis.Redis, row: Row) -> None:
    row("READONLY", flow.invariants)
    producing, consuming = flow.publishing(), flow.consuming()
    producing.wait_for(50)
    consuming.wait_for(50)
    admin.replicaof("127.0.0.1", "9")
    eventually(lambda: producing.queue.outage and consuming.consumer.session.outage)
    assert "read only" in str(producing.queue.outage)
    admin.replicaof("no", "one")
    consuming.wait_for(50)
    flow.settle()


@in_every_way
# Each key of the snapshot takes a millisecond to load, so that the loading lasts for more than a second.
@pytest.mark.parametrize("config", [{"key-load-delay": 1000, "loading-process-events-interval-bytes": 1024}], ids=str)
def test_a_redis_that_is_loading_is_waited_for(flow: FlowRun, server: Embedded, admin: redis.Redis, row: Row) -> None:
    row("LOADING", flow.invariants)
    admin.mset({f"other:{number}": b"x" * 2000 for number in range(1500)})
    producing, consuming = flow.publishing(), flow.consuming()
    consuming.wait_for(50)
    admin.bgrewriteaof()
    eventually(lambda: not admin.info("persistence")["aof_rewrite_in_progress"])
    server.kill()
    starting = threading.Thread(target=server.start)
    starting.start()
    eventually(lambda: is_loading(admin))
    eventually(lambda: producing.queue.outage and consuming.consumer.session.outage)
    starting.join()
    consuming.wait_for(50)
    flow.settle()


@in_every_way
def test_a_redis_that_can_not_save_is_waited_for(flow: FlowRun, server: Embedded, admin: redis.Redis, row: Row) -> None:
    row("MISCONF", flow.invariants)
    producing, consuming = flow.publishing(), flow.consuming()
    consuming.wait_for(50)
    in_the_way = server.data_dir / "dump.rdb"
    (in_the_way / "full").mkdir(parents=True)
    admin.config_set("save", "3600 1")
    admin.bgsave()
    eventually(lambda: producing.queue.outage and consuming.consumer.session.outage)
    assert "MISCONF" in str(producing.queue.outage)
    shutil.rmtree(in_the_way)
    admin.bgsave()
    consuming.wait_for(50)
    flow.settle()


@in_every_way
def test_a_producer_held_back_at_its_mark_goes_on_after_a_restart_of_redis(
    flow: FlowRun, server: Embedded, row: Row
) -> None:
    row("Redis restarts while max_ready holds producers back", flow.invariants)
    flow.declare(queue={"max_ready": 200})
    producing = flow.publishing()
    eventually(lambda: producing.publisher._held_back)
    server.kill()
    eventually(lambda: producing.queue.outage)
    server.start()
    eventually(lambda: not producing.queue.outage)
    flow.consuming().wait_for(400)
    flow.settle()


@in_every_way
# What it put and Redis loses nobody gives again: with everysec a busy disk can make Redis put off a write.
@pytest.mark.parametrize("config", [{"appendfsync": "always"}], ids=str)
def test_a_publisher_closed_in_an_outage_waits_and_leaves_nothing_behind(
    flow: FlowRun, server: Embedded, row: Row
) -> None:
    row("publisher closed in an outage", flow.invariants)
    producing = flow.publishing()
    producing.wait_for(50)
    server.kill()
    eventually(lambda: producing.queue.outage)
    producing.stopping.set()
    eventually(lambda: producing.publisher._flushing)
    server.start()
    flow.consuming()
    flow.settle()


@in_every_way
# What it put and Redis loses nobody gives again: with everysec a busy disk can make Redis put off a write.
@pytest.mark.parametrize("config", [{"appendfsync": "always"}], ids=str)
def test_a_publisher_that_may_wait_no_longer_says_how_much_it_leaves_behind(
    flow: FlowRun, server: Embedded, row: Row
) -> None:
    row("publisher closed in an outage", flow.invariants)
    producing = flow.publishing()
    producing.wait_for(50)
    server.kill()
    eventually(lambda: producing.queue.outage)
    producing.stopping.set()
    producing.give_up.set()
    with pytest.raises(QueueUnavailable):
        producing.stop()
    assert producing.put == producing.publisher.published + producing.publisher.unpublished
    assert producing.publisher.unpublished > 0
    producing.error = None
    server.start()
    flow.consuming()
    flow.acknowledge(range(producing.publisher.published))
    flow.settle()


@in_every_way
@pytest.mark.parametrize("emptied", [flushed, started_without_its_data])
def test_a_redis_that_comes_back_empty_is_told_loudly_and_filled_again_by_sources_that_can(
    emptied: Callable[[Embedded], None], flow: FlowRun, server: Embedded, row: Row
) -> None:
    row("Redis back empty", flow.invariants)
    producer = flow.produce(3000, pause=0.05)
    eventually(lambda: flow.queue.books().published > 500)
    emptied(server)
    assert producer.wait(60) == 0, producer.said
    assert len(producer.events("publishes_lost", level="error")) == 1
    flow.acknowledge(range(3000))
    flow.consume()
    flow.settle()


@in_every_way
@pytest.mark.parametrize("emptied", [flushed, started_without_its_data])
def test_a_producer_whose_source_can_not_go_back_goes_on_after_redis_came_back_empty(
    emptied: Callable[[Embedded], None], flow: FlowRun, server: Embedded, row: Row
) -> None:
    """A crawl: what was on the list is lost, which is said once; what comes from then on is delivered."""
    row("Redis back empty", flow.invariants)
    flow.publish(100)
    with structlog.testing.capture_logs() as said:
        producing = flow.publishing(positions=False)
        producing.wait_for(100)
        emptied(server)
        lost = producing.publisher.published
        producing.wait_for(200)
        consuming = flow.consuming()
        producing.stop()
        flow.invariants.forget_acknowledged()
        flow.acknowledge(range(100 + lost + 60, 100 + producing.put))
        consuming.wait_for(100)
        flow.settle()
    assert [event["log_level"] for event in said if event["event"] == "publishes_lost"] == ["error"]


@in_every_way
def test_an_append_only_file_that_lost_its_tail_is_published_again_from_the_matching_checkpoint(
    flow: FlowRun, server: Embedded, row: Row
) -> None:
    """Redis' machine loses power, and the producer's does not: it reads its source again from where Redis is."""
    row("AOF tail cut, producer lives", flow.invariants)
    producer = flow.produce(3000, pause=0.05)
    eventually(lambda: flow.queue.books().published > 500)
    server.kill()
    cut_tail(server, 20_000)
    server.start()
    assert producer.wait(60) == 0, producer.said
    assert len(producer.events("publishes_lost", level="error")) == 1
    flow.acknowledge(range(3000))
    flow.consume()
    flow.settle()


def test_the_checks_see_a_record_that_is_lost_doubled_or_changed(tmp_path: Path) -> None:
    with Embedded() as server, FlowRun(tmp_path, server.url) as flow:
        flow.publish(3)
        checks = Invariants(server.url, flow.key, flow.files)
        checks.published([text(0), text(1), text(2), text(3)])
        with pytest.raises(AssertionError, match=r"nowhere: \[3\]"):
            checks.check_complete()
        flow.files.mkdir()
        (flow.files / "one.jsonl").write_bytes(text(1) + b"\n" + text(1) + b"\n")
        with pytest.raises(AssertionError, match="more than once"):
            checks.check_distinct()
        (flow.files / "one.jsonl").write_bytes(text(1).replace(b"a", b"b") + b"\n")
        with pytest.raises(AssertionError, match="has changed"):
            checks.check_sound()
        checks.close()
