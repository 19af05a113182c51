"""FastStream with batches: `ListSub(batch=True)` and `publish_batch`, as `pip install faststream[redis]` gives it.

With orjson installed it uses that, and so do we here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from faststream import FastStream
from faststream.redis import ListSub, RedisBroker
from faststream.redis.parser import BinaryMessageFormatV1

from bench.data import Events, chunks
from bench.peers.stopwatch import mark

try:
    from orjson import dumps
except ImportError:

    def dumps(value: Any) -> bytes:
        return json.dumps(value).encode()


BATCH = 500


def formed(events: Iterable[bytes]) -> Iterator[bytes]:
    """Events as FastStream's own publisher writes them: others it would have to decode twice."""

    async def message(event: bytes) -> bytes:
        return await BinaryMessageFormatV1.encode(
            message=json.loads(event), reply_to=None, headers=None, correlation_id="bench"
        )

    loop = asyncio.new_event_loop()
    try:
        for event in events:
            yield loop.run_until_complete(message(event))
    finally:
        loop.close()


def consume(url: str, key: str, folder: Path, count: int, with_model: bool) -> None:
    broker = RedisBroker(url, log_level=logging.DEBUG)
    app = FastStream(broker)
    file = (folder / "output.jsonl").open("wb")
    done = 0

    def write(lines: list[bytes]) -> None:
        nonlocal done
        file.write(b"\n".join((*lines, b"")))
        file.flush()
        done += len(lines)
        if done >= count:
            mark(folder, "ended")
            app.exit()

    batches = ListSub(key, batch=True, max_records=BATCH, polling_interval=0.01)
    if with_model:
        from flows import RecentChange

        @broker.subscriber(list=batches)
        async def validated(changes: list[RecentChange]) -> None:
            write([change.model_dump_json(by_alias=True, exclude_unset=True).encode() for change in changes])

    else:

        @broker.subscriber(list=batches)
        async def plain(changes: list[Any]) -> None:
            write([dumps(change) for change in changes])

    app.after_startup(lambda: mark(folder, "ready"))
    asyncio.run(app.run())


async def produce(url: str, key: str, folder: Path, count: int) -> None:
    records = Events().dicts(count)
    async with RedisBroker(url) as broker:
        mark(folder, "began")
        for chunk in chunks(records, BATCH):
            await broker.publish_batch(*chunk, list=key)
        mark(folder, "ended")


if __name__ == "__main__":
    url, key, place, what, number = sys.argv[1:]
    if what == "produce":
        asyncio.run(produce(url, key, Path(place), int(number)))
    else:
        consume(url, key, Path(place), int(number), with_model=what == "consume-model")
