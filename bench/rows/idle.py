"""Row 14: what consumers cost that have nothing to do."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from bench.data import enveloped
from bench.lab import Lab
from bench.rounds import Figure, Goal, Row, Side
from bench.rows.drain import JSONL, verifying
from bench.usage import cpu_seconds

RECORDS = 5_000
"""What they deliver afterwards, to show that they are there."""


@contextlib.contextmanager
def _sides(lab: Lab, consumers: int) -> Iterator[tuple[Side, None]]:
    seconds = 8 if lab.quick else 60

    def run() -> tuple[float, ...]:
        with lab.folder() as folder, contextlib.ExitStack() as stack:
            lab.fill(enveloped, RECORDS)
            options = {"batch": {"records": 100, "linger": "0s"}, "sink": JSONL}
            started = [stack.enter_context(lab.millrace(folder, "consume", **options)) for _ in range(consumers)]
            lab.await_idle(*started)
            lab.say(f"row 14: {consumers} idle consumers for {seconds} s")
            before, began = [cpu_seconds(process.pid) for process in started] + [_of_redis(lab)], time.monotonic()
            time.sleep(seconds)
            after, ended = [cpu_seconds(process.pid) for process in started] + [_of_redis(lab)], time.monotonic()
            used = [100 * (now - then) / (ended - began) for now, then in zip(after, before, strict=True)]
            lab.release()
            lab.await_counter("delivered", RECORDS, *started)
            for process in started:
                process.stop()
            verifying(lab, "row 14", RECORDS)(folder)
            return max(used[:-1]), used[-1]

    yield run, None


def _of_redis(lab: Lab) -> float:
    used = lab.redis.info("cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


ROWS = [
    Row(
        "14",
        "{size} idle consumers",
        "millrace consume",
        "",
        (
            Figure("% of a core", Goal(1, "% of a core", at_least=False), "the busiest of them"),
            Figure("% of a core", Goal(5, "% of a core", at_least=False), "Redis"),
        ),
        (50, 8),
        _sides,
        once=True,
    )
]
