"""What becomes of each record of a claimed batch."""

from __future__ import annotations

from typing import Any

import msgspec
import polars as pl
import pytest
from pydantic import BaseModel

from millrace_consumer.batch import Batch
from millrace_consumer.delivery import Delivery, prepare
from millrace_consumer.plan import Plan
from millrace_consumer.transforms.chain import stages
from millrace_pipeline.envelope import Record, decode_published, encode
from millrace_pipeline.errors import ConfigError, RecordError, RecordsRejected
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.mark import is_foreign, unmarked
from millrace_pipeline.moment import now
from millrace_pipeline.queue import Claim


def line(data: Any, id: str = "1") -> bytes:
    return encode(Record(data), id=id, source="test", time=now(), mark="list")


def delivery(*lines: bytes, **options: Any) -> Delivery:
    return prepare(Claim("batch-1", "token", 1, 1, list(lines)), Plan("test", "list", **options))


HOSTILE = {
    "not JSON": b"{no json",
    "not UTF-8": b'{"a": "\xff"}',
    "NaN": b'{"a": NaN}',
    "nested too deep": b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "an array": b"[1, 2]",
    "a string": b'"text"',
    "a number": b"7",
    "null": b"null",
    "nothing": b"",
    "a byte order mark": b'\xef\xbb\xbf{"a": 1}',
    "an envelope of another version": b'{"specversion":"2.0","id":"1","source":"s","type":"t","data":{}}',
    "an envelope whose version is a number": b'{"specversion":1.0,"id":"1","source":"s","type":"t","data":{}}',
    "an envelope without an id": b'{"specversion":"1.0","source":"s","type":"t","data":{}}',
    "two objects": b'{"a":1}{"b":2}',
    "an envelope without data": b'{"specversion":"1.0","id":"1","source":"s","type":"t"}',
}


