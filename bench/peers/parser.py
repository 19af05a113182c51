"""Our parser of event streams and nothing else: no JSON, no envelope, no Redis."""

from __future__ import annotations

import sys
import urllib.request
from pathlib import Path

from bench.peers.stopwatch import mark
from millrace_producer.sources.eventstream import EventParser

CHUNK_BYTES = 65_536


def parse(stream: str, folder: Path, count: int) -> None:
    parser = EventParser()
    seen = size = 0
    with urllib.request.urlopen(stream) as answer:
        while chunk := answer.read1(CHUNK_BYTES):
            for event in parser.feed(chunk):
                seen += 1
                size += len(event.raw)
            if seen == count:
                break
    (folder / "seen").write_text(f"{seen} {size}")
    mark(folder, "ended")


if __name__ == "__main__":
    parse(sys.argv[4], Path(sys.argv[3]), int(sys.argv[5]))
