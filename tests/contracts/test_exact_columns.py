"""What columns of databases hold: all of a value, or it is a dead letter. docs/inputs.md says which, value by value."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import RecordsRejected, Sink
from millrace_pipeline.envelope import Envelope
from tests.contracts.sink_records import TIME
from tests.contracts.test_inputs import IN_COLUMNS, Row
from tests.contracts.typed_places import PLACES, SqlPlace, place_for

SQL = [name for name, place in PLACES.items() if issubclass(place, SqlPlace)]
_INTO = re.compile(r"(.*), into `(.*)`")

CASES = [(sink, row) for row in IN_COLUMNS for sink in row.to.partition(", into")[0].split(", ")]


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> SqlPlace:
    found = place_for(request, request.param, tmp_path / "place")
    assert isinstance(found, SqlPlace)
    return found


each_place = pytest.mark.parametrize("place", SQL, indirect=True)


def of(*records: str, id: str = "b") -> Batch:
    envelopes = [Envelope(str(n), "s", "t", TIME, msgspec.Raw(record.encode())) for n, record in enumerate(records)]
    return Batch(id, envelopes, flow="flow")


def reasons(sink: Sink, batch: Batch) -> dict[int, str]:
    try:
        sink.write(batch)
    except RecordsRejected as rejected:
        return rejected.reasons
    return {}


@pytest.mark.parametrize(
    ("place", "row"), CASES, indirect=["place"], ids=[f"{sink} {row.comes} {row.to}" for sink, row in CASES]
)
def test_a_column_holds_all_of_a_value_or_it_is_a_dead_letter(place: SqlPlace, row: Row) -> None:
    _, kind = _INTO.fullmatch(row.to).groups()  # type: ignore[union-attr]
    place.make({"id": "integer", "v": kind})
    value = row.comes.strip("`")
    refused = reasons(place.sink(), of(f'{{"id": 1, "v": {value}}}'))
    if refused:
        assert row.becomes == "dead letter", refused
        told = refused[0].replace("true or false", "").replace("known", "")
        assert value.strip('"[]') not in told
        return
    text = "array_to_string(v, ', ')" if kind.endswith("[]") else "CAST(v AS text)"
    assert f"`{place.run(f'SELECT {text} FROM {place.table_name}')[1][0][0]}`" == row.becomes


@each_place
def test_one_value_that_a_column_does_not_hold_takes_none_of_its_batch_along(place: SqlPlace) -> None:
    place.make({"id": "integer", "v": "timestamp"})
    batch = of('{"id": 1, "v": "2026-01-01"}', '{"id": 2, "v": "now"}', '{"id": 3, "v": null}')
    assert list(reasons(place.sink(), batch)) == [1]
    place.sink().write(batch.pick([0, 2]))
    assert [row["id"] for row in place.rows()] == [1, 3]


@each_place
def test_a_batch_that_is_in_makes_no_dead_letter_when_its_table_became_narrower(place: SqlPlace) -> None:
    place.make({"id": "integer", "v": "text"})
    batch, sink = of('{"id": 1, "v": "01/02/2026"}', '{"id": 2, "v": "2026-01-02"}'), place.sink()
    sink.write(batch)
    place.run(f"DROP TABLE {place.table_name}")
    place.make({"id": "integer", "v": "timestamp"})
    other = place.sink()
    assert list(reasons(other, of('{"id": 1, "v": "01/02/2026"}', id="new"))) == [0]
    for again in (sink, other):
        again.write(batch)
    assert place.rows() == []


@each_place
def test_of_a_batch_that_is_in_the_same_records_are_refused_when_its_table_became_narrower(place: SqlPlace) -> None:
    place.make({"id": "integer", "v": "text"})
    batch, sink = of('{"id": 1, "v": "01/02/2026"}', "[2]", '{"id": 3, "v": "now"}'), place.sink()
    first = reasons(sink, batch)
    assert list(first) == [1]
    sink.write(batch.pick([0, 2]))
    place.run(f"DROP TABLE {place.table_name}")
    place.make({"id": "integer", "v": "timestamp"})
    assert reasons(place.sink(), batch) == first
    place.sink().write(batch.pick([0, 2]))
    assert place.rows() == []
