"""One WebSocket kept open: connecting, listening, and connecting again where it broke off.

No message made here holds a header, a query string, what was subscribed to or what a server gave as its reason.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import structlog
from requests.structures import CaseInsensitiveDict
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    ProxyError,
    WebSocketException,
)
from websockets.frames import CloseCode
from websockets.http11 import Response
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from millrace_pipeline.auth import Auth
from millrace_pipeline.errors import SourceRefused, SourceUnavailable
from millrace_pipeline.failure import Failure
from millrace_pipeline.query import with_params
from millrace_pipeline.web import is_not_now, shown, status_text, wait_asked_for
from millrace_producer import trouble
from millrace_producer.addresses import PrivateAddress, is_private, leads_elsewhere, strips_secrets
from millrace_producer.sources.guard import connect_public
from millrace_producer.sources.handshake import Handshakes, as_http, as_websocket
from millrace_producer.sources.heard import Heard
from millrace_producer.sources.retry import Retry
from millrace_producer.sources.saying import said_again
from millrace_producer.sources.webclient import REDIRECTS

CLOSE_SECONDS = 1.0
"""How long a server may take to say goodbye, too."""

MESSAGES_AHEAD = 256
"""So many messages are received while others are still on their way to the list. Then the server has to wait."""


@dataclass(frozen=True)
class Place:
    """Where to listen, what to say there, and what to put up with. Seconds throughout."""

    url: str
    retry: Retry
    heard: Heard
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    secret_headers: dict[str, str] = field(default_factory=dict, repr=False)
    auth: Auth | None = field(default=None, repr=False)
    proxy: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    subscribe: Sequence[str] = field(default=(), repr=False)
    subprotocols: Sequence[str] = ()
    ping_message: str | None = field(default=None, repr=False)
    ping_message_interval: float = 20
    connect_timeout: float = 10
    ping_interval: float = 20
    ping_timeout: float = 20
    max_message_bytes: int = 4 * 1024 * 1024
    max_redirects: int = 5
    allow_private: bool = False
    end_at_close: bool = False


class _Answered(Exception):
    """The server answered the handshake with something else. As its own kind, so that nobody follows a redirect."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


class _Connection(ClientConnection):
    def handshake(self, *args: Any, **options: Any) -> None:
        try:
            super().handshake(*args, **options)
        except InvalidStatus as error:
            raise _Answered(error.response) from None


