"""The fastest consumer that loses what it holds when it dies: RPOP 500, and a file a batch, as durable as ours."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import msgspec
import redis

from bench.peers.stopwatch import mark


class Envelope(msgspec.Struct):
    """What is decoded of a record: all that is checked, `data` left as it is."""

    specversion: str
    id: str
    source: str
    type: str
    time: str
    data: msgspec.Raw


decoder = msgspec.json.Decoder(Envelope)


def data_of(line: bytes) -> msgspec.Raw:
    envelope = decoder.decode(line)
    if envelope.specversion != "1.0":
        raise ValueError("not an envelope")
    return envelope.data


def write(final: Path, text: bytes) -> None:
    """As durable as our file sinks: synced, renamed, and the directory synced."""
    temporary = final.with_name(f".{final.name}.tmp")
    with temporary.open("wb", buffering=0) as file:
        file.write(text)
        os.fsync(file.fileno())
    temporary.rename(final)
    directory = os.open(final.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def consume(client: redis.Redis, key: str, folder: Path, count: int, batch: int, decoded: bool) -> None:
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
        write(output / f"{number:06d}.jsonl", b"\n".join((*(map(data_of, lines) if decoded else lines), b"")))
        done += len(lines)
    mark(folder, "ended")


if __name__ == "__main__":
    url, key, place, what, total, size = sys.argv[1:]
    consume(redis.Redis.from_url(url), key, Path(place), int(total), int(size), decoded=what == "decoded")
