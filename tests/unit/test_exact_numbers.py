"""A number that no float holds keeps its digits, whatever a transform does to the record around it."""

from __future__ import annotations

import pickle
from typing import Any

import msgspec
import pytest

from millrace_consumer.transforms import TRANSFORMS
from millrace_consumer.transforms.base import Transform
from millrace_consumer.transforms.chain import apply
from millrace_pipeline.envelope import Record, decode, encode
from millrace_pipeline.flows.component import Component
from millrace_pipeline.jsontext import decode_json, encode_json
from millrace_pipeline.number import ExactFloat

LONG = ["95000.123456789012345", "-1e-999", "12345678901234567.0", "0.1000000000000000055511151231257827"]
SHORT = ["0.0", "-0.0", "0.1", "1e23", "3.141592653589793", "100000.0"]

RECORD = '{"n": %s, "deep": {"n": %s}, "list": [%s], "at": "2026-01-01T00:00:00Z", "gone": 1}'

EACH: dict[str, dict[str, Any]] = {
    "cast": {"fields": {"gone": "str"}},
    "dedupe": {"key": "gone"},
    "drop": {"fields": ["gone"]},
    "envelope": {},
    "explode": {"field": "list", "index": "at_number"},
    "filter": {"where": "gone == `1`"},
    "flatten": {},
    "ingest_time": {"field": "seen"},
    "parse_time": {"fields": ["at"]},
    "redact": {"fields": ["gone"], "how": "mask"},
    "rename": {"fields": {"gone": "went"}},
    "sample": {"share": 1.0},
    "select": {"fields": ["n", "deep", "list"]},
    "unnest": {"field": "deep", "prefix": "deep_"},
}


def test_every_built_in_transform_is_here() -> None:
    assert EACH.keys() == TRANSFORMS.keys()


@pytest.mark.parametrize("number", LONG)
@pytest.mark.parametrize("name", sorted(EACH))
def test_a_transform_keeps_the_digits_of_what_it_does_not_name(name: str, number: str) -> None:
    line = encode(Record(msgspec.Raw((RECORD % (number, number, number)).encode())), id="1", source="s", time="t")
    part = Component.model_validate({"type": name, **EACH[name]})
    transform = part.build(TRANSFORMS, Transform)
    outcome = apply([decode(line, foreign_id=str)], [transform])
    assert not outcome.rejected
    (made,) = outcome.envelopes
    assert made.text.count(number.encode()) == 3


@pytest.mark.parametrize("number", LONG)
def test_a_number_too_long_for_a_float_counts_as_one_and_is_written_as_it_was(number: str) -> None:
    value = decode_json(f'{{"n": {number}}}'.encode())
    assert isinstance(value["n"], ExactFloat)
    assert value["n"] == float(number)
    assert str(value["n"]) == number
    for kept in (value, pickle.loads(pickle.dumps(value))):
        assert encode_json(kept) == f'{{"n":{number}}}'.encode()


@pytest.mark.parametrize("number", SHORT)
def test_a_number_that_a_float_holds_is_a_plain_one(number: str) -> None:
    assert type(decode_json(number.encode())) is float


def test_cast_makes_a_decimal_of_all_digits() -> None:
    line = encode(Record(msgspec.Raw(b'{"n": 95000.123456789012345}')), id="1", source="s", time="t")
    part = Component.model_validate({"type": "cast", "fields": {"n": "decimal"}})
    (made,) = apply([decode(line, foreign_id=str)], [part.build(TRANSFORMS, Transform)]).envelopes
    assert made.text == b'{"n":"95000.123456789012345"}'
