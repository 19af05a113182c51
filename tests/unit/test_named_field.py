"""An option of a sink that names a field of the record: each finds it alike, and says it where nothing is there."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import structlog

from millrace_consumer.sinks import namedfield
from millrace_consumer.sinks.namedfield import NamedField
from millrace_pipeline.process.repeats import Repeats


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namedfield, "repeats", Repeats())


@pytest.mark.parametrize(
    ("pointer", "record", "found"),
    [
        ("userId", {"userId": 1, "userid": 2}, 1),
        ("userid", {"userId": 1}, 1),
        ("/meta/DOMAIN", {"Meta": {"domain": "x"}}, "x"),
        ("/tags/1", {"tags": ["a", "b"]}, "b"),
        ("a.b", {"a.b": 1, "a": {"b": 2}}, 1),
        ("n", {"n": None}, None),
    ],
)
def test_a_field_is_found_by_the_letter_or_where_one_name_is_alike(pointer: str, record: Any, found: Any) -> None:
    with structlog.testing.capture_logs() as logs:
        assert NamedField("partition", pointer).of(record) == found
    assert logs == []


@pytest.mark.parametrize(
    ("pointer", "record", "mend"),
    [
        ("userid", {"userId": 1, "USERID": 2}, None),
        ("gone", {"n": 1}, None),
        ("/tags/9", {"tags": ["a"]}, None),
        ("n", [1, 2], None),
        ("n", "text", None),
        ("meta.id", {"meta": {"id": 1}}, "a nested field is named as /meta/id"),
    ],
)
def test_what_is_not_there_is_said_once_and_counted(pointer: str, record: Any, mend: str | None) -> None:
    field = NamedField("partition", pointer)
    with structlog.testing.capture_logs() as logs:
        assert [field.of(record) for _ in range(3)] == [None] * 3
    (told,) = logs
    assert (told["event"], told["option"], told["field"], told.get("mend")) == (
        "field_not_found",
        "partition",
        pointer,
        mend,
    )


def test_a_time_that_is_none_is_said_once() -> None:
    time = NamedField("time", "at")
    with structlog.testing.capture_logs() as logs:
        assert time.moment_of({"at": "1795945907531"}) is not None
        assert [time.moment_of({"at": "yesterday"}) for _ in range(3)] == [None] * 3
    assert [(told["event"], told["found"]) for told in logs] == [("time_not_understood", "'yesterday'")]


def test_no_sink_looks_a_field_up_in_another_way() -> None:
    """What is read back goes by the letter: it asks for what the sink itself wrote."""
    folder = Path(inspect.getfile(namedfield)).parent
    own = {"namedfield.py", "csvfinding.py", "deltareadback.py"}
    found = [path.name for path in folder.rglob("*.py") if "resolve(" in path.read_text() and path.name not in own]
    assert sorted(found) == ["jsonl.py", "parquet.py"]
