"""One event stream kept open: connecting, reading, and connecting again where it broke off.

`sseclient` 0.0.27 reads below HTTP, cuts lines where the standard does not, and reconnects without end, so of its
`SSEClient` only the shape is kept (an iterator of events that remembers `last_id` and `retry`); what it does on the
wire is all here. No message made here holds a header, a query string or a URL's user and password: they are secrets.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urljoin, urlsplit

import requests
import structlog
import urllib3
from requests.adapters import BaseAdapter
from requests.utils import requote_uri
from sseclient import SSEClient

from pipeline.backoff import Backoff
from pipeline.errors import SourceRefused, SourceUnavailable
from pipeline.web import keep_urls_out_of_logs, retry_after, shown, status_text, why_no_answer
from producer.addresses import is_private, leads_elsewhere
from producer.sources.eventstream import EventParser, StreamEvent
from producer.sources.guard import GuardedAdapter, PrivateAddress

CHUNK_BYTES = 65_536


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


@dataclass(frozen=True)
class _Failure:
    """Why there is no connection now. Passed on as a value: an exception would carry the URL along in its chain."""

    reason: str
    retry_after: float | None = None


class _Session(requests.Session):
    """A session that leaves redirects to us: requests would first read the redirect's body, however long that is.

    `guarded` says whether the next request may go to public addresses only.
    """

    def __init__(self) -> None:
        super().__init__()
        self.guarded = False
        self._guard = GuardedAdapter()

    def get_adapter(self, url: str) -> BaseAdapter:
        return self._guard if self.guarded else super().get_adapter(url)

    def close(self) -> None:
        super().close()
        self._guard.close()

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002
        return None


class EventClient(SSEClient):  # type: ignore[misc]  # sseclient has no types
    """Iterates over the events of one URL, for ever; ends where the server answers 204.

    Made connected. `last_id` names the last event that was taken, and is what a new connection resumes from. A dropped
    connection is made again after a random wait that doubles with every failure in a row, and is never shorter than the
    server's `retry` or `Retry-After`. Half an event before a drop is dropped too: it comes again.

    Raises SourceRefused for an answer that won't change: a 4xx other than 408 and 429, a content type other than
    text/event-stream, too many redirects, one to a private address elsewhere without `allow_private`. Raises
    SourceUnavailable after `limits.max_failures` failures without an event between them, or at once when the server
    asks for a wait longer than `limits.backoff_max`.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        last_id: str = "",
        since: str | None = None,
        limits: Limits,
        allow_private: bool = False,
    ) -> None:
        self._shown = shown(url)
        self._log = structlog.get_logger().bind(url=self._shown)
        self._limits = limits
        self._since = since
        self._allow_private = allow_private
        self._custom_headers = {name: value.encode() for name, value in headers.items()}
        self._backoff = Backoff(limits.backoff_initial, limits.backoff_max)
        self._too_large = 0
        self._received = bool(last_id)
        self._ended = False
        self._parser = self._new_parser(last_id, None)
        self._events: Iterator[StreamEvent] = iter(())
        self.resp: requests.Response | None = None
        keep_urls_out_of_logs()
        session = _Session()
        try:
            super().__init__(url, last_id=last_id, retry=0, session=session, chunk_size=CHUNK_BYTES)
        except BaseException:
            session.close()
            raise

    def __next__(self) -> StreamEvent:
        while True:
            for event in self._events:
                self._backoff.reset()
                self._received = True
                self.last_id = event.id
                return event
            if self._ended:
                raise StopIteration
            received = self._receive()
            if isinstance(received, bytes):
                self._events = self._parser.feed(received)
            else:
                self._disconnect()
                self._back_off(received)
                self._connect()

    def close(self) -> None:
        """Releases the connection."""
        self._disconnect()
        self.session.close()

    def _connect(self) -> None:
        """Connects, with as many attempts as the limits allow, or learns that the stream has ended."""
        while failure := self._attempt():
            self._back_off(failure)

    def _attempt(self) -> _Failure | None:
        """One attempt, redirects followed. None once connected, or once the server said that there is no more."""
        url = self.url
        headers = self._headers()
        for _ in range(self._limits.max_redirects + 1):
            answer = self._get(url, headers)
            if isinstance(answer, _Failure):
                return answer
            if answer.status_code not in (301, 302, 303, 307, 308):
                return self._accept(answer)
            answer.close()
            target = self._redirect_target(url, answer)
            if self.session.should_strip_auth(url, target):
                # Another host must not learn what was meant for this one.
                secret = self._custom_headers.keys() - {"User-Agent"}
                headers = {name: value for name, value in headers.items() if name not in secret}
            url = target
        raise self._refused(f"more than {self._limits.max_redirects} redirects")

    def _get(self, url: str, headers: dict[str, str | bytes]) -> requests.Response | _Failure:
        limits = self._limits
        self.session.guarded = not self._allow_private and leads_elsewhere(self.url, url)
        if self.session.guarded and is_private(urlsplit(url).hostname or ""):
            raise self._refused(_inward(url))
        since = {"since": self._since} if self._since and not self._received else None
        failure: _Failure | None
        try:
            return self.session.get(  # type: ignore[no-any-return]
                url,
                params=since,
                headers=headers,
                stream=True,
                allow_redirects=False,
                timeout=(limits.connect_timeout, limits.read_timeout),
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            failure = _Failure(self._why(error))
            # A URL or header that can't be sent is a ValueError, and will be one next time.
            final = isinstance(error, ValueError)
        except PrivateAddress:
            failure = None
        if failure is None:
            raise self._refused(_inward(url))
        if final:
            raise self._refused(f"can't be asked for: {failure.reason}")
        return failure

    def _accept(self, answer: requests.Response) -> _Failure | None:
        """Looks at the final answer's status and content type. Raises SourceRefused for one that won't change."""
        status = answer.status_code
        content_type = answer.headers.get("content-type", "")
        if status == HTTPStatus.OK and content_type.partition(";")[0].strip().lower() == "text/event-stream":
            self.resp = answer
            self._parser = self._new_parser(self._parser.last_id, self._parser.retry)
            self._log.info("sse_connected", resumed=bool(self._parser.last_id))
            return None
        answer.close()
        if status == HTTPStatus.NO_CONTENT:
            self._ended = True
            self._log.info("sse_ended", reason="204 No Content")
            return None
        if status == HTTPStatus.OK:
            raise self._refused(f"sent {content_type[:100]!r}, expected text/event-stream")
        reason = f"answered {status_text(status)}"
        if status >= 500 or status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS):
            return _Failure(reason, retry_after(answer.headers.get("retry-after")))
        raise self._refused(reason)

    def _redirect_target(self, url: str, answer: requests.Response) -> str:
        location = answer.headers.get("location", "")
        try:
            # The header comes as Latin-1; what servers put into it is UTF-8.
            target = urljoin(url, requote_uri(location.encode("latin-1", "replace").decode("utf-8", "replace")))
            old, new = urlsplit(url), urlsplit(target)
            usable = bool(location and new.hostname and new.scheme in ("http", "https"))
        except ValueError:
            usable = False
        if not usable:
            raise self._refused(f"answered {status_text(answer.status_code)} without a usable Location")
        if (old.scheme, new.scheme) == ("https", "http"):
            raise self._refused("redirects from https to http")
        self._log.info("sse_redirected", to=shown(target))
        return target

    def _receive(self) -> bytes | _Failure:
        """The next bytes of the body, its transfer and content codings undone, or why there are none."""
        assert self.resp is not None
        try:
            received = self.resp.raw.read1(self.chunk_size, decode_content=True)
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
            return _Failure(self._why(error))
        return received or _Failure("closed by the server")

    def _disconnect(self) -> None:
        self._parser.finish()
        self._events = iter(())
        if self.resp is not None:
            self.resp.close()
            self.resp = None

    def _back_off(self, failure: _Failure) -> None:
        """Waits before the next attempt. Raises SourceUnavailable where it is for the caller to wait."""
        limits = self._limits
        asked_for = failure.retry_after
        # On top of what the server wants at least, so that its many clients don't come back together.
        wait = max((self._parser.retry or 0) / 1000 + self._backoff.next(), asked_for or 0)
        failures = self._backoff.failures
        if failures >= limits.max_failures or (asked_for or 0) > limits.backoff_max:
            raise SourceUnavailable(f"{self._shown}: {failure.reason}", retry_after=asked_for)
        self._log.warning("sse_disconnected", reason=failure.reason, failures=failures, retry_in=round(wait, 3))
        time.sleep(wait)

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

    def _refused(self, reason: str) -> SourceRefused:
        return SourceRefused(f"{self._shown}: {reason}")

    def _why(self, error: BaseException) -> str:
        limits = self._limits
        return why_no_answer(error, connect_timeout=limits.connect_timeout, read_timeout=limits.read_timeout)


def _inward(url: str) -> str:
    return f"redirects to {shown(url)}, a private address: if that is meant, set allow_private"
