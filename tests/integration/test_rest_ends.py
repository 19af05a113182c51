"""How a rest source knows that it is over, or that there is nothing: each is told apart, and none goes on for ever."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

import pytest
from structlog.testing import capture_logs

from millrace_pipeline.envelope import Record
from millrace_pipeline.errors import SourceRefused, SourceUnavailable
from millrace_producer.sources.rest import RestSource
from tests.integration.api_server import Answer, ApiServer, Asked, json_answer
from tests.integration.sse_server import ScriptedServer

FAST: dict[str, Any] = {"max_failures": 3, "backoff_initial": 0.01, "backoff_max": 0.1}
MOST = 50
"""So many records at most are read of an API that may have no end."""


def read(server: ApiServer, **options: Any) -> list[Any]:
    reading = RestSource(url=server.url + "/things", **{**FAST, **options}).read(None)
    records = list(islice(reading, MOST))
    reading.close()  # type: ignore[attr-defined]  # a generator
    return [json.loads(record.data) for record in records if isinstance(record, Record)]


def last_page_again(asked: Asked) -> Answer:
    page = min(int(asked.query.get("page", asked.query.get("offset", 0))), 3)
    return json_answer([[page, 1], [page, 2]])


def first_page_again(asked: Asked) -> Answer:
    return json_answer([[int(asked.query["page"]) % 3, number] for number in (1, 2)])


@pytest.mark.parametrize("route", [last_page_again, first_page_again])
def test_a_page_number_beyond_the_last_that_repeats_a_page_is_the_end(route: Any) -> None:
    with ApiServer(route) as server, capture_logs() as logs:
        came = read(server, pagination={"type": "page"})
        assert sorted(came) == sorted(list(pair) for pair in {tuple(pair) for pair in came})
        assert len(came) == 6
    assert {log["event"] for log in logs} <= {"rest_page_repeated"}, "said once, for both of these"


def test_an_offset_that_the_api_does_not_know_is_the_end_after_one_page() -> None:
    with ApiServer(lambda asked: json_answer([1, 2, 3])) as server:
        assert read(server, pagination={"type": "offset"}) == [1, 2, 3]
        assert len(server.asked) == 2


def test_one_bare_value_that_comes_again_is_refused_and_not_taken_for_the_end() -> None:
    with ApiServer(lambda asked: json_answer([0])) as server:
        with pytest.raises(SourceRefused, match=r"same page again.*pagination\.repeated to allow"):
            read(server, pagination={"type": "page"})
        assert len(read(server, pagination={"type": "page", "repeated": "allow"})) == MOST
        assert read(server, pagination={"type": "page", "repeated": "end"}) == [0]


def test_pages_without_records_are_none_that_repeat_each_other() -> None:
    def route(asked: Asked) -> Answer:
        at = int(asked.query.get("cursor", 0))
        return json_answer({"data": [at] if at == 4 else [], "next": at + 1 if at < 5 else None})

    with ApiServer(route) as server:
        options = {"records": "/data", "pagination": {"type": "cursor", "field": "/next"}}
        assert read(server, **options) == [4]


CIRCLES = {
    "cursors": ({"a": "b", "b": "c", "c": "b"}, {"type": "cursor", "field": "/next"}),
    "urls": ({"a": "?at=b", "b": "?at=c", "c": "?at=b"}, {"type": "next"}),
}


@pytest.mark.parametrize("name", CIRCLES)
def test_pages_that_go_round_in_a_circle_are_refused_before_one_comes_twice(name: str) -> None:
    following, pagination = CIRCLES[name]

    def route(asked: Asked) -> Answer:
        at = asked.query.get("cursor", asked.query.get("at", "a"))
        return json_answer({"data": [at], "next": following[at]})

    with ApiServer(route) as server:
        reading = RestSource(url=server.url, records="/data", pagination=pagination, **FAST).read(None)  # type: ignore[arg-type]
        came = list(islice(reading, 3))
        assert [record.data for record in came] == [b'"a"', b'"b"', b'"c"']  # type: ignore[union-attr]
        with pytest.raises(SourceRefused, match="same page again"):
            next(reading)
        assert len(server.asked) == 3


def test_a_new_cursor_for_the_same_records_is_refused() -> None:
    def route(asked: Asked) -> Answer:
        return json_answer({"data": [1, 2], "next": int(asked.query.get("cursor", 0)) + 1})

    with ApiServer(route) as server:
        with pytest.raises(SourceRefused, match="same page again"):
            read(server, records="/data", pagination={"type": "cursor", "field": "/next"})
        assert len(server.asked) == 2


def test_a_next_link_that_is_said_to_have_no_results_is_not_followed() -> None:
    with ApiServer() as server:
        link = f'<{server.url}/?cursor=0:{{0}}:0>; rel="next"; results="{{1}}"; cursor="0:{{0}}:0"'
        server.script.append(json_answer([1], Link=link.format(100, "true")))
        server.route = lambda asked: json_answer([2], Link=link.format(200, "false"))
        assert read(server, pagination={"type": "link"}) == [1, 2]
        assert len(server.asked) == 2


def test_what_names_the_next_page_and_can_not_is_refused() -> None:
    for body, pagination in [
        ({"data": [1], "next": {"href": "/2"}}, {"type": "next"}),
        ({"data": [1], "next": [1]}, {"type": "cursor", "field": "/next"}),
        ({"data": [1], "next": True}, {"type": "cursor", "field": "/next"}),
    ]:
        with (
            ApiServer(lambda asked, body=body: json_answer(body)) as server,  # type: ignore[misc]
            pytest.raises(SourceRefused, match="/next"),
        ):
            read(server, records="/data", pagination=pagination)


def test_a_cursor_may_be_zero() -> None:
    def route(asked: Asked) -> Answer:
        return json_answer({"data": [1 if asked.query else 0], "next": 0 if not asked.query else None})

    with ApiServer(route) as server:
        assert read(server, records="/data", pagination={"type": "cursor", "field": "/next"}) == [0, 1]


@pytest.mark.parametrize("status", [200, 204, 205])
def test_an_answer_of_nothing_has_no_records(status: int) -> None:
    for records in ("", "/data"):
        with ApiServer(lambda asked: Answer(status, b"")) as server:
            assert read(server, records=records) == []
            assert len(server.asked) == 1


def test_an_answer_that_breaks_off_before_its_body_is_none_of_nothing() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    script = [head + b"\r\n", head + b"Content-Length: 3\r\n\r\n", head + b"Content-Length: 3\r\n\r\n[1]"]
    with ScriptedServer(*script) as server:
        records = list(RestSource(url=server.url, **FAST).read(None))
        assert [record.data for record in records] == [b"1"]  # type: ignore[union-attr]
        assert len(server.asked) == 3


def test_206_is_a_page_like_any_other() -> None:
    with ApiServer() as server:
        server.script.append(Answer(206, b"[1]", {"Content-Range": "items 0-0/2", "Link": "</2>; rel=next"}))
        server.route = lambda asked: Answer(206, b"[2]", {"Content-Range": "items 1-1/2"})
        assert read(server, pagination={"type": "link"}) == [1, 2]


def test_202_is_asked_again_when_it_says() -> None:
    with ApiServer(lambda asked: json_answer([1])) as server:
        server.script.extend([Answer(202, b""), Answer(202, b"{}", {"Retry-After": "0"})])
        assert read(server) == [1]
        assert len(server.asked) == 3
    with ApiServer(lambda asked: Answer(202, b"", {"Retry-After": "60"})) as server:
        with pytest.raises(SourceUnavailable, match="202") as unavailable:
            read(server)
        assert unavailable.value.retry_after == 60


def test_a_page_that_has_not_changed_may_have_a_next_one_now() -> None:
    with ApiServer() as server:

        def route(asked: Asked) -> Answer:
            if asked.query:
                return json_answer([3])
            if asked.headers.get("if-none-match") == '"1"':
                return Answer(304, b"", {"Link": "<?page=2>; rel=next"})
            return json_answer([1, 2], ETag='"1"')

        server.route = route
        options: dict[str, Any] = {"pagination": {"type": "link"}, **FAST}
        polling = RestSource(url=server.url, every=0.02, **options).read(None)
        assert [record.data for record in islice(polling, 3)] == [b"1", b"2", b"3"]  # type: ignore[union-attr]
        polling.close()  # type: ignore[attr-defined]  # a generator

        records = list(RestSource(url=server.url, **options).read(None))
        assert len(records) == 2
        position = json.loads(json.dumps(records[-1].position))
        assert position["validators"] == ['"1"', None]
        rest = list(RestSource(url=server.url, **options).read(position))
        assert [record.data for record in rest] == [b"3"]  # type: ignore[union-attr]


def test_killed_among_pages_of_one_cursor_it_begins_again_and_loses_none() -> None:
    pages = [json_answer({"data": [n, n + 10], "next": "x"}) for n in (1, 2, 3)] + [
        json_answer({"data": [], "next": "x"})
    ]
    paged = {"type": "cursor", "field": "/next", "repeated": "allow"}
    for count in range(1, 7):
        with ApiServer(lambda asked: json_answer({})) as server:
            source = RestSource(url=server.url, records="/data", pagination=paged)  # type: ignore[arg-type]
            server.script.extend(pages)
            first = list(islice(source.read(None), count))
            server.script.clear()
            server.script.extend(pages)
            rest = list(source.read(first[-1].position))
            assert {record.data for record in first + rest} == {b"%d" % n for n in (1, 2, 3, 11, 12, 13)}  # type: ignore[union-attr]


def pages_with_more(*pages: Any) -> Any:
    """A route by pages or offsets, each of which says whether there is another; a number is a status."""

    def route(asked: Asked) -> Answer:
        at = int(asked.query.get("page", asked.query.get("offset", 0)))
        found = pages[at]
        return Answer(found) if isinstance(found, int) else json_answer({"rows": found, "more": at + 1 < len(pages)})

    return route


def test_an_empty_page_that_says_there_is_another_is_not_the_last() -> None:
    with ApiServer(pages_with_more([1], [], [], [2], [])) as server:
        paged = {"type": "page", "first": 0, "more": "/more"}
        assert read(server, records="/rows", pagination=paged) == [1, 2]
        assert len(server.asked) == 5


def test_an_offset_that_no_record_moves_on_is_refused_where_there_is_to_be_more() -> None:
    with (
        ApiServer(pages_with_more([1], [], [2])) as server,
        pytest.raises(SourceRefused, match="of no records, and says at /more"),
    ):
        read(server, records="/rows", pagination={"type": "offset", "more": "/more"})


@pytest.mark.parametrize("type", ["page", "offset"])
def test_a_404_to_a_page_that_is_said_to_be_there_is_asked_again(type: str) -> None:
    paged = {"type": type, "first": 0, "more": "/more"}
    with ApiServer(pages_with_more([1], [2])) as server:
        server.script.extend([json_answer({"rows": [1], "more": True}), Answer(404)])
        assert read(server, records="/rows", pagination=paged) == [1, 2]
    with ApiServer(pages_with_more([1], 404)) as server:
        with pytest.raises(SourceUnavailable, match="404 Not Found to a page that is to be there by /more"):
            read(server, records="/rows", pagination=paged)
        assert len(server.asked) == 4


def test_a_page_of_a_checkpoint_that_is_there_no_more_begins_the_round_again() -> None:
    with ApiServer(pages_with_more([1], [2])) as server:
        server.script.append(Answer(404))
        source = RestSource(url=server.url, records="/rows", pagination={"type": "page", "first": 0, "more": "/more"})  # type: ignore[arg-type]
        came = list(source.read({"page": 1, "record": 1}))
        assert [record.data for record in came] == [b"1", b"2"]  # type: ignore[union-attr]


def test_counted_pages_without_records_that_have_no_end_are_refused() -> None:
    with ApiServer(lambda asked: json_answer({"rows": [], "more": True})) as server:
        paged = {"type": "page", "more": "/more"}
        with pytest.raises(SourceRefused, match=r"100 pages in a row.*is `more` right"):
            read(server, records="/rows", pagination=paged)
        assert len(server.asked) == 100
        assert read(server, records="/rows", pagination={**paged, "repeated": "end"}) == []


def test_many_pages_that_have_not_changed_are_not_pages_without_records() -> None:
    def route(asked: Asked) -> Answer:
        page = int(asked.query["page"])
        if asked.headers.get("if-none-match"):
            return Answer(304)
        return json_answer({"rows": [page], "more": page < 120}, ETag='"a"')

    with ApiServer(route) as server, capture_logs() as logs:
        paged: Any = {"type": "page", "more": "/more"}
        polling = RestSource(url=server.url, records="/rows", pagination=paged, every=0.01, **FAST).read(None)
        assert len(list(islice(polling, 120))) == 120
        server.route = lambda asked: (
            json_answer({"rows": [0], "more": False}) if asked.query["page"] == "120" else route(asked)
        )
        assert next(polling).data == b"0"  # type: ignore[union-attr]
        polling.close()  # type: ignore[attr-defined]  # a generator
    assert [log["event"] for log in logs if log["log_level"] == "warning"] == []