@pytest.mark.parametrize("bytes_", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_no_record_becomes_a_dead_letter_with_its_exact_bytes(bytes_: bytes) -> None:
    made = delivery(line({"n": 1}), bytes_, line({"n": 2}))
    assert [letter.original for letter in made.dead] == [bytes_]
    assert made.dead[0].reason
    assert made.batch.lines == [b'{"n":1}', b'{"n":2}']
    assert (made.delivered, made.filtered, made.foreign) == (2, 0, 1)


@pytest.mark.parametrize(
    "data",
    [
        b'{"n": 18446744073709551616}',
        b'{"n": 1.0000000000000000000001, "e": 1e999}',
        b'{"a":1,"a":2}',
        '{"text": "Ünïcödé \u2028 😀"}'.encode(),
        b'{"a":' + b"[" * 200 + b"]" * 200 + b"}",
    ],
)
def test_odd_but_proper_json_comes_out_byte_for_byte(data: bytes) -> None:
    made = delivery(line(data))
    assert made.batch.lines == [data]
    assert made.dead == []


def test_a_hundred_megabytes_in_one_record_are_delivered() -> None:
    text = b'{"text": "' + b"x" * 100_000_000 + b'"}'
    assert delivery(text).batch.lines == [text]


def test_a_bare_object_is_a_foreign_record_with_an_id_that_stays() -> None:
    made = delivery(line({"n": 1}), b'{"quote": "by hand"}', b'{"id": 5, "type": 3}')
    assert [envelope.id for envelope in made.batch.envelopes] == ["1", "batch-1:1", "batch-1:2"]
    assert made.batch.lines[1:] == [b'{"quote": "by hand"}', b'{"id": 5, "type": 3}']
    assert made.foreign == 2


def test_a_bare_object_over_several_lines_comes_out_on_one() -> None:
    assert delivery(b'{\n  "a": 1\r\n}').batch.lines == [b'{   "a": 1 }']


def test_a_filtered_record_is_counted_as_such() -> None:
    made = delivery(line({"n": 1}), line({"n": 2}), transforms=[lambda record: record if record["n"] > 1 else None])
    assert (made.delivered, made.filtered, len(made.dead)) == (1, 1, 0)


def test_a_transform_that_raises_sets_that_record_aside() -> None:
    original = line({"n": 0})
    made = delivery(line({"n": 1}), original, transforms=[lambda record: {"n": 1 / record["n"]}])
    assert [letter.original for letter in made.dead] == [original]
    assert "ZeroDivisionError" in made.dead[0].reason
    assert made.delivered == 1


def test_a_record_that_fails_the_model_is_set_aside_and_the_reason_names_the_field() -> None:
    class Model(BaseModel):
        n: int

    made = delivery(line({"n": "seven"}), line({"n": 7}), model=Model)
    assert "n" in made.dead[0].reason
    assert "seven" not in made.dead[0].reason
    assert made.delivered == 1


def test_a_record_that_the_sink_rejects_is_set_aside_and_the_rest_is_offered_again() -> None:
    made = delivery(line({"n": 1}), b"rubbish", line({"n": 2}), line({"n": 3}))
    made.reject({1: "too long"})
    assert made.batch.lines == [b'{"n":1}', b'{"n":3}']
    made.reject({1: "also"})
    assert made.batch.lines == [b'{"n":1}']
    assert [letter.reason for letter in made.dead][1:] == ["too long", "also"]
    assert made.delivered == 1


def test_a_record_made_several_of_is_set_aside_whole() -> None:
    made = delivery(line({"n": 1}), line({"n": 2}), transforms=[lambda record: [record, record]])
    assert len(made.batch) == 4
    made.reject({3: "no"})
    assert made.batch.lines == [b'{"n":1}', b'{"n":1}']
    assert (made.delivered, len(made.dead)) == (1, 1)


@pytest.mark.parametrize("reasons", [{}, {2: "no"}, {-1: "no"}, {0: "no", 5: "no"}])
def test_who_rejects_no_record_of_the_batch_is_not_asked_for_ever(reasons: dict[int, str]) -> None:
    made = delivery(line({"n": 1}), line({"n": 2}))

    def refuse(_: Batch) -> None:
        raise RecordsRejected(reasons)

    with pytest.raises(RecordsRejected):
        made.offer(refuse)
    assert (made.delivered, made.dead) == (2, [])


def test_a_batch_of_which_every_record_is_rejected_is_offered_no_more() -> None:
    made = delivery(line({"n": 1}), line({"n": 2}))
    assert made.offer(lambda batch: _reject_first(batch)) is None
    assert (made.delivered, len(made.dead)) == (0, 2)


def _reject_first(batch: Batch) -> None:
    raise RecordsRejected({0: f"one of {len(batch)}"})


def test_a_plan_says_at_once_what_cannot_be_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str, extra: str, what: str) -> Any:
        raise ConfigError(f"{what} needs {module}: pip install 'millrace[{extra}]'")

    def columns(table: pl.DataFrame) -> pl.DataFrame:
        return table

    flow = Flow.model_validate({"name": "f", "source": {"type": "stdin"}, "sink": {"type": "stdout"}})
    monkeypatch.setattr(Flow, "load_transforms", lambda *_: [columns])
    assert Plan.of(flow).transforms == [columns]
    monkeypatch.setattr("millrace_consumer.transforms.chain.need", missing)
    stages.cache_clear()
    with pytest.raises(ConfigError, match=r"a transform of polars\.DataFrame needs polars"):
        Plan.of(flow)


def test_what_a_producer_could_just_say_and_a_consumer_deeper_in_its_stack_cannot_is_set_aside_alone() -> None:
    def at_depth(levels: int) -> Delivery:
        return at_depth(levels - 1) if levels else delivery(deepest, line(b"1"))

    def published(depth: int) -> bytes | None:
        try:
            return line(b"[" * depth + b"]" * depth)
        except RecordError:
            return None

    assert published(200_000) is None
    deepest = [found for depth in range(200, 3000, 20) if (found := published(depth))][-1]
    opened = at_depth(60)
    assert opened.delivered + len(opened.dead) == 2
    assert opened.delivered >= 1
    assert [letter.original for letter in opened.dead] in ([], [deepest])


