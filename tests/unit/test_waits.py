"""How long an answer asks to wait is read in whatever form it says so."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from millrace_pipeline.web import is_not_now, wait_asked_for

FORMS: dict[str, Callable[[datetime], str]] = {
    "seconds": lambda at: "600",
    "a fraction": lambda at: "600.0",
    "since 1970": lambda at: f"{at.timestamp():.0f}",
    "since 1970, a fraction": lambda at: f"{at.timestamp():.3f}",
    "milliseconds": lambda at: f"{at.timestamp() * 1000:.0f}",
    "microseconds": lambda at: f"{at.timestamp() * 1e6:.0f}",
    "ISO 8601": datetime.isoformat,
    "RFC 3339": lambda at: f"{at:%Y-%m-%dT%H:%M:%SZ}",
    "HTTP": lambda at: format_datetime(at, usegmt=True),
    "ctime": lambda at: f"{at:%a %b %e %H:%M:%S %Y}",
}
NAMES = ["retry-after", "x-ratelimit-reset", "x-rate-limit-reset", "ratelimit-reset"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", FORMS)
def test_ten_minutes_are_ten_minutes_in_any_form_and_header(name: str, form: str) -> None:
    later = datetime.now(UTC) + timedelta(seconds=600)
    assert wait_asked_for({name: FORMS[form](later)}) == pytest.approx(600, abs=60)


@pytest.mark.parametrize("name", NAMES)
def test_a_time_that_has_passed_is_at_once_and_what_is_no_wait_is_none(name: str) -> None:
    assert wait_asked_for({name: f"{time.time() - 3600:.0f}"}) == 0
    assert wait_asked_for({name: "2.5"}) == 2.5
    for long in ("9" * 30, "9" * 400, "100000000", "99999999999999999999"):
        assert wait_asked_for({name: long}) == 86_400
    for bad in ("soon", "-1", "-1767225600", "\u0661", "inf", "nan", "1e3", ""):
        assert wait_asked_for({name: bad}) is None


@pytest.mark.parametrize("header", ['"default";r=0;t=30', "limit=100, remaining=0, reset=30", "r=0, t=30"])
def test_a_rate_limit_may_stand_in_one_header(header: str) -> None:
    assert wait_asked_for({"ratelimit": header}) == 30
    assert is_not_now(403, {"ratelimit": header})


def test_the_reset_of_a_limit_of_which_something_is_left_says_nothing() -> None:
    for name in ("x-ratelimit-", "x-rate-limit-", "ratelimit-"):
        assert wait_asked_for({name + "remaining": "4999", name + "reset": "600"}) is None
        assert wait_asked_for({name + "remaining": "0.0", name + "reset": "600"}) == 600
        assert (is_not_now(403, {name + "remaining": "4"}), is_not_now(403, {name + "remaining": "0"})) == (False, True)


def test_a_retry_after_that_makes_no_sense_leaves_the_word_to_the_limit() -> None:
    assert wait_asked_for({"retry-after": "soon", "x-ratelimit-reset": "7"}) == 7
