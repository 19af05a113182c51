"""Transforms and models: what becomes of each record, hostile ones included."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel, field_validator

from millrace_consumer.transforms import Outcome, apply, drop_canaries
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.errors import RetryLater
from millrace_pipeline.fitting import REASON_LIMIT

NUMBERS = b'{"n":1.0000000000000000000001,"m":18446744073709551616, "n":2}'


def envelopes(*texts: bytes) -> list[Envelope]:
    return [Envelope(f"id{i}", "s", "t", None, msgspec.Raw(text)) for i, text in enumerate(texts)]


def texts(outcome: Outcome) -> list[bytes]:
    return [envelope.text for envelope in outcome.envelopes]


def test_without_transforms_and_model_nothing_is_decoded() -> None:
    broken = envelopes(b"not json at all", NUMBERS)
    outcome = apply(broken)
    assert outcome == Outcome(broken, None, range(2), [], {})
    assert outcome.envelopes is broken


def test_a_canary_is_filtered_and_a_real_event_keeps_its_bytes(wikimedia_events: list[bytes]) -> None:
    canary = b'{"meta":{"domain":"canary","id":"1"}}'
    outcome = apply(envelopes(*wikimedia_events[:50], canary, *wikimedia_events[50:]), [drop_canaries])
    assert outcome.filtered == [50]
    assert texts(outcome) == wikimedia_events
    assert outcome.origin == [*range(50), *range(51, len(wikimedia_events) + 1)]


@pytest.mark.parametrize("record", [[], "canary", None, 1, {}, {"meta": "canary"}, {"meta": {"domain": None}}])
def test_what_is_no_event_is_no_canary(record: Any) -> None:
    assert drop_canaries(record) == record


def test_a_record_that_comes_through_unchanged_keeps_its_spelling() -> None:
    outcome = apply(envelopes(NUMBERS), [lambda record: record, dict])
    assert texts(outcome) == [NUMBERS]


def test_a_record_changed_in_place_is_changed() -> None:
    def add(record: dict[str, Any]) -> dict[str, Any]:
        record["x"] = [record["n"]]
        return record

    assert texts(apply(envelopes(NUMBERS), [add])) == [b'{"n":2,"m":18446744073709551616,"x":[2]}']


def test_one_record_becomes_several_with_ids_of_their_own() -> None:
    def each(record: dict[str, Any]) -> Iterator[Any]:
        yield from record["items"]

    given = envelopes(b'{"items":[1,2,3]}', b'{"items":[4]}', b'{"items":[]}', b'{"items":[null,5]}')
    outcome = apply(given, [each, lambda n: [n, -n] if n == 3 else n])
    assert [(e.id, e.text) for e in outcome.envelopes] == [
        ("id0:0", b"1"),
        ("id0:1", b"2"),
        ("id0:2", b"3"),
        ("id0:3", b"-3"),
        ("id1", b"4"),
        ("id3", b"5"),
    ]
    assert outcome.origin == [0, 0, 0, 0, 1, 3]
    assert outcome.filtered == [2]


def test_a_shared_object_that_a_transform_reuses_gives_each_record_its_own_content() -> None:
    shared: dict[str, Any] = {}

    def reuse(record: dict[str, Any]) -> dict[str, Any]:
        shared["n"] = record["n"]
        return shared

    assert texts(apply(envelopes(b'{"n":1}', b'{"n":2}'), [reuse])) == [b'{"n":1}', b'{"n":2}']


def test_a_failing_record_is_named_with_its_cause_and_place_and_stays_as_it_was() -> None:
    def spoil(record: dict[str, Any]) -> dict[str, Any]:
        record.clear()
        return {"title": record["title"]}

    given = envelopes(b'{"title":"t"}', b"{}")
    outcome = apply([*given, *envelopes(b'{"ok":1}')], [lambda r: r if "ok" in r else spoil(r)])
    assert list(outcome.rejected) == [0, 1]
    assert outcome.rejected[0].startswith("KeyError: 'title' (test_transforms.py:")
    assert given[0].text == b'{"title":"t"}'
    assert texts(outcome) == [b'{"ok":1}']
    assert outcome.origin == [2]


def test_a_failure_on_one_of_several_rejects_the_record_they_came_from() -> None:
    def explode(number: int) -> int:
        return 1 // number

    outcome = apply(envelopes(b"[2,0,2]", b"[2]"), [lambda record: record, explode])
    assert list(outcome.rejected) == [0]
    assert [(e.id, e.text) for e in outcome.envelopes] == [("id1", b"0")]


def test_a_result_that_json_cannot_say_is_rejected() -> None:
    outcome = apply(envelopes(b"1", b"2"), [lambda n: object() if n == 1 else n])
    assert outcome.rejected == {
        0: "a transform returned something that cannot be a record: not JSON: object is not something JSON can say"
    }


def test_running_out_of_memory_is_not_the_records_fault() -> None:
    def hungry(record: Any) -> Any:
        raise MemoryError

    with pytest.raises(MemoryError):
        apply(envelopes(b"1"), [hungry])


def test_a_reason_is_short() -> None:
    def shout(record: Any) -> Any:
        raise ValueError("x" * 10_000)

    assert len(apply(envelopes(b"1"), [shout]).rejected[0]) <= REASON_LIMIT


HOSTILE = [b"1e999", b"[" * 100_000 + b"]" * 100_000, b"9" * 5000]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_python_cannot_hold_is_rejected_only_when_something_must_decode_it(text: bytes) -> None:
    assert texts(apply(envelopes(text))) == [text]
    outcome = apply(envelopes(b"{}", text), [lambda record: record])
    assert list(outcome.rejected) == [1]
    assert outcome.rejected[1].startswith("not ")


class Quote(BaseModel):
    text: str
    when: datetime | None = None
    count: int = 0
    token: str = ""

    @field_validator("token")
    @classmethod
    def _known(cls, token: str) -> str:
        if token == "bug":
            raise KeyError("a bug in the user's validator")
        if token == "secret-1234":
            raise ValueError("token is not allowed")
        return token


def test_each_record_is_fitted_to_the_model() -> None:
    given = envelopes(b'{"text":"a","when":"2026-11-21T01:30:00Z"}', b'{"text":"b","count":"7"}')
    outcome = apply(given, [], Quote)
    assert outcome.rows == [
        Quote(text="a", when=datetime.fromisoformat("2026-11-21T01:30:00Z")),
        Quote(text="b", count=7),
    ]
    assert outcome.envelopes == given


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"text":5}', "does not fit Quote: text: Input should be a valid string"),
        (b'{"count":"x"}', "does not fit Quote: text: Field required; count: Input should be a valid integer"),
        (b"[]", "does not fit Quote: record: Input should be an object"),
        (b'{"text":"a","token":"bug"}', 'KeyError: "a bug in the user\'s validator" (test_transforms.py:'),
        (b'{"text":"a","x":' + b"[" * 5000 + b"]" * 5000 + b"}", "does not fit Quote: record: Invalid JSON"),
    ],
)
def test_a_record_that_does_not_fit_is_named_and_the_others_go_on(text: bytes, reason: str) -> None:
    outcome = apply(envelopes(b'{"text":"a"}', text, b'{"text":"c"}'), [], Quote)
    assert list(outcome.rejected) == [1]
    assert outcome.rejected[1].startswith(reason)
    assert len(outcome.rejected[1]) <= REASON_LIMIT
    assert outcome.rows == [Quote(text="a"), Quote(text="c")]
    assert outcome.origin == [0, 2]


def test_a_reason_never_shows_what_the_field_held() -> None:
    outcome = apply(envelopes(b'{"text":"a","token":"secret-1234"}', b'{"text":{"k":"secret-1234"}}'), [], Quote)
    assert list(outcome.rejected) == [0, 1]
    assert "secret" not in "".join(outcome.rejected.values())


def test_a_misfit_among_several_rejects_the_record_they_came_from() -> None:
    given = envelopes(b'[{"text":"a"},{}]', b'[{"text":"b"}]', b"[]", b"0")
    outcome = apply(given, [lambda record: 1 // 0 if record == 0 else record], Quote)
    assert list(outcome.rejected) == [0, 3]
    assert (outcome.filtered, outcome.origin, outcome.rows) == ([2], [1], [Quote(text="b")])


def test_a_batch_of_nothing_is_nothing() -> None:
    assert apply([], [drop_canaries], Quote) == Outcome([], [], [], [], {})


def test_bytes_that_look_like_two_records_are_still_one() -> None:
    """Texts are joined to be validated at once: a text with a comma of its own must not become another record."""
    outcome = apply(envelopes(b'{"text":"a"},{"text":"b"}', b'{"text":"c"}'), [], Quote)
    assert list(outcome.rejected) == [0]
    assert outcome.rows == [Quote(text="c")]


def test_a_function_of_all_that_asks_to_wait_is_not_called_again_to_find_out_for_which() -> None:
    calls = []

    def look_up(records: list[int]) -> list[int]:
        calls.append(list(records))
        if 3 in records:
            raise ValueError("a three")
        if 7 in records:
            raise RetryLater(5, "busy")
        return records

    outcome = apply(envelopes(*(b"%d" % n for n in range(8))), [look_up])
    assert list(outcome.rejected) == [3]
    assert list(outcome.later) == [4, 5, 6, 7], "the half that asked to wait"
    assert texts(outcome) == [b"0", b"1", b"2"]
    assert sum(7 in records for records in calls) == 2  # with the three, and in that half
