"""Numbers out of records: whatever a value says, the work that it makes is bounded."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from millrace_pipeline.number import DIGITS, OutOfBounds, exact, whole

LONG = [
    "1e9999999",
    "1e999999999",
    "-1E+999999999",
    "0e999999999",
    "9" * 3_000_000,
    "9" * (DIGITS + 1),
    "0." + "1" * DIGITS,
    f"1e{DIGITS}",
    10**DIGITS,
    -(10**20_000),
    Decimal("1e999999999"),
]
"""Numbers that are too long, as text and as what Python has of them."""


@pytest.mark.parametrize("value", LONG, ids=range(len(LONG)))
def test_a_number_that_is_too_long_is_refused(value: Any) -> None:
    for read in (exact, whole):
        with pytest.raises(OutOfBounds, match="more than 4,300 digits"):
            read(value)


@pytest.mark.parametrize("value", ["1e-999999999", "1e-5000", Decimal("1e-999999999"), f"0.{'0' * 4299}1"])
def test_a_number_too_small_to_write_out_is_refused(value: Any) -> None:
    with pytest.raises(OutOfBounds):
        exact(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("9" * DIGITS, 10**DIGITS - 1),
        ("1e4299", 10**4299),
        (10**DIGITS - 1, 10**DIGITS - 1),
        (1e308, 10**308),
        (1e23, 10**23),
    ],
)
def test_the_longest_number_is_taken(value: Any, expected: int) -> None:
    assert whole(value) == expected


def test_what_is_no_number_is_none() -> None:
    for value in ("x", "1,5", "", "1e", True, None, [], {}):
        with pytest.raises((ValueError, TypeError)):
            exact(value)
    for value in ("nan", "inf", "1.5", 1.5, float("inf"), float("nan")):
        with pytest.raises((ValueError, OverflowError)):
            whole(value)
