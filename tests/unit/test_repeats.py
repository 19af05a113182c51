"""Repeats: one warning of a kind is said, the others are counted, and the count is told."""

from __future__ import annotations

from structlog.testing import capture_logs

from millrace_pipeline.process.repeats import AGAIN_SECONDS, KINDS, NAMES, Repeats


def test_one_of_a_kind_is_said_and_the_others_are_counted() -> None:
    repeats = Repeats(clock=lambda: 0.0)
    with capture_logs() as said:
        for number in range(500):
            reason = f"field 'f{number}' holds {number}"
            repeats.warn("record_dead_lettered", kind=reason, flow="a", reason=reason)
        repeats.summarise()
        repeats.summarise()
    assert [line.get("more_like_this") for line in said] == [None, 499]
    assert {line["reason"] for line in said} == {"field 'f0' holds 0"}


def test_other_reasons_and_other_flows_are_other_kinds() -> None:
    repeats = Repeats(clock=lambda: 0.0)
    with capture_logs() as said:
        for flow, reason in (("a", "not JSON"), ("a", "too large"), ("b", "not JSON")):
            repeats.warn("record_dead_lettered", kind=reason, flow=flow, reason=reason)
        repeats.summarise()
    assert len(said) == 3


def test_a_kind_that_goes_on_is_told_again_after_a_while() -> None:
    clock = iter((0.0, 1.0, 2.0, AGAIN_SECONDS + 1))
    repeats = Repeats(clock=lambda: next(clock))
    with capture_logs() as said:
        for _ in range(4):
            repeats.warn("gone", kind="x")
    assert [line.get("more_like_this") for line in said] == [None, 3]


def test_what_is_said_of_many_at_once_is_counted_as_many() -> None:
    repeats = Repeats(clock=lambda: 0.0)
    with capture_logs() as said:
        for times in (3, 2):
            repeats.warn("gone", kind="x", times=times)
        repeats.summarise()
    assert [line.get("more_like_this") for line in said] == [None, 4]


def test_reasons_without_end_take_no_more_memory_than_some() -> None:
    repeats = Repeats(clock=lambda: 0.0)
    with capture_logs() as said:
        for number in range(KINDS + 500):
            repeats.warn("gone", kind="".join(chr(97 + int(digit)) for digit in str(number)))
        repeats.summarise()
    assert len(said) == KINDS + 2
    assert said[-1]["more_like_this"] == 499


def test_names_that_differ_in_digits_alone_are_kinds_of_their_own() -> None:
    repeats = Repeats(clock=lambda: 0.0)
    with capture_logs() as said:
        for name in ("a1", "a2", "a1", "'a'", "'b'"):
            repeats.warn("name_twice", kind="", of=name, name=name)
        repeats.summarise()
    assert [(line["name"], line.get("more_like_this")) for line in said] == [
        ("a1", None),
        ("a2", None),
        ("'a'", None),
        ("'b'", None),
        ("a1", 1),
    ]


def named(*records: list[str]) -> list[tuple[str, int | None]]:
    repeats = Repeats(clock=lambda: 0.0)
    with capture_logs() as said:
        for names in records:
            repeats.warn_of("lost", dict(zip(names, names, strict=True)), kind="t", says="fields")
        repeats.summarise()
    return [(line["fields"], line.get("more_like_this")) for line in said]


def test_each_name_of_a_kind_is_named_once() -> None:
    assert named(["x"], ["x", "y1"], ["y1"], ["y2", "x"]) == [("x", None), ("y1", None), ("y2", None), ("y2", 1)]


def test_no_more_names_are_named_than_some() -> None:
    (first, _), *others = named([f"f{number}" for number in range(NAMES + 9)], ["g"], ["h"])
    assert first == ", ".join(
        [*(f"f{number}" for number in range(NAMES)), f"and more: {NAMES} are named, and no others"]
    )
    assert others == [("h", 2)]
