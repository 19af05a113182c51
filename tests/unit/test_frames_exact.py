"""Tables that transforms get hold each record's values as they are, or the record is a dead letter that says why."""

from __future__ import annotations

from typing import Any

import msgspec
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from millrace_consumer.reader import _as
from millrace_consumer.transforms import apply
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.jsontext import decode_json, encode_json

BIG = 2**53 + 1


def as_polars(frame: pl.DataFrame) -> pl.DataFrame:
    return frame


def as_pandas(frame: pd.DataFrame) -> pd.DataFrame:
    return frame


def through(function: Any, values: list[Any]) -> tuple[dict[int, Any], dict[int, str]]:
    """What came out of a table that nobody changes, by record, and the reasons of what was set aside."""
    given = [Envelope(str(n), "s", "t", None, msgspec.Raw(encode_json({"v": value}))) for n, value in enumerate(values)]
    outcome = apply(given, (function,))
    found = [decode_json(envelope.text)["v"] for envelope in outcome.envelopes]
    return dict(zip(outcome.origin, found, strict=True)), outcome.rejected


@pytest.mark.parametrize(
    ("values", "aside"),
    [
        ([1, 2.5], []),
        ([BIG, None], []),
        ([BIG, 2.5], [0]),
        ([True, 7], [1]),
        ([True, 1.5, None, 2], [0]),
        ([1, "x"], [1]),
        (["x", 1, "y", {"a": 1}], [1, 3]),
        ([{"a": 1}, {"b": "x"}, None], []),
        ([{"a": 1}, {"a": "x"}], [0]),
        ([{"a": BIG}, {"a": 1.5}], [0]),
        ([[1], [], None], []),
    ],
    ids=repr,
)
def test_what_polars_would_make_something_else_of_is_a_dead_letter_that_names_the_field(
    values: list[Any], aside: list[int]
) -> None:
    found, reasons = through(as_polars, values)
    assert list(reasons) == aside
    assert all(reason.startswith("v: the column can't hold it as it is") for reason in reasons.values())
    assert list(found) == [index for index in range(len(values)) if index not in aside]
    for index, value in found.items():
        if not isinstance(value, dict):
            assert value == values[index]
            assert isinstance(value, bool) == isinstance(values[index], bool)


@pytest.mark.parametrize("values", [[BIG, 2.5], [2**64 - 1, None], [BIG, None], [BIG, None, 2.5], [1, "x"], [True, 1]])
def test_pandas_keeps_what_no_float_holds(values: list[Any]) -> None:
    found, reasons = through(as_pandas, values)
    assert not reasons
    assert list(map(repr, found.values())) == list(map(repr, values))


def test_a_readers_pandas_frame_has_whole_numbers_among_nulls_as_such() -> None:
    table = pa.table({"n": pa.array([BIG, None]), "m": pa.array([1, 2]), "f": pa.array([1.5, None])})
    frame = _as("pandas", table)
    assert frame["n"].tolist() == [BIG, pd.NA]
    assert [str(kind) for kind in frame.dtypes] == ["Int64", "int64", "float64"]
