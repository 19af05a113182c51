"""What the sinks write, the readers that their pages name read, as it stands there and with what the extras bring."""

from __future__ import annotations

import csv
import json
import re
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import deltalake
import duckdb
import msgspec
import pyarrow.parquet
import pytest
from pydantic import BaseModel

from millrace_consumer.batch import Batch
from millrace_consumer.sinks import SINKS
from millrace_consumer.sinks.base import Sink
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.flows.component import Component
from millrace_pipeline.flows.reference import load_object

DOCS = Path(__file__).resolve().parents[2] / "docs" / "sinks"


class Thing(BaseModel):
    """With each kind of value that a reader may stumble on."""

    n: int
    at: datetime
    day: str | None = None


RECORDS = [{"n": n, "at": datetime(2018, 1, 1 + n, tzinfo=UTC).isoformat()} for n in range(3)]

WRITTEN: dict[str, dict[str, Any]] = {
    "jsonl": {"path": "data/out"},
    "csv": {"path": "data/out"},
    "parquet": {"path": "data/out"},
    "delta": {"path": "data/out"},
    "sqlite": {"path": "data/out.db", "table": "things"},
    "duckdb": {"path": "data/out.duckdb", "table": "things"},
}


def snippets(name: str) -> list[str]:
    _, _, section = (DOCS / f"{name}.md").read_text().partition("\n## Reading\n")
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    return found[1].splitlines() if found else []


def test_every_sink_with_files_or_a_table_of_its_own_has_a_snippet() -> None:
    local = {name for name, path in SINKS.items() if "path" in load_object(path).model_fields}
    assert local == set(WRITTEN)
    assert all(snippets(name) for name in WRITTEN)


@pytest.mark.parametrize(("name", "line"), [(name, line) for name in WRITTEN for line in snippets(name)])
@pytest.mark.parametrize("model", [Thing, None])
def test_a_page_s_reader_reads_what_its_sink_wrote(
    name: str, line: str, model: type[BaseModel] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = WRITTEN[name] | ({"columns": ["n", "at"]} if name == "csv" else {})
    sink: Sink = Component(type=name, options=options).build(SINKS, Sink)
    sink.check(model)
    envelopes = [
        Envelope(str(record["n"]), "s", "t", str(record["at"]), msgspec.Raw(json.dumps(record).encode()))
        for record in RECORDS
    ]
    rows = [model.model_validate(record) for record in RECORDS] if model else None
    sink.write(Batch("20261121T000000Z-0123456789-000001", envelopes, model=model, rows=rows))
    sink.close()
    names = {"csv": csv, "deltalake": deltalake, "duckdb": duckdb, "json": json, "pyarrow": pyarrow, "sqlite3": sqlite3}
    found = eval(line, {**names, "Path": Path})
    read = found.to_pylist() if hasattr(found, "to_pylist") else found
    assert len(read) == 3, read
