"""What partitions cost Redis: its CPU time a record, published and delivered, beside that of one list.

    python -m bench.partitions [RECORDS]

Both on one Redis, in turn, with the same records of about 1.2 kB and batches of 500. The source
is read as fast as it can be, and the linger is long enough for flushes to be full.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import redis

from bench.looks import cpu
from bench.server import serving

ROUNDS = 3
PARTITIONS = 8
RECORDS = 100_000
FILLER = "x" * 1150


def main(records: int) -> None:
    """Print a row for each round, and the medians."""
    with tempfile.TemporaryDirectory() as name, serving(Path(name)) as url, redis.Redis.from_url(url) as client:
        folder = Path(name)
        with (folder / "events.jsonl").open("w") as file:
            file.writelines(f'{{"n":{n},"key":"k{n % 1009}","text":"{FILLER}"}}\n' for n in range(records))
        ratios = []
        for number in range(ROUNDS):
            counts = (1, PARTITIONS) if number % 2 else (PARTITIONS, 1)
            took = {count: _round(folder, url, client, count, records) for count in counts}
            ratios.append([many / one for one, many in zip(took[1], took[PARTITIONS], strict=True)])
            sys.stdout.write(f"one list {_told(took[1])}   {PARTITIONS} partitions {_told(took[PARTITIONS])}\n")
        published, delivered, both = (statistics.median(found) for found in zip(*ratios, strict=True))
        sys.stdout.write(f"ratio: published {published:.2f}, delivered {delivered:.2f}, both {both:.2f}\n")


def _round(folder: Path, url: str, client: redis.Redis, partitions: int, records: int) -> list[float]:
    """Microseconds of Redis a record: to publish, to deliver, both."""
    client.flushall()
    flow = {
        "source": {"type": "files", "path": str(folder / "events.jsonl")},
        "queue": {"key": "K", **({"partitions": partitions, "by": "/key"} if partitions > 1 else {})},
        "publish": {"linger": "2s"},
        "sink": {"type": "null"},
    }
    (folder / "flows.yaml").write_text(json.dumps({"flows": {"events": flow}}))
    before = cpu(client)
    _call(folder, url, "produce", "events")
    published = cpu(client)
    _call(folder, url, "consume", "--until-empty")
    delivered = cpu(client)
    took = (published - before, delivered - published, delivered - before)
    return [seconds * 1e6 / records for seconds in took]


def _call(folder: Path, url: str, *words: str) -> None:
    environ = {**os.environ, "REDIS_URL": url, "MILLRACE_LOG_LEVEL": "warning"}
    command = [sys.executable, "-P", "-m", "millrace", *words]
    subprocess.run(command, cwd=folder, env=environ, check=True, stderr=subprocess.DEVNULL)


def _told(took: Sequence[float]) -> str:
    published, delivered, both = took
    return f"{published:5.2f} + {delivered:5.2f} = {both:5.2f} µs"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else RECORDS)
