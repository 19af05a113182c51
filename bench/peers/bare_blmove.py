"""The plainest consumer that loses nothing: BLMOVE to a list of its own, decode, LPOP it there."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import redis

from bench.peers.stopwatch import mark
from bench.peers.unsafe import data_of


def consume(client: redis.Redis, key: str, folder: Path, count: int) -> None:
    came: list[tuple[float, bytes]] = []
    mark(folder, "ready")
    while len(came) < count:
        line = client.blmove(key, f"{key}-mine", 1.0, "RIGHT", "LEFT")
        if line is None:
            continue
        data = data_of(line)
        came.append((time.monotonic(), bytes(data)))
        client.lpop(f"{key}-mine")
    with (folder / "arrivals").open("wb") as file:
        file.writelines(b"%r\t%s\n" % arrival for arrival in came)
    mark(folder, "ended")


if __name__ == "__main__":
    consume(redis.Redis.from_url(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
