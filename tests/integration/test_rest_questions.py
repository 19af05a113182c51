"""What a rest source can ask: by GET and by POST, with parameters as they are written, in the body, or in the path."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from millrace_pipeline.envelope import Record
from millrace_pipeline.errors import SourceRefused, SourceUnavailable
from millrace_producer.sources.rest import RestSource
from tests.integration.api_server import Answer, ApiServer, Asked, json_answer
from tests.integration.test_tls import Authority, Terminator

FAST: dict[str, Any] = {"max_failures": 3, "backoff_initial": 0.01, "backoff_max": 0.1}
NUMBERS = list(range(7))


def source(url: str, **options: Any) -> RestSource:
    return RestSource(url=url, **{**FAST, **options})


def data(records: Any) -> list[Any]:
    return [json.loads(record.data) for record in records if isinstance(record, Record)]


def again(position: object) -> Any:
    return json.loads(json.dumps(position))


def bodies(server: ApiServer) -> list[Any]:
    return [json.loads(asked.body) for asked in server.asked]


def test_parameters_go_out_as_they_are_written_on_every_page() -> None:
    def route(asked: Asked) -> Answer:
        return json_answer(NUMBERS[:2] if "page=1" in asked.target else [])

    with ApiServer(route) as server:
        url = server.url + "/x;v=1?wanted=a&wanted=b&name=%E9&flag&c=d+e%20f&;"
        params = {"authored": ["gt2026-01-01", "lt2026-02-01"], "wanted": ["ž", "y"]}
        assert data(source(url, params=params, pagination={"type": "page"}).read(None)) == [0, 1]
        query = "wanted=%C5%BE&wanted=y&name=%E9&flag&c=d+e%20f&;&authored=gt2026-01-01&authored=lt2026-02-01&page="
        assert [asked.target for asked in server.asked] == [f"/x;v=1?{query}{page}" for page in (1, 2)]


@pytest.mark.parametrize("kind", ["link", "next"])
def test_the_url_of_a_next_page_goes_out_as_the_api_wrote_it(kind: str) -> None:
    following = "/x;v=1?wanted=a&wanted=b&wanted=c&at=%E9%e9&flag&sig=a+b%2B/=&;&f[]=1"

    def route(asked: Asked) -> Answer:
        if "at=" in asked.target:
            return json_answer({"data": [2, 3]})
        return json_answer({"data": [1], "next": following}, Link=f"<{following}>; rel=next")

    with ApiServer(route) as server:
        reading = source(
            server.url + "/x;v=1?wanted=a&wanted=b",
            records="/data",
            pagination={"type": kind},
            params={"key": "s3cret"},
        )
        records = list(reading.read(None))
        assert data(records) == [1, 2, 3]
        assert server.asked[1].target == following
        position = again(records[1].position)
        assert "wanted=a" not in position["page"], "what the flow itself says may be a secret"
        assert data(reading.read(position)) == [3]
        assert server.asked[2].target == following


def graphql(asked: Asked) -> Answer:
    after = json.loads(asked.body)["variables"]["after"]
    begin = int(after or 0)
    page = {"nodes": NUMBERS[begin : begin + 3], "info": {"more": begin + 3 < 7, "end": str(begin + 3)}}
    return json_answer({"data": {"things": page}})


QUERY = "query($after: String) { things(after: $after) { nodes info { more end } } }"
GRAPHQL: dict[str, Any] = {
    "method": "POST",
    "body": {"query": QUERY, "variables": {"after": None}},
    "records": "/data/things/nodes",
    "pagination": {
        "type": "cursor",
        "field": "/data/things/info/end",
        "more": "/data/things/info/more",
        "parameter": "/variables/after",
    },
}


def test_graphql_is_asked_page_after_page_and_goes_on_in_any() -> None:
    with ApiServer(graphql) as server:
        records = list(source(server.url, **GRAPHQL).read(None))
        assert data(records) == NUMBERS
        assert [body["variables"]["after"] for body in bodies(server)] == [None, "3", "6"]
        assert {(asked.method, asked.headers["content-type"]) for asked in server.asked} == {
            ("POST", "application/json")
        }
        for count, record in enumerate(records[:-1], 1):
            assert data(source(server.url, **GRAPHQL).read(again(record.position))) == NUMBERS[count:]


def test_graphql_errors_are_a_failure_and_no_end() -> None:
    with ApiServer(graphql) as server:
        server.script.append(json_answer({"errors": [{"message": "later"}], "data": None}))
        assert data(source(server.url, **GRAPHQL).read(None)) == NUMBERS


@pytest.mark.parametrize(
    "failed",
    [
        {"data": None, "errors": [{"message": "timeout"}]},
        {"data": {"things": None}, "errors": [{"message": "timeout"}]},
        {"data": {"things": {"nodes": None, "info": None}}, "errors": [{"message": "timeout"}, {"message": "x"}]},
        {"data": {"things": {"nodes": None, "info": None}}, "errors": ["timeout"]},
        {"data": {"things": {"nodes": None, "info": None}}, "errors": [{"title": "timeout"}]},
    ],
)
def test_no_records_beside_an_error_are_a_failure_on_any_page(failed: Any) -> None:
    for before in (0, 1):
        with ApiServer(graphql) as server:
            server.script.extend([graphql] * before + [json_answer(failed)])
            assert data(source(server.url, **GRAPHQL).read(None)) == NUMBERS
    with ApiServer(lambda asked: json_answer(failed)) as server, pytest.raises(SourceUnavailable, match="timeout"):
        list(source(server.url, **GRAPHQL).read(None))


def test_records_beside_errors_are_read_and_no_records_beside_no_error_are_the_end() -> None:
    for nodes, errors in (([1], [{"message": "one field less"}]), ([], [{"message": "so"}]), (None, []), (None, None)):
        body = {"data": {"things": {"nodes": nodes, "info": None}}, "errors": errors}
        with ApiServer(lambda asked, body=body: json_answer(body)) as server:  # type: ignore[misc]
            assert data(source(server.url, **GRAPHQL).read(None)) == (nodes or [])


def test_a_search_goes_on_after_the_sort_values_of_its_last_hit() -> None:
    def route(asked: Asked) -> Answer:
        begin = json.loads(asked.body).get("search_after", [0, "a"])[0]
        return json_answer({"hits": {"hits": [{"sort": [n + 1, "a"]} for n in NUMBERS[begin : begin + 3]]}})

    with ApiServer(route) as server:
        pagination = {"type": "cursor", "record": "/sort", "parameter": "/search_after"}
        body = {"query": {"match_all": {}}, "size": 3}
        reading = source(server.url, method="POST", body=body, records="/hits/hits", pagination=pagination)
        assert [hit["sort"][0] for hit in data(reading.read(None))] == [1, 2, 3, 4, 5, 6, 7]
        assert [asked.get("search_after") for asked in bodies(server)] == [None, [3, "a"], [6, "a"], [7, "a"]]


@pytest.mark.parametrize("kind", ["page", "offset"])
def test_a_number_that_stands_in_the_body_is_a_number_there(kind: str) -> None:
    def route(asked: Asked) -> Answer:
        number = json.loads(asked.body)["paging"]["at"]
        begin = (number - 1) * 3 if kind == "page" else number
        return json_answer(NUMBERS[begin : begin + 3])

    with ApiServer(route) as server:
        reading = source(server.url, method="POST", body={}, pagination={"type": kind, "parameter": "/paging/at"})
        assert data(reading.read(None)) == NUMBERS


def test_what_is_new_can_be_asked_for_in_the_body() -> None:
    rows = [{"id": number, "at": number} for number in NUMBERS]

    def route(asked: Asked) -> Answer:
        since = json.loads(asked.body)["filter"]["since"]
        return json_answer([row for row in rows if row["at"] >= since])

    with ApiServer(route) as server:
        incremental = {"field": "/at", "parameter": "/filter/since", "start": 2}
        reading = source(server.url, method="POST", body={"filter": {"since": 0}}, incremental=incremental, key="/id")
        records = list(reading.read(None))
        assert [row["id"] for row in data(records)] == [2, 3, 4, 5, 6]
        assert list(reading.read(again(records[-1].position))) == []
        assert [body["filter"]["since"] for body in bodies(server)] == [2, 6]


def test_text_is_said_as_it_is() -> None:
    with ApiServer(lambda asked: json_answer([1])) as server:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        assert data(source(server.url, method="POST", body="a=1&a=ž", headers=headers).read(None)) == [1]
        assert server.asked[0].body == "a=1&a=ž".encode()
        assert server.asked[0].headers["content-type"] == "application/x-www-form-urlencoded"


def test_a_post_is_never_taken_for_unchanged() -> None:
    with ApiServer(lambda asked: json_answer([1], ETag='"1"')) as server:
        reading = source(server.url, method="POST", body={}, every=0.02).read(None)
        assert data(islice(reading, 3)) == [1, 1, 1]
        assert not any("if-none-match" in asked.headers for asked in server.asked)
        reading.close()  # type: ignore[attr-defined]  # a generator


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirected_post_is_a_post_there(status: int) -> None:
    with ApiServer(graphql) as server:
        server.script.append(Answer(status, b"", {"Location": "/there"}))
        assert data(source(server.url, **GRAPHQL).read(None)) == NUMBERS
        assert server.asked[1].path == "/there"


def test_see_other_is_asked_by_get() -> None:
    with ApiServer(lambda asked: json_answer([asked.method])) as server:
        server.script.append(Answer(303, b"", {"Location": "/result"}))
        assert data(source(server.url, method="POST", body={"q": 1}).read(None)) == ["GET"]
        assert server.asked[1].body == b""


@pytest.mark.parametrize("way", ["redirect", "link"])
def test_another_host_does_not_learn_what_is_asked_by_post(way: str) -> None:
    with ApiServer(lambda asked: json_answer([2])) as other, ApiServer() as server:
        there = other.url + "/there"
        away = Answer(307, b"", {"Location": there})
        server.script.append(away if way == "redirect" else json_answer([1], Link=f"<{there}>; rel=next"))
        reading = source(server.url, method="POST", body={"q": 1}, allow_private=True, pagination={"type": "link"})
        with pytest.raises(SourceRefused, match="another host, which must not learn"):
            list(reading.read(None))
        assert other.asked == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"body": {}}, "method: POST"),
        ({"pagination": {"type": "page", "parameter": "/page"}}, "method: POST"),
        ({"method": "POST", "body": "text", "pagination": {"type": "page", "parameter": "/page"}}, "body that is JSON"),
        ({"method": "POST", "body": {"a": 1}, "pagination": {"type": "page", "parameter": "/a/b"}}, "leads nowhere"),
        ({"params": {"a": []}}, "a has no value"),
        ({"url": "http://host/{page}"}, r"\{page\}"),
        ({"url": "http://host/{since}", "incremental": {"field": "/at", "parameter": "since"}}, "start"),
        (
            {"pagination": {"type": "page"}, "incremental": {"field": "/at", "parameter": "page"}},
            "pagination.parameter and incremental.parameter are both 'page'",
        ),
    ],
)
def test_questions_that_can_not_be_asked_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RestSource(**{"url": "http://host/", **options})


def test_a_cursor_of_the_last_record_may_have_the_parameter_of_what_is_new() -> None:
    def route(asked: Asked) -> Answer:
        since = int(asked.query.get("since", "0"))
        return json_answer([{"at": at} for at in range(since + 1, min(since + 4, 8))])

    with ApiServer(route) as server:
        reading = source(
            server.url,
            pagination={"type": "cursor", "record": "/at", "parameter": "since"},
            incremental={"field": "/at", "parameter": "since", "inclusive": False},
        )
        assert data(list(reading.read(None))) == [{"at": at} for at in range(1, 8)]


def test_an_offset_may_begin_at_one() -> None:
    def route(asked: Asked) -> Answer:
        begin = int(asked.query["start"]) - 1
        assert begin >= 0
        return json_answer(NUMBERS[begin : begin + 3])

    with ApiServer(route) as server:
        pagination = {"type": "offset", "parameter": "start", "first": 1}
        records = list(source(server.url, pagination=pagination).read(None))
        assert data(records) == NUMBERS
        assert [asked.query["start"] for asked in server.asked] == ["1", "4", "7", "8"]
        assert data(source(server.url, pagination=pagination).read(again(records[3].position))) == NUMBERS[4:]


def test_the_number_of_a_page_may_stand_in_the_path() -> None:
    def route(asked: Asked) -> Answer:
        begin = (int(asked.path.split("/")[2]) - 1) * 3
        return json_answer(NUMBERS[begin : begin + 3]) if begin < 7 else Answer(404)

    with ApiServer(route) as server:
        reading = source(server.url + "/list/{page}/all?x=%E9", pagination={"type": "page"})
        assert data(reading.read(None)) == NUMBERS
        assert [asked.target for asked in server.asked] == [f"/list/{page}/all?x=%E9" for page in (1, 2, 3, 4)]


@pytest.mark.parametrize("kind", ["link", "next"])
def test_links_in_http_behind_a_proxy_that_speaks_tls_are_followed_where_wanted(kind: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ours")
    with ApiServer() as server:
        tls = Terminator(int(server.url.rpartition(":")[2]), authority.certify("server"))
        following = "http://127.0.0.1:80/things?page=2"
        server.route = lambda asked: (
            json_answer({"data": [2], "next": None})
            if asked.query
            else json_answer({"data": [1], "next": following}, Link=f"<{following}>; rel=next")
        )
        options: dict[str, Any] = {"ca_file": authority.file, "records": "/data"}
        url = f"https://127.0.0.1:{tls.port}/things"
        try:
            with pytest.raises(SourceRefused, match=r"set pagination\.https"):
                list(source(url, pagination={"type": kind}, **options).read(None))
            assert data(source(url, pagination={"type": kind, "https": True}, **options).read(None)) == [1, 2]
        finally:
            tls.close()
