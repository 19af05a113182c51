"""Pushes envelopes at a steady rate, one by one, and notes when it pushed each."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import redis

from bench.data import Events, enveloped
from bench.peers.stopwatch import mark


def push(client: redis.Redis, key: str, folder: Path, count: int, rate: float) -> None:
    lines = list(enveloped(Events().some(count)))
    sent = []
    began = time.monotonic()
    for number, line in enumerate(lines):
        while (left := began + number / rate - time.monotonic()) > 0:
            time.sleep(left)
        sent.append(time.monotonic())
        client.lpush(key, line)
    (folder / "sent").write_text("\n".join(map(repr, sent)))
    mark(folder, "pushed")


if __name__ == "__main__":
    url, key, place, count, rate = sys.argv[1:]
    push(redis.Redis.from_url(url), key, Path(place), int(count), float(rate))
