"""The transforms that come with Millrace: what each makes of a record, and what it says to what it can't take."""

from __future__ import annotations

import builtins
import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from millrace.cli.check import load_all
from millrace_consumer.transforms import TRANSFORMS, Outcome, apply, places
from millrace_consumer.transforms.base import Transform
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.component import Component
from millrace_pipeline.jsontext import decode_json, encode_json
from millrace_pipeline.process.repeats import Repeats

RECORD = {"title": "T", "user": {"name": "N", "tags": ["a"], "none": {}}, "n": "3", "bot": False}


def built(type: str, **options: Any) -> Callable[[Any], Any]:
    return Component(type=type, options=options).build(TRANSFORMS, Transform)  # type: ignore[type-abstract]


def class_of(type: str) -> builtins.type[Transform]:
    return Component(type=type, options={}).find(TRANSFORMS, Transform)  # type: ignore[type-abstract]


def outcome(records: list[Any], type: str, **options: Any) -> Outcome:
    given = [Envelope(f"id{i}", "s", "t", None, msgspec.Raw(encode_json(record))) for i, record in enumerate(records)]
    return apply(given, [built(type, **options)])


def made(record: Any, type: str, **options: Any) -> Any:
    """What becomes of one record."""
    found = outcome([record], type, **options)
    assert not found.rejected
    return next((envelope.value for envelope in found.envelopes), None)


def refusal(record: Any, type: str, **options: Any) -> str:
    return outcome([record], type, **options).rejected[0]


def test_select_keeps_fields_in_the_order_asked_for_and_missing_ones_are_null() -> None:
    made_of = made(RECORD, "select", fields=["n", "/user/name", "missing", "/user/tags/0", "/no/such"])
    assert list(made_of.items()) == [("n", "3"), ("name", "N"), ("missing", None), ("0", "a"), ("such", None)]


def test_select_can_give_names() -> None:
    assert made(RECORD, "select", fields={"who": "/user/name", "what": "title"}) == {"who": "N", "what": "T"}


def test_rename_and_drop_leave_the_rest_as_it_is() -> None:
    assert made({"a": 1, "b": 2}, "rename", fields={"a": "x", "zz": "y"}) == {"x": 1, "b": 2}
    assert made({"a": 1, "b": 2}, "drop", fields=["a", "zz"]) == {"b": 2}


def test_flatten_makes_one_level_of_many() -> None:
    assert made(RECORD, "flatten") == {
        "title": "T",
        "user_name": "N",
        "user_tags": ["a"],
        "user_none": {},
        "n": "3",
        "bot": False,
    }
    assert made({"a": {"b": {"c": 1}}}, "flatten", separator=".", depth=1) == {"a.b": {"c": 1}}


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("int", " 42 ", 42),
        ("int", 3.0, 3),
        ("int", "123456789012345678901234567890", 123456789012345678901234567890),
        ("float", "1.5", 1.5),
        ("str", 7, "7"),
        ("str", {"a": [1]}, '{"a":[1]}'),
        ("bool", "Yes", True),
        ("bool", 0, False),
        ("decimal", "£1.10"[1:], "1.10"),
        ("decimal", 0.1, "0.1"),
        ("int", None, None),
    ],
)
def test_cast(kind: str, value: Any, expected: Any) -> None:
    assert made({"v": value}, "cast", fields={"v": kind, "missing": kind}) == {"v": expected}


@pytest.mark.parametrize(
    ("kind", "value"), [("int", "3.5"), ("int", "x"), ("float", []), ("bool", "maybe"), ("decimal", "1,5"), ("int", {})]
)
def test_what_cannot_be_cast_is_named_without_its_value(kind: str, value: Any) -> None:
    assert f"field v can't be cast to {kind}" in refusal({"v": value}, "cast", fields={"v": kind})


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int", "1_000"),
        ("float", "1_0.5"),
        ("decimal", "1_0"),
        ("int", "١٢"),
        ("float", 2**53 + 1),
        ("float", "1e-999"),
        ("float", decode_json(b"1e-999")),
    ],
)
def test_no_cast_loses_anything_or_sees_a_number_where_nobody_does(kind: str, value: Any) -> None:
    assert f"field v can't be cast to {kind}" in refusal({"v": value}, "cast", fields={"v": kind})


