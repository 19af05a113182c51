"""One event stream kept open: connecting, reading, and connecting again where it broke off.

`sseclient` 0.0.27 reads below HTTP, cuts lines where the standard does not, and reconnects without end, so of its
`SSEClient` only the shape is kept (an iterator of events that remembers `last_id` and `retry`); what it does on the
wire is all here. No message made here holds a header, a query string or a URL's user and password: they are secrets.
"""

from __future__ import annotations

import codecs
import http.client
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import requests
import structlog
import urllib3
from sseclient import SSEClient

from millrace_pipeline.auth import Auth
from millrace_pipeline.failure import Failure
from millrace_pipeline.process.repeats import repeats
from millrace_pipeline.query import with_params
from millrace_pipeline.web import is_not_now, shown, status_text, wait_asked_for
from millrace_producer import trouble
from millrace_producer.sources.encodings import HEAD, marked, unmarked
from millrace_producer.sources.eventstream import EventParser, StreamEvent
from millrace_producer.sources.heard import Heard
from millrace_producer.sources.retry import Retry
from millrace_producer.sources.webclient import WebClient

CHUNK_BYTES = 65_536

_OTHERS = {b"{": "JSON, maybe a record a line (NDJSON)", b"[": "JSON, an array", b"<": "XML or HTML"}
"""By its first letter what is no event stream: no field's name begins so."""


@dataclass(frozen=True)
class Limits:
    """How long to wait for a server, how much to take from it, how often to try. Times in seconds."""

    connect_timeout: float = 10
    read_timeout: float = 60
    max_event_bytes: int = 4 * 1024 * 1024
    max_redirects: int = 5
    max_failures: int = 5
    backoff_initial: float = 1
    backoff_max: float = 30


