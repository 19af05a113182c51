"""What the SSE source makes of every kind of answer, silence and break."""

from __future__ import annotations

import gc
import socket
import time
import warnings
import zlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from millrace_pipeline.envelope import DeadLetter, Record
from millrace_pipeline.errors import SourceRefused, SourceUnavailable
from millrace_pipeline.process.repeats import repeats
from millrace_producer.sources.sse import SseSource
from tests.integration.sse_server import OK, ScriptedServer, answer, chunked


def source(url: str, **options: Any) -> SseSource:
    return SseSource(**({"url": url, "backoff_initial": 0.01, "backoff_max": 5, "read_timeout": 10} | options))


def read(url: str, resume_from: str | None = None, **options: Any) -> list[Any]:
    """The data of every record until the server says 204; a dead letter's reason."""
    came = source(url, **options).read(resume_from)
    return [record.data if isinstance(record, Record) else record.reason for record in came]


def event(data: bytes, id: str = "") -> bytes:
    return (f"id: {id}\n".encode() if id else b"") + b"data: " + data + b"\n\n"


def test_204_ends_the_source() -> None:
    with ScriptedServer(OK + event(b"1")) as server:
        assert read(server.url) == [b"1"]
        assert len(server.asked) == 2


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Again", "308 For ever"])
def test_redirects_are_followed_with_the_last_event_id(status: str) -> None:
    with ScriptedServer(OK + event(b"1", "7")) as target, ScriptedServer() as server:
        server.script.append(answer(status, f"Location: {target.url}?x=1"))
        assert read(server.url, "6", allow_private=True) == [b"1"]
        assert target.asked[0].line.startswith("GET /events?x=1 ")
        assert target.asked[0].headers["last-event-id"] == "6"
        assert server.asked[1].headers["last-event-id"] == "7", "a new connection begins at the URL of the flow"


def test_a_relative_redirect_keeps_the_headers_of_the_flow() -> None:
    with ScriptedServer(answer("302 Found", "Location: ../over/there?q=ž"), OK + event(b"1")) as server:
        assert read(server.url, headers={"Authorization": "Bearer s3cret"}) == [b"1"]
        assert server.asked[1].line.startswith("GET /over/there?q=%C5%BE ")
        assert server.asked[1].headers["authorization"] == "Bearer s3cret"


def test_a_redirect_elsewhere_takes_no_secret_along() -> None:
    with ScriptedServer(OK + event(b"1")) as target, ScriptedServer() as server:
        server.script.append(answer("302 Found", f"Location: {target.url}"))
        options = {"headers": {"X-Api-Key": "s3cret"}, "user_agent": "Tester/1 (me@example.org)"}
        assert read(server.url, allow_private=True, **options) == [b"1"]
        assert server.asked[0].headers["x-api-key"] == "s3cret"
        assert "x-api-key" not in target.asked[0].headers
        assert target.asked[0].headers["user-agent"] == "Tester/1 (me@example.org)"


def test_a_redirect_loop_is_refused() -> None:
    with ScriptedServer(*[answer("302 Found", "Location: /events")] * 9) as server:
        with pytest.raises(SourceRefused, match="more than 3 redirects"):
            read(server.url, max_redirects=3)
        assert len(server.asked) == 4


@pytest.mark.parametrize("location", ["", "Location:", "Location: file:///etc/passwd", "Location: http://[::1"])
def test_a_redirect_to_nowhere_is_refused(location: str) -> None:
    with (
        ScriptedServer(answer("302 Found", location)) as server,
        pytest.raises(SourceRefused, match="302 Found without a usable Location"),
    ):
        read(server.url)


def test_the_body_of_a_redirect_is_not_read() -> None:
    def endless() -> Iterable[bytes]:
        yield b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 999999999\r\n\r\n"
        while True:
            yield b"x" * 65_536

    with ScriptedServer(endless, OK + event(b"1")) as server:
        assert read(server.url) == [b"1"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 422, 451, 206, 205, 304])
def test_an_answer_that_will_not_change_is_refused_at_once(status: int) -> None:
    with ScriptedServer(answer(f"{status} Whatever", "Content-Type: text/event-stream", event(b"1"))) as server:
        with pytest.raises(SourceRefused, match=f"answered {status} "):
            read(server.url)
        assert len(server.asked) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599])
