"""Names that stand twice in one object: every source passes both on, and where one of them is lost it is said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from millrace_consumer.looking import LOOKED_AT
from millrace_consumer.transforms import apply
from millrace_pipeline.envelope import DeadLetter, Envelope, Record
from millrace_pipeline.errors import SourceRefused, SourceUnavailable
from millrace_pipeline.names import names_twice
from millrace_pipeline.process.repeats import repeats
from tests.waysin import WAYS, Ways

TWICE = b'{"a":1,"id":"x","a":2}'


@pytest.fixture
def ways(tmp_path: Path, redis_url: str) -> Iterator[Ways]:
    with Ways(tmp_path, redis_url) as ways:
        yield ways


@pytest.mark.parametrize("way", WAYS)
def test_every_source_passes_both_on_as_they_stand(ways: Ways, way: str) -> None:
    for options in ({}, {"key": "/id"}, {"key": "/a"}):
        (record,) = ways.read(way, [TWICE], **options)
        assert isinstance(record, Record)
        assert record.data == TWICE


class Row(BaseModel):
    a: int
    id: str


class Validated(Row):
    def model_post_init(self, context: Any) -> None:
        """Make it a model without a fast one."""


def envelope(text: bytes) -> Envelope:
    return Envelope("i", "s", "t", None, msgspec.Raw(text))


TAKEN_APART: dict[str, dict[str, Any]] = {
    "a transform": {"transforms": [lambda record: record]},
    "a model": {"model": Row},
    "a model that pydantic reads": {"model": Validated},
    "a model that evolves": {"model": Row, "evolves": True},
}


@pytest.mark.parametrize("how", TAKEN_APART)
def test_where_a_record_is_taken_apart_the_last_counts_and_it_is_said(how: str) -> None:
    with repeats.heard() as heard:
        outcome = apply([envelope(TWICE), envelope(b'{"a": 3, "id": "y"}')], **TAKEN_APART[how])
    assert len(outcome.envelopes) == 2
    assert [(event, said["name"]) for event, said in heard] == [("name_twice", "a")]
    if outcome.rows:
        assert [row.a for row in outcome.rows] == [2, 3]


def test_where_bytes_are_passed_on_nothing_is_lost_and_nothing_said() -> None:
    with repeats.heard() as heard:
        outcome = apply([envelope(TWICE)])
    assert outcome.envelopes[0].text == TWICE
    assert heard == []


def test_of_a_large_batch_some_are_looked_at_from_its_beginning_to_its_end() -> None:
    with repeats.heard() as heard:
        apply([envelope(TWICE)] * 10_000, model=Row)
    assert LOOKED_AT / 2 < len(heard) <= LOOKED_AT


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (b'{"a":1,"a":1}', ["a"]),
        (b'{"a" : 1,"b":2, "a":1}', ["a"]),
        (b'{"a"\n:1,"a"\n:1}', ["a"]),
        (b'{"a":1,"\\u0061":1}', ["a"]),
        (b'[{"b":{"c":[{"d":1,"d":{}}]}}]', ["d"]),
        (b'{"a":1e999,"a":2}', ["a"]),
        (b'{"\\ud83d":1,"\\ud83d":2}', ["\ufffd"]),
        (b'{"a":"\\":","b":[{"a":1},{"a":1}]}', []),
        (b'{"a" : "x\\u0022:y"}', []),
        (b'{"a":1e999}', []),
        (b'"a"', []),
        (b"not JSON", []),
    ],
)
def test_names_that_stand_twice_are_found_at_any_depth(text: bytes, names: list[str]) -> None:
    assert names_twice(text) == names


class Pairs(list[Any]):
    """The members of an object, in order."""


TEXTS = st.text(st.sampled_from('a":, {}\\é'), max_size=5)
JSON_OBJECTS = st.recursive(
    st.one_of(st.integers(-9, 9), TEXTS),
    lambda inner: st.lists(st.tuples(st.sampled_from(["a", "b", '":', "é"]), inner), max_size=4).map(Pairs),
    max_leaves=8,
)
STYLES = st.lists(st.sampled_from(["", " ", "\n", "escapes"]), min_size=1, max_size=4)


def written(value: Any, styles: Iterator[str]) -> str:
    """JSON in which blanks and escapes change from one name to the next."""
    if isinstance(value, str):
        if next(styles) == "escapes":
            return '"' + "".join(f"\\u{ord(letter):04x}" for letter in value) + '"'
        return json.dumps(value, ensure_ascii=next(styles) == " ")
    if not isinstance(value, Pairs):
        return json.dumps(value)
    members = []
    for name, one in value:
        blank = next(styles).replace("escapes", "")
        members.append(f"{written(name, styles)}{blank}:{blank}{written(one, styles)}")
    return "{" + ",".join(members) + "}"


def twice(value: Any) -> set[str]:
    if not isinstance(value, Pairs):
        return set()
    names = [name for name, _ in value]
    here = {name for name in names if names.count(name) > 1}
    return here.union(*(twice(one) for _, one in value))


@given(JSON_OBJECTS, STYLES)
def test_none_is_overlooked_and_none_is_made_up(value: Any, styles: list[str]) -> None:
    text = written(value, cycle(styles))
    assert json.loads(text, object_pairs_hook=Pairs) == value
    assert set(names_twice(text.encode())) == twice(value)


@pytest.mark.parametrize("reader", ["files", "rest"])
def test_a_document_whose_records_stand_at_a_name_twice_is_no_document(ways: Ways, reader: str) -> None:
    text = b'{"meta": {"data": 1}, "data": [{"n": 1}], "other": 2, "data": [{"n": 2}]}'
    if reader == "files":
        (letter,) = ways.file(text, ".json", format="json", records="/data")
        assert isinstance(letter, DeadLetter)
        reason = letter.reason
    else:
        with pytest.raises((SourceUnavailable, SourceRefused)) as caught:
            ways.body(text, records="/data")
        reason = str(caught.value)
    assert "'data' stands twice in one object" in reason


def test_a_next_page_that_is_named_twice_is_refused(ways: Ways) -> None:
    text = b'{"data": [{"data": 1, "next": 2}], "next": null, "next": "/2"}'
    with pytest.raises(SourceRefused, match="'next' stands twice in one object"):
        ways.body(text, records="/data", pagination={"type": "next"})


def test_a_name_that_stands_in_records_too_is_there_once(ways: Ways) -> None:
    text = b'{"meta": {"data": 1}, "data": [{"data": 1}, {"data": 2}]}'
    assert len(ways.body(text, records="/data")) == 2
