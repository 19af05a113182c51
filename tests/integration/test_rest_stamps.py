"""Pages that are the same but for what the server stamps on each answer, and pages that only look alike."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from typing import Any
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from millrace_pipeline.envelope import Record
from millrace_pipeline.errors import SourceRefused
from millrace_producer.sources.rest import RestSource
from tests.integration.api_server import Answer, ApiServer, Asked, json_answer

MOST = 60
"""So many records at most are read of an API that may have no end."""

Page = Callable[[int], tuple[list[Any], dict[str, str]]]


def now() -> datetime:
    return datetime.now(UTC)


def stamped(stamp: Callable[[], Any], *, header: str = "") -> Page:
    """Pages 1 to 3 with two records each, the last for every later number, each answer with a stamp of its own."""

    def page(number: int) -> tuple[list[Any], dict[str, str]]:
        mark = stamp()
        records = [{"name": f"{min(number, 3)}-{n}", "meta": {"mark": mark}} for n in (1, 2)]
        return records, {header: str(mark)} if header else {}

    return page


NUMBERS = count(1)
STAMPS: dict[str, Page] = {
    "a time": stamped(lambda: now().isoformat()),
    "a time by a clock that is wrong": stamped(
        lambda: (now() - timedelta(hours=5)).strftime("%a, %d %b %Y %H:%M:%S GMT"), header="Date"
    ),
    "epoch milliseconds": stamped(lambda: int(time.time() * 1000)),
    "epoch seconds with a fraction": stamped(time.time),
    "an HTTP date": stamped(lambda: now().strftime("%a, %d %b %Y %H:%M:%S GMT")),
    "a UUID": stamped(lambda: str(uuid4())),
    "a number in hexadecimal": stamped(lambda: uuid4().hex),
    "what a header says": stamped(lambda: f"request number {next(NUMBERS)}", header="X-Request-Id"),
}
COUNTED = {
    "page": {"type": "page"},
    "offset": {"type": "offset", "parameter": "page", "first": 1},
    "page in the path": {"type": "page", "parameter": "number"},
}
OTHERS = {
    "cursor": {"type": "cursor", "field": "/next", "parameter": "page"},
    "link": {"type": "link"},
    "next": {"type": "next"},
}


def route(page: Page) -> Callable[[Asked], Answer]:
    """An API that says of every page that there is another."""

    def answer(asked: Asked) -> Answer:
        number = int(asked.query.get("page") or asked.path.rpartition("/")[2] or 1)
        number = number if number < 4 or "offset" not in asked.query else 3
        records, headers = page(number)
        following = f"/things/?page={number + 1}"
        body = {"data": records, "next": number + 1 if "cursor" in asked.query else following}
        return json_answer(body, **headers, Link=f'<{following}>; rel="next"')

    return answer


def read(page: Page, pagination: dict[str, Any], **options: Any) -> list[Any]:
    path = "/things/{number}" if pagination.get("parameter") == "number" else "/things/"
    query = "?cursor=1" if pagination["type"] == "cursor" else ""
    with ApiServer(route(page)) as server:
        source = RestSource(url=server.url + path + query, records="/data", pagination=pagination, **options)  # type: ignore[arg-type]
        reading = source.read(None)
        records = list(islice(reading, MOST))
        reading.close()  # type: ignore[attr-defined]  # a generator
    return [json.loads(record.data) for record in records if isinstance(record, Record)]


@pytest.mark.parametrize("pagination", COUNTED)
@pytest.mark.parametrize("stamp", STAMPS)
def test_a_last_page_that_comes_again_with_another_stamp_is_the_end(stamp: str, pagination: str) -> None:
    with capture_logs() as logs:
        came = read(STAMPS[stamp], COUNTED[pagination])
    names = [record["name"] for record in came]
    assert names[:2] == ["1-1", "1-2"]
    assert names[-2:] == ["3-1", "3-2"]
    assert len(set(names)) == len(names)
    assert {log["event"] for log in logs} <= {"rest_page_repeated"}


@pytest.mark.parametrize("pagination", OTHERS)
@pytest.mark.parametrize("stamp", STAMPS)
def test_where_no_pages_are_counted_the_same_page_again_is_refused(stamp: str, pagination: str) -> None:
    with pytest.raises(SourceRefused, match="same page again"):
        read(STAMPS[stamp], OTHERS[pagination])


def of_a_key(number: int) -> tuple[list[Any], dict[str, str]]:
    return [{"id": min(number, 3) * 10 + n, "views": next(NUMBERS)} for n in (1, 2)], {}


@pytest.mark.parametrize("pagination", COUNTED)
def test_where_records_have_a_key_a_page_is_known_by_it_alone(pagination: str) -> None:
    came = read(of_a_key, COUNTED[pagination], key="/id")
    assert len(came) < 10
    assert len({record["id"] for record in came}) == len(came)
    assert len(read(of_a_key, COUNTED[pagination])) == MOST, "without a key, counters may be what is new"


def test_a_circle_of_pages_with_keys_is_the_end_wherever_it_begins() -> None:
    def page(number: int) -> tuple[list[Any], dict[str, str]]:
        return [{"id": number if number < 3 else 3 + number % 2, "views": next(NUMBERS)}], {}

    assert sorted(record["id"] for record in read(page, COUNTED["page"], key="/id")) == [1, 2, 3, 4]


BEGUN = datetime(2026, 11, 1, tzinfo=UTC)
ALIKE: dict[str, Page] = {
    "ids": lambda number: ([{"id": str(UUID(int=number * 10 + n)), "v": 0} for n in (1, 2)], {}),
    "ids of one record a page": lambda number: ([{"id": str(uuid4()), "v": 0}], {}),
    "times": lambda number: ([{"at": (BEGUN + timedelta(minutes=number)).isoformat(), "v": 0} for _ in (1, 2)], {}),
    "days of a calendar": lambda number: (
        [{"day": str((BEGUN + timedelta(days=number)).date()), "hour": n, "free": True} for n in (1, 2)],
        {},
    ),
    "numbers": lambda number: ([{"n": number, "v": 0}, {"n": number, "v": 1}], {}),
    "a random id of one of them": lambda number: ([{"id": "a", "v": 0}, {"id": str(uuid4()), "v": 0}], {}),
    "a field that is there or isn't": lambda number: ([{"v": 0, f"f{number}": now().isoformat()}], {}),
    "the kind of a value": lambda number: ([{"v": number if number % 2 else str(number)}, {"v": 0}], {}),
}


@pytest.mark.parametrize("pagination", [*COUNTED, *OTHERS])
@pytest.mark.parametrize("alike", ALIKE)
def test_pages_that_differ_in_what_may_be_data_are_all_read(alike: str, pagination: str) -> None:
    assert len(read(ALIKE[alike], {**COUNTED, **OTHERS}[pagination])) == MOST


def test_a_key_that_all_records_share_names_no_page() -> None:
    def page(number: int) -> tuple[list[Any], dict[str, str]]:
        return [{"kind": "a", "n": number}, {"kind": "a", "n": -number}], {}

    assert len(read(page, COUNTED["page"], key="/kind")) == MOST


@pytest.mark.parametrize("said", ["false", "False", "0", "no", "", False, None, 0])
@pytest.mark.parametrize("pagination", [{"type": "page"}, {"type": "cursor", "record": "/n", "parameter": "page"}])
def test_that_there_is_no_more_may_be_said_in_words(pagination: dict[str, Any], said: Any) -> None:
    def answer(asked: Asked) -> Answer:
        number = int(asked.query.get("page", 1))
        return json_answer({"data": [{"n": number + 1}], "more": "true" if number < 3 else said})

    with ApiServer(answer) as server:
        source = RestSource(url=server.url, records="/data", pagination={**pagination, "more": "/more"})  # type: ignore[arg-type]
        assert len(list(islice(source.read(None), MOST))) == 3


def test_pages_without_end_that_have_no_records_are_said() -> None:
    def answer(asked: Asked) -> Answer:
        number = int(asked.query.get("page", 1))
        return json_answer({"data": [], "next": number + 1 if number < 120 else None})

    with ApiServer(answer) as server, capture_logs() as logs:
        options = {"type": "cursor", "field": "/next", "parameter": "page"}
        assert list(RestSource(url=server.url, records="/data", pagination=options).read(None)) == []  # type: ignore[arg-type]
    assert [log["event"] for log in logs if log["log_level"] == "warning"] == ["rest_pages_empty"]
