"""Values of different kinds: what never can be the same is said, once and counted, wherever something compares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from millrace_consumer.transforms import TRANSFORMS, apply
from millrace_consumer.transforms.rows import Dedupe, Filter
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.process.repeats import repeats
from tests.waysin import Ways

VALUES: dict[str, tuple[str, Any]] = {
    "text": ("'1'", "1"),
    "a number": ("`1`", 1),
    "true or false": ("`true`", True),
    "a list": ("`[1]`", [1]),
    "an object": ('`{"a": 1}`', {"a": 1}),
}
PAIRS = [(one, other) for one in VALUES for other in VALUES if one != other]


def said(where: str, record: Any) -> tuple[bool, list[str]]:
    with repeats.heard() as heard:
        held = Filter(where=where)(record) is not None
    return held, [f"{event}: {fields.get('found')}; {fields.get('compared_with')}" for event, fields in heard]


@pytest.mark.parametrize("form", ["n == {}", "{} == n", "l[?n == {}] != `[]`", "contains(many, {})", "!(n != {})"])
@pytest.mark.parametrize(("found", "other"), PAIRS)
def test_a_comparison_of_two_kinds_never_holds_and_is_said(form: str, found: str, other: str) -> None:
    literal, value = VALUES[other][0], VALUES[found][1]
    held, heard = said(form.format(literal), {"n": value, "l": [{"n": value}], "many": [value]})
    assert not held
    (told,) = heard
    assert told.startswith("kinds_differ: ")
    assert found in told
    assert other in told


@pytest.mark.parametrize("form", ["n == {}", "n != {}", "contains(many, {})", "l[?n == {}]"])
@pytest.mark.parametrize("kind", VALUES)
def test_nothing_is_said_of_one_kind_or_of_null_or_of_what_is_not_there(form: str, kind: str) -> None:
    literal, value = VALUES[kind]
    for n in (value, None):
        assert said(form.format(literal), {"n": n, "l": [{"n": n}], "many": [value, None]})[1] == []
    absent = said(form.format(literal), {"many": []})[1]
    assert all(told.startswith("field_not_found: ") for told in absent)  # which has nothing to do with kinds
    assert said(form.format("`null`"), {"n": value, "l": [{"n": value}], "many": [None]})[1] == []


def test_whole_numbers_and_others_are_one_kind() -> None:
    assert said("n == `1.0`", {"n": 1}) == (True, [])
    assert said("n == `1`", {"n": 1.5}) == (False, [])


def test_true_is_not_the_number_one_within_a_list() -> None:
    assert said("contains(l, `1`)", {"l": [True]})[0] is False
    assert said("contains(l, `1`)", {"l": [1, "1"]}) == (True, [])
    assert said("contains(l, `2`)", {"l": [1, "1"]}) == (False, []), "of several kinds one is of this one"


def test_a_number_looked_for_in_text_is_refused() -> None:
    with pytest.raises(TypeError, match="not for a number: cast it before"):
        Filter(where="contains(s, `1`)")({"s": "a1"})


@pytest.mark.parametrize("order", ["<", "<=", ">", ">="])
@pytest.mark.parametrize("kind", [kind for kind in VALUES if kind != "a number"])
def test_an_order_of_what_is_no_number_sets_the_record_aside(order: str, kind: str) -> None:
    for where in (f"n {order} {VALUES[kind][0]}", f"{VALUES[kind][0]} {order} n"):
        with pytest.raises(TypeError, match=f"compares numbers, and one side is {kind}"):
            Filter(where=where)({"n": 1})


@pytest.mark.parametrize("where", ["bot", "bot && n == `1`", "bot || `false`", "!(!bot)", "n == `1` && bot", "l[?bot]"])
def test_text_that_holds_though_it_says_no_is_said(where: str) -> None:
    for word in ("false", "False", "0", "no"):
        held, heard = said(where, {"bot": word, "n": 1, "l": [{"bot": word}]})
        assert held
        assert [told.partition(":")[0] for told in heard] == ["text_holds"]
    for word in ("yes", "true", "a text", True):
        assert said(where, {"bot": word, "n": 1, "l": [{"bot": word}]}) == (True, [])


def test_text_that_is_only_a_value_may_say_no() -> None:
    assert said("(answer || 'none') == 'no'", {"answer": "no"}) == (True, [])
    assert said("contains([answer], 'no')", {"answer": "no"}) == (True, [])


def test_dedupe_keeps_a_number_and_its_text_apart_and_says_so() -> None:
    with repeats.heard() as heard:
        assert Dedupe(key="k")([{"k": 1}, {"k": "1"}, {"k": 1}, {"k": "2"}]) == [{"k": 1}, {"k": "1"}, {"k": "2"}]
    assert [event for event, _ in heard] == ["kinds_differ"]


def test_a_message_that_is_not_ignored_for_its_kind_is_said(tmp_path: Path, redis_url: str) -> None:
    with Ways(tmp_path, redis_url) as ways, repeats.heard() as heard:
        texts = [b'{"type": "1"}', b'{"type": 1}', b'{"other": 2}']
        assert len(ways.read("websocket", texts, ignore=[{"/type": 1}])) == 2
    assert [(event, fields["place"]) for event, fields in heard] == [("kinds_differ", "ignore, /type")]


def test_of_many_records_it_is_said_once_with_the_count() -> None:
    envelopes = [Envelope(f"i{n}", "s", "t", None, msgspec.Raw(b'{"n": "1"}')) for n in range(100)]
    with capture_logs() as logs:
        outcome = apply(envelopes, [Filter(where="n == `17`")])
        repeats.summarise()
    assert len(outcome.filtered) == 100
    told = [log for log in logs if log["event"] == "kinds_differ"]
    assert len(told) == 2
    assert told[-1]["more_like_this"] == 99


def test_these_are_the_built_in_transforms_that_compare() -> None:
    """A new one is to be looked at, whether it compares values, and to be in this list."""
    no_comparison = {
        *("cast", "parse_time", "redact", "ingest_time", "select", "rename", "drop", "flatten"),
        *("explode", "unnest", "envelope", "sample"),
    }
    assert set(TRANSFORMS) - no_comparison == {"filter", "dedupe"}
