"""The tutorial's consumer and producer: one record a round trip, `json`, and a file that is opened for each record."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import redis

from bench.data import Events
from bench.peers.stopwatch import mark


def consume(client: redis.Redis, key: str, folder: Path, count: int) -> None:
    mark(folder, "ready")
    done = 0
    while done < count:
        item = client.rpop(key)
        if item is None:
            time.sleep(0.01)  # tutorials sleep longer; here it only waits for the start
            continue
        record = json.loads(item)
        with (folder / "output.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")
        done += 1
    mark(folder, "ended")


def produce(client: redis.Redis, key: str, folder: Path, count: int) -> None:
    records = Events().dicts(count)
    mark(folder, "began")
    for record in records:
        client.lpush(key, json.dumps(record))
    mark(folder, "ended")


if __name__ == "__main__":
    url, key, folder, what, count = sys.argv[1:]
    {"consume": consume, "produce": produce}[what](redis.Redis.from_url(url), key, Path(folder), int(count))
