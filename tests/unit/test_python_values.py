"""Python values of a program become the JSON that they say, by every way in; what JSON can't say is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from millrace_consumer.transforms import apply
from millrace_pipeline.envelope import Envelope, Record, encode
from millrace_pipeline.errors import RecordError


class Stamp(datetime):
    pass


class Day(date):
    pass


class Money(Decimal):
    pass


def from_a_source(value: Any) -> bytes:
    line = encode(Record(value), id="i", source="s")
    return bytes(msgspec.json.decode(line, type=dict[str, msgspec.Raw])["data"])


def from_a_transform(value: Any) -> bytes:
    outcome = apply([Envelope("i", "s", "t", None, msgspec.Raw(b"{}"))], [lambda _: value])
    for reason in outcome.rejected.values():
        raise RecordError(reason)
    return outcome.envelopes[0].text


BOTH = pytest.mark.parametrize("become", [from_a_source, from_a_transform])


@BOTH
@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({True: 1, None: 2, 3: 3, 1.5: 4}, b'{"true":1,"null":2,"3":3,"1.5":4}'),
        ({"n": {False: 1}}, b'{"n":{"false":1}}'),
        ({"n": [Decimal("NaN"), Decimal("-Infinity"), Decimal("1.10")]}, b'{"n":[null,null,"1.10"]}'),
        ({"n": math.nan}, b'{"n":null}'),
        ({"n": Stamp(2026, 1, 2, 3, tzinfo=UTC)}, b'{"n":"2026-01-02T03:00:00Z"}'),
        ({"n": [Day(2026, 1, 2), Money("1.10")]}, b'{"n":["2026-01-02","1.10"]}'),
    ],
    ids=repr,
)
def test_a_value_becomes_what_it_says(become: Callable[[Any], bytes], value: Any, text: bytes) -> None:
    assert become(value) == text


@BOTH
@pytest.mark.parametrize("value", [b"x", bytearray(b"x"), memoryview(b"x"), {b"x": 1}, {1: 1, "1": 2}])
def test_what_json_can_not_say_is_refused(become: Callable[[Any], bytes], value: Any) -> None:
    with pytest.raises(RecordError, match=r"bytes are not JSON|two names of a dict"):
        become({"n": [value]})
