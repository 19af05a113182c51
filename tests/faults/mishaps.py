"""What may become of a server and its data."""

from __future__ import annotations

import shutil

import redis

from millrace.embedded import Embedded


def flushed(server: Embedded) -> None:
    """Someone empties it."""
    with redis.Redis.from_url(server.url) as admin:
        admin.flushall()


def started_without_its_data(server: Embedded) -> None:
    """It is killed and comes back empty."""
    server.kill()
    shutil.rmtree(server.data_dir / "appendonlydir")
    server.start()


def cut_tail(server: Embedded, size: int) -> None:
    """What a power cut does to the append-only file: its last bytes were never written."""
    path = max((server.data_dir / "appendonlydir").glob("*.incr.aof"))
    with path.open("r+b") as file:
        file.truncate(max(0, path.stat().st_size - size))


def is_loading(client: redis.Redis) -> bool:
    """Whether it answers that it is loading its data."""
    try:
        client.get("other:0")
    except redis.exceptions.BusyLoadingError:
        return True
    except redis.RedisError:
        return False
    return False
