"""How a source came to its end is told apart: it gave records, had nothing new, was empty, or is broken."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from millrace_pipeline.errors import SourceRefused
from millrace_pipeline.flows.flow import load
from millrace_producer.runner import Producer
from tests.services import Place

ENDS = ("source_ended", "source_unchanged", "source_empty")


def ended(place: Place, source: dict[str, Any]) -> list[str]:
    """Runs a producer to its end and returns what it says of it."""
    place.flow(source=source)
    flow, never = load(place.folder / "flows.yaml")["numbers"], threading.Event()
    with structlog.testing.capture_logs() as logs:
        Producer(flow, place.redis_url, stopping=never, give_up=never).run()
    return [log["event"] for log in logs if log["event"] in ENDS]


@pytest.fixture
def stdin(tmp_path: Any) -> Iterator[Any]:
    before = os.dup(0)

    def put(text: bytes) -> None:
        (tmp_path / "stdin").write_bytes(text)
        with (tmp_path / "stdin").open("rb") as file:
            os.dup2(file.fileno(), 0)

    yield put
    os.dup2(before, 0)
    os.close(before)


def test_files_tell_records_nothing_new_and_emptiness_apart(place: Place) -> None:
    path, options = place.folder / "in" / "f.jsonl", {"type": "files", "settle": 0}
    path.parent.mkdir()
    with pytest.raises(SourceRefused, match="there is no file"):
        ended(place, options | {"path": str(path)})
    assert ended(place, options | {"path": f"{path.parent}/*.jsonl"}) == ["source_empty"]
    path.write_bytes(b"")
    assert ended(place, options | {"path": str(path)}) == ["source_empty"]
    path.write_bytes(b"1\n")
    assert ended(place, options | {"path": str(path)}) == ["source_ended"]
    assert ended(place, options | {"path": str(path)}) == ["source_unchanged"]


def test_standard_input_tells_records_and_emptiness_apart(place: Place, stdin: Any) -> None:
    stdin(b"")
    assert ended(place, {"type": "stdin"}) == ["source_empty"]
    stdin(b"1\n")
    assert ended(place, {"type": "stdin"}) == ["source_ended"]


@pytest.mark.parametrize(("function", "said"), [("builtins:list", "source_empty"), ("locale:localeconv", "")])
def test_a_function_tells_emptiness_from_what_is_no_iterable(place: Place, function: str, said: str) -> None:
    source = {"type": "python", "function": function}
    if not said:
        with pytest.raises(SourceRefused, match="expected an iterable of records"):
            ended(place, source)
        return
    assert ended(place, source) == [said]
