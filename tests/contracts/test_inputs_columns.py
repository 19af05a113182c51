"""The tables "Columns" and "Halves of characters" of docs/inputs.md: their rows are what happens."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
import yaml

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import RecordsRejected
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.process.repeats import repeats
from tests.contracts.sink_records import TIME
from tests.contracts.test_inputs import PAGE
from tests.contracts.typed_places import WITH_COLUMNS, place_for

TESTS = Path(__file__).parents[1]


class Case(NamedTuple):
    """A record, the sink's options, and what it becomes, as the page has it."""

    record: str
    options: str
    becomes: str


def rows_of(head: str) -> list[list[str]]:
    """The rows of the table with this head, as their cells."""
    table = PAGE.partition(f"{head}\n|---|")[2].partition("\n")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in re.split(r"(?<!\\) ?\| ?", line)[1:-1]] for line in table.splitlines()]


CASES = [Case(*row) for row in rows_of("| a record | with | it becomes |")]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.record} {case.options}")
@pytest.mark.parametrize("kind", WITH_COLUMNS)
def test_each_record_of_the_table_is_in_columns_what_it_says(
    kind: str, case: Case, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    place = place_for(request, kind, tmp_path / "place")
    place.make({"id": "integer", "userid": "text"})
    text = case.record.strip("`").encode()
    batch = Batch("b", [Envelope("1", "s", "t", TIME, msgspec.Raw(text))], flow="flow")
    with repeats.heard() as heard:
        try:
            place.sink(**(yaml.safe_load(case.options.strip("`")) or {})).write(batch)
        except RecordsRejected:
            assert case.becomes == "dead letter"
            return
    events = [event for event, _ in heard if event != "lone_surrogate_replaced"]
    said = f": said ({', '.join(f'`{event}`' for event in events)})" if events else ""
    (row,) = place.rows()
    assert f"`{json.dumps(row, ensure_ascii=False, separators=(',', ':'))}`{said}" == case.becomes


RUN_BY = {
    "from Scrapy, files": "integration/test_any_json.py::test_any_json_is_read_back_or_set_aside",
    "in `data` of parquet and delta": "integration/test_any_json.py::test_any_json_is_read_back_or_set_aside",
    "in a model's fields, csv": "integration/test_any_json.py::test_any_field_is_in_its_column_or_its_record_set_aside",
    "in a key": "contracts/test_inputs.py::test_each_text_of_the_table_becomes_what_it_says",
    "a field with a column of its name": "contracts/test_columns.py::test_a_field_finds_its_column_in_other_letters",
    "`userId`, where there is a column": "contracts/test_columns.py::test_a_field_finds_its_column_in_other_letters",
    "`User_Id`, where the flow's model": "contracts/test_columns.py::test_a_models_fields_are_found_by_the_letter",
    "`userId` and `USERID`": "contracts/test_columns.py::test_of_two_fields_that_may_be_one_column_both_are_named",
    "a record of which no field": "contracts/test_columns.py::test_a_record_of_which_nothing_has_a_column_is_set_aside",
    "`{}`": "integration/test_any_json.py::test_any_field_is_in_its_column_or_its_record_set_aside",
    "a field that an option names": "unit/test_named_field.py::"
    "test_a_field_is_found_by_the_letter_or_where_one_name_is_alike",
    "a field, or an element of a list": "contracts/test_columns.py::test_each_field_without_a_column_is_named_once",
    "a field, nested ones too": "contracts/test_columns.py::test_each_field_that_a_model_drops_is_named_once",
    "a field that a model takes by": "contracts/test_columns.py::"
    "test_a_field_that_a_model_takes_beside_its_own_is_named",
    "a key of a DuckDB `MAP`": "contracts/test_exact_columns.py::test_a_key_of_a_map_is_held_as_its_values_are",
    "a field of a struct": "contracts/test_columns.py::test_a_field_of_a_nested_type_that_a_delta_table_lacks_is_added",
    "an absent field": "contracts/test_upserts.py::test_what_a_record_lacks_is_the_tables_default_and_null_is_null",
    "null": "contracts/test_upserts.py::test_what_a_record_lacks_is_the_tables_default_and_null_is_null",
    "a number that no float holds": "integration/test_any_json.py::"
    "test_any_field_is_in_its_column_or_its_record_set_aside",
}
"""Rows that are told in words, by how they begin, and the test that runs each."""


def test_each_row_in_words_is_run_by_a_test() -> None:
    told = [
        row[0] for head in ("| where | what it is |", "| what comes | what becomes of it |") for row in rows_of(head)
    ]
    found = [
        [begins for begins in RUN_BY if row == begins or re.match(rf"{re.escape(begins)}[ ,;]", row)] for row in told
    ]
    loose = [row for row, begins in zip(told, found, strict=True) if not begins]
    assert not loose, "rows that no test runs"
    assert {begins for some in found for begins in some} == set(RUN_BY)
    for test in RUN_BY.values():
        file, _, name = test.partition("::")
        assert f"def {name}(" in (TESTS / file).read_text(), test
