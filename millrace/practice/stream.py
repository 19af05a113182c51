"""An event stream to practise on: answers as stream.wikimedia.org/v2/stream/recentchange does, with events of our own.

    with PracticeStream(rate=100, total=5000) as stream:
        read(stream.url)

Event number n is a function of the seed and n alone, its time one of the start and n, and n stands in its id. So a
client that comes back with a `Last-Event-ID` gets exactly what follows, from this server or from another one started
later with the same seed. It can also misbehave on purpose: drop connections, answer with a status, gzip, cut its chunks
anywhere. Unlike Wikimedia it keeps everything since its start: who comes without an id gets the stream from event 0.
For a container:

    python -m millrace.practice.stream --host 0.0.0.0 --port 8001 --rate 50
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from millrace.practice.feed import Feed
from millrace.practice.server import PracticeServer
from millrace.practice.serving import PATH, EventStreamHandler
from millrace_pipeline.process.signals import on_signal


class PracticeStream(PracticeServer, Feed):
    """The practice stream on loopback, in a thread, for as long as the block lasts.

    `port` 0 takes a free one. `rate` is events a second since `start` (seconds since 1970, by default now), 0 as fast
    as each client reads. After `total` events the stream is silent, or with `end` it closes, and answers 204 to a
    client that has had them all. `replay` serves the lines of a JSONL file instead of made-up events. `keep_alive` is
    how many seconds of silence a comment ends. `gzip` compresses for clients that accept it; `chunk_bytes` cuts the
    HTTP chunks to that size, wherever the cut falls.

    `drop_next` and `answer_next` make the next requests fail. `visits` is what was asked for so far, `connections` how
    many clients are being served.
    """

    path = PATH

    def __init__(
        self,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        rate: float = 0.0,
        total: int | None = None,
        seed: int = 0,
        start: float | None = None,
        end: bool = False,
        replay: Path | None = None,
        keep_alive: float = 15.0,
        gzip: bool = False,
        chunk_bytes: int | None = None,
    ) -> None:
        PracticeServer.__init__(self, host, port, EventStreamHandler)
        Feed.__init__(
            self,
            rate=rate,
            total=total,
            seed=seed,
            start=start,
            end=end,
            replay=replay,
            keep_alive=keep_alive,
            gzip=gzip,
            chunk_bytes=chunk_bytes,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        prog="python -m millrace.practice.stream",
        description="Serve server-sent events of the recentchange schema, made up, to practise on.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8001, help="port to listen on, 0 for a free one (default: 8001)")
    parser.add_argument("--rate", type=float, default=50.0, help="events a second, 0 for all at once (default: 50)")
    parser.add_argument("--total", type=int, help="how many events there are (default: no end)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other events (default: 0)")
    parser.add_argument("--start", type=float, help="when event 0 happened, in seconds since 1970 (default: now)")
    parser.add_argument("--end", action="store_true", help="close after the last event, and answer 204 from then on")
    parser.add_argument("--replay", type=Path, help="serve the lines of this JSONL file instead")
    parser.add_argument("--keep-alive", type=float, default=15.0, help="seconds of silence between comments")
    parser.add_argument("--gzip", action="store_true", help="compress for clients that accept it")
    options = vars(parser.parse_args(arguments))
    stop = threading.Event()
    on_signal(lambda _: stop.set(), signal.SIGTERM, signal.SIGINT)
    with PracticeStream(options.pop("port"), **options) as stream:
        sys.stdout.write(f"practice stream at {stream.url}\n")
        sys.stdout.flush()
        stop.wait()


if __name__ == "__main__":
    main()