def test_an_answer_that_may_change_is_asked_for_again(status: int) -> None:
    body = answer(f"{status} Whatever", "Content-Type: text/event-stream", event(b"no"))
    with ScriptedServer(body, OK + event(b"1")) as server:
        assert read(server.url) == [b"1"]


def test_a_server_that_stays_down_is_unavailable_after_so_many_failures() -> None:
    with ScriptedServer(*[answer("503 Whatever")] * 9) as server:
        with pytest.raises(SourceUnavailable, match="answered 503 Service Unavailable") as unavailable:
            read(server.url, max_failures=3)
        assert len(server.asked) == 3
        assert unavailable.value.retry_after is None


def test_an_event_ends_a_row_of_failures() -> None:
    down = answer("503 Whatever")
    with ScriptedServer(down, OK + event(b"1"), down, OK + event(b"2"), down, OK + event(b"3")) as server:
        assert read(server.url, max_failures=3) == [b"1", b"2", b"3"]


def test_connections_that_give_no_event_are_failures() -> None:
    with ScriptedServer(*[OK + b":ok\n\n"] * 9) as server:
        with pytest.raises(SourceUnavailable, match="closed by the server"):
            read(server.url, max_failures=4)
        assert len(server.asked) == 4


def test_a_short_retry_after_is_waited_for() -> None:
    with ScriptedServer(answer("429 Whatever", "Retry-After: 1"), OK + event(b"1")) as server:
        began = time.monotonic()
        assert read(server.url) == [b"1"]
        assert time.monotonic() - began >= 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_long_retry_after_is_handed_on_at_once(status: int) -> None:
    with ScriptedServer(answer(f"{status} Whatever", "Retry-After: 120")) as server:
        with pytest.raises(SourceUnavailable) as unavailable:
            read(server.url)
        assert unavailable.value.retry_after == 120
        assert len(server.asked) == 1


def test_a_retry_after_can_be_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=300), usegmt=True)
    with ScriptedServer(answer("503 Whatever", f"Retry-After: {date}")) as server:
        with pytest.raises(SourceUnavailable) as unavailable:
            read(server.url)
        assert unavailable.value.retry_after == pytest.approx(300, abs=5)


@pytest.mark.parametrize("value", ["soon", "-1", "", "Mon, 99 Foo 2026 00:00:00 GMT"])
def test_a_retry_after_that_makes_no_sense_is_none(value: str) -> None:
    with ScriptedServer(answer("503 Whatever", f"Retry-After: {value}"), OK + event(b"1")) as server:
        assert read(server.url) == [b"1"]


def test_a_retry_after_of_ages_is_a_day() -> None:
    with ScriptedServer(answer("503 Whatever", f"Retry-After: {'9' * 400}")) as server:
        with pytest.raises(SourceUnavailable) as unavailable:
            read(server.url)
        assert unavailable.value.retry_after == 86_400


@pytest.mark.parametrize(
    "content_type", ["text/html", "application/json", "text/event-stream-not", "", "text/plain; x=y"]
)
def test_another_content_type_is_refused(content_type: str) -> None:
    with (
        ScriptedServer(answer("200 OK", f"Content-Type: {content_type}", event(b"1"))) as server,
        pytest.raises(SourceRefused, match="expected text/event-stream"),
    ):
        read(server.url)


def test_no_content_type_is_refused() -> None:
    with ScriptedServer(answer("200 OK", "", event(b"1"))) as server, pytest.raises(SourceRefused):
        read(server.url)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"a":1}\n{"a":2}\n', ["JSON, maybe a record a line (NDJSON)"]),
        (b'\xef\xbb\xbf[{"a":1}]', ["JSON, an array"]),
        (b"<!doctype html>\n", ["XML or HTML"]),
        (b": hello\n\n" + event(b"{}"), []),
        (b"odd: 1\n" + event(b"[1]"), []),
    ],
)
def test_what_only_says_that_it_is_an_event_stream_is_told_from_a_quiet_one(body: bytes, found: list[str]) -> None:
    with ScriptedServer(OK + body) as server, repeats.heard() as heard:
        list(source(server.url).read(None))
    assert [said["found"] for event, said in heard if event == "no_event_stream"] == found


