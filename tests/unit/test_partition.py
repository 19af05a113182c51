"""Partitions: no value leads out of the directory, and no two meet."""

from __future__ import annotations

import unicodedata
from datetime import UTC, date, datetime
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from millrace_consumer.sinks.jsonl import JsonlSink
from millrace_consumer.sinks.partition import (
    NAME_LIMIT,
    NOTHING,
    VALUE_LIMIT,
    component,
    directory_names,
    field_name,
    partition_text,
)
from millrace_pipeline.moment import read_moment

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=400)
ALIKE = st.text("aAbBßẞéÉe\u0301\u00c5\u212bﬁfiıI.% /_=", min_size=1, max_size=6)


@given(TEXT | ALIKE)
@example("..")
@example("/" * 300)
@example("é" * 300)
@example("e\u0301" * 100)
@example(NOTHING)
@example("\ud800")
def test_any_text_is_one_file_name_that_reads_back(text: str) -> None:
    for lower_only in (False, True):
        name = component("f" * NAME_LIMIT, text, lower_only=lower_only)
        assert len(name.encode()) <= 255
        assert not set(name) & {"/", "\\", "\0", "\n", ":"}
        assert name[-1] not in ". "
        assert name != f"{'f' * NAME_LIMIT}={NOTHING}"
        assert unicodedata.is_normalized("NFC", name)
        value = unquote(name.split("=", 1)[1], errors="strict")
        if len(component("f", text, lower_only=lower_only).encode()) - 2 <= VALUE_LIMIT and text != "\ud800":
            assert value == text


@given(st.lists(TEXT | ALIKE | st.none(), unique=True))
@example(["a", "A", "%41", "é", "É", "e\u0301", "E\u0301"])
@example(["x" * 300, "x" * 299 + "y", "X" * 300, None, NOTHING, "x" * VALUE_LIMIT])
@example(["i\u0307", "I\u0307", "\u0130", "h\u0331", "H\u0331"])
@example(["STRASSE", "straße", "strasse", "STRAẞE"])
def test_different_values_never_meet_even_where_case_is_ignored(values: list[str | None]) -> None:
    names = directory_names(["f"], [(value,) for value in values])
    assert len({unicodedata.normalize("NFC", name.casefold()) for name in names}) == len(values)


def test_a_shortened_value_meets_no_value_that_is_its_short_form() -> None:
    long = component("f", "x" * 300)
    assert component("f", long.removeprefix("f=")) != long


def test_an_encoded_character_is_never_cut_in_two() -> None:
    for length in range(40, 60):
        value = component("f", "x" * length + "e\u0301" * 200).split("=", 1)[1]
        assert unquote(value, errors="strict")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("frwiki", "f=frwiki"),
        ("a/b", "f=a%2Fb"),
        ("..", "f=.%2E"),
        ("a=b%", "f=a%3Db%25"),
        ("New York", "f=New York"),
        ("Zażółć", "f=Zażółć"),
        ("\x00", "f=%00"),
        ("\u202e", "f=%E2%80%AE"),
        (None, "f=__HIVE_DEFAULT_PARTITION__"),
        (NOTHING, "f=%5F_HIVE_DEFAULT_PARTITION__"),
    ],
)
def test_names_are_spelled_as_hive_spells_them(text: str | None, name: str) -> None:
    assert component("f", text) == name


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", None),
        (None, None),
        (True, "true"),
        (0, "0"),
        (1.5, "1.5"),
        (Colour.RED, "red"),
        (date(2026, 11, 21), "2026-11-21"),
        (datetime(2026, 11, 21, tzinfo=UTC), "2026-11-21T00:00:00+00:00"),
        ([1, {"a": None}], '[1,{"a":null}]'),
    ],
)
def test_values_have_one_text(value: Any, text: str | None) -> None:
    assert partition_text(value) == text


def test_a_pointer_is_named_by_its_last_step() -> None:
    assert [field_name(name) for name in ("wiki", "/meta/domain", "/a~1b", "/m~0n")] == ["wiki", "domain", "a/b", "m~n"]


@pytest.mark.parametrize(
    ("value", "hour"),
    [
        ("2026-11-21T01:30:00Z", "2026-11-21T01"),
        ("2026-11-21t01:30:00.123456789z", "2026-11-21T01"),
        ("2026-11-21T01:30:00+05:30", "2026-11-20T20"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23"),
        ("2026-11-21T01:30:00", "2026-11-21T01"),
        (1724299409, "2024-08-22T04"),
        (1724299409000, "2024-08-22T04"),
        (date(2026, 11, 21), "2026-11-21T00"),
    ],
)
def test_a_time_is_found_in_utc(value: Any, hour: str) -> None:
    found = read_moment(value)
    assert found is not None
    assert found.isoformat()[:13] == hour


@pytest.mark.parametrize("value", ["", "yesterday", "0001-01-01T00:00:00+23:00", 10**400, float("nan"), True, {}, None])
def test_what_is_no_time_is_none(value: Any) -> None:
    assert read_moment(value) is None


@pytest.mark.parametrize("partition", [[""], ["/"], ["a", "A"], ["/a/x", "/b/x"], ["x" * 65], ["é" * 40]])
def test_partitions_that_make_no_names_are_refused(partition: list[str]) -> None:
    with pytest.raises(ValidationError):
        JsonlSink(path=Path("unused"), partition=partition)