class EventClient(SSEClient):  # type: ignore[misc]  # sseclient has no types
    """Iterates over the events of one URL, for ever; ends where the server answers 204.

    It connects when it is first read from. `last_id` names the last event that was taken, and is what a new connection
    resumes from. A dropped connection is made again after a random wait that doubles with every failure in a row, and
    is never shorter than the server's `retry` or `Retry-After`. Half an event before a drop is dropped too: it comes
    again.

    Raises SourceRefused for an answer that won't change: a 4xx other than 408 and 429, a content type other than
    text/event-stream, too many redirects, one to a private address elsewhere without `allow_private`. Raises
    SourceUnavailable after `limits.max_failures` failures without an event between them that is new, as `heard` knows
    it, or at once when the server asks for a wait longer than `limits.backoff_max`.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        last_id: str = "",
        since: str | None = None,
        limits: Limits,
        heard: Heard,
        allow_private: bool = False,
        auth: Auth | None = None,
        proxy: str | None = None,
        ca_file: Path | None = None,
    ) -> None:
        self._log = structlog.get_logger().bind(url=shown(url))
        self._limits = limits
        self._heard = heard
        self._since = since
        self._custom_headers = {name: value.encode() for name, value in headers.items()}
        self._retry = Retry(
            shown(url),
            "sse_disconnected",
            first=limits.backoff_initial,
            cap=limits.backoff_max,
            failures=limits.max_failures,
        )
        self._too_large = 0
        self._received = bool(last_id)
        self._ended = False
        self._parser = self._new_parser(last_id, None)
        self._events: Iterator[StreamEvent] | None = None
        self._well = False
        self._head = b""
        self.resp: requests.Response | None = None
        self._web = WebClient(
            url,
            "sse",
            home_headers=self._custom_headers.keys() - {"User-Agent"},
            connect_timeout=limits.connect_timeout,
            read_timeout=limits.read_timeout,
            max_redirects=limits.max_redirects,
            allow_private=allow_private,
            auth=auth,
            proxy=proxy,
            ca_file=ca_file,
        )
        super().__init__(url, last_id=last_id, retry=0, session=self._web.session, chunk_size=CHUNK_BYTES)

    def __iter__(self) -> Iterator[StreamEvent]:
        """The events. A generator, since a call of `__next__` for each costs as much as all else done here for it."""
        self.connect()
        while not self._ended:
            received = self._receive()
            if isinstance(received, bytes):
                if len(self._head) < HEAD:
                    self._look_at_beginning(received)
                for event in self._parser.feed(received):
                    if not self._well:
                        self._received = True
                        if self._heard.is_new((event.id, event.raw)):
                            self._retry.came_further()
                            self._well = True
                    self.last_id = event.id
                    yield event
            else:
                self._disconnect()
                self._back_off(received)
                self.connect()

    def __next__(self) -> StreamEvent:
        if self._events is None:
            self._events = iter(self)
        return next(self._events)

    def close(self) -> None:
        """Releases the connection."""
        self._disconnect()
        self._web.close()

    def connect(self) -> None:
        """Connect, if not connected, with as many attempts as the limits allow, or learn that the stream has ended."""
        while self.resp is None and not self._ended and (failure := self._attempt()):
            self._back_off(failure)

    def _connect(self) -> None:
        """Do nothing: the constructor of `SSEClient` calls this."""

    def _attempt(self) -> Failure | None:
        """One attempt, redirects followed. None once connected, or once the server said that there is no more."""
        since = {"since": self._since} if self._since and not self._received else {}
        answer = self._web.get(with_params(self.url, since), self._headers())
        return answer if isinstance(answer, Failure) else self._accept(answer)

    def _accept(self, answer: requests.Response) -> Failure | None:
        """Looks at the final answer's status and content type. Raises SourceRefused for one that won't change."""
        status = answer.status_code
        content_type = answer.headers.get("content-type", "")
        if status == HTTPStatus.OK and content_type.partition(";")[0].strip().lower() == "text/event-stream":
            self.resp, self._head = answer, b""
            self._heard.begin()
            self._parser = self._new_parser(self._parser.last_id, self._parser.retry)
            self._log.info("sse_connected", resumed=bool(self._parser.last_id))
            trouble.over()  # it may be silent for hours
            return None
        answer.close()
        if status == HTTPStatus.NO_CONTENT:
            self._ended = True
            self._log.info("sse_ended", reason="204 No Content")
            return None
        if status == HTTPStatus.OK:
            raise self._web.refused(f"sent {content_type[:100]!r}, expected text/event-stream")
        reason = f"answered {status_text(status)}"
        if is_not_now(status, answer.headers):
            return Failure(reason, wait_asked_for(answer.headers))
        raise self._web.refused(reason)

    def _receive(self) -> bytes | Failure:
        """The next bytes of the body, its transfer and content codings undone, or why there are none."""
        assert self.resp is not None
        try:
            received = self.resp.raw.read1(self.chunk_size, decode_content=True)
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
            return Failure(self._web.why(error))
        return received or Failure("closed by the server")

    def _look_at_beginning(self, received: bytes) -> None:
        """Raise SourceRefused for a stream in UTF-16 or UTF-32: no line of it would be one, and it would seem quiet.

        So it is with JSON and XML by the name of an event stream; the standard passes over such lines, so that is said.
        """
        self._head = (self._head + received[:HEAD])[:HEAD]
        mark = marked(self._head)
        found = mark.name if mark and mark.is_wide else unmarked(self._head)
        if found:
            raise self._web.refused(f"sent {found.upper()}, and an event stream is UTF-8")
        if other := _OTHERS.get(self._head.removeprefix(codecs.BOM_UTF8).lstrip()[:1]):
            repeats.warn(
                "no_event_stream",
                kind=shown(self.url),
                url=shown(self.url),
                found=other,
                mend="an event stream has no such lines, and nothing comes of them: a source of type rest reads JSON, "
                "a record a line too (format: jsonl)",
            )

    def _disconnect(self) -> None:
        self._parser.finish()
        self._well = False
        if self.resp is not None:
            self.resp.close()
            self.resp = None

    def _back_off(self, failure: Failure) -> None:
        self._retry.wait_after(failure, at_least=(self._parser.retry or 0) / 1000)

    def _headers(self) -> dict[str, str | bytes]:
        headers: dict[str, str | bytes] = {"Accept-Encoding": "gzip, deflate"}
        headers |= self._custom_headers
        headers |= {"Accept": "text/event-stream", "Cache-Control": "no-cache"}
        if self._parser.last_id:
            # An HTTP header can't begin or end with a space, whatever the id does.
            headers["Last-Event-ID"] = self._parser.last_id.strip(" \t").encode()
        return headers

    def _new_parser(self, last_id: str, retry: int | None) -> EventParser:
        return EventParser(
            last_id=last_id,
            retry=retry,
            max_retry=int(self._limits.backoff_max * 1000),
            max_event_bytes=self._limits.max_event_bytes,
            on_too_large=self._refuse_event,
        )

    def _refuse_event(self, size: int) -> None:
        self._too_large += 1
        self._log.warning("sse_event_too_large", bytes=size, limit=self._limits.max_event_bytes, count=self._too_large)