CLOUDEVENT = b'{"specversion":"1.0","id":"1","source":"test","type":"record",%b}'
FOREIGN = {
    "a bare object": b'{"n":1}',
    "a CloudEvent of the same source": CLOUDEVENT % b'"data":{"n":1}',
    "an envelope of another list": encode(Record({"n": 1}), id="1", source="test", mark="list2"),
    "an envelope for no list": encode(Record({"n": 1}), id="1", source="test"),
    "a mark that is no text": CLOUDEVENT % b'"millrace":7,"data":{"n":1}',
    "a mark without an envelope": b'{"millrace":"list","data":{"n":1}}',
    "a mark in the data": CLOUDEVENT % b'"data":{"n":1,"millrace":"list"}',
    "data as base64": CLOUDEVENT % b'"data_base64":"eyJuIjoxfQ=="',
    "no JSON": b"{no json",
}
OURS = {
    "as it was published": line({"n": 1}),
    "a copy of it": line({"n": 1}),
    "with its attributes in another order": b'{"data":{"n":1},"millrace":"list",' + (CLOUDEVENT % b'"x":1')[1:],
    "broken by a person": line({"n": 1})[:-2],
    "too deep to be read": line({"n": 1})[:-1].replace(b'{"n":1}', b"[" * 100_000 + b"]" * 100_000) + b"}",
}


@pytest.mark.parametrize("pushed", FOREIGN.values(), ids=FOREIGN.keys())
def test_foreign_is_what_does_not_bear_the_list_s_mark(pushed: bytes) -> None:
    assert delivery(line({"n": 1}), pushed, line({"n": 2})).foreign == 1
    assert delivery(pushed).foreign == 1
    assert is_foreign(pushed, "list")
    parted = delivery(pushed, line({"n": 1}))
    assert (parted.part(0, 1).foreign, parted.part(1, 2).foreign) == (1, 0)


@pytest.mark.parametrize("pushed", OURS.values(), ids=OURS.keys())
def test_what_bears_the_mark_is_ours_also_where_it_cannot_be_read(pushed: bytes) -> None:
    assert delivery(pushed).foreign == 0
    assert delivery(b'{"n":1}', pushed).foreign == 1
    assert not is_foreign(pushed, "list")


@pytest.mark.parametrize("mark", ["list", 'a "quoted" one', "ünï", "{tag}:list", "a.b*c\\d"])
def test_a_list_of_any_name_knows_its_own(mark: str) -> None:
    ours = encode(Record({"n": 1}, key='"],\\', time=None), id="1", source='s"', mark=mark)
    opened = decode_published([ours], mark)
    assert opened is not None
    assert (opened[0].mark, opened[0].line) == (mark, ours)
    assert decode_published([ours], f"{mark}2") is None
    assert (is_foreign(ours, mark), is_foreign(ours, f"{mark}2")) == (False, True)
    bare = unmarked(ours, mark)
    assert bare == encode(Record({"n": 1}, key='"],\\'), id="1", source='s"', time=opened[0].time)
    assert unmarked(ours, f"{mark}2") == ours


def test_an_envelope_that_a_transform_changed_keeps_the_mark() -> None:
    (changed,) = delivery(line({"n": 1}), transforms=[lambda record: {"n": 2 * record["n"]}]).batch.envelope_lines
    assert not is_foreign(changed, "list")


