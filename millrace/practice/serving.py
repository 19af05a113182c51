"""One client of the practice stream: its request read, its events written."""

from __future__ import annotations

import select
import socket
import time
import zlib
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from millrace.practice.feed import Answer, Feed, Visit
from millrace.practice.timeline import Timeline

PATH = "/v2/stream/recentchange"

EVENTS_A_WRITE = 64
TICK_SECONDS = 0.02
"""At a rate, what falls due within this is sent together: a write an event would cost most of a core."""


class EventStreamHandler(BaseHTTPRequestHandler):
    """Answers GET of the stream; of /healthz for a container's health check."""

    protocol_version = "HTTP/1.1"
    server_version = "practice-stream"
    sys_version = ""
    timeout = 60

    def do_GET(self) -> None:
        stream = self._stream
        parts = urlsplit(self.path)
        if parts.path == "/healthz":
            return self._answer(Answer(200, {"Content-Type": "text/plain"}, b"ok\n"))
        if parts.path != PATH:
            return self._answer(Answer(404, {"Content-Type": "text/plain"}, b"no such stream\n"))
        stream.visits.append(Visit(self.path, {name.lower(): value for name, value in self.headers.items()}))
        if (set_up := stream.next_answer()) is not None:
            return self._answer(set_up)
        try:
            first, timeline = self._start(parse_qs(parts.query))
        except ValueError as error:
            return self._answer(Answer(400, {"Content-Type": "text/plain"}, f"{error}\n".encode()))
        if stream.end and stream.total is not None and first >= stream.total:
            return self._answer(Answer(204, {}, b""))
        return self._serve(first, timeline)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: `visits` says it all."""

    @property
    def _stream(self) -> Feed:
        return self.server.practice  # type: ignore[attr-defined,no-any-return]

    def _start(self, query: dict[str, list[str]]) -> tuple[int, Timeline]:
        """The number of the first event for this client. Raises ValueError for an id or a time that is none."""
        timeline = self._stream.timeline
        if last_id := self.headers.get("Last-Event-ID"):
            return timeline.resumed(last_id)
        if since := query.get("since", [""])[0]:
            if since.isdigit():
                return timeline.first_since(int(since)), timeline
            moment = datetime.fromisoformat(since)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return timeline.first_since(moment.timestamp() * 1000), timeline
        return 0, timeline

    def _answer(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def _serve(self, first: int, timeline: Timeline) -> None:
        """Writes events until there are no more, the client goes away or the server stops."""
        self.close_connection = True
        stream = self._stream
        compress = stream.gzip and "gzip" in self.headers.get("Accept-Encoding", "")
        body = _Chunks(self.connection, stream.chunk_bytes, compress)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Cache-Control", "private, max-age=0, s-maxage=0, must-revalidate")
        self.send_header("Transfer-Encoding", "chunked")
        if compress:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        body.write(b":ok\n\n")
        drop_after = stream.next_drop()
        last = float("inf") if drop_after is None else first + drop_after
        number = first
        written_at = time.monotonic()
        while not stream.stopping.is_set():
            ready = min(timeline.happened(time.time() * 1000), float("inf") if stream.total is None else stream.total)
            until = int(min(ready, last, number + EVENTS_A_WRITE))
            if number < until:
                body.write(b"".join(self._event(n, timeline) for n in range(number, until)))
                number = until
                written_at = time.monotonic()
            elif number == last:
                return self._break_off(body, number, timeline)
            elif stream.end and number == stream.total:
                return body.finish()
            else:
                if time.monotonic() - written_at >= stream.keep_alive:
                    body.write(b":\n\n")
                    written_at = time.monotonic()
                body.flush()
                if self._client_left(self._pause(number, timeline, written_at)):
                    return None
        return None

    def _event(self, number: int, timeline: Timeline) -> bytes:
        data = self._stream.events.data(number, timeline.moment_of(number))
        return b"event: message\nid: %b\ndata: %b\n\n" % (timeline.id_of(number).encode(), data)

    def _pause(self, number: int, timeline: Timeline, written_at: float) -> float:
        """How many seconds there is nothing to do."""
        pause = written_at + self._stream.keep_alive - time.monotonic()
        if timeline.rate and number != self._stream.total:
            pause = min(pause, max(TICK_SECONDS, timeline.moment_of(number) / 1000 - time.time()))
        return max(0.0, pause)

    def _client_left(self, seconds: float) -> bool:
        """Waits, but no longer than the client stays: it has nothing more to say, so if it is heard it is gone."""
        return bool(select.select([self.connection], [], [], seconds)[0])

    def _break_off(self, body: _Chunks, number: int, timeline: Timeline) -> None:
        """Half of the next event, and no end of the body."""
        if number != self._stream.total:
            event = self._event(number, timeline)
            body.write(event[: len(event) // 2])
        body.flush()


class _Chunks:
    """The body of the answer, in HTTP chunks: one a write, or all of one size."""

    def __init__(self, connection: socket.socket, chunk_bytes: int | None, compress: bool) -> None:
        self._connection = connection
        self._chunk_bytes = chunk_bytes
        self._deflate = zlib.compressobj(wbits=31) if compress else None
        self._left = b""

    def write(self, text: bytes) -> None:
        if self._deflate is not None:
            text = self._deflate.compress(text) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        size = self._chunk_bytes
        if size is None:
            self._send(text)
            return
        text = self._left + text
        whole = len(text) - len(text) % size
        self._left = text[whole:]
        self._connection.sendall(b"".join(_chunk(text[at : at + size]) for at in range(0, whole, size)))

    def flush(self) -> None:
        """Sends what waited for its chunk to fill."""
        self._send(self._left)
        self._left = b""

    def finish(self) -> None:
        """The end of the body, said properly."""
        if self._deflate is not None:
            self._left += self._deflate.flush()
        self.flush()
        self._connection.sendall(b"0\r\n\r\n")

    def _send(self, text: bytes) -> None:
        if text:
            self._connection.sendall(_chunk(text))


def _chunk(text: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(text), text)