def test_a_whole_number_with_an_exponent_is_the_one_that_is_written() -> None:
    assert made({"v": 1e23}, "cast", fields={"v": "int"}) == {"v": 10**23}


@pytest.mark.parametrize("where", ["at > '2026'", "at > `1`", "n <= 'x'"])
def test_an_order_of_text_is_said_and_leaves_out_nothing_silently(where: str) -> None:
    assert "compares numbers, and one side is text" in refusal({"at": "2026-11-21", "n": 1}, "filter", where=where)


@pytest.mark.parametrize("kind", ["int", "float", "decimal", "bool"])
@pytest.mark.parametrize(
    "value", ["9" * 3_000_000, "1e" + "9" * 5000, f"0.{'1' * 5000}"], ids=["whole", "power", "part"]
)
def test_text_that_is_too_long_to_be_a_number_is_no_value_of_any_kind(kind: str, value: str) -> None:
    assert "more than 4,300 digits" in refusal({"v": value}, "cast", fields={"v": kind})


@pytest.mark.parametrize("kind", ["int", "decimal"])
@pytest.mark.parametrize("value", ["1e9999999", "1e999999999", "-1E+99999", "1e4300"])
def test_a_number_too_long_to_write_out_names_its_field_and_the_bound(kind: str, value: str) -> None:
    reason = refusal({"v": value}, "cast", fields={"v": kind})
    assert f"field v can't be cast to {kind}: it has more than 4,300 digits when it is written out" in reason


@pytest.mark.parametrize("value", ["NaN", "-inf", "sNaN12", "Infinity"])
def test_what_is_no_number_is_no_decimal(value: str) -> None:
    assert "field v can't be cast to decimal" in refusal({"v": value}, "cast", fields={"v": "decimal"})


@pytest.mark.parametrize("value", ["nan", "-inf", "1e999", "infinity"])
def test_what_json_has_no_number_for_is_not_cast_to_null(value: str) -> None:
    assert "field v can't be cast to float" in refusal({"v": value}, "cast", fields={"v": "float"})


@pytest.mark.parametrize("format", ["iso", "unix", "unix_ms", "%d %m %I %p %Y"])
def test_a_text_that_is_too_long_to_be_a_time_is_none_of_any_format(format: str) -> None:
    reason = refusal({"at": " " * 100_000 + "1"}, "parse_time", fields=["at"], format=format)
    assert "field at is no time: it has more than 200 characters" in reason


def test_names_that_flatten_would_repeat_too_often_are_refused() -> None:
    record: dict[str, Any] = {"v": 1}
    for _ in range(90):
        record = {"x" * 10_000: record, "v": 1}
    assert "more than 16,000,000 characters" in refusal(record, "flatten")


@pytest.mark.parametrize(
    ("format", "value", "expected"),
    [
        ("iso", "2026-11-21T02:03:04+01:00", "2026-11-21T01:03:04.000000Z"),
        ("iso", "2026-11-21", "2026-11-21T00:00:00.000000Z"),
        ("unix", 1795222984, "2026-11-21T01:03:04.000000Z"),
        ("unix_ms", "1795222984500", "2026-11-21T01:03:04.500000Z"),
        ("%d/%m/%Y %H:%M", "21/11/2026 01:03", "2026-11-21T01:03:00.000000Z"),
        ("iso", "2016-12-31T23:59:60Z", "2016-12-31T23:59:59.000000Z"),
        ("iso", "20261121", "2026-11-21T00:00:00.000000Z"),
        ("unix_us", "1795222984500001", "2026-11-21T01:03:04.500001Z"),
        ("unix_ns", 1795222984500001999, "2026-11-21T01:03:04.500001Z"),
        ("rfc2822", "Sat, 21 Nov 2026 02:03:04 +0100", "2026-11-21T01:03:04.000000Z"),
        ("auto", "Sat, 21 Nov 2026 02:03:04 +0100", "2026-11-21T01:03:04.000000Z"),
        ("auto", 1795222984500, "2026-11-21T01:03:04.500000Z"),
        ("auto", "2026-11-21T01:03:04Z", "2026-11-21T01:03:04.000000Z"),
    ],
)
def test_parse_time(format: str, value: Any, expected: str) -> None:
    assert made({"at": value}, "parse_time", fields=["at", "missing"], format=format) == {"at": expected}