@pytest.mark.parametrize("content_type", ["Text/Event-Stream", "text/event-stream ;charset=iso-8859-1"])
def test_the_text_is_utf8_whatever_the_charset_says(content_type: str) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n\r\n".encode()
    with ScriptedServer(head + event("žluťoučký".encode())) as server:
        assert read(server.url, format="text") == ["žluťoučký"]


def test_half_an_event_before_a_drop_is_dropped() -> None:
    with ScriptedServer(
        OK + event(b"1", "a") + b"id: b\ndata: 2",
        OK + event(b"22", "b") + b"id: c\ndata: 3\n",
        OK + b"\n" + event(b"33", "c"),
    ) as server:
        assert read(server.url) == [b"1", b"22", b"33"]
        assert [asked.headers.get("last-event-id") for asked in server.asked] == [None, "a", "b", "c"]


def test_the_last_event_id_is_sent_as_utf8_and_an_empty_one_not_at_all() -> None:
    with ScriptedServer(OK + event(b"1", "水 \u00e9"), OK + b"id\ndata: 2\n\n") as server:
        list(source(server.url).read(None))
        sent = [asked.headers.get("last-event-id") for asked in server.asked]
        assert sent == [None, "水 é", None]


def test_positions_are_event_ids() -> None:
    with ScriptedServer(OK + b"data: 0\n\n" + event(b"1", "a") + event(b"2") + b"id\ndata: 3\n\n") as server:
        assert [record.position for record in source(server.url).read(None)] == [None, "a", "a", ""]


def test_an_empty_checkpoint_resumes_from_the_start_without_an_id() -> None:
    with ScriptedServer(OK + event(b"1")) as server:
        assert read(server.url, "") == [b"1"]
        assert "last-event-id" not in server.asked[0].headers


def test_a_checkpoint_that_is_no_event_id_is_refused() -> None:
    with ScriptedServer() as server, pytest.raises(SourceRefused, match="the checkpoint is a dict"):
        list(source(server.url).read({"offset": 1}))


def test_chunks_cut_anywhere_damage_nothing() -> None:
    text = b"".join(event(b'{"n":%d,"pad":"%b"}' % (n, b"\xe6\xb0\xb4" * 40), str(n)) for n in range(10_000))
    chunks = [text[at : at + 65_536] for at in range(0, len(text), 65_536)]
    with ScriptedServer(chunked(*chunks)) as server:
        came = read(server.url)
    assert came == [b'{"n":%d,"pad":"%b"}' % (n, b"\xe6\xb0\xb4" * 40) for n in range(10_000)]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_compressed_stream_is_read_as_it_comes(coding: str) -> None:
    with ScriptedServer() as server:

        def compressed() -> Iterable[bytes]:
            pack = zlib.compressobj(wbits=31 if coding == "gzip" else 15)
            yield OK.removesuffix(b"\r\n") + f"Content-Encoding: {coding}\r\n\r\n".encode()
            for n in range(3):
                yield pack.compress(event(b"%d" % n, str(n))) + pack.flush(zlib.Z_SYNC_FLUSH)
            yield from server.silence()

        server.script.append(compressed)
        reading = source(server.url).read(None)
        assert [next(reading).data for _ in range(3)] == [b"0", b"1", b"2"]  # type: ignore[union-attr]
        reading.close()  # type: ignore[attr-defined]


def test_damaged_compression_is_a_drop() -> None:
    packed = zlib.compressobj(wbits=31)
    whole = packed.compress(event(b"1", "a")) + packed.flush(zlib.Z_SYNC_FLUSH)
    damaged = chunked(whole, b"\xff" * 99, headers="Content-Encoding: gzip")
    with ScriptedServer(damaged, OK + event(b"2", "b")) as server:
        assert read(server.url) == [b"1", b"2"]


def test_a_stream_of_single_bytes_is_read() -> None:
    text = chunked(*(bytes([byte]) for byte in "data: žlutý\r\nid: 1\r\n\r\ndata:2\r\r".encode()))
    with ScriptedServer(lambda: (text[at : at + 1] for at in range(len(text)))) as server:
        assert read(server.url, format="text") == ["žlutý", "2"]


