"""The flows that come with Millrace: sound, and true to the real data."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from pydantic import BaseModel

from millrace.cli.check import load_all
from millrace_consumer.batch import Batch
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.flows.flow import load

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _in_the_projects_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for name in ("DATA", "BATCH", "LINGER", "LEASE", "QUOTES_URL", "WIKIPEDIA_URL"):
        monkeypatch.delenv(name, raising=False)


def recent_change() -> type[BaseModel]:
    model = load(Path("flows.yaml"))["wikipedia"].load_model()
    assert model is not None
    return model


def test_the_shipped_flows_are_sound() -> None:
    flows = load_all(Path("flows.yaml"))
    assert {name: flow.queue.key for name, flow in flows.items()} == {
        "quotes": "DATA-PIPELINE-KEY",
        "wikipedia": "WIKIPEDIA-PIPELINE-KEY",
    }
    assert flows["quotes"].sink.options["path"] == "data/quotes"
    assert flows["wikipedia"].batch.records == 5000


def test_the_shipped_flows_can_be_pointed_elsewhere_by_the_environment() -> None:
    environ = {
        "QUOTES_URL": "http://q/",
        "WIKIPEDIA_URL": "http://w/",
        "DATA": "/lake",
        "BATCH": "10",
        "LINGER": "50ms",
    }
    flows = load(Path("flows.yaml"), environ)
    assert flows["quotes"].source.options["args"] == {"start_url": "http://q/"}
    assert flows["wikipedia"].source.options["url"] == "http://w/"
    assert flows["wikipedia"].sink.options["path"] == "/lake/wikipedia"
    assert (flows["wikipedia"].batch.records, flows["wikipedia"].batch.linger) == (10, 0.05)


def test_every_recorded_event_fits_the_model_and_loses_nothing(wikimedia_events: list[bytes]) -> None:
    model = recent_change()
    assert len(wikimedia_events) == 1462
    for line in wikimedia_events:
        event: dict[str, Any] = msgspec.json.decode(line)
        event["meta"]["dt"] = datetime.fromisoformat(event["meta"]["dt"])
        assert model.model_validate_json(line).model_dump(by_alias=True, exclude_unset=True) == event


def test_every_recorded_event_fits_into_a_table(wikimedia_events: list[bytes]) -> None:
    model = recent_change()
    envelopes = [Envelope(str(i), "wikipedia", "t", None, msgspec.Raw(line)) for i, line in enumerate(wikimedia_events)]
    models = [model.model_validate_json(line) for line in wikimedia_events]
    table = Batch("b", envelopes, model=model, rows=models).table
    assert table.num_rows == len(wikimedia_events)
    ids = [number for number in table["id"].to_pylist() if number is not None]
    assert max(ids) > 2**31
    assert pa.types.is_int64(table.schema.field("id").type)


@pytest.mark.parametrize("params", [[], ["1", 2, None], {"4::target": "x", "noredir": "0"}, "0", None])
def test_parameters_of_a_log_event_may_be_of_any_kind(params: Any) -> None:
    event = {"meta": {"id": "x", "dt": "2026-11-21T00:00:00Z"}, "type": "log", "log_params": params}
    assert recent_change().model_validate(event).model_dump()["log_params"] == params


def test_canaries_are_dropped_and_changes_are_kept() -> None:
    (drop_canaries,) = load(Path("flows.yaml"))["wikipedia"].load_transforms()
    assert drop_canaries({"meta": {"domain": "canary"}}) is None
    assert drop_canaries({"meta": {"domain": "en.wikipedia.org"}}) == {"meta": {"domain": "en.wikipedia.org"}}