@pytest.mark.parametrize("value", ["yesterday", 1e300, [], "1538352000", "Wed, 10 Oct 2018 20:19:24 +0000", True])
def test_what_is_no_time_is_named(value: Any) -> None:
    assert "field at is no time of the form iso" in refusal({"at": value}, "parse_time", fields=["at"])


@pytest.mark.parametrize(
    ("format", "value"),
    [
        ("unix", "2026-11-21T01:03:04Z"),
        ("unix_ms", "Sat, 21 Nov 2026 02:03:04 +0100"),
        ("unix", True),
        ("rfc2822", "2026-11-21T01:03:04Z"),
        ("rfc2822", 1795222984),
        ("auto", "11/21/2026"),
        ("auto", 2026),
    ],
)
def test_a_time_of_another_form_is_not_guessed_at(format: str, value: Any) -> None:
    assert f"is no time of the form {format}" in refusal({"at": value}, "parse_time", fields=["at"], format=format)


@pytest.mark.parametrize(
    ("format", "why"),
    [
        ("%d %b %H:%M", "without a year"),
        ("%Y-%m-%d %Z", "%z"),
        ("unix_sec", "expected auto, iso"),
        ("%Y-%m-%d %H:%M %p", "%p without %I"),
        ("%Y-%m-%d %I:%M", "%I without %p"),
        ("%Y-W%W", "without a weekday"),
        ("%Y-%U", "without a weekday"),
    ],
)
def test_a_format_that_would_read_another_time_is_refused(format: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        built("parse_time", fields=["at"], format=format)


NAMED: list[tuple[str, dict[str, Any], dict[str, Any], str, dict[str, Any], dict[str, Any]]] = [
    ("flatten", {}, {"user_name": 1, "user": {"name": 2}}, "user_name", {"user_name": 1}, {"user_name": 2}),
    ("flatten", {}, {"user": {"name": 2}, "user_name": 1}, "user_name", {"user_name": 1}, {"user_name": 2}),
    ("flatten", {}, {"b_a": {"x": 1}, "b": {"a_x": 2}}, "b_a_x", {"b_a_x": 2}, {"b_a_x": 1}),
    ("rename", {"fields": {"a": "b"}}, {"a": 1, "b": 2}, "b", {"b": 2}, {"b": 1}),
    ("rename", {"fields": {"a": "b"}}, {"b": 2, "a": 1}, "b", {"b": 2}, {"b": 1}),
    ("ingest_time", {"field": "at"}, {"at": 1}, "at", {"at": 1}, {}),
    ("unnest", {"field": "in"}, {"a": 1, "in": {"a": 2}}, "a", {"a": 1}, {"a": 2}),
    ("unnest", {"field": "/in/x"}, {"a": 1, "in": {"x": {"a": 2}}}, "a", {"a": 1, "in": {}}, {"a": 2, "in": {}}),
    ("explode", {"field": "l", "index": "n"}, {"l": [5], "n": 1}, "n", {"l": 5, "n": 1}, {"l": 5, "n": 0}),
    ("envelope", {"fields": ["id"]}, {"id": 1}, "id", {"id": 1}, {"id": "id0"}),
]
"""Transform, options, a record in which two values get one name, the name, and what keep and replace make of it."""


@pytest.mark.parametrize(("type", "options", "record", "name", "kept", "replaced"), NAMED)
def test_of_two_values_for_one_name_none_is_lost_unasked(
    type: str,
    options: dict[str, Any],
    record: dict[str, Any],
    name: str,
    kept: dict[str, Any],
    replaced: dict[str, Any],
) -> None:
    assert f"field {name} is there already" in refusal(record, type, **options)
    assert made(record, type, **options, on_conflict="keep") == kept
    assert replaced.items() <= made(record, type, **options, on_conflict="replace").items()


def test_every_transform_that_names_values_says_what_it_does_with_two() -> None:
    naming = {name for name in TRANSFORMS if "on_conflict" in class_of(name).model_fields}
    assert naming - {"select"} == {type for type, *_ in NAMED}  # select's are known beforehand: below


def test_explode_makes_a_record_of_each_element() -> None:
    given = {"n": 1, "in": {"tags": ["a", {"b": 1}, None]}}
    found = outcome([given], "explode", field="/in/tags", index="no")
    tags: list[Any] = ["a", {"b": 1}, None]
    assert [one.value for one in found.envelopes] == [
        {"n": 1, "in": {"tags": tag}, "no": no} for no, tag in enumerate(tags)
    ]
    assert [one.id for one in found.envelopes] == ["id0:0", "id0:1", "id0:2"]
    found = outcome([[{"a": 1}, {"a": 2}]], "explode", field="/0")
    assert "field /0 is no list" in found.rejected[0]
    alone = outcome([{"of": [{"a": 1}, 2]}], "explode", field="of", alone=True)
    assert [one.value for one in alone.envelopes] == [{"a": 1}, 2]


@pytest.mark.parametrize("record", [{"l": []}, {"l": None}, {}])
def test_explode_loses_no_record_without_elements_unasked(record: Any) -> None:
    assert made(record, "explode", field="l") == record
    assert outcome([record], "explode", field="l", empty="drop").filtered == [0]


@pytest.mark.parametrize("none", [[], None])
def test_explode_alone_sends_no_container_among_the_elements(none: Any) -> None:
    given = [{"of": [{"a": 1}]}, {"of": none, "next": None}]
    alone = outcome(given, "explode", field="of", alone=True)
    assert [one.value for one in alone.envelopes] == [{"a": 1}]
    assert alone.filtered == [1]
    kept = outcome(given, "explode", field="of", alone=True, empty="keep")
    assert [one.value for one in kept.envelopes] == [{"a": 1}, given[1]]
    assert made({"error": 1}, "explode", field="of", alone=True) == {"error": 1}


def test_explode_alone_makes_a_record_of_null_too() -> None:
    for elements in ([None, 5], [None], [None, None]):
        alone = outcome([{"of": elements}], "explode", field="of", alone=True)
        assert [one.value for one in alone.envelopes] == elements
        assert alone.filtered == []


def test_unnest_lifts_the_fields_of_an_object() -> None:
    assert made({"u": {"a": 1}, "n": 2}, "unnest", field="u", prefix="u_") == {"n": 2, "u_a": 1}
    assert made({"u": {"u": 1}}, "unnest", field="u") == {"u": 1}
    assert made({"u": None}, "unnest", field="u") == {"u": None}
    assert "field u is no object" in refusal({"u": [1]}, "unnest", field="u")


def test_envelope_adds_what_it_says_of_each_record_also_behind_others() -> None:
    given = [Envelope(f"i{n}", "flow", "T", "2026-11-21T00:00:00Z", msgspec.Raw(b'{"l":[1,2]}')) for n in range(2)]
    through = [
        built("explode", field="l"),
        built("envelope", fields={"id": "of", "time": "at"}),
        built("drop", fields=["l"]),
    ]
    at = "2026-11-21T00:00:00Z"
    found = apply(given, through)
    assert [one.value for one in found.envelopes] == [{"of": f"i{n // 2}", "at": at} for n in range(4)]
    all_four = apply(given[:1], [built("envelope")]).envelopes[0].value
    assert all_four == {"l": [1, 2], "id": "i0", "time": at, "type": "T", "source": "flow"}


def test_select_takes_the_first_or_the_last_of_several() -> None:
    both = {"fields": ["id", "/meta/id"]}
    assert made({"id": 1, "meta": {"id": 2}}, "select", **both, on_conflict="keep") == {"id": 1}
    assert made({"id": 1, "meta": {"id": 2}}, "select", **both, on_conflict="replace") == {"id": 2}
    assert made({"meta": {"id": 2}}, "select", **both, on_conflict="keep") == {"id": 2}


def test_select_can_leave_out_what_a_record_lacks_and_keeps_its_nulls() -> None:
    assert made({"a": None}, "select", fields=["a", "b"], absent="omit") == {"a": None}


def test_fields_may_change_their_names_in_a_circle() -> None:
    assert made({"a": 1, "b": 2}, "rename", fields={"a": "b", "b": "a"}) == {"b": 1, "a": 2}


@pytest.mark.parametrize(
    ("transforms", "said"),
    [
        ("[{type: select, fields: [id, /meta/id]}]", "transforms[0]: more than one field becomes id"),
        ("[{type: rename, fields: {a: x, b: x}}]", "transforms[0]: more than one field becomes x"),
        ("[{type: rename, fields: {/a/b: x}}]", "rename takes names, not pointers"),
        ("[{type: select, fields: [a, b]}, {type: rename, fields: {a: b}}]", "[1]: no record passes: field b"),
        ("[{type: select, fields: [a]}, {type: drop, fields: [a]}, {type: ingest_time, field: a}]", ""),
        ("[{type: select, fields: [a]}, {type: sample, share: 0.5}, {type: ingest_time, field: a}]", "transforms[2]"),
        ("[{type: filter, where: 'bot == true'}]", "expected `true`"),
        ("[{type: filter, where: 'type == \"push\"'}]", "text is in single quotes"),
    ],
)
def test_check_refuses_what_can_be_known_to_go_wrong(tmp_path: Path, transforms: str, said: str) -> None:
    (tmp_path / "flows.yaml").write_text(
        f"flows:\n  a:\n    source: {{type: stdin}}\n    transforms: {transforms}\n    sink: {{type: 'null'}}\n"
    )
    if not said:
        load_all(tmp_path / "flows.yaml")
        return
    with pytest.raises(ConfigError) as refused:
        load_all(tmp_path / "flows.yaml")
    assert str(refused.value).count(said) == 1


@pytest.mark.parametrize(
    ("type", "options", "made_of"),
    [
        ("cast", {"fields": {"/in/n": "int"}}, {"in": {"n": 7, "at": "2026-11-21"}, "list": ["1"]}),
        ("cast", {"fields": {"/list/0": "int"}}, {"in": {"n": "7", "at": "2026-11-21"}, "list": [1]}),
        (
            "parse_time",
            {"fields": ["/in/at"]},
            {"in": {"n": "7", "at": "2026-11-21T00:00:00.000000Z"}, "list": ["1"]},
        ),
        ("redact", {"fields": ["/in/n"]}, {"in": {"n": "***", "at": "2026-11-21"}, "list": ["1"]}),
        ("drop", {"fields": ["/in/n"]}, {"in": {"at": "2026-11-21"}, "list": ["1"]}),
    ],
)
def test_a_pointer_reaches_what_is_nested(type: str, options: dict[str, Any], made_of: Any) -> None:
    assert made({"in": {"n": "7", "at": "2026-11-21"}, "list": ["1"]}, type, **options) == made_of


@pytest.mark.parametrize(
    ("type", "options"),
    [
        ("select", {"fields": ["in.n"]}),
        ("rename", {"fields": {"in.n": "n"}}),
        ("drop", {"fields": ["in.n"]}),
        ("cast", {"fields": {"in.n": "int"}}),
        ("parse_time", {"fields": ["in.n"]}),
        ("redact", {"fields": ["in.n"]}),
        ("dedupe", {"key": "in.n"}),
        ("sample", {"share": 1, "key": "in.n"}),
    ],
)
def test_a_name_with_dots_that_means_a_nested_field_is_said(
    type: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "repeats", Repeats())
    with structlog.testing.capture_logs() as logs:
        outcome([{"in": {"n": "7"}}], type, **options)
    assert {"event": "field_not_found", "field": "in.n"}.items() <= logs[0].items()
    assert "/in/n" in logs[0]["mend"]


@pytest.mark.parametrize("mend", ["there is ", "right name"])
@pytest.mark.parametrize(
    ("type", "options"),
    [
        ("select", {"fields": ["pasword"], "absent": "omit"}),
        ("rename", {"fields": {"pasword": "p", "n": "m"}}),
        ("drop", {"fields": ["n", "pasword"]}),
        ("explode", {"field": "pasword"}),
        ("unnest", {"field": "/pasword"}),
        ("cast", {"fields": {"pasword": "int"}}),
        ("parse_time", {"fields": ["pasword"]}),
        ("redact", {"fields": ["pasword"]}),
        ("filter", {"where": "pasword == 'x'"}),
        ("dedupe", {"key": "pasword"}),
        ("sample", {"share": 1, "key": "pasword"}),
    ],
)
def test_a_field_that_no_record_has_is_said_once_and_counted(
    type: str, options: dict[str, Any], mend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Repeats()
    monkeypatch.setattr(places, "repeats", told)
    name = "Pasword" if mend == "there is " else "password"
    with structlog.testing.capture_logs() as logs:
        outcome([{name: "x", "n": 1}] * 3, type, **options)
        told.summarise()
    said = [log for log in logs if log["event"] == "field_not_found"]
    assert [log.get("more_like_this") for log in said] == [None, 2]
    assert mend in said[0]["mend"]


def test_every_transform_that_names_a_field_says_where_it_is_not() -> None:
    """The family: what takes fields of a record, and not of the envelope or anew, is in the test above."""
    takes = {type for type in TRANSFORMS if {"fields", "field", "key", "where"} & class_of(type).model_fields.keys()}
    (mark,) = [
        mark
        for mark in test_a_field_that_no_record_has_is_said_once_and_counted.pytestmark  # type: ignore[attr-defined]
        if mark.args[0] == ("type", "options")
    ]
    assert takes - {"envelope", "ingest_time"} == {type for type, _ in mark.args[1]}


@pytest.mark.parametrize(
    ("where", "held"),
    [
        ("l == `[1]`", [{"l": [1]}, {"l": [1.0]}]),
        ("l != `[1]`", [{"l": [True]}]),
        ("contains(l, `1`)", [{"l": [1]}, {"l": [1.0]}]),
        ('o == `{"a": [0]}`', [{"o": {"a": [0]}}]),
        ('contains(m, `{"a": 1}`)', [{"m": [{"a": 1}]}]),
    ],
)
def test_two_kinds_are_never_the_same_however_deep_they_stand(where: str, held: list[Any]) -> None:
    name = next(iter(held[0]))
    records = {
        "l": [{"l": [1]}, {"l": [True]}, {"l": [1.0]}],
        "o": [{"o": {"a": [0]}}, {"o": {"a": [False]}}],
        "m": [{"m": [{"a": 1}]}, {"m": [{"a": True}]}],
    }[name]
    assert [envelope.value for envelope in outcome(records, "filter", where=where).envelopes] == held


def test_redact_masks_or_hashes_with_a_key() -> None:
    assert made({"ip": "10.0.0.1", "n": 1}, "redact", fields=["ip", "no"]) == {"ip": "***", "n": 1}
    digest = hmac.new(b"pepper", b"10.0.0.1", hashlib.sha256).hexdigest()
    assert made({"ip": "10.0.0.1"}, "redact", fields=["ip"], how="hash", key="pepper") == {"ip": digest}
    assert "pepper" not in repr(built("redact", fields=["ip"], how="hash", key="pepper"))


def test_two_kinds_have_two_hashes() -> None:
    hashes = [made({"v": v}, "redact", fields=["v"], how="hash")["v"] for v in (1, "1", True, "true", [1], "[1]")]
    assert len(set(hashes)) == len(hashes)


def test_ingest_time_is_now_and_may_have_another_name() -> None:
    before = datetime.now(UTC)
    record = made({"n": 1}, "ingest_time", field="seen")
    assert before <= datetime.fromisoformat(record["seen"]) <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ("bot == `false`", [0, 2]),
        ("bot", [1]),
        ("n > `1` && !bot", [2]),
        ("n", [0, 1, 2]),
        ("contains(['a', 'b'], tag)", [0]),
        ("missing.deep == null", [0, 1, 2]),
    ],
)
def test_filter_keeps_what_the_expression_holds_for(where: str, kept: list[int]) -> None:
    records = [{"bot": False, "n": 0, "tag": "a"}, {"bot": True, "n": 1}, {"bot": False, "n": 2, "tag": "c"}]
    found = outcome(records, "filter", where=where)
    assert found.origin == kept
    assert sorted([*found.filtered, *kept]) == [0, 1, 2]