def test_an_endless_line_is_refused_once_and_reading_goes_on() -> None:
    def endless() -> Iterable[bytes]:
        yield OK + event(b"1", "a") + b"id: b\ndata: "
        for _ in range(24 * 16):
            yield b"x" * 65_536
        yield b"\n\n" + event(b"3", "c")

    began = time.monotonic()
    with ScriptedServer(endless) as server, capture_logs() as logs:
        assert read(server.url) == [b"1", b"3"]
    assert time.monotonic() - began < 20
    refused = [entry for entry in logs if entry["event"] == "sse_event_too_large"]
    assert len(refused) == 1
    assert refused[0]["bytes"] > 24 * 1024 * 1024
    assert refused[0]["count"] == 1


def test_silence_is_a_drop() -> None:
    with ScriptedServer() as server:

        def falls_silent() -> Iterable[bytes]:
            yield OK + event(b"1", "a")
            yield from server.silence()

        server.script += [falls_silent, OK + event(b"2", "b")]
        with capture_logs() as logs:
            assert read(server.url, read_timeout=0.3) == [b"1", b"2"]
    assert "silent for 0.3 s" in [entry.get("reason") for entry in logs]


def test_silence_instead_of_an_answer_is_a_failure() -> None:
    with ScriptedServer() as server:
        server.script += [server.silence] * 3
        with pytest.raises(SourceUnavailable, match=r"silent for 0\.2 s"):
            read(server.url, read_timeout=0.2, max_failures=2)


def test_comments_keep_a_connection_alive() -> None:
    with ScriptedServer() as server:

        def comments() -> Iterable[bytes]:
            yield OK
            for _ in range(10):
                server.closing.wait(0.1)
                yield b":\n"
            yield event(b"1")

        server.script.append(comments)
        assert read(server.url, read_timeout=0.5) == [b"1"]
        assert len(server.asked) == 2


def test_nobody_listening_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(SourceUnavailable, match="Connection refused"):
        read(f"http://127.0.0.1:{port}/", max_failures=2)


def test_no_such_host_is_unavailable() -> None:
    with pytest.raises(SourceUnavailable, match=r"http://no-such-host\.invalid/"):
        read("http://no-such-host.invalid/", max_failures=1)


@pytest.mark.parametrize(
    "nonsense", [b"", b"\r\n\r\n", b"SSH-2.0-OpenSSH_9\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\0" * 70_000]
)
def test_a_server_that_speaks_no_http_is_unavailable(nonsense: bytes) -> None:
    with ScriptedServer(*[nonsense] * 3) as server, pytest.raises(SourceUnavailable):
        read(server.url, max_failures=2, read_timeout=2)


@pytest.mark.parametrize("broken", [b"zz\r\n", b"5\r\nda", b"fffffffff\r\ndata: 2", b"-5\r\n"])
def test_broken_chunks_are_a_drop(broken: bytes) -> None:
    first = chunked(event(b"1", "a")).removesuffix(b"0\r\n\r\n")
    with ScriptedServer(first + broken, OK + event(b"2", "b")) as server:
        assert read(server.url) == [b"1", b"2"]
        assert server.asked[1].headers["last-event-id"] == "a"


def test_the_servers_retry_is_the_least_wait() -> None:
    with ScriptedServer(OK + b"retry: 700\n" + event(b"1"), OK + event(b"2")) as server:
        began = time.monotonic()
        assert read(server.url) == [b"1", b"2"]
        assert time.monotonic() - began >= 1.4, "it holds for later connections too"


def test_the_servers_retry_is_no_longer_than_the_flow_allows() -> None:
    with ScriptedServer(OK + b"retry: 3600000\n" + event(b"1"), OK + event(b"2")) as server:
        began = time.monotonic()
        assert read(server.url, backoff_max=0.2) == [b"1", b"2"]
        assert time.monotonic() - began < 5


def test_since_is_sent_until_there_is_something_to_resume_from() -> None:
    options = {"since": "2026-11-20T10:00:00+02:00"}
    with ScriptedServer(answer("503 No"), OK, OK + event(b"1", "a"), OK + event(b"2", "b")) as server:
        read(f"{server.url}?x=1", **options)
        with_since = "GET /events?x=1&since=2026-11-20T08%3A00%3A00.000000Z HTTP/1.1"
        assert [asked.line for asked in server.asked] == [with_since] * 3 + ["GET /events?x=1 HTTP/1.1"] * 2
    with ScriptedServer() as server:
        for checkpoint in ("a", ""):
            read(server.url, checkpoint, **options)
        assert [asked.line for asked in server.asked] == ["GET /events HTTP/1.1"] * 2


