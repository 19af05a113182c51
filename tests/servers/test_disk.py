"""What is on a server's disk is said only once it is, whatever the server does meanwhile with its file."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from millrace.embedded import Embedded
from millrace_pipeline.queue.disk import EVERYSEC_SECONDS, Disk
from millrace_pipeline.queue.keys import Keys
from millrace_pipeline.redis.address import Address
from millrace_pipeline.redis.connection import Connection
from tests.conftest import eventually

LASTS_SECONDS = 4
"""So long a child of the server saves."""


def disk_of(server: Embedded) -> Disk:
    return Disk(Connection(Address(server.url)), Keys("list"), replicas=0, give_up=threading.Event())


@pytest.fixture
def server() -> Iterator[Embedded]:
    with Embedded(aof=True) as server:
        yield server


@pytest.fixture
def client(server: Embedded) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        yield client


def begin_child(client: redis.Redis, how: str) -> None:
    """Have a child of the server save for some seconds."""
    for number in range(100):
        client.set(f"key{number}", "x")
    client.config_set("rdb-key-save-delay", LASTS_SECONDS * 1_000_000 // 100)
    getattr(client, how)()
    eventually(lambda: children(client))


def children(client: redis.Redis) -> bool:
    said: dict[str, Any] = client.info("persistence")
    return bool(said["rdb_bgsave_in_progress"] or said["aof_rewrite_in_progress"])


@pytest.mark.parametrize("how", ["bgsave", "bgrewriteaof"])
def test_nothing_is_on_disk_while_a_child_saves_and_syncs_wait_for_it(
    server: Embedded, client: redis.Redis, how: str
) -> None:
    client.config_set("no-appendfsync-on-rewrite", "yes")
    disk = disk_of(server)
    assert disk.confirm(("LLEN", "list"), stop=threading.Event()) == [0]
    begin_child(client, how)
    client.rpush("list", 1)
    assert disk.confirm(("LLEN", "list"), stop=threading.Event()) == [1]
    assert not children(client)
    disk.close()


@pytest.mark.parametrize("how", ["bgsave", "bgrewriteaof"])
def test_a_child_that_syncs_do_not_wait_for_holds_nothing_up_for_long(
    server: Embedded, client: redis.Redis, how: str, asked: str
) -> None:
    disk = disk_of(server)
    assert disk.confirm(("LLEN", "list"), stop=threading.Event()) == [0]
    begin_child(client, how)
    client.rpush("list", 1)
    assert disk.confirm(("LLEN", "list"), stop=threading.Event()) == [1]
    # Redis 7.0 syncs the old file in a line of its own: there the rewrite's end tells.
    assert children(client) == ((asked, how) != ("redis-7.0", "bgrewriteaof"))
    disk.close()


def test_a_rewrite_that_begins_meanwhile_has_the_second_waited_out_again(
    server: Embedded, client: redis.Redis, asked: str
) -> None:
    disk = disk_of(server)
    if asked == "redis-8.0":
        disk._look_at_server()
        assert disk._server is not None
        assert disk._server.honest  # which the rewrite doesn't deceive
    client.rpush("list", 1)
    rewriting = threading.Timer(EVERYSEC_SECONDS / 2, client.bgrewriteaof)
    began = time.monotonic()
    rewriting.start()
    assert disk.confirm(("LLEN", "list"), stop=threading.Event()) == [1]
    if asked != "redis-8.0":
        assert time.monotonic() - began >= 2 * EVERYSEC_SECONDS
    rewriting.join()
    disk.close()


def test_a_file_that_is_switched_on_later_is_waited_for_from_then_on() -> None:
    with Embedded() as server, redis.Redis.from_url(server.url, decode_responses=True) as client:
        disk = disk_of(server)
        assert disk.confirm(("LLEN", "list"), stop=threading.Event()) == [0]
        assert disk.reason is not None
        for number in range(100):
            client.set(f"key{number}", "x")
        client.config_set("rdb-key-save-delay", LASTS_SECONDS * 1_000_000 // 100)
        client.config_set("appendonly", "yes")
        assert children(client)
        client.rpush("list", 1)
        assert disk.confirm(("LLEN", "list"), stop=threading.Event()) == [1]
        assert disk.reason is None
        assert not children(client)  # before, the file holds nothing
        disk.close()


@pytest.mark.parametrize("aof", [True, False])
def test_a_file_that_is_switched_off_is_said(aof: bool) -> None:
    with Embedded(aof=aof) as server, redis.Redis.from_url(server.url) as client:
        disk = disk_of(server)
        disk.confirm(("LLEN", "list"), stop=threading.Event())
        client.config_set("appendonly", "no")
        disk.confirm(("LLEN", "list"), stop=threading.Event())
        assert "append-only file is off" in (disk.reason or "")
        disk.close()