def test_an_expression_that_is_none_is_refused_when_the_flow_is_checked(tmp_path: Path) -> None:
    (tmp_path / "flows.yaml").write_text(
        "flows:\n"
        "  a:\n"
        "    source: {type: stdin}\n"
        "    transforms:\n"
        "      - {type: select, fields: [title]}\n"
        "      - {type: filter, where: 'bot == '}\n"
        "      - {type: slect, fields: [x]}\n"
        "      - {type: drop, field: x}\n"
        "    sink: {type: 'null'}\n"
    )
    with pytest.raises(ConfigError) as refused:
        load_all(tmp_path / "flows.yaml")
    said = str(refused.value)
    assert "flows.a.transforms[1].where: expected a JMESPath expression" in said
    assert "flows.a.transforms[2].type: unknown transform type, 'slect': did you mean 'select'?" in said
    assert "flows.a.transforms[3].field: unknown option" in said


def test_dedupe_keeps_the_first_or_the_last_of_each_key() -> None:
    records = [{"k": 1, "v": "a"}, {"v": "no key"}, {"k": 1, "v": "b"}, {"v": "none either"}, {"k": "1", "v": "c"}]
    assert [e.value["v"] for e in outcome(records, "dedupe", key="k").envelopes] == ["a", "no key", "none either", "c"]
    last = outcome(records, "dedupe", key="/k", keep="last")
    assert [e.value["v"] for e in last.envelopes] == ["no key", "b", "none either", "c"]