BASE64 = {
    "JSON by default": (b'"data_base64":"eyJuIjoxfQ=="', b'{"n":1}'),
    "a type that is null": (b'"datacontenttype":null,"data_base64":"eyJuIjoxfQ=="', b'{"n":1}'),
    "application/json": (b'"datacontenttype":"application/json","data_base64":"eyJuIjoxfQ=="', b'{"n":1}'),
    "with a parameter": (
        b'"datacontenttype":"Application/JSON ; charset=utf-8","data_base64":"eyJuIjoxfQ=="',
        b'{"n":1}',
    ),
    "+json": (b'"data_base64":"eyJuIjoxfQ==","datacontenttype":"application/vnd.x+JSON"', b'{"n":1}'),
    "text/json": (b'"data_base64":"eyJuIjoxfQ==","datacontenttype":"text/json"', b'{"n":1}'),
    "text": (
        b'"datacontenttype":"text/plain","data_base64":"aGk="',
        b'{"datacontenttype":"text/plain","data_base64":"aGk="}',
    ),
    "avro": (
        b'"datacontenttype":"application/avro","data_base64":""',
        b'{"datacontenttype":"application/avro","data_base64":""}',
    ),
    "null in base64": (b'"data_base64":"bnVsbA=="', b"null"),
    "null as it is": (b'"data":null', b"null"),
    "data beside a base64 that is null": (b'"data":{"n":1},"data_base64":null', b'{"n":1}'),
    "text as data": (b'"datacontenttype":"text/plain","data":"{}"', b'"{}"'),
    "text that is JSON": (b'"datacontenttype":"application/json","data":"{}"', b'"{}"'),
}
UNUSABLE = {
    "no base64": (b'"data_base64":"eyJuIjoxfQ"', "data_base64 is not base64"),
    "base64 for URLs": (b'"data_base64":"8J-YgA=="', "data_base64 is not base64"),
    "no base64 of another type": (b'"datacontenttype":"a/b","data_base64":"!"', "data_base64 is not base64"),
    "a number": (b'"data_base64":7', "data_base64 is no text"),
    "a type that is a number": (b'"data_base64":"aGk=","datacontenttype":7', "datacontenttype is no text"),
    "no JSON": (b'"data_base64":"aGk="', "data_base64: not JSON"),
    "two JSON texts": (b'"data_base64":"MSAy"', "data_base64: not JSON"),
    "JSON not in UTF-8": (b'"data_base64":"Iv8i"', "data_base64: not UTF-8"),
    "both": (b'"data":1,"data_base64":"MQ=="', "both data and data_base64"),
    "both, one of them null": (b'"data":null,"data_base64":"MQ=="', "both data and data_base64"),
    "neither": (b'"datacontenttype":"application/json"', "envelope without data"),
    "nothing but a null": (b'"data_base64":null', "envelope without data"),
}


@pytest.mark.parametrize(("attributes", "data"), BASE64.values(), ids=BASE64.keys())
def test_the_data_of_a_cloudevent_is_delivered_and_is_never_made_null(attributes: bytes, data: bytes) -> None:
    event = CLOUDEVENT % attributes
    batch = delivery(event).batch
    assert batch.lines == [data]
    assert batch.envelope_lines == [event]


@pytest.mark.parametrize(("attributes", "reason"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_a_cloudevent_whose_data_is_not_to_be_had_is_set_aside(attributes: bytes, reason: str) -> None:
    event = CLOUDEVENT % attributes
    for given in (event, event[:-1] + b',"millrace":"list"}'):
        (letter,) = delivery(given).dead
        assert letter.original == given
        assert reason in letter.reason


EXTENDED = b'{"id":"9","source":"s","type":"t","traceparent":"00-1","specversion":"1.0","data":{"n":9}}'


def test_an_envelope_that_no_transform_changed_keeps_every_attribute_it_had_on_the_list() -> None:
    """Also those of others: CloudEvents calls them extensions."""
    lines = [EXTENDED, line({"n": 1}), line({"n": 2})]

    def odd_ones_doubled(record: dict[str, int]) -> dict[str, int] | None:
        if record["n"] == 2:
            return None
        return record if record["n"] == 9 else {"n": 2 * record["n"]}

    assert delivery(*lines).batch.envelope_lines == lines
    kept, doubled = delivery(*lines, transforms=[odd_ones_doubled]).batch.envelope_lines
    assert kept == EXTENDED
    assert msgspec.json.decode(doubled)["data"] == {"n": 2}


def test_a_bare_object_gets_an_envelope_beside_those_that_have_theirs() -> None:
    foreign, own = delivery(b'{"n":1}', EXTENDED).batch.envelope_lines
    assert own == EXTENDED
    assert msgspec.json.decode(foreign)["specversion"] == "1.0"
    assert msgspec.json.decode(foreign)["data"] == {"n": 1}


def test_the_envelopes_of_what_fits_the_model_stay_as_they_were_beside_one_that_does_not() -> None:
    class Small(BaseModel):
        n: int

    assert delivery(EXTENDED, line({"n": "x"}), model=Small).batch.envelope_lines == [EXTENDED]
