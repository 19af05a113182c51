"""Rows that are edited while their pages are read move to the end, and all behind them move up: none is lost by it."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest
from structlog.testing import capture_logs

from millrace_pipeline.envelope import Record
from millrace_pipeline.errors import SourceRefused
from millrace_producer.sources.rest import RestSource
from tests.integration.api_server import Answer, ApiServer, Asked, json_answer

FAST: dict[str, Any] = {"max_failures": 3, "backoff_initial": 0.01, "backoff_max": 0.1}
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Shifting:
    """Rows in ascending order of `at`, in pages. Before any page but the first two rows of the first are edited."""

    def __init__(
        self, ats: list[int], *, size: int, inclusive: bool = True, edits: int = 2, unit: int = 1, times: int = 1
    ) -> None:
        self.rows = dict(enumerate(ats))
        self.now = max(ats)
        self.size = size
        self.inclusive = inclusive
        self.edits = edits
        self.unit = unit
        self.times = times
        self.busy = False
        self.url = ""

    def __call__(self, asked: Asked) -> Answer:
        begin = int(asked.query.get("offset", (int(asked.query.get("page", 1)) - 1) * self.size))
        if asked.query.get("since", "") and self.busy:
            self.busy = False
            return Answer(429, b"", {"Retry-After": "0"})
        if (begin or asked.query.get("since")) and self.times:
            self.times -= 1
            for number in sorted(self.rows, key=lambda number: (self.rows[number], number))[: self.edits]:
                self.now += 1
                self.rows[number] = self.now
        since = int(asked.query["since"]) // self.unit * self.unit if "since" in asked.query else None
        found = [
            {"id": number, "at": at}
            for number, at in sorted(self.rows.items(), key=lambda row: (row[1], row[0]))
            if since is None or at > since or (self.inclusive and at == since)
        ]
        page = found[begin : begin + self.size]
        more = begin + self.size < len(found)
        narrowed = f"&since={asked.query['since']}" if "since" in asked.query else ""
        link = f"<{self.url}/?offset={begin + self.size}{narrowed}>; rel=next"
        body = {"data": page, "next": begin + self.size if more else None}
        return json_answer(body, **({"Link": link} if more else {}))


PAGINATIONS: dict[str, dict[str, Any]] = {
    "page": {"type": "page"},
    "offset": {"type": "offset"},
    "link": {"type": "link"},
    "cursor": {"type": "cursor", "field": "/next", "parameter": "offset"},
}


def source(server: ApiServer, name: str = "page", **incremental: Any) -> RestSource:
    return RestSource(
        url=server.url,
        records="/data",
        key="/id",
        pagination=PAGINATIONS[name],  # type: ignore[arg-type]
        incremental={"field": "/at", "parameter": "since", **incremental},  # type: ignore[arg-type]
        **FAST,
    )


def rows(records: Any) -> list[tuple[int, int]]:
    found = [json.loads(record.data) for record in records if isinstance(record, Record)]
    return [(row["id"], row["at"]) for row in found]


def complete(came: list[tuple[int, int]], api: Shifting) -> None:
    """Each row came as it is now, and nothing came twice."""
    assert set(api.rows.items()) - set(came) == set()
    assert [row for row, count in Counter(came).items() if count > 1] == []


@pytest.mark.parametrize("name", PAGINATIONS)
@pytest.mark.parametrize("inclusive", [True, False])
@pytest.mark.parametrize("spread", [1, 7, 40])
def test_rows_that_move_while_a_round_runs_lose_none(name: str, inclusive: bool, spread: int) -> None:
    """250 rows in pages of 100, `spread` of each value, of which two are edited while page 2 is fetched."""
    api = Shifting([number // spread for number in range(250)], size=100, inclusive=inclusive)
    with ApiServer(api) as server:
        api.url = server.url
        complete(rows(source(server, name, inclusive=inclusive).read(None)), api)


def test_nor_do_those_that_move_on_every_page_and_while_a_429_is_waited_out() -> None:
    api = Shifting(list(range(1250)), size=100, times=8)
    api.busy = True
    with ApiServer(api) as server:
        complete(rows(source(server).read(None)), api)


def test_a_round_asks_no_more_than_it_must() -> None:
    api = Shifting(list(range(1000)), size=100, edits=0)
    with ApiServer(api) as server:
        assert len(rows(source(server).read(None))) == 1000
        assert len(server.asked) <= 13
        assert [asked.query.get("page") for asked in server.asked[:11]] == ["1"] * 11
        server.asked.clear()
        api.now = 999
        list(source(server).read({"value": 999, "at": ["999"]}))
        assert [asked.query for asked in server.asked] == [{"since": "999", "page": page} for page in ("1", "2")]


def test_a_page_number_counts_inside_of_one_value() -> None:
    api = Shifting([1] * 5 + [2] * 350 + [3] * 5, size=100, edits=0)
    with ApiServer(api) as server:
        complete(rows(source(server).read(None)), api)
        assert {asked.query["page"] for asked in server.asked if asked.query.get("since") == "2"} >= {
            "1",
            "2",
            "3",
            "4",
        }


def test_more_rows_of_one_value_than_a_position_holds_come_once_a_round() -> None:
    api = Shifting([1] * 10 + [2] * 2500 + [3] * 10, size=2000, edits=0)
    with ApiServer(api) as server:
        complete(rows(source(server).read(None)), api)


def test_killed_after_any_record_it_goes_on_and_loses_none() -> None:
    for count in (1, 9, 10, 11, 25):
        api = Shifting([number // 4 for number in range(30)], size=10)
        with ApiServer(api) as server:
            first = list(islice(source(server).read(None), count))
            position = json.loads(json.dumps(first[-1].position))
            complete(rows(first) + rows(source(server).read(position)), api)


@pytest.mark.parametrize("size", [1, 2, 10])
def test_a_descending_order_is_still_refused_whatever_the_size_of_a_page(size: int) -> None:
    def route(asked: Asked) -> Answer:
        begin = (int(asked.query["page"]) - 1) * size
        found = [number for number in range(20, 0, -1) if number >= int(asked.query.get("since", 0))]
        return json_answer({"data": [{"id": number, "at": number} for number in found[begin : begin + size]]})

    with ApiServer(route) as server, pytest.raises(SourceRefused, match="ordered: false"):
        list(source(server).read(None))


def test_an_api_that_knows_only_coarse_values_is_read_by_pages_and_says_so() -> None:
    """It knows thousands of a value alone, so that to ask by value would begin anew each time."""
    api = Shifting(list(range(3000)), size=100, edits=0, unit=1000)
    with ApiServer(api) as server, capture_logs() as logs:
        complete(rows(source(server).read(None)), api)
        assert len(server.asked) < 50
    assert [log["event"] for log in logs if log["event"].startswith("rest_")] == ["rest_goes_by_page"]


def test_a_record_that_is_none_comes_once_a_round_though_every_page_has_it() -> None:
    api = Shifting(list(range(300)), size=100, edits=0)

    def route(asked: Asked) -> Answer:
        page = json.loads(api(asked).body)
        return json_answer({"data": [{"id": "bad"}, *page["data"]]} if page["data"] else page)

    with ApiServer(route) as server:
        came = list(source(server).read(None))
        assert len(came) == 301


class Late:
    """Rows that an API shows late: with a time that is below what was read."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, datetime]] = [(number, NOON + timedelta(minutes=number)) for number in range(10)]

    def __call__(self, asked: Asked) -> Answer:
        since = asked.query.get("since")
        found = [
            {"id": number, "at": at.isoformat().replace("+00:00", "Z")}
            for number, at in sorted(self.rows, key=lambda row: row[1])
            if since is None or at >= datetime.fromisoformat(since)
        ]
        begin = (int(asked.query["page"]) - 1) * 4
        return json_answer({"data": found[begin : begin + 4]})


