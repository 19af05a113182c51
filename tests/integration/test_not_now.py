"""An answer that may be another one later is told from a refusal by the same rule, whoever asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from millrace_consumer.sinks.http import HttpSink
from millrace_pipeline.errors import SinkUnavailable, SourceRefused, SourceUnavailable
from millrace_producer.sources.rest import RestSource
from millrace_producer.sources.sse import SseSource
from millrace_producer.sources.websocket import WebsocketSource
from tests.contracts.sink_records import batch_of
from tests.integration.sse_server import ScriptedServer, answer

ONCE: dict[str, Any] = {"max_failures": 1, "backoff_initial": 0.01}


def rest(url: str) -> None:
    next(RestSource(url=url, **ONCE).read(None))


def sse(url: str) -> None:
    next(SseSource(url=url, **ONCE).read(None))


def websocket(url: str) -> None:
    next(WebsocketSource(url=url.replace("http", "ws", 1), **ONCE).read(None))


def token(url: str) -> None:
    auth: Any = {"type": "oauth2", "token_url": url, "client_id": "me"}
    next(RestSource(url="http://127.0.0.1:9/", auth=auth, **ONCE).read(None))


def http_sink(url: str) -> None:
    HttpSink(url=url).write(batch_of("one", [{"n": 1}]))


SOURCES = [rest, sse, websocket, token]
NOT_NOW = ["202 Accepted", "408 Timeout", "425 Early", "429 Many", "500 Oops", "503 Busy"]
LIMITS = {
    "seconds": lambda: "Retry-After: 77",
    "moment": lambda: f"X-RateLimit-Remaining: 0\nX-RateLimit-Reset: {int(time.time()) + 3600}",
}


@pytest.mark.parametrize("status", NOT_NOW)
@pytest.mark.parametrize("ask", SOURCES)
def test_not_now_is_no_refusal(ask: Callable[[str], None], status: str) -> None:
    with ScriptedServer(answer(status)) as server, pytest.raises(SourceUnavailable, match=status[:3]):
        ask(server.url)


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("ask", [*SOURCES, http_sink])
def test_a_limit_is_waited_out_however_it_is_said(ask: Callable[[str], None], limit: str) -> None:
    for status in ("403 No", "429 Many"):
        with (
            ScriptedServer(answer(status, LIMITS[limit]())) as server,
            pytest.raises((SourceUnavailable, SinkUnavailable)) as raised,
        ):
            ask(server.url)
        assert isinstance(raised.value, SourceUnavailable | SinkUnavailable)
        wait = raised.value.retry_after
        assert wait is not None
        assert wait == 77 or 3000 < wait <= 3600


@pytest.mark.parametrize("ask", SOURCES)
def test_a_no_without_a_limit_is_refused(ask: Callable[[str], None]) -> None:
    with ScriptedServer(answer("403 No")) as server, pytest.raises(SourceRefused, match="403"):
        ask(server.url)
