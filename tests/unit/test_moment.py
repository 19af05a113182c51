"""Moments: every form of a time is read as what it says, and nothing else is taken for one."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from millrace_pipeline.moment import read_moment

READ = [
    ("2018-10-10T20:19:24Z", "2018-10-10T20:19:24"),
    ("2018-10-10t20:19:24.5z", "2018-10-10T20:19:24.500000"),
    ("2018-10-10 20:19:24", "2018-10-10T20:19:24"),
    ("2018-10-10 20:19:24 UTC", "2018-10-10T20:19:24"),
    ("2018-10-10 20:19:24 +0200", "2018-10-10T18:19:24"),
    ("2018-10-10T20:19:24,25+02:00", "2018-10-10T18:19:24.250000"),
    ("2018-10-10", "2018-10-10T00:00:00"),
    ("2018-W41-3", "2018-10-10T00:00:00"),
    ("20181010T201924Z", "2018-10-10T20:19:24"),
    ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59"),
    ("Wed, 10 Oct 2018 20:19:24 +0000", "2018-10-10T20:19:24"),
    ("10 Oct 2018 20:19:24 -0500 (CDT)", "2018-10-11T01:19:24"),
    ("Sunday, 06-Nov-94 08:49:37 GMT", "1994-11-06T08:49:37"),
    ("Sun Nov  6 08:49:37 1994", "1994-11-06T08:49:37"),
    ("Wed Oct 10 20:19:24 +0000 2018", "2018-10-10T20:19:24"),
    (1538352000, "2018-10-01T00:00:00"),
    (1538352000.25, "2018-10-01T00:00:00.250000"),
    ("1538352000", "2018-10-01T00:00:00"),
    ("1538352000.123456", "2018-10-01T00:00:00.123456"),
    (1538352000123, "2018-10-01T00:00:00.123000"),
    ("1538352000123", "2018-10-01T00:00:00.123000"),
    (1538352000123456, "2018-10-01T00:00:00.123456"),
    (1538352000123456789, "2018-10-01T00:00:00.123456"),
    ("1512012300000", "2017-11-30T03:25:00"),  # and not a second of the year 1512
    (94668480000, "1972-12-31T16:48:00"),
    (-2208988800000, "1900-01-01T00:00:00"),
    (0, "1970-01-01T00:00:00"),
    (20181010, "2018-10-10T00:00:00"),
    ("20181010", "2018-10-10T00:00:00"),
    ("20181010201924", "2018-10-10T20:19:24"),
    ("20181010201924123", "2018-10-10T20:19:24.123000"),
    (20181010.0, "2018-10-10T00:00:00"),
    ("2018-10-10+02:00", "2018-10-09T22:00:00"),
    ("2018-10-10-07:00", "2018-10-10T07:00:00"),
    ("2018-10-10Z", "2018-10-10T00:00:00"),
    ("2018-10-10T20", "2018-10-10T20:00:00"),
    ("2018-10-10_20:19:24", "2018-10-10T20:19:24"),
    (694224000123456789, "1992-01-01T00:00:00.123456"),
    (Decimal("1538352000.5"), "2018-10-01T00:00:00.500000"),
    (datetime(2018, 10, 10, 20, tzinfo=timezone(timedelta(hours=2))), "2018-10-10T18:00:00"),
    (date(2018, 10, 10), "2018-10-10T00:00:00"),
]
NO_TIMES: list[Any] = [
    *("", "soon", "2018", "10/11/2018", "2018-13-01", "12:30", "May 5", "1 Oct", "0001-01-01T00:00:00+14:00"),
    *("Wed, 10 Oct 2018 20:19:24 CEST", "Wed, 10 Oct 2018 20:19:24", "2018-10-10 20:19 CET", "1" * 30, "9" * 10_000),
    *("2018-10-10 1538352000", "2018-10-10-12", "2018-10-10-0700", "2018-10-10x20:19", "20181010 12", "2018-W41"),
    *("१५३८३५२०००", "２０１８-10-10", "00000000", "2018101020", 2018101020, "201810102019", 201810102019.0),
    *(636747779640000000, "131836515640000000", 13183651564000000),  # .NET, Windows, WebKit
    *(-62135596800, "-62135596800000", -62135596800000000, 253402300799, "253402300799000", 253402214400.0),  # no time
    *(2018, -5, 86400, 10**19, 10**400, 1e300, float("nan"), float("inf"), True, None, [], {}),
]


@pytest.mark.parametrize(("value", "expected"), READ)
def test_a_time_is_read_as_what_it_says(value: Any, expected: str) -> None:
    assert read_moment(value) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize("value", NO_TIMES, ids=lambda value: repr(value)[:30])
def test_what_is_no_time_is_none_of_all(value: Any) -> None:
    assert read_moment(value) is None


@pytest.mark.parametrize(
    ("unit", "number", "year"),
    [("s", 2018101020, 2033), ("ms", 201810102019, 1976), ("ns", 636747779640000000, 1990), ("s", 20181010, 1970)],
)
def test_a_unit_decides_what_a_number_may_be_two_times_by(unit: Any, number: int, year: int) -> None:
    assert [read_moment(form(number), unit).year for form in (int, str)] == [year] * 2  # type: ignore[union-attr]


@pytest.mark.parametrize(("unit", "number"), [("s", 5), ("ms", 5_000), ("us", 5_000_000), ("ns", 5_000_000_999)])
@pytest.mark.parametrize("form", [int, str])
def test_a_unit_says_what_a_number_counts(unit: Any, number: int, form: type) -> None:
    assert read_moment(form(number), unit) == datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)
    assert read_moment("2018-10-10", unit) == datetime(2018, 10, 10, tzinfo=UTC)
