"""A Redis that loads its data says of itself, until it is done, that it keeps no append-only file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from millrace.embedded import Embedded
from tests.conftest import eventually
from tests.queues import Queue

KEYS = 1500
KEY_MICROSECONDS = 1000


@pytest.fixture
def loading(tmp_path: Path) -> Iterator[Embedded]:
    """A server that keeps such a file and loads it for more than a second from now on."""
    slow = {"key-load-delay": KEY_MICROSECONDS, "loading-process-events-interval-bytes": 1024}
    with Embedded(aof=True, data_dir=tmp_path / "valkey", config=slow) as server:
        with redis.Redis.from_url(server.url) as client:
            client.mset({f"other:{number}": b"x" * 2000 for number in range(KEYS)})
            client.bgrewriteaof()
            eventually(lambda: not client.info("persistence")["aof_rewrite_in_progress"])
        server.kill()
        starting = threading.Thread(target=server.start)
        starting.start()
        eventually(lambda: is_loading(server))
        yield server
        starting.join()


def is_loading(server: Embedded) -> bool:
    with redis.Redis.from_url(server.url) as client:
        try:
            return bool(client.info("persistence")["loading"])
        except redis.RedisError:
            return False


def test_nothing_is_confirmed_to_be_on_its_disk_before_it_has_loaded(
    loading: Embedded, capsys: pytest.CaptureFixture[str]
) -> None:
    queue = Queue(loading.url, "loading", fsync="acknowledge")
    assert queue.publishes_on_disk(threading.Event()) == 0
    assert not is_loading(loading)
    assert "fsync_not_confirmed" not in capsys.readouterr().out
    queue.close_all()
