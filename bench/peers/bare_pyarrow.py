"""RPOP 10,000, and Arrow's own JSON reader and Parquet writer: no Python object a record but its envelope."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq
import redis

from bench.peers.stopwatch import mark
from bench.peers.unsafe import data_of, write

SCHEMA = pa.schema(
    {
        "meta": pa.struct({"id": pa.string(), "domain": pa.string()}),
        "type": pa.string(),
        "title": pa.string(),
        "user": pa.string(),
        "bot": pa.bool_(),
        "wiki": pa.string(),
        "timestamp": pa.int64(),
    }
)
OPTIONS = pyarrow.json.ParseOptions(explicit_schema=SCHEMA, unexpected_field_behavior="ignore")


def consume(client: redis.Redis, key: str, folder: Path, count: int, batch: int) -> None:
    output = folder / "output"
    output.mkdir()
    mark(folder, "ready")
    done = number = 0
    while done < count:
        lines = client.rpop(key, batch)
        if not lines:
            time.sleep(0.001)
            continue
        number += 1
        table = pyarrow.json.read_json(io.BytesIO(b"\n".join(map(data_of, lines))), parse_options=OPTIONS)
        file = pa.BufferOutputStream()
        pq.write_table(table, file, compression="zstd")
        write(output / f"{number:06d}.parquet", file.getvalue())
        done += len(lines)
    mark(folder, "ended")


if __name__ == "__main__":
    url, key, place, count, size = sys.argv[1:]
    consume(redis.Redis.from_url(url), key, Path(place), int(count), int(size))
