"""What the docs, the schema, the check and `verify` say of a source or a sink follows from its class."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.tables import filled, tables
from millrace.cli.check import flows_schema, load_all
from millrace.cli.sinkcheck import SinkCheck
from millrace_consumer.sinks import SINKS
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.reference import load_object
from millrace_pipeline.queue import Books
from millrace_producer.sources import SOURCES
from tests.contracts.sink_records import batch_of

ROOT = Path(__file__).resolve().parents[2]
TABLES = tables()
PARTS = [(kind, name, path) for kind, of in (("sources", SOURCES), ("sinks", SINKS)) for name, path in of.items()]
PACKAGE = '''
import json
from pathlib import Path

from millrace_consumer.readback import Found, Readback
from millrace_consumer.sinks.base import Sink
from millrace_pipeline.extras import Extra


class Lines(Readback):
    def __init__(self, path):
        super().__init__("/n")
        self.path = path

    def records(self, found):
        found.files = 1
        for line in self.path.read_text().splitlines():
            found.records += 1
            yield self.path.name, str(json.loads(line)["n"]).encode()


class AddedSink(Sink):
    """At least once: adds to a file."""

    about = "added to a file"
    guaranteed_by = "the file's end"
    path: Path

    def write(self, batch):
        with self.path.open("ab") as file:
            file.write(batch.text)

    def read_back(self, *, model=None, key=None):
        return Lines(self.path)


class FarSink(AddedSink):
    """At least once: far away."""

    extra = Extra("far", module="no_such_library")
'''
FLOW = "flows:\n  a:\n    source: {{type: scrapy, spider: quotes}}\n    sink: {{type: {sink}, path: out.txt}}\n"
ADDED = {"added": "added_parts:AddedSink", "far": "added_parts:FarSink"}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package that adds two sinks."""
    (tmp_path / "added_parts.py").write_text(PACKAGE)
    info = tmp_path / "added_parts-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: added-parts\nVersion: 1.0\n")
    lines = "".join(f"{name} = {path}\n" for name, path in ADDED.items())
    (info / "entry_points.txt").write_text(f"[millrace.sinks]\n{lines}")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("added_parts", None)


@pytest.mark.parametrize("page", sorted({page for page, _ in TABLES}))
def test_a_page_has_the_tables_that_the_classes_make(page: str) -> None:
    text = (ROOT / page).read_text()
    assert text == filled(page, text, TABLES), "run: make tables"


@pytest.mark.parametrize(("kind", "name", "path"), PARTS)
def test_a_part_says_what_it_is_and_its_page_how_to_install_it(kind: str, name: str, path: str) -> None:
    part = load_object(path)
    assert part.about
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    if part.extra:
        assert part.extra.name in extras
        assert part.extra.name in extras["all"][0]
        assert f"pip install 'millrace[{part.extra.name}]'" in (ROOT / "docs" / kind / f"{name}.md").read_text()


def test_an_added_sink_is_in_every_table_and_the_schema(package: Path) -> None:
    found = tables(SOURCES, {**SINKS, **ADDED})
    row = "| [`added`](docs/sinks/added.md), [`far`](docs/sinks/far.md) | added to a file |"
    assert row in found["README.md", "parts"]
    assert "[`added`](sinks/added.md), [`far`](sinks/far.md)" in found["docs/flows.md", "sinks"]
    guarantees = found["docs/sinks/README.md", "guarantees"].splitlines()
    assert "| [`added`](added.md) | at least once | the file's end | |" in guarantees
    assert "| [`far`](far.md) | at least once | the file's end | `millrace[far]` |" in guarantees
    assert flows_schema()["$defs"]["sink.added"]["required"] == ["type", "path"]


def test_an_added_sink_without_its_library_is_refused_by_the_check(package: Path) -> None:
    flows = package / "flows.yaml"
    flows.write_text(FLOW.format(sink="added"))
    assert load_all(flows)
    flows.write_text(FLOW.format(sink="far"))
    with pytest.raises(ConfigError, match=r"sink far needs no_such_library: pip install 'millrace\[far\]'"):
        load_all(flows)


def test_an_added_sink_is_read_back_by_verify(package: Path) -> None:
    (package / "flows.yaml").write_text(FLOW.format(sink="added"))
    flow = load_all(package / "flows.yaml")["a"]
    load_object(ADDED["added"])(path=package / "out.txt").write(batch_of("b", [{"n": 1}, {"n": 2}, {"n": 2}]))
    check = SinkCheck(flow)
    books = Books(
        4,
        0,
        delivered=4,
        filtered=0,
        ready=0,
        in_flight=0,
        dead=0,
        discarded=0,
        oldest_seconds=0,
        leases=[],
        checkpoints={},
    )
    check.read(books, lambda: books)
    assert (check.missing, check.differs) == (1, True)
    said = "\n".join(check.told())
    assert "a: 1 file, 3 records of 4 delivered: " in said
    assert "2 times: 2 in out.txt" in said


WITHOUT = """
import sys
for module in sys.argv[1:]:
    sys.modules[module] = None
from millrace.cli.check import flows_schema
from millrace_consumer.sinks import SINKS
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.reference import load_object
from millrace_producer.sources import SOURCES
flows_schema()
for kind, table in (("source", SOURCES), ("sink", SINKS)):
    for name, path in table.items():
        if load_object(path).extra:
            try:
                load_object(path).model_validate({})
            except ConfigError as error:
                print(str(error).startswith(f"{kind} {name} needs "), kind, name)
"""


def test_without_any_extra_the_schema_is_whole_and_each_part_says_what_it_needs() -> None:
    extras = {(kind[:-1], name): load_object(path).extra for kind, name, path in PARTS if load_object(path).extra}
    modules = {extra.module for extra in extras.values()}
    command = [sys.executable, "-c", WITHOUT, *modules]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed.splitlines() == [f"True {kind} {name}" for kind, name in extras]


@pytest.mark.parametrize("sink", sorted(SINKS))
def test_a_sink_that_cannot_be_read_back_says_so(sink: str) -> None:
    kind = load_object(SINKS[sink])
    if kind.read_back.__qualname__.startswith("Sink."):
        with pytest.raises(ConfigError, match="no files or tables"):
            kind.model_construct().read_back()
    else:
        assert sink in ("jsonl", "csv", "parquet", "postgres", "sqlite", "duckdb", "delta")
