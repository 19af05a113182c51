"""Incremental loads: only what is new is asked for, and at the boundary nothing is lost or doubled."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

import pytest

from millrace_pipeline.envelope import DeadLetter, Record
from millrace_pipeline.errors import SourceRefused
from millrace_pipeline.jsontext import encode_json
from millrace_producer.sources.incremental import MOST_AT_ONE_VALUE, compare
from millrace_producer.sources.lookback import earlier
from millrace_producer.sources.rest import RestSource
from tests.integration.api_server import Answer, ApiServer, Asked, json_answer


class Table:
    """Rows with an id and a time, which an API gives from a time on, or after it."""

    def __init__(self, rows: list[tuple[int, Any]], *, inclusive: bool = True, backwards: bool = False) -> None:
        self.rows = list(rows)
        self.inclusive = inclusive
        self.backwards = backwards

    def __call__(self, asked: Asked) -> Answer:
        since = asked.query.get("since")
        found = [row for row in self.rows if since is None or self._is_asked_for(row[1], since)]
        found.sort(key=lambda row: row[1], reverse=self.backwards)
        return json_answer([{"id": number, "at": at} for number, at in found])

    def _is_asked_for(self, at: Any, since: str) -> bool:
        since = type(at)(since)
        return bool(at > since or (self.inclusive and at == since))


def source(server: ApiServer, *, every: object = None, by_letter: bool = True, **incremental: Any) -> RestSource:
    return RestSource(
        url=server.url + "/rows",
        key="/id",
        incremental={"field": "/at", "parameter": "since", "by_letter": by_letter, **incremental},  # type: ignore[arg-type]
        every=every,  # type: ignore[arg-type]
        max_failures=2,
        backoff_initial=0.01,
    )


def again(position: object) -> Any:
    """A position as Redis gives it back."""
    return json.loads(encode_json(position))


def ids(records: list[Any]) -> list[int]:
    assert all(isinstance(record, Record) for record in records), records
    return [json.loads(record.data)["id"] for record in records]


WAYS = [{"inclusive": inclusive, "ordered": ordered} for inclusive in (True, False) for ordered in (True, False)]


@pytest.mark.parametrize("way", WAYS)
def test_a_round_asks_for_what_is_beyond_the_highest_value(way: dict[str, bool]) -> None:
    table = Table([(1, "b"), (2, "c"), (3, "c")], inclusive=way["inclusive"], backwards=not way["ordered"])
    with ApiServer(table) as server:
        records = list(source(server, start="a", **way).read(None))
        assert sorted(ids(records)) == [1, 2, 3]
        table.rows += [(4, "d"), (5, "e")]
        more = list(source(server, start="a", **way).read(again(records[-1].position)))
        assert sorted(ids(more)) == [4, 5]
        assert server.asked[0].query["since"] == "a"
        assert list(source(server, start="a", **way).read(again(more[-1].position))) == []
        assert server.asked[-1].query["since"] in ("e", "d")


def test_without_a_start_the_first_round_asks_for_all() -> None:
    with ApiServer(Table([(1, 5)])) as server:
        assert ids(list(source(server).read(None))) == [1]
        assert server.asked[0].query == {}


@pytest.mark.parametrize("ordered", [True, False])
def test_a_record_of_the_highest_value_that_comes_late_is_not_lost(ordered: bool) -> None:
    table = Table([(1, "a"), (2, "b")])
    with ApiServer(table) as server:
        reading = source(server, every=0.02, ordered=ordered).read(None)
        assert ids(list(islice(reading, 2))) == [1, 2]
        table.rows.append((3, "b"))
        (late,) = islice(reading, 1)
        assert ids([late]) == [3]
        reading.close()  # type: ignore[attr-defined]  # a generator
        assert list(source(server, ordered=ordered).read(again(late.position))) == []


@pytest.mark.parametrize("way", WAYS)
def test_a_record_that_has_changed_comes_again(way: dict[str, bool]) -> None:
    table = Table([(1, "a"), (2, "b")], inclusive=way["inclusive"], backwards=not way["ordered"])
    with ApiServer(table) as server:
        position = list(source(server, **way).read(None))[-1].position
        table.rows = [(1, "a"), (2, "c")]
        changed = list(source(server, **way).read(again(position)))
        assert ids(changed) == [2]
        table.rows = [(1, "d"), (2, "c")]
        assert ids(list(source(server, **way).read(again(changed[-1].position)))) == [1]


@pytest.mark.parametrize("inclusive", [True, False])
def test_killed_among_records_of_one_value_it_goes_on_with_the_others(inclusive: bool) -> None:
    table = Table([(1, "a"), (2, "b"), (3, "b"), (4, "b"), (5, "c")], inclusive=inclusive)
    with ApiServer(table) as server:
        for count in range(1, 6):
            first = list(islice(source(server, inclusive=inclusive).read(None), count))
            rest = list(source(server, inclusive=inclusive).read(again(first[-1].position)))
            assert ids(first + rest) == [1, 2, 3, 4, 5]


def test_pages_that_shift_under_an_ordered_load_lose_nothing() -> None:
    """A record that was on the list changes, and moves to the end, while the producer is away."""
    table = Table([(number, number) for number in range(1, 8)])
    with ApiServer(table) as server:
        first = list(islice(source(server).read(None), 3))
        table.rows = [(1, 1), (2, 8), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7)]
        rest = list(source(server).read(again(first[-1].position)))
        assert ids(rest) == [4, 5, 6, 7, 2]


def test_an_api_that_knows_only_days_gives_no_record_twice() -> None:
    rows = [(1, "2026-03-01T08:00:00Z"), (2, "2026-03-01T09:00:00Z"), (3, "2026-03-02T07:00:00Z")]

    def route(asked: Asked) -> Answer:
        day = asked.query.get("since", "")[:10]
        return json_answer([{"id": number, "at": at} for number, at in rows if at[:10] >= day])

    with ApiServer(route) as server:
        reading = source(server, every=0.02, by_letter=False).read(None)
        assert ids(list(islice(reading, 3))) == [1, 2, 3]
        rows.append((4, "2026-03-02T08:00:00Z"))
        assert ids(list(islice(reading, 1))) == [4]
        reading.close()  # type: ignore[attr-defined]  # a generator


def test_a_descending_record_is_refused_before_it_is_skipped() -> None:
    with ApiServer(Table([(1, "a"), (2, "b")], backwards=True)) as server:
        reading = source(server).read(None)
        assert ids([next(reading)]) == [2]
        with pytest.raises(SourceRefused, match="ordered: false"):
            next(reading)


@pytest.mark.parametrize("ordered", [True, False])
def test_a_record_without_the_field_is_set_aside_once(ordered: bool) -> None:
    rows: list[Any] = [{"id": 1, "at": "a"}, {"id": 2}, {"id": 3, "at": None}, {"id": 4, "at": "b"}, {"id": 5}]
    with ApiServer(lambda asked: json_answer(rows)) as server:
        reading = source(server, every=0.02, ordered=ordered).read(None)
        came = list(islice(reading, 5))
        assert [type(record) for record in came] == [Record, DeadLetter, DeadLetter, Record, DeadLetter]
        assert isinstance(came[1], DeadLetter)
        assert "/at" in came[1].reason
        if ordered:
            assert next(source(server).read(again(came[1].position))) == came[2]
        last = rows[-1]
        rows[:] = [{"id": 4, "at": "b"}, last, {"id": 6, "at": "c"}]  # what is beside the highest comes again
        (record,) = islice(reading, 1)
        assert ids([record]) == [6]
        reading.close()  # type: ignore[attr-defined]  # a generator


@pytest.mark.parametrize("ordered", [True, False])
def test_a_number_too_long_to_compare_is_set_aside_and_the_others_are_read(ordered: bool) -> None:
    rows = [{"id": 1, "at": "5"}, {"id": 2, "at": "9" * 5000}, {"id": 3, "at": "7"}]
    with ApiServer(lambda asked: json_answer(rows)) as server:
        one, long, other = source(server, ordered=ordered, by_letter=False).read(None)
    assert isinstance(long, DeadLetter)
    assert long.reason == "/at, which its source goes by: it has more than 4,300 digits when it is written out"
    assert ids([one, other]) == [1, 3]


def test_a_field_that_is_now_a_number_and_now_text_is_refused() -> None:
    rows = [{"id": 1, "at": 1}, {"id": 2, "at": "b"}]
    with (
        ApiServer(lambda asked: json_answer(rows)) as server,
        pytest.raises(SourceRefused, match="now a number, now a text"),
    ):
        list(source(server).read(None))


def test_more_of_one_value_than_can_be_remembered_come_again_rather_than_get_lost() -> None:
    count = MOST_AT_ONE_VALUE + 100
    with ApiServer(Table([(number, "a") for number in range(count)])) as server:
        records = list(source(server).read(None))
        assert ids(records) == list(range(count))
        again_come = ids(list(source(server).read(again(records[-1].position))))
        assert again_come == list(range(MOST_AT_ONE_VALUE, count))


LOW_AND_HIGH = [
    (1, 2),
    (9, 10),
    (1.5, 2),
    (2**64, 2**64 + 1),
    ("9", "10"),
    ("9.5", "10.5"),
    ("9.5", 10),
    ("-5", "-3"),
    ("9e3", "10000"),
    ("1767225600.9", "1767225601"),
    ("Wed, 31 Dec 2025 10:00:00 GMT", "Fri, 02 Jan 2026 10:00:00 GMT"),
    ("Wed Dec 31 10:00:00 +0000 2025", "Fri Jan 02 10:00:00 +0000 2026"),
    ("2025-12-31t10:00:00z", "2026-01-01 09:00:00 UTC"),
    ("2026-03-01T10:00:00.1234567Z", "2026-03-01T10:00:00.12345671Z"),
    ("2026-03-01", "2026-03-02"),
    ("2026-03-01T10:00:00Z", "2026-03-01T10:00:00.5Z"),
    ("2026-03-01T11:30:00+02:00", "2026-03-01T10:00:00Z"),
    ("2026-03-01T10:00:00", "2026-03-01T10:00:01Z"),
]
NO_ORDER = ["12/31/2025", "/Date(999999999999)/", "a9", "1.9.0", "Apr 2026", "2016-02-30", "\u096b", ""]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize(("low", "high"), LOW_AND_HIGH)
def test_a_later_value_is_read_whatever_form_it_has(low: Any, high: Any, ordered: bool) -> None:
    rows = [{"id": 1, "at": low}]
    with ApiServer(lambda asked: json_answer(rows)) as server:
        (first,) = source(server, ordered=ordered, by_letter=False).read(None)
        rows.append({"id": 2, "at": high})
        assert ids(list(source(server, ordered=ordered, by_letter=False).read(again(first.position)))) == [2]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("value", NO_ORDER)
def test_text_without_an_order_of_its_own_is_refused_unless_by_letter(value: str, ordered: bool) -> None:
    with ApiServer(lambda asked: json_answer([{"id": 1, "at": value}])) as server:
        with pytest.raises(SourceRefused, match=r"neither a number nor a time .* set incremental\.by_letter"):
            list(source(server, ordered=ordered, by_letter=False).read(None))
        assert ids(list(source(server, ordered=ordered, by_letter=True).read(None))) == [1]


def test_by_letter_no_text_is_a_number() -> None:
    assert compare("65e1", "65f", by_letter=True) == compare("10", "9", by_letter=True) == -1


@pytest.mark.parametrize(("value", "below"), [("9.5", "7.5"), ("-5", "-7"), ("1", "0"), (5, 3), (2.5, 0.5)])
def test_an_overlap_is_taken_from_numbers_in_any_form(value: Any, below: Any) -> None:
    assert earlier(value, 2) == below


def test_an_overlap_over_times_in_no_iso_form_is_refused() -> None:
    with pytest.raises(SourceRefused, match="ISO 8601"):
        earlier("Wed, 31 Dec 2025 10:00:00 GMT", 60)


@pytest.mark.parametrize(("low", "high"), LOW_AND_HIGH)
def test_values_are_compared_as_what_they_are(low: Any, high: Any) -> None:
    assert (compare(low, high), compare(high, low), compare(low, low)) == (-1, 1, 0)


@pytest.mark.parametrize("value", [True, [1], {"a": 1}])
def test_what_has_no_order_is_refused(value: Any) -> None:
    with pytest.raises(SourceRefused, match="holds a"):
        compare(value, value)
