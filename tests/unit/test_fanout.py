"""Several sinks as one: who gets what, and whose failure holds what back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from pydantic import Field
from structlog.testing import capture_logs

from millrace.cli.check import load_all
from millrace_consumer import fanout
from millrace_consumer.batch import Batch
from millrace_consumer.fanout import sink_of
from millrace_consumer.sinks.base import Command, RecordsRejected, Sink, SinkUnavailable
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import Flow
from tests.contracts.sink_records import batch_of

HERE = "tests.unit.test_fanout"


class Tray(Sink):
    """Exactly once: keeps a batch by its id, and fails as `troubles` tell it to, one a write."""

    name: str
    troubles: list[Any] = Field(default_factory=list)

    def write(self, batch: Batch) -> None:
        trouble = self.troubles.pop(0) if self.troubles else None
        if isinstance(trouble, Exception):
            raise trouble
        if isinstance(trouble, dict):
            raise RecordsRejected(trouble)
        assert batch.id not in trays[self.name], "written twice by one consumer"
        trays[self.name][batch.id] = [record["n"] for record in batch.records]
        batch.written = len(self.name)

    def has_batch(self, batch_id: str) -> bool:
        return batch_id in trays[self.name]

    def close(self) -> None:
        closed.append(self.name)
        if self.name == "broken":
            raise OSError("can't be closed")


class WithAck(Sink):
    """Exactly once: in the ack's step."""

    def write(self, batch: Batch) -> None:
        """Nothing."""

    def ack_commands(self, batch: Batch) -> list[Command]:
        return [("RPUSH", "k", *batch.lines)]


trays: dict[str, dict[str, list[int]]] = {}
closed: list[str] = []


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "LEFT_ALONE_SECONDS", 0.0)  # so nothing is left alone but where a test says so
    for kept in (trays, closed):
        kept.clear()
    trays.update({"a": {}, "b": {}, "c": {}, "broken": {}})


def tray(name: str, *troubles: Any, **options: Any) -> dict[str, Any]:
    return {"type": f"{HERE}:Tray", "name": name, "troubles": list(troubles), **options}


def fan_out(*sinks: dict[str, Any]) -> Sink:
    return sink_of(
        Flow.model_validate({"name": "f", "source": {"type": "sse", "url": "http://h/"}, "sink": list(sinks)})
    )


def batch(count: int = 4, id: str = "batch-1") -> Batch:
    made = batch_of(id, [{"n": n} for n in range(count)])
    made.flow = "f"
    return made


def missed(sink: str) -> float:
    return REGISTRY.get_sample_value("millrace_records_missed_total", {"flow": "f", "sink": sink}) or 0.0


def test_each_sink_gets_every_batch() -> None:
    several = fan_out(tray("a"), tray("b"), tray("c", required=False))
    written = batch()
    several.write(written)
    assert trays["a"] == trays["b"] == trays["c"] == {"batch-1": [0, 1, 2, 3]}
    assert written.written == 1
    assert several.has_batch("batch-1")
    assert not several.has_batch("batch-2")


def test_a_list_of_one_is_that_sink() -> None:
    assert isinstance(fan_out(tray("a")), Tray)


def test_a_sink_that_has_the_batch_is_not_asked_again_while_another_is_waited_for() -> None:
    several, offered = fan_out(tray("a"), tray("b", SinkUnavailable("down", retry_after=7))), batch()
    with pytest.raises(SinkUnavailable, match="Tray 2: down") as unavailable:
        several.write(offered)
    assert unavailable.value.retry_after == 7
    several.write(offered)  # Tray itself fails where it is asked twice
    assert trays["a"] == trays["b"] == {"batch-1": [0, 1, 2, 3]}


def test_what_one_rejects_is_named_after_it_and_the_sink_before_it_keeps_the_whole_batch() -> None:
    several, offered = fan_out(tray("a"), tray("b", {1: "odd"})), batch()
    with pytest.raises(RecordsRejected) as rejection:
        several.write(offered)
    assert rejection.value.reasons == {1: f"{HERE}:Tray 2: odd"}
    several.write(offered.pick([0, 2, 3]))  # as the runner offers the rest
    assert (trays["a"], trays["b"]) == ({"batch-1": [0, 1, 2, 3]}, {"batch-1": [0, 2, 3]})


def test_a_batch_that_another_consumer_delivers_again_goes_to_each_sink_by_its_id() -> None:
    several = fan_out(tray("a"), tray("b", OSError("torn")))
    with pytest.raises(SinkUnavailable, match="torn"):
        several.write(batch())
    trays["a"].clear()  # so that Tray doesn't mind: a sink of its own would find the id and change nothing
    several.write(batch())  # the same records, opened anew
    assert trays["a"] == trays["b"] == {"batch-1": [0, 1, 2, 3]}


def test_a_bug_in_a_sink_is_raised_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        fan_out(tray("a", ZeroDivisionError()), tray("b")).write(batch())


def test_a_sink_that_is_not_required_holds_nothing_back_and_what_it_misses_is_told_and_counted() -> None:
    several = fan_out(tray("a", ZeroDivisionError("bug"), OSError("torn"), required=False), tray("b"))
    name = f"{HERE}:Tray 1"
    before = missed(name)
    with capture_logs() as logs:
        for number in range(3):
            several.write(batch(id=f"batch-{number}"))
    assert list(trays["b"]) == ["batch-0", "batch-1", "batch-2"]
    assert list(trays["a"]) == ["batch-2"]
    assert missed(name) - before == 8
    told = [(line["event"], line.get("reason")) for line in logs]
    assert told == [
        ("optional_sink_unavailable", "ZeroDivisionError: bug"),
        ("records_missed", None),
        ("records_missed", None),
        ("optional_sink_available", None),
    ]