class SocketClient:
    """Listens at one place, for ever; with `end_at_close`, until the server closes in good order.

    `resume` gives the query parameters that say where to go on, asked for at each connection. A lost connection is made
    again as the place's patience says; a server that is silent is sent a ping, and lost if it doesn't answer.

    Raises SourceRefused for an answer that won't change, and SourceUnavailable as `Retry` does.
    """

    def __init__(self, place: Place, resume: Callable[[], Mapping[str, str]]) -> None:
        # It writes whole requests, secrets included, at debug level.
        logging.getLogger("websockets.client").setLevel(logging.ERROR)
        self._place = place
        self._resume = resume
        self._shown = shown(place.url)
        self._log = structlog.get_logger().bind(url=self._shown)
        self._handshakes = Handshakes(
            place.auth, proxy=place.proxy, ca_file=place.ca_file, seconds=place.connect_timeout
        )

    def messages(self) -> Generator[bytes, None, None]:
        """What is said, byte for byte. Close it to hang up."""
        with closing(self._handshakes):
            while True:
                with ExitStack() as held:
                    connection = self._connected(held)
                    lost = connection if isinstance(connection, Failure) else (yield from self._listen(connection))
                    if lost is None:
                        self._log.info("websocket_ended")
                        return
                self._place.retry.wait_after(lost)

    def _listen(self, connection: ClientConnection) -> Generator[bytes, None, Failure | None]:
        """The messages of one connection, until it is lost; returns why, or None where there are no more."""
        place = self._place
        place.heard.begin()
        well = False
        try:
            with suppress(ConnectionClosed):  # what was said before that is still to be heard; then `recv` says so, too
                for message in place.subscribe:
                    connection.send(message)
            with said_again(connection, place.ping_message, place.ping_message_interval):
                while (received := self._received(connection)) is not None:
                    if not well and (well := place.heard.is_new(received)):
                        place.retry.came_further()
                    yield received
        except ConnectionClosed as error:
            return self._closed(error)
        except OSError as error:
            return Failure(error.strerror or type(error).__name__)
        except WebSocketException as error:
            return Failure(f"the connection is in disorder: {type(error).__name__}")
        return Failure(f"silent for {place.ping_interval:g} s, and answers no ping within {place.ping_timeout:g} s")

    def _received(self, connection: ClientConnection) -> bytes | None:
        """The next message, however long that takes; None where the server is silent and doesn't answer a ping.

        We ping only while we wait: while the list is full nobody reads, and an answer could not be heard.
        """
        interval, timeout = self._place.ping_interval, self._place.ping_timeout
        answered, until = None, 0.0
        while True:
            left = until - time.monotonic()
            waiting = answered is not None and not answered.is_set()
            if waiting and left <= 0:
                return None
            try:
                return connection.recv(min(interval, left) if waiting else interval, decode=False)
            except TimeoutError:
                if answered is None or answered.is_set():
                    with suppress(ConnectionClosed):
                        answered, until = connection.ping(), time.monotonic() + timeout

    def _closed(self, error: ConnectionClosed) -> Failure | None:
        if error.sent and error.sent.code == CloseCode.MESSAGE_TOO_BIG and not error.rcvd_then_sent:
            limit = self._place.max_message_bytes
            self._log.warning("websocket_message_too_large", limit=limit)
            return Failure(f"sent a message of more than max_message_bytes, {limit}")
        if error.rcvd is None:
            return Failure("closed by the server, without a word")
        if self._place.end_at_close and error.rcvd.code == CloseCode.NORMAL_CLOSURE:
            return None
        return Failure(f"closed by the server with {error.rcvd.code}")

    def probe(self) -> str:
        """Connect once, say nothing, and hang up. Raises SourceUnavailable, SourceRefused."""
        with closing(self._handshakes), ExitStack() as held:
            found = self._connected(held)
            if isinstance(found, Failure):
                raise SourceUnavailable(f"{self._shown}: {found.reason}")
            return "it takes the connection"

    def _connected(self, held: ExitStack) -> ClientConnection | Failure:
        """A connection, redirects followed, that is closed with `held`; or why there is none now."""
        place = self._place
        url = place.url
        for _ in range(place.max_redirects + 1):
            answer = self._attempt(url, held)
            if isinstance(answer, Failure):
                return answer
            if isinstance(answer, ClientConnection):
                self._log.info("websocket_connected")
                trouble.over()  # it may be silent for hours
                return answer
            if answer.status_code not in REDIRECTS:
                return self._no(answer)
            url = self._redirect_target(url, answer)
        raise self._refused(f"more than {place.max_redirects} redirects")

    def _attempt(self, url: str, held: ExitStack) -> ClientConnection | Response | Failure:
        place = self._place
        at_home = not strips_secrets(as_http(place.url), as_http(url))
        guarded = not place.allow_private and leads_elsewhere(as_http(place.url), as_http(url))
        asked_for, headers = with_params(url, self._resume()), place.headers
        if at_home:
            question = self._handshakes.question(asked_for, place.headers | place.secret_headers)
            if isinstance(question, Failure):
                return question
            asked_for, headers = question
        reason: str
        try:
            reached = self._reached(url) if guarded else None
            connection = held.enter_context(
                connect(
                    asked_for,
                    sock=reached,
                    ssl=self._handshakes.tls(url),
                    proxy=self._handshakes.proxy(url) if reached is None else None,
                    additional_headers=headers,
                    subprotocols=[Subprotocol(name) for name in place.subprotocols] or None,
                    user_agent_header=None,
                    compression="deflate",
                    open_timeout=place.connect_timeout,
                    ping_interval=None,
                    close_timeout=CLOSE_SECONDS,
                    max_size=place.max_message_bytes,
                    max_queue=MESSAGES_AHEAD,
                    create_connection=_Connection,
                )
            )
            self._handshakes.renewed(HTTPStatus.OK)
            return connection
        except _Answered as answered:
            if at_home and self._handshakes.renewed(answered.response.status_code):
                return Failure(f"answered {status_text(answered.response.status_code)}: asks for a new token")
            return answered.response
        except TimeoutError:
            return Failure(f"no connection within {place.connect_timeout:g} s")
        except OSError as error:
            return Failure(error.strerror or type(error).__name__)
        except (InvalidMessage, EOFError, ConnectionClosed) as error:  # by when it hung up
            return Failure(f"no answer in HTTP: {type(error).__name__}")
        except ProxyError as error:
            return Failure(f"no way through the proxy: {type(error).__name__}")
        except InvalidHandshake as error:
            reason = f"is no WebSocket: {type(error).__name__}"
        except (WebSocketException, ValueError) as error:
            reason = f"can't be asked for: {type(error).__name__}"
        raise self._refused(reason)

    def _reached(self, url: str) -> socket.socket | None:
        """A connection to a public address, if nobody stands between. Raises SourceRefused for one that isn't."""
        parts = urlsplit(as_http(url))
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)

        def reach(address: str) -> socket.socket:
            return socket.create_connection((address, port), timeout=self._place.connect_timeout)

        try:
            if self._handshakes.proxy(url) is None:
                reached = connect_public(host, port, reach)
                reached.settimeout(None)
                return reached
            private = is_private(host)
        except PrivateAddress:
            private = True
        if private:
            raise self._refused(f"leads to {shown(url)}, a private address: if that is meant, set allow_private")
        return None

    def _redirect_target(self, url: str, answer: Response) -> str:
        try:
            target = as_websocket(urljoin(url, answer.headers.get("Location", "")))
            parts = urlsplit(target)
            usable = "Location" in answer.headers and parts.hostname and parts.scheme in ("ws", "wss")
        except (ValueError, LookupError):
            usable = False
        if not usable:
            raise self._refused(f"answered {status_text(answer.status_code)} without a usable Location")
        if (urlsplit(url).scheme, parts.scheme) == ("wss", "ws"):
            raise self._refused("redirects from wss to ws")
        if self._place.subscribe and strips_secrets(as_http(self._place.url), as_http(target)):
            raise self._refused("redirects to another host, which must not learn what is said by subscribe")
        self._log.info("websocket_redirected", to=shown(target))
        return target

    def _no(self, answer: Response) -> Failure:
        reason = f"answered {status_text(answer.status_code)}"
        headers = CaseInsensitiveDict(answer.headers.raw_items())
        if is_not_now(answer.status_code, headers):
            return Failure(reason, wait_asked_for(headers))
        raise self._refused(f"{reason}, expected a WebSocket")

    def _refused(self, reason: str) -> SourceRefused:
        return SourceRefused(f"{self._shown}: {reason}")
