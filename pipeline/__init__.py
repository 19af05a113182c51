"""Millrace: what its services share, and the two doors for programs of one's own.

import pipeline

with pipeline.reader("wikipedia") as messages:
    for message in messages:
        ...
        messages.checkpoint()

with pipeline.writer("wikipedia") as writer:
    writer.write({"title": "Mill"})
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from consumer.reader import Reader
    from producer.writer import Writer

__all__ = ["reader", "writer"]


def reader(flow: str, *, name: str | None = None, until_empty: bool = False, flows: Path | str | None = None) -> Reader:
    """A reader of this flow's messages, in place of its consumers: see `consumer.reader.Reader`.

    Redis and the flows file are those that the environment names (REDIS_URL, MILLRACE_FLOWS), unless `flows` does.
    Without REDIS_URL it is the embedded Valkey of this folder, if flows have run here: see `pipeline.server`.
    Raises ConfigError for a flow that isn't there or is wrong.
    """
    from consumer.reader import Reader
    from pipeline.library import found

    chosen, server = found(flow, flows)
    ours = server.kind == "embedded"
    try:
        return Reader(chosen, server.url, name=name, until_empty=until_empty, take_over=ours, parting=server.close)
    except BaseException:
        server.close()
        raise


def writer(flow: str, *, flows: Path | str | None = None) -> Writer:
    """A writer to this flow's list, in place of its producer, or beside it: see `producer.writer.Writer`.

    Redis and the flows file are found as `reader` does.
    """
    from pipeline.library import found
    from producer.writer import Writer

    chosen, server = found(flow, flows)
    try:
        return Writer(chosen, server.url, take_over=server.kind == "embedded", parting=server.close)
    except BaseException:
        server.close()
        raise