def test_a_sample_is_about_its_share_and_always_the_same() -> None:
    records = [{"user": n // 10, "n": n} for n in range(5000)]
    one, other = (outcome(records, "sample", share=0.1).origin for _ in range(2))
    assert one == other
    assert 400 < len(one) < 600
    by_user = outcome(records, "sample", share=0.3, key="user").origin
    assert {n // 10 for n in by_user} & {n // 10 for n in range(5000) if n not in set(by_user)} == set()


@pytest.mark.parametrize("type", ["select", "rename", "drop"])
def test_what_is_no_object_has_no_fields(type: str) -> None:
    fields: Any = {"a": "b"} if type == "rename" else ["a"]
    assert "expected an object, not str" in refusal("text", type, fields=fields)


def test_built_in_ones_and_functions_go_together_in_a_flow(tmp_path: Path) -> None:
    (tmp_path / "flows.yaml").write_text(
        "flows:\n"
        "  a:\n"
        "    source: {type: stdin}\n"
        "    transforms: [{type: flatten}, 'json:dumps', {type: mine_of_transforms:Shout}]\n"
        "    sink: {type: 'null'}\n"
    )
    (tmp_path / "mine_of_transforms.py").write_text(
        "from millrace_consumer.transforms.base import Transform\n"
        "class Shout(Transform):\n"
        "    def __call__(self, record):\n"
        "        return record.upper()\n"
    )
    flow = load_all(tmp_path / "flows.yaml")["a"]
    transforms = flow.load_transforms(TRANSFORMS, Transform)
    given = [Envelope("i", "s", "t", None, msgspec.Raw(b'{"a":{"b":"c"}}'))]
    assert [envelope.value for envelope in apply(given, transforms).envelopes] == ['{"A_B": "C"}']
    assert flow.transform_names == ["flatten", "dumps", "Shout"]