@pytest.mark.parametrize("ordered", [True, False])
def test_a_look_back_finds_what_came_late_and_gives_nothing_twice(ordered: bool) -> None:
    api = Late()
    with ApiServer(api) as server:
        reading = source(server, ordered=ordered, overlap="5m")
        records = list(reading.read(None))
        assert [number for number, _ in rows(records)] == list(range(10))
        api.rows += [(100, NOON + timedelta(minutes=6, seconds=1)), (101, NOON + timedelta(minutes=20))]
        position = json.loads(json.dumps(records[-1].position))
        server.asked.clear()
        more = list(reading.read(position))
        assert server.asked[0].query["since"] == "2026-03-01T12:04:00Z"
        assert sorted(number for number, _ in rows(more)) == [100, 101]
        api.rows += [(102, NOON + timedelta(minutes=14))]
        assert list(reading.read(json.loads(json.dumps(more[-1].position)))) == [], (
            "14 is more than 5 minutes before 20"
        )


def test_a_row_edited_within_the_look_back_comes_again() -> None:
    api = Late()
    with ApiServer(api) as server:
        reading = source(server, overlap="5m")
        position = json.loads(json.dumps(list(reading.read(None))[-1].position))
        api.rows[8] = (8, NOON + timedelta(minutes=8, seconds=30))
        assert [number for number, _ in rows(reading.read(position))] == [8]


def test_a_look_back_over_numbers_counts_them() -> None:
    api = Shifting(list(range(10)), size=4, edits=0)
    with ApiServer(api) as server:
        reading = source(server, overlap=3)
        position = json.loads(json.dumps(list(reading.read(None))[-1].position))
        api.rows |= {100: 7, 101: 2}
        assert rows(reading.read(position)) == [(100, 7)]
