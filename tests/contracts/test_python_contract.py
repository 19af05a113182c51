"""The python sink keeps the sink contract as far as the function does; the null sink keeps nothing."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import pytest

from millrace_consumer.sinks.base import RecordsRejected
from millrace_consumer.sinks.null import NullSink
from millrace_consumer.sinks.python import PythonSink
from millrace_pipeline.errors import ConfigError
from tests.contracts.sink_contract import SinkContract
from tests.contracts.sink_records import batch_of

WRITERS = "tests.contracts.python_writers"


class TestPythonSink(SinkContract):
    sink = "millrace_consumer.sinks.python:PythonSink"
    idempotent = False
    kill_points: ClassVar[tuple[str, ...]] = ("sink.before_write", "sink.after_write")

    def options(self, destination: Path) -> dict[str, Any]:
        return {"function": f"{WRITERS}:append", "arguments": {"path": str(destination)}}

    def read_back(self, destination: Path) -> list[Any]:
        lines = destination / "lines"
        return [json.loads(line) for line in lines.read_bytes().splitlines()] if lines.exists() else []


class TestPythonSinkWhoseFunctionKnowsIds(TestPythonSink):
    idempotent = True

    def options(self, destination: Path) -> dict[str, Any]:
        return {"function": f"{WRITERS}:insert", "arguments": {"path": str(destination)}}

    def read_back(self, destination: Path) -> list[Any]:
        if not (destination / "table").exists():
            return []
        with closing(sqlite3.connect(destination / "table")) as db:
            return [json.loads(line) for (line,) in db.execute("SELECT line FROM lines ORDER BY rowid")]

    test_a_full_destination_takes_the_batch_once_it_has_room = None  # type: ignore[assignment]  # SQLite's words, not ours
    test_its_docstring_begins_with_its_guarantee = None  # type: ignore[assignment]  # which is that of any function


def test_what_the_function_raises_is_passed_on() -> None:
    with pytest.raises(RecordsRejected) as rejection:
        PythonSink(function=f"{WRITERS}:picky").write(batch_of("b", [{"n": 1}, {"n": 2}]))
    assert list(rejection.value.reasons) == [0]


@pytest.mark.parametrize("function", [f"{WRITERS}:NOT_A_FUNCTION", f"{WRITERS}:apend", "no_such_module:write", "write"])
def test_what_is_no_function_is_refused_when_the_flow_is_checked(function: str) -> None:
    with pytest.raises(ConfigError, match=function.rpartition(":")[2]):
        PythonSink(function=function).check(None)


def test_the_null_sink_takes_everything_and_keeps_nothing() -> None:
    NullSink().write(batch_of("b", [{"n": 1}, object()]))
    assert not NullSink().has_batch("b")
    assert (NullSink.__doc__ or "").startswith("Exactly once")
