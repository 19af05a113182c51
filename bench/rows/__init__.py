"""What is measured: a file a group of rows."""

import re

from bench.rounds import Row
from bench.rows import (
    crawl,
    depth,
    drain,
    fsync,
    idle,
    latency,
    memory,
    parquet,
    publish,
    start,
    stream,
    stripped,
    tap,
    traces,
)

_GROUPS = (drain, publish, crawl, stream, latency, parquet, depth, memory, idle, stripped, fsync, tap, traces, start)


def _place(row: Row) -> tuple[int, str]:
    number, letter = re.fullmatch(r"(\d+)(\w?)", row.number).groups()  # type: ignore[union-attr]
    return int(number), letter


ROWS: list[Row] = sorted((row for group in _GROUPS for row in group.ROWS), key=_place)
