"""A batch makes each form once, and says which records have none."""

from __future__ import annotations

import msgspec
import pytest
from pydantic import BaseModel

from millrace_consumer.batch import Batch
from millrace_consumer.modelfields import field_names
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.errors import RecordsRejected


def batch(*texts: bytes) -> Batch:
    return Batch("b", [Envelope(str(i), "s", "t", None, msgspec.Raw(text)) for i, text in enumerate(texts)])


def test_each_form_is_made_once() -> None:
    one = batch(b'{"a":1}', b"2")
    assert one.lines is one.lines
    assert one.records is one.records
    assert one.table is one.table
    assert (one.lines, one.records) == ([b'{"a":1}', b"2"], [{"a": 1}, 2])


@pytest.mark.parametrize("texts", [[b'{"a":1}', b"2"], [b'{"a":\n1}', b"2"], [b"1\r", b"2"], [b"\n\n1", b"2"], []])
def test_the_text_is_the_lines_each_with_a_break_behind_it(texts: list[bytes]) -> None:
    text = batch(*texts).text
    assert text == b"".join(line + b"\n" for line in batch(*texts).lines)
    assert len(text.splitlines()) == len(texts)


def test_an_envelope_that_nothing_changed_is_passed_on_as_it_stood_on_the_list() -> None:
    given = batch(b"1", b"2", b"3").envelopes
    one = Batch("b", given, originals=[b'{"id":"0",\n"others":true}', None, b"third"])
    assert one.envelope_lines == [b'{"id":"0", "others":true}', given[1].line, b"third"]
    assert one.pick([2, 0]).envelope_lines == [b"third", b'{"id":"0", "others":true}']
    assert Batch("b", given).envelope_lines == [envelope.line for envelope in given]


def test_records_without_a_form_are_named() -> None:
    with pytest.raises(RecordsRejected) as rejection:
        _ = batch(b"1", b"1e999", b"2").records
    assert list(rejection.value.reasons) == [1]
    with pytest.raises(RecordsRejected) as rejection:
        _ = Batch("b", [Envelope("0", "s", "t", None, object())]).lines
    assert list(rejection.value.reasons) == [0]


def test_a_part_keeps_the_id_and_what_was_made_already() -> None:
    one = batch(b'{"a":1}', b'{"a":2}', b'{"a":3}')
    records = one.records
    part = one.pick([2, 0])
    assert (part.id, part.lines, len(part)) == ("b", [b'{"a":3}', b'{"a":1}'], 2)
    assert part.records[0] is records[2]


def test_rows_and_envelopes_are_as_many() -> None:
    class Thing(BaseModel):
        a: int

    with pytest.raises(ValueError, match="1 rows for 2 envelopes"):
        Batch("b", batch(b"1", b"2").envelopes, model=Thing, rows=[Thing(a=1)])
    assert field_names(Thing) == ["a"]
