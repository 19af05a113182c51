"""An event stream that is all in memory: it sends as fast as a client reads, so that the client is what is measured."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bench.data import Events, chunks
from bench.peers.stopwatch import mark

EVENTS_A_CHUNK = 50


def stream_of(events: Events, count: int) -> Iterator[bytes]:
    """The stream as HTTP chunks, each of some events, in the form that stream.wikimedia.org sends."""
    for chunk in chunks(enumerate(events.some(count)), EVENTS_A_CHUNK):
        text = b"".join(
            b'event: message\nid: [{"topic":"eqiad.mediawiki.recentchange","partition":0,"offset":%d}]\ndata: %s\n\n'
            % (number, event)
            for number, event in chunk
        )
        yield b"%x\r\n%s\r\n" % (len(text), text)


def main(folder: Path, count: int) -> None:
    """Serves until SIGTERM. `stream` in the folder tells where; `began`, when the first request came."""
    body = [b"".join(some) for some in chunks(stream_of(Events(), count), 20)]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.headers.get("Last-Event-ID"):  # it had them all
                self.send_response(204)
                self.end_headers()
                return
            mark(folder, "began")
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream; charset=utf-8")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for part in body:
                self.wfile.write(part)
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (folder / "stream.tmp").write_text(f"http://127.0.0.1:{server.server_port}/")
    (folder / "stream.tmp").rename(folder / "stream")
    signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
