"""A server that says a byte now and then holds nobody for ever, whoever asked it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from millrace_consumer.sinks.http import HttpSink
from millrace_pipeline.envelope import Record
from millrace_pipeline.errors import SinkUnavailable, SourceError, SourceUnavailable
from millrace_producer.sources.rest import RestSource
from millrace_producer.sources.scrapy import ScrapySource
from millrace_producer.sources.sse import SseSource
from millrace_producer.sources.websocket import WebsocketSource
from tests.contracts.sink_records import batch_of
from tests.integration.scrapyproject import QUICK, make_project
from tests.integration.sse_server import OK, ScriptedServer, answer

SECONDS = 0.4
PAUSE = 0.05
BYTES = 400
"""So many of them, then it hangs up: without a deadline this is what is said to be wrong, twenty seconds later."""

STATUS = b"HTTP/1.1 200 OK\r\n"
JSON = STATUS + b"Content-Type: application/json\r\n"

SPIDER = """

class One(scrapy.Spider):
    name = "one"

    async def start(self):
        yield scrapy.Request(self.url)

    def parse(self, response):
        yield {"body": response.text}
"""


class SlowServer(ScriptedServer):
    """Says at once what it is told to, and then a byte at a time, none of them later than any timeout allows."""

    def __init__(self, at_once: bytes, then: bytes = b"a") -> None:
        super().__init__()
        self._at_once, self._then = at_once, then
        self.script = [self.drip] * 3

    def drip(self) -> Iterable[bytes]:
        yield self._at_once
        for _ in range(BYTES):
            if self.closing.wait(PAUSE):
                return
            yield self._then


Ask = Callable[[str, Path], object]
ONCE: dict[str, Any] = {"max_failures": 1, "backoff_initial": 0.01}


def sse(url: str, _folder: Path) -> None:
    list(SseSource(url=url, read_timeout=SECONDS, **ONCE).read(None))


def rest(url: str, _folder: Path, **options: Any) -> None:
    list(RestSource(url=url, read_timeout=SECONDS, **ONCE, **options).read(None))


def rest_in_all(url: str, _folder: Path) -> None:
    list(RestSource(url=url, answer_timeout=SECONDS, **ONCE).read(None))


def websocket(url: str, _folder: Path) -> None:
    url = url.replace("http", "ws")
    list(WebsocketSource(url=url, connect_timeout=SECONDS, **ONCE).read(None))


def scrapy(url: str, folder: Path) -> None:
    project = make_project(folder / "project", spiders=SPIDER)
    settings = QUICK | {"RETRY_ENABLED": False, "ROBOTSTXT_OBEY": False, "DOWNLOAD_TIMEOUT": SECONDS}
    list(ScrapySource(spider="one", project=project, args={"url": url}, settings=settings).read(None))


def http_sink(url: str, _folder: Path, **options: Any) -> None:
    HttpSink(url=url, timeout=SECONDS, **options).write(batch_of("one", [{"n": 1}]))


def sse_after_a_redirect(url: str, _folder: Path) -> None:
    with ScriptedServer(answer("302 Found", f"Location: {url}")) as other:
        source = SseSource(url=other.url, read_timeout=SECONDS, allow_private=True, **ONCE)
        list(source.read(None))


HEADERS = rf"the answer's headers took longer than {SECONDS:g} s"
ANSWER = rf"the answer took longer than {SECONDS:g} s"
MEMBERS: list[tuple[Ask, type[Exception], str]] = [
    (sse, SourceUnavailable, HEADERS),
    (sse_after_a_redirect, SourceUnavailable, HEADERS),
    (rest, SourceUnavailable, HEADERS),
    (rest_in_all, SourceUnavailable, HEADERS),
    (websocket, SourceUnavailable, rf"no connection within {SECONDS:g} s"),
    (scrapy, SourceError, "1 × DownloadTimeoutError"),
    (http_sink, SinkUnavailable, HEADERS),
]


@pytest.mark.parametrize(("ask", "error", "reason"), MEMBERS, ids=[ask.__name__ for ask, *_ in MEMBERS])
@pytest.mark.parametrize("said", [b"", STATUS, STATUS + b"X-Slow: "], ids=["status", "name", "value"])
def test_headers_a_byte_at_a_time_are_given_up(
    ask: Ask, error: type[Exception], reason: str, said: bytes, tmp_path: Path
) -> None:
    with SlowServer(said) as server, pytest.raises(error, match=reason):
        ask(server.url, tmp_path)


@pytest.mark.parametrize(("ask", "error"), [(sse, SourceUnavailable), (http_sink, SinkUnavailable)])
def test_so_are_headers_without_end_of_informational_answers(ask: Ask, error: type[Exception], tmp_path: Path) -> None:
    with SlowServer(b"", b"HTTP/1.1 100 Continue\r\n\r\n") as server, pytest.raises(error, match=HEADERS):
        ask(server.url, tmp_path)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("ask", "error"), [(rest, SourceUnavailable), (http_sink, SinkUnavailable)], ids=["rest", "http sink"]
)
def test_so_are_those_of_a_proxy(
    ask: Callable[..., object], error: type[Exception], scheme: str, tmp_path: Path
) -> None:
    with SlowServer(STATUS) as proxy, pytest.raises(error, match=HEADERS):
        ask(f"{scheme}://outside.example/", tmp_path, proxy=proxy.url.removesuffix("/events"))


BODIES = {
    "counted": (JSON + b"Content-Length: 4000\r\n\r\n[", b" "),
    "in chunks": (JSON + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "of which the size of a chunk is slow": (JSON + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "until it hangs up": (JSON + b"\r\n[", b" "),
}


@pytest.mark.parametrize("body", BODIES)
def test_a_body_a_byte_at_a_time_is_given_up_by_rest(body: str, tmp_path: Path) -> None:
    with SlowServer(*BODIES[body]) as server, pytest.raises(SourceUnavailable, match=ANSWER):
        rest_in_all(server.url, tmp_path)


def test_five_read_timeouts_are_what_an_answer_may_take_where_nothing_is_said() -> None:
    with SlowServer(*BODIES["counted"]) as server:
        source = RestSource(url=server.url, read_timeout=0.1, **ONCE)
        with pytest.raises(SourceUnavailable, match=r"the answer took longer than 0\.5 s"):
            list(source.read(None))


def test_a_body_a_byte_at_a_time_is_given_up_by_a_crawl(tmp_path: Path) -> None:
    with SlowServer(*BODIES["counted"]) as server, pytest.raises(SourceError, match="1 × DownloadTimeoutError"):
        scrapy(server.url, tmp_path)


def test_a_body_a_byte_at_a_time_holds_no_sink_and_the_status_counts(tmp_path: Path) -> None:
    with SlowServer(*BODIES["counted"]) as server:
        http_sink(server.url, tmp_path)
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("read_timeout", "answer_timeout", "reason"),
    [(0.1, 30, r"silent for 0\.1 s"), (30, 0.1, r"headers took longer than 0\.1 s")],
)
def test_what_ends_the_wait_for_a_silent_server_is_said(
    read_timeout: float, answer_timeout: float, reason: str
) -> None:
    options = {"read_timeout": read_timeout, "answer_timeout": answer_timeout, **ONCE}
    with ScriptedServer() as server:
        server.script.append(server.silence)
        with pytest.raises(SourceUnavailable, match=reason):
            list(RestSource(url=server.url, **options).read(None))  # type: ignore[arg-type]


def test_the_events_of_a_stream_may_come_a_byte_at_a_time_for_ever() -> None:
    with ScriptedServer() as server:

        def slowly() -> Iterable[bytes]:
            yield OK
            for byte in b"data: 1234567890123456\n\n":
                server.closing.wait(PAUSE)
                yield bytes([byte])

        server.script.append(slowly)
        source = SseSource(url=server.url, read_timeout=SECONDS, backoff_initial=0.01)
        assert [record.data for record in source.read(None) if isinstance(record, Record)] == [b"1234567890123456"]