def test_the_request_says_what_the_standard_and_the_flow_ask_for() -> None:
    with ScriptedServer() as server:
        read(server.url, headers={"authorization": "Bearer ž", "X-Two": "2"})
        headers = server.asked[0].headers
    assert headers["accept"] == "text/event-stream"
    assert headers["cache-control"] == "no-cache"
    assert headers["user-agent"].startswith("Millrace/")
    assert (headers["authorization"], headers["x-two"]) == ("Bearer ž", "2")
    assert "last-event-id" not in headers


def test_data_that_is_not_json_is_a_dead_letter_and_the_next_event_arrives() -> None:
    bad = [b"", b"NaN", b"{", b'{"a":1} x', b'"\xff"', b"[" * 200_000 + b"]" * 200_000]
    with ScriptedServer(OK + b"".join(event(data, str(n)) + event(b"1") for n, data in enumerate(bad))) as server:
        for pointers in ({}, {"key": "/id", "time": "/time"}):
            server.script = [OK + b"".join(event(data, str(n)) + event(b"1") for n, data in enumerate(bad))]
            came = list(source(server.url, **pointers).read(None))
            letters, records = came[::2], came[1::2]
            assert [letter.original for letter in letters if isinstance(letter, DeadLetter)] == bad
            assert [letter.position for letter in letters] == [str(n) for n in range(len(bad))]
            assert [record.data for record in records if isinstance(record, Record)] == [b"1"] * len(bad)


def test_json_that_python_can_not_hold_passes_as_it_came() -> None:
    texts = [b"18446744073709551616", b"1e999", b'{"id":"a","n":1e999}', b"1.0000000000000000000001"]
    with ScriptedServer(OK + b"".join(map(event, texts))) as server:
        assert read(server.url, key="/id") == texts


def test_text_becomes_a_json_string_and_what_is_not_utf8_a_dead_letter() -> None:
    with ScriptedServer(OK + b"event: tick\ndata: a\ndata: {\n\ndata: \xff\n\ndata:\n\n") as server:
        came = list(source(server.url, format="text").read(None))
    assert came == [
        Record("a\n{", type="tick"),
        DeadLetter(b"\xff", "not UTF-8: byte 0xff at offset 0"),
        Record("", type="message"),
    ]


def test_key_and_time_are_found_in_the_data() -> None:
    texts = [
        b'{"meta":{"id":"a","dt":"2026-11-21T01:02:03Z"}}',
        b'{"meta":{"id":7,"dt":1763686923.5}}',
        b'{"meta":{"id":true,"dt":"yesterday"}}',
        b'{"meta":{"id":"","dt":1e300}}',
        b"[]",
    ]
    with ScriptedServer(OK + b"".join(map(event, texts))) as server:
        came = list(source(server.url, key="/meta/id", time="/meta/dt").read(None))
    assert [record.key for record in came if isinstance(record, Record)] == ["a", "7", None, None, None]
    assert [record.time for record in came if isinstance(record, Record)] == [
        datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC),
        datetime(2025, 11, 21, 1, 2, 3, 500_000, tzinfo=UTC),
        None,
        None,
        None,
    ]


def test_real_events_come_byte_for_byte(wikimedia_events: list[bytes]) -> None:
    text = b":ok\n\n" + b"".join(b"event: message\n" + event(data, str(n)) for n, data in enumerate(wikimedia_events))
    with ScriptedServer(chunked(*(text[at : at + 16_000] for at in range(0, len(text), 16_000)))) as server:
        assert read(server.url, key="/meta/id", time="/meta/dt") == wikimedia_events


def test_an_abandoned_read_closes_its_socket_and_leaves_nothing_to_the_garbage_collector() -> None:
    with ScriptedServer() as server, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ResourceWarning)

        def stays_open() -> Iterable[bytes]:
            yield OK + event(b"1")
            yield from server.silence()

        server.script.append(stays_open)
        reading = source(server.url).read(None)
        next(reading)
        reading.close()  # type: ignore[attr-defined]  # a generator
        del reading
        gc.collect()
    assert [str(warning.message) for warning in warned if warning.category is ResourceWarning] == []
