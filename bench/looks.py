"""What it costs to look at a list with many consumers, as `millrace scaler`, `autoscale` and `top` do once a second.

    python -m bench.looks

The keys are as so many consumers leave them; all of it is CPU time, of Redis and of the process that looks.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import msgspec
import redis

from bench.server import serving
from millrace.observing import Observer
from millrace_pipeline.flows.flow import Flow, load
from millrace_pipeline.queue.keys import Keys

LOOKS = 10
SIZES = (10, 100, 1_000, 10_000)
BATCHES_EACH = 3


def main() -> None:
    """Print a row for each number of consumers."""
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as url:
        file = Path(folder) / "flows.yaml"
        file.write_text("flows: {f: {source: {type: external}, queue: {key: K}, sink: {type: 'null'}}}")
        flow = load(file)["f"]
        with redis.Redis.from_url(url) as client:
            for consumers in SIZES:
                client.flushall()
                _fill(client, Keys("K"), consumers)
                redis_ms, own_ms = _look(url, client, flow)
                took = f"{redis_ms:8.2f} ms of Redis, {own_ms:8.2f} ms of who looks"
                sys.stdout.write(f"{consumers:>6} consumers: {took}\n")


def _look(url: str, client: redis.Redis, flow: Flow) -> tuple[float, float]:
    observer = Observer(url, [flow])
    observer.look()
    before, own = cpu(client), time.process_time()
    for _ in range(LOOKS):
        (seen,) = observer.look()
        assert seen.books is not None
        assert not seen.unreachable
    after, own_after = cpu(client), time.process_time()
    observer.close()
    return (after - before) * 1000 / LOOKS, (own_after - own) * 1000 / LOOKS


def cpu(client: redis.Redis) -> float:
    """Return the seconds of processor time that the server has taken so far."""
    said = client.info("cpu")
    return float(said["used_cpu_user"]) + float(said["used_cpu_sys"])


def _fill(client: redis.Redis, keys: Keys, consumers: int) -> None:
    now = int(time.time() * 1000)
    pipe = client.pipeline(transaction=False)
    for number in range(consumers):
        name = f"host-{number % 100}:{number}"
        says = {"consumer": name, "every": 2.0, "up_seconds": 60.0, "write_share": 0.9, "records_a_second": 12.5}
        kept = {"session": f"20261129T000000Z-{number:010x}", "starts": 1, "at": now, "says": says}
        pipe.hset(keys.consumers, name, msgspec.json.encode(kept))
        for batch in range(BATCHES_EACH):
            id = f"20261129T000000Z-{number:010x}-{batch}"
            claim = {"token": id, "consumer": name, "attempts": 1, "steps": 1, "records": 500, "since": now}
            pipe.hset(keys.claims, id, msgspec.json.encode(claim))
            pipe.zadd(keys.leases, {id: now + 60_000})
    pipe.hset(keys.counters, "in_flight", consumers * BATCHES_EACH * 500)
    pipe.execute()


if __name__ == "__main__":
    main()
