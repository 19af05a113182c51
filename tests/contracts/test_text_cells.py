"""Text cells: what an empty one means, by every source whose records are texts where a model may want other types."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field, ValidationError

from millrace.testing import value_of
from millrace_pipeline.flows.component import Component
from millrace_producer.sources import SOURCES
from millrace_producer.sources.base import Source
from tests.waysin import Ways

Row = dict[str, str]


@pytest.fixture
def ways(tmp_path: Path, redis_url: str) -> Iterator[Ways]:
    with Ways(tmp_path, redis_url) as ways:
        yield ways


def of_csv(row: Row) -> bytes:
    return f"{','.join(row)}\n{','.join(row.values())}\n".encode()


READERS: dict[str, Callable[..., Any]] = {
    "files": lambda ways, row, **how: ways.file(of_csv(row), ".csv", **how),
    "rest": lambda ways, row, **how: ways.body(of_csv(row), "text/csv", format="csv", **how),
    "redis": lambda ways, row, **how: ways.entries([{name: cell.encode() for name, cell in row.items()}], **how),
}


def classes() -> dict[str, type[Source]]:
    return {name: Component(type=name).find(SOURCES, Source) for name in SOURCES}


def test_every_source_of_text_cells_says_what_null_is() -> None:
    found = classes()
    with_null = {name for name, kind in found.items() if "null" in kind.model_fields}
    reads_csv = {name for name, kind in found.items() if "csv" in str(kind.model_fields.get("format"))}
    assert with_null == set(READERS) == reads_csv | {"redis"}
    said = {found[name].model_fields["null"].description for name in with_null}
    assert len(said) == 1


class Typed(BaseModel):
    n: int | None
    day: date | None = Field(validation_alias="Day")
    flag: bool | None
    name: str | None
    must: int
    anything: Any


@pytest.mark.parametrize("reader", READERS)
def test_an_empty_cell_is_null_where_the_model_takes_null_and_no_text(ways: Ways, reader: str) -> None:
    row = {"n": "", "Day": "", "flag": "", "name": "", "must": "", "anything": ""}
    assert [value_of(record) for record in READERS[reader](ways, row)] == [row]
    nulls = {"n": None, "Day": None, "flag": None}
    assert [value_of(record) for record in READERS[reader](ways, row, model=Typed)] == [row | nulls]


class TwoAlike(BaseModel):
    n: int | None
    N: str | None
    day: date | None


@pytest.mark.parametrize("reader", READERS)
def test_an_empty_cell_in_other_letters_is_null_where_they_are_unambiguous(ways: Ways, reader: str) -> None:
    row = {"n": "", "N": "", "Day": "", "other": ""}
    came = [value_of(record) for record in READERS[reader](ways, row, model=TwoAlike)]
    assert came == [{"n": None, "N": "", "Day": None, "other": ""}]


@pytest.mark.parametrize("reader", READERS)
def test_what_is_said_to_stand_for_null_does_in_every_field(ways: Ways, reader: str) -> None:
    row = {"n": "NA", "name": "NA", "must": ""}
    came = [value_of(record) for record in READERS[reader](ways, row, model=Typed, null="NA")]
    assert came == [{"n": None, "name": None, "must": ""}]
    row = {"n": "", "name": "", "must": "1"}
    came = [value_of(record) for record in READERS[reader](ways, row, null="")]
    assert came == [{"n": None, "name": None, "must": "1"}]


@pytest.mark.parametrize(
    ("type", "options"),
    [
        ("files", {"path": "f.jsonl"}),
        ("rest", {"url": "http://127.0.0.1/"}),
        ("redis", {"url": "redis://127.0.0.1", "key": "k"}),
        ("redis", {"url": "redis://127.0.0.1", "key": "k", "kind": "stream", "field": "data"}),
    ],
)
def test_null_is_refused_where_nothing_is_a_text_cell(type: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"null (?:is|are) for"):
        classes()[type](null="", **options)