def test_records_that_a_sink_rejects_though_it_is_not_required_are_missed_alone() -> None:
    several = fan_out(tray("a", {1: "odd", 2: "odd"}, required=False), tray("b"))
    name = f"{HERE}:Tray 1"
    before = missed(name)
    several.write(batch())
    assert (trays["a"], trays["b"]) == ({"batch-1": [0, 3]}, {"batch-1": [0, 1, 2, 3]})
    assert missed(name) - before == 2


def test_a_sink_that_is_not_required_and_names_no_record_of_the_batch_is_not_asked_for_ever() -> None:
    fan_out(tray("a", {99: "odd"}, required=False), tray("b")).write(batch())
    assert (trays["a"], trays["b"]) == ({}, {"batch-1": [0, 1, 2, 3]})


def test_a_sink_that_is_not_required_is_left_alone_for_as_long_as_it_asked() -> None:
    several = fan_out(tray("a", SinkUnavailable("busy", retry_after=600), required=False), tray("b"))
    for number in range(2):
        several.write(batch(id=f"batch-{number}"))
    assert (list(trays["a"]), list(trays["b"])) == ([], ["batch-0", "batch-1"])


def test_those_that_are_not_required_come_last() -> None:
    several = fan_out(tray("a", required=False), tray("b", SinkUnavailable("down")))
    with pytest.raises(SinkUnavailable):
        several.write(batch())
    assert trays["a"] == {}


def test_each_is_closed_whatever_the_others_do() -> None:
    several = fan_out(tray("a"), tray("broken"), tray("c", required=False))
    with pytest.raises(OSError, match="can't be closed"):
        several.close()
    assert closed == ["a", "broken", "c"]


def test_what_is_written_with_the_ack_is_passed_on_and_is_required() -> None:
    several, offered = fan_out(tray("a"), {"type": f"{HERE}:WithAck"}), batch(2)
    several.write(offered)
    assert several.writes_in_ack
    assert several.ack_commands(offered) == [("RPUSH", "k", b'{"n":0}', b'{"n":1}')]
    assert not fan_out(tray("a"), tray("b")).writes_in_ack
    with pytest.raises(ConfigError, match="required"):
        fan_out(tray("a"), {"type": f"{HERE}:WithAck", "required": False}).check(None)


# -- flows.yaml -------------------------------------------------------------------------------------------------------

TWO = "flows:\n  a:\n    source: {type: sse, url: 'http://h/'}\n    sink:\n"


@pytest.mark.parametrize(
    ("sinks", "expected"),
    [
        ("    - {type: jsonl}\n    - {type: 'null'}", "5:7: flows.a.sink[0].path: is missing"),
        ("    - {type: 'null'}\n    - {type: jsonl, path: x, pth: y}", "6:30: flows.a.sink[1].pth: unknown option"),
        ("    - {type: 'null'}\n    - {type: jsnl}", "6:14: flows.a.sink[1].type: unknown sink type, 'jsnl'"),
        ("    - {type: 'null'}\n    - 7", "6:7: flows.a.sink[1]: expected one such as"),
        ("    - {type: 'null'}\n    - {path: x}", "6:7: flows.a.sink[1].type: is missing"),
        ("    - {type: 'null'}\n    - {type: 7}", "6:14: flows.a.sink[1].type: expected text, not 7"),
        (
            "    - {type: 'null'}\n    - {type: stdout, required: maybe}",
            "6:32: flows.a.sink[1].required: expected true",
        ),
        ("    - {type: 'null', required: false}", "5:5: flows.a.sink: expected at least one sink"),
        ("      []", "5:7: flows.a.sink: expected at least one sink"),
        ("    - {type: 'null'}\n    - {type: 'null'}", "6:7: flows.a.sink[1]: is the same as sink 1 of this list"),
        ("    - {type: 'null'}\n    - {type: csv, path: x}", "6:7: flows.a.sink[1]: csv needs to know its columns"),
        ("    - {type: 'null'}\n    - {type: jsonl, path: '${NOT_SET_HERE}'}", "6:28: flows.a.sink[1].path: the envi"),
        ("      {type: 'null', required: true}", "5:22: flows.a.sink.required: unknown option"),
    ],
)
def test_each_mistake_in_a_list_of_sinks_is_said_with_its_place(tmp_path: Path, sinks: str, expected: str) -> None:
    path = tmp_path / "flows.yaml"
    path.write_text(f"{TWO}{sinks}\n")
    with pytest.raises(ConfigError) as caught:
        load_all(path)
    (found,) = str(caught.value).removeprefix(f"{path}:").splitlines()
    assert found.startswith(expected), found


def test_a_variable_in_one_of_several_sinks_is_asked_for_where_that_is_made(tmp_path: Path) -> None:
    from millrace_pipeline.flows.flow import load

    path = tmp_path / "flows.yaml"
    path.write_text(TWO + "    - {type: 'null'}\n    - {type: jsonl, path: '${NOT_SET_HERE}'}\n")
    flow = load(path)["a"]  # as a producer does
    assert [(part.type, part.required) for part in flow.sink.each] == [("null", True), ("jsonl", True)]
    assert flow.sink.type == "null + jsonl"
