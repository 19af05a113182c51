"""The rest source: pages, rounds, patience, and that it asks for nothing twice without need."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import islice
from typing import Any

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from millrace_pipeline.envelope import DeadLetter, Record
from millrace_pipeline.errors import SourceRefused, SourceUnavailable
from millrace_pipeline.jsontext import encode_json
from millrace_producer.sources.rest import RestSource
from tests.integration.api_server import Answer, ApiServer, Asked, Route, json_answer
from tests.integration.sse_server import ScriptedServer

FAST: dict[str, Any] = {"max_failures": 3, "backoff_initial": 0.01, "backoff_max": 0.1}
NUMBERS = list(range(10))


def source(server: ApiServer, **options: Any) -> RestSource:
    return RestSource(url=server.url + "/things", **{**FAST, **options})


def came(source: RestSource, resume_from: object = None, count: int | None = None) -> list[Any]:
    """The data of the records; of the first `count` of a source that goes on and on."""
    reading = source.read(resume_from)
    records = list(islice(reading, count))
    reading.close()  # type: ignore[attr-defined]  # a generator
    assert all(isinstance(record, Record) for record in records), records
    return [json.loads(record.data) for record in records if isinstance(record, Record)]


def numbers(came: list[Any]) -> list[int]:
    return [data["id"] if isinstance(data, dict) else data for data in came]


def queries(server: ApiServer) -> list[dict[str, str]]:
    return [asked.query for asked in server.asked]


def three(begin: int) -> list[int]:
    return NUMBERS[begin : begin + 3]


def by_link(server: ApiServer) -> Route:
    def route(asked: Asked) -> Answer:
        begin = int(asked.query.get("begin", 0))
        link = f'<{server.url}/things?begin={begin + 3}>; rel="next", <{server.url}/>; rel="first"'
        return json_answer(three(begin), **({"Link": link} if begin + 3 < 10 else {}))

    return route


def by_next(asked: Asked) -> Answer:
    begin = int(asked.query.get("begin", 0))
    following = f"things?begin={begin + 3}" if begin + 3 < 10 else None
    return json_answer({"data": three(begin), "links": {"next": following}})


def by_cursor(asked: Asked) -> Answer:
    begin = int(asked.query.get("cursor", "at-0").removeprefix("at-"))
    cursor = f"at-{begin + 3}" if begin + 3 < 10 else ""
    return json_answer({"data": three(begin), "meta": {"cursor": cursor}})


def by_last_record(asked: Asked) -> Answer:
    begin = int(asked.query.get("starting_after", -1)) + 1
    return json_answer({"data": [{"id": n} for n in three(begin)], "has_more": begin + 3 < 10})


def by_page(asked: Asked) -> Answer:
    return json_answer({"data": three((int(asked.query["page"]) - 1) * 3)})


def by_page_with_404(asked: Asked) -> Answer:
    return by_page(asked) if int(asked.query["page"]) < 5 else Answer(404)


def by_page_with_more(asked: Asked) -> Answer:
    page = int(asked.query["p"])
    return json_answer({"data": three(page * 3), "more": page < 3})


def by_offset(asked: Asked) -> Answer:
    return json_answer(three(int(asked.query["offset"])))


PAGINATIONS: dict[str, tuple[Callable[[ApiServer], Route], dict[str, Any], list[dict[str, str]]]] = {
    "link": (by_link, {"pagination": {"type": "link"}}, [{}, *({"begin": str(n)} for n in (3, 6, 9))]),
    "next": (
        lambda server: by_next,
        {"pagination": {"type": "next", "field": "/links/next"}, "records": "/data"},
        [{}, *({"begin": str(n)} for n in (3, 6, 9))],
    ),
    "cursor": (
        lambda server: by_cursor,
        {"pagination": {"type": "cursor", "field": "/meta/cursor"}, "records": "/data"},
        [{}, *({"cursor": f"at-{n}"} for n in (3, 6, 9))],
    ),
    "last record": (
        lambda server: by_last_record,
        {
            "pagination": {"type": "cursor", "record": "/id", "parameter": "starting_after", "more": "/has_more"},
            "records": "/data",
        },
        [{}, *({"starting_after": str(n)} for n in (2, 5, 8))],
    ),
    "page": (
        lambda server: by_page,
        {"pagination": {"type": "page"}, "records": "/data"},
        [{"page": str(n)} for n in (1, 2, 3, 4, 5)],
    ),
    "page, then 404": (
        lambda server: by_page_with_404,
        {"pagination": {"type": "page"}, "records": "/data"},
        [{"page": str(n)} for n in (1, 2, 3, 4, 5)],
    ),
    "page, with more": (
        lambda server: by_page_with_more,
        {"pagination": {"type": "page", "parameter": "p", "first": 0, "more": "/more"}, "records": "/data"},
        [{"p": str(n)} for n in (0, 1, 2, 3)],
    ),
    "offset": (
        lambda server: by_offset,
        {"pagination": {"type": "offset"}},
        [{"offset": str(n)} for n in (0, 3, 6, 9, 10)],
    ),
}


@pytest.mark.parametrize("name", PAGINATIONS)
def test_every_page_is_asked_for_once_however_it_is_found(name: str) -> None:
    route, options, expected = PAGINATIONS[name]
    with ApiServer() as server:
        server.route = route(server)
        assert numbers(came(source(server, **options))) == NUMBERS
        assert queries(server) == expected


@pytest.mark.parametrize("name", PAGINATIONS)
def test_a_page_that_fails_is_read_again_from_its_cursor(name: str) -> None:
    route, options, expected = PAGINATIONS[name]
    with ApiServer() as server:
        server.route = route(server)
        # The second page is unavailable, broken off, and no JSON (once a request), and then well.
        bad = [Answer(503), Answer(200, b"[1, 2, 3", cut=3), Answer(200, b"<html>")]
        server.script.extend([server.route, *bad])
        assert numbers(came(source(server, max_failures=4, **options))) == NUMBERS
        assert queries(server) == [expected[0], *[expected[1]] * 3, *expected[1:]]


@pytest.mark.parametrize("name", PAGINATIONS)
def test_a_round_goes_on_in_the_middle_of_any_page(name: str) -> None:
    route, options, _ = PAGINATIONS[name]
    with ApiServer() as server:
        server.route = route(server)
        records = list(source(server, **options).read(None))
        for count, record in enumerate(records[:-1], 1):
            before = len(server.asked)
            rest = came(source(server, **options), json.loads(encode_json(record.position)))
            assert numbers(rest) == NUMBERS[count:]
            assert server.asked[before].query == queries(server)[(count - 1) // 3], "no page before is asked for"


def test_a_page_that_the_server_does_not_know_any_more_is_a_new_round() -> None:
    with ApiServer(by_cursor) as server, capture_logs() as logs:
        server.script.append(Answer(410))
        options = {"pagination": {"type": "cursor", "field": "/meta/cursor"}, "records": "/data"}
        assert came(source(server, **options), {"page": "at-3", "record": 1}) == NUMBERS
        assert queries(server)[:2] == [{"cursor": "at-3"}, {}]
    assert [log["event"] for log in logs] == ["rest_page_gone"]


def test_a_page_that_is_its_own_next_is_refused() -> None:
    with ApiServer(lambda asked: json_answer({"data": [1], "next": "/things?page=1"})) as server:
        with pytest.raises(SourceRefused, match="same page again"):
            came(source(server, records="/data", pagination={"type": "next"}))
        assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("pointer", "body", "records"),
    [
        ("", [1, 2], [b"1", b"2"]),
        ("", {"a": 1}, [b'{"a":1}']),
        ("", [], []),
        ("/data", {"data": [{"a": 1}]}, [b'{"a":1}']),
        ("/data", {"data": {"a": 1}}, [b'{"a":1}']),
        ("/data", {"data": None}, []),
        ("/data/0/items", {"data": [{"items": [1]}]}, [b"1"]),
        ("/a~1b/c~0d", {"a/b": {"c~d": [1]}}, [b"1"]),
        ("data", {"data": [1]}, [b"1"]),
    ],
)
def test_the_records_are_where_the_pointer_says(pointer: str, body: Any, records: list[bytes]) -> None:
    with ApiServer(lambda asked: json_answer(body)) as server:
        assert [record.data for record in source(server, records=pointer).read(None)] == records  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": "later"}', "has nothing at /data"),
        (b"[1]", "has nothing at /data"),
        (b"<html>", "not JSON"),
        (b'{"a": 1}\n{"a": 2}\n', "a record a line is `format: jsonl`"),
        (b"nothing", "not JSON"),
        (b'{"data": [1, 2', "not JSON"),
    ],
)
def test_an_answer_without_records_is_a_failure_to_be_tried_again(body: bytes, message: str) -> None:
    with ApiServer(lambda asked: Answer(200, body)) as server:
        with pytest.raises(SourceUnavailable, match=message):
            came(source(server, records="/data"))
        assert len(server.asked) == 3


def test_a_record_stays_byte_for_byte_what_came() -> None:
    records = [b'{ "n": 18446744073709551616 }', b"1.0000000000000000000001", b'{"a": 1, "a": 2}', b'"\\u00e9"']
    with ApiServer(lambda asked: Answer(200, b"[" + b" ,\n".join(records) + b"]")) as server:
        assert [record.data for record in source(server).read(None) if isinstance(record, Record)] == records


def test_params_and_headers_go_along_with_every_request() -> None:
    with ApiServer(by_page) as server:
        options = {"params": {"per_page": "3", "q": "é&="}, "headers": {"X-Mine": "1"}, "user_agent": "me"}
        url = server.url + "/things?per_page=1&page=9&keep="
        reading = RestSource(url=url, records="/data", pagination={"type": "page"}, **options, **FAST)  # type: ignore[arg-type]
        assert came(reading) == NUMBERS
        for number, asked in enumerate(server.asked, 1):
            assert asked.query == {"per_page": "3", "q": "é&=", "page": str(number), "keep": ""}
            assert (asked.headers["x-mine"], asked.headers["user-agent"]) == ("1", "me")


def test_gzip_is_undone() -> None:
    body = gzip.compress(b"[1, 2]")
    with ApiServer(lambda asked: Answer(200, body, {"Content-Encoding": "gzip"})) as server:
        assert came(source(server)) == [1, 2]


def test_a_bomb_is_refused() -> None:
    body = gzip.compress(b"[" + b" " * 50_000_000 + b"]")
    with ApiServer(lambda asked: Answer(200, body, {"Content-Encoding": "gzip"})) as server:
        with pytest.raises(SourceRefused, match="max_response_bytes"):
            came(source(server, max_response_bytes="1MB"))
        assert len(server.asked) == 1


def test_an_answer_that_is_too_large_is_refused_before_it_is_all_here() -> None:
    def endless() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n[" + b" " * 3_000_000
        server.silence()

    with ScriptedServer(endless) as server, pytest.raises(SourceRefused, match="max_response_bytes"):
        came(RestSource(url=server.url, max_response_bytes="1MB", **FAST))  # type: ignore[arg-type]


def test_where_nothing_has_changed_a_round_gives_nothing() -> None:
    validators = [{"ETag": 'W/"1"'}, {"Last-Modified": "Sun, 01 Mar 2026 10:00:00 GMT"}]
    for headers in validators:
        with ApiServer() as server:
            states = iter([[1, 2], None, None, [3]])

            def route(asked: Asked, states: Any = states, headers: dict[str, str] = headers) -> Answer:
                state = next(states)
                return Answer(304) if state is None else Answer(200, encode_json(state), headers)

            server.route = route
            assert came(source(server, every=0.02), count=3) == [1, 2, 3]
            named = {"ETag": "if-none-match", "Last-Modified": "if-modified-since"}
            ((name, value),) = headers.items()
            assert [asked.headers.get(named[name]) for asked in server.asked] == [None, value, value, value]


def test_of_several_pages_only_those_that_have_changed_are_read_again() -> None:
    tags = {"1": "a", "2": "b", "3": "c"}

    def route(asked: Asked) -> Answer:
        page = asked.query["page"]
        if asked.headers.get("if-none-match") == tags.get(page, "end"):
            return Answer(304)
        return json_answer([f"{page}{tags[page]}"] if page in tags else [], ETag=tags.get(page, "end"))

    with ApiServer(route) as server:
        reading = source(server, every=0.02, pagination={"type": "page"}).read(None)
        first = [next(reading) for _ in tags]
        tags["2"] = "B"
        assert [record.data for record in (*first, next(reading)) if isinstance(record, Record)] == [
            b'"1a"',
            b'"2b"',
            b'"3c"',
            b'"2B"',
        ]
        reading.close()  # type: ignore[attr-defined]  # a generator


def test_rounds_begin_on_the_interval_the_first_at_once() -> None:
    at: list[datetime] = []

    def route(asked: Asked) -> Answer:
        at.append(datetime.now(UTC))
        return json_answer([len(at)])

    with ApiServer(route) as server:
        assert came(source(server, every=0.2), count=4) == [1, 2, 3, 4]
    floors = {int(moment.timestamp() / 0.2) for moment in at[1:]}
    assert len(floors) == 3, "no interval has two rounds, but perhaps that of the first"


def test_a_round_that_is_over_is_not_begun_again_before_its_time() -> None:
    with ApiServer(lambda asked: json_answer([1])) as server:
        (record,) = source(server).read(None)
        hourly = source(server, every="1h").read(record.position)
        server.asked.clear()
        waiting = threading.Thread(target=lambda: next(hourly), daemon=True)
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        assert server.asked == []
        assert came(source(server, every="1h"), {"finished": "2026-03-01T10:00:00Z"}, count=1) == [1]


LIMITED: dict[str, tuple[Answer, float]] = {
    "429": (Answer(429, b"", {"Retry-After": "1"}), 1.0),
    "503": (Answer(503, b"", {"Retry-After": "1"}), 1.0),
    "403": (Answer(403, b"", {"Retry-After": "1"}), 1.0),
}


@pytest.mark.parametrize("name", LIMITED)
def test_a_server_that_asks_to_wait_is_not_asked_before(name: str) -> None:
    answer, seconds = LIMITED[name]
    at: list[float] = []

    def route(asked: Asked) -> Answer:
        at.append(time.monotonic())
        return answer if len(at) == 1 else json_answer([1])

    with ApiServer(route) as server:
        assert came(source(server, backoff_max=2)) == [1]
        assert at[1] - at[0] >= seconds


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        (lambda: {"Retry-After": "3600"}, 3600, 3600),
        (lambda: {"Retry-After": format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)}, 3000, 3600),
        (lambda: {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.time()) + 3600)}, 3000, 3600),
        (lambda: {"Retry-After": "9" * 30}, 86_400, 86_400),
    ],
)
@pytest.mark.parametrize("status", [429, 403])
def test_a_long_wait_is_left_to_the_producer(
    headers: Callable[[], dict[str, str]], least: float, most: float, status: int
) -> None:
    with ApiServer(lambda asked: Answer(status, b"", headers())) as server:
        with pytest.raises(SourceUnavailable) as unavailable:
            came(source(server))
        assert len(server.asked) == 1
    assert least <= (unavailable.value.retry_after or 0) <= most


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 418, 422])
def test_a_no_is_refused_at_once(status: int) -> None:
    with ApiServer(lambda asked: Answer(status)) as server:
        with pytest.raises(SourceRefused, match=str(status)):
            came(source(server))
        assert len(server.asked) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_server_that_fails_too_often_in_a_row_is_unavailable(status: int) -> None:
    with ApiServer(lambda asked: Answer(status)) as server:
        with pytest.raises(SourceUnavailable, match=str(status)):
            came(source(server, max_failures=4))
        assert len(server.asked) == 4


def test_failures_count_only_in_a_row() -> None:
    """Four pages, each of which fails twice, though three failures are too many."""
    with ApiServer() as server:
        server.route = by_link(server)
        for _ in range(4):
            server.script.extend([Answer(503), Answer(503), server.route])
        assert came(source(server, pagination={"type": "link"})) == NUMBERS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "ftp://host/"}, "expected a URL"),
        ({"url": "http://me:s3cret@host/"}, "auth"),
        ({"auth": {"type": "bearer", "token": "s3cret\r\nX: y"}}, "line break"),
        ({"auth": {"type": "header", "name": "a b", "value": "s3cret"}}, "header's name"),
        ({"pagination": {"type": "cursor"}}, "either field or record"),
        ({"pagination": {"type": "cursor", "field": "/a", "record": "/b"}}, "either field or record"),
        ({"every": 1, "cron": "* * * * *"}, "expected one of them"),
    ],
)
def test_options_that_can_not_work_are_refused_without_showing_a_secret(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as refused:
        RestSource(**{"url": "http://host/", **options})
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "position", [7, "x", [], {}, {"finished": 7}, {"page": 1}, {"value": 1}, {"page": 1, "record": "x"}]
)
@pytest.mark.parametrize("incremental", [None, True, False])
def test_a_checkpoint_of_another_source_is_refused(position: object, incremental: bool | None) -> None:
    options = {"incremental": {"field": "/at", "parameter": "since", "ordered": incremental}}
    with ApiServer() as server, pytest.raises(SourceRefused, match="checkpoint"):
        came(source(server, **(options if incremental is not None else {})), position)


def test_a_bad_record_does_not_keep_others_from_coming() -> None:
    with ApiServer(lambda asked: Answer(200, b'[{"n": 1}, {"n": "\xff"}, {"n": 1e999}, {"n": 2}]')) as server:
        first, bad, large, last = source(server, key="/n").read(None)
    assert isinstance(first, Record)
    assert isinstance(last, Record)
    assert (first.key, last.key) == ("1", "2")
    assert isinstance(bad, DeadLetter)
    assert (bad.original, bad.reason[:9]) == (b'{"n": "\xff"}', "not UTF-8")
    assert large == Record(b'{"n": 1e999}', position=large.position, checked=True)
