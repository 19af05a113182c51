"""docs/sources/README.md has a row for every source; each has its page and its example, and every example is sound."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from millrace.cli.check import load_all
from millrace_consumer.sinks import SINKS
from millrace_consumer.sinks.base import Sink
from millrace_producer.sources import SOURCES
from millrace_producer.sources.base import Source

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "sources"
EXAMPLES = ROOT / "examples"
ROW = re.compile(r"^\| \[`(\w+)`\]\((\w+\.md)\) \|(.*)\| \[[\w-]+\]\(\.\./\.\./examples/([\w-]+)\) \|$", re.MULTILINE)
ROWS = {found[1]: found for found in ROW.finditer((FOLDER / "README.md").read_text())}


def test_every_source_has_a_row_and_the_rows_are_in_order() -> None:
    assert list(ROWS) == sorted(SOURCES)


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_the_row_says_it_all_and_leads_to_a_page_and_an_example(name: str) -> None:
    _, page, said, example = ROWS[name].groups()
    assert page == f"{name}.md"
    assert (FOLDER / page).is_file()
    assert all(len(cell.strip()) > 2 for cell in said.split("|"))
    assert len(said.split("|")) == 4
    flows = yaml.safe_load((EXAMPLES / example / "flows.yaml").read_text())["flows"]
    assert name in [flow["source"]["type"] for flow in flows.values()]


EXAMPLES_THERE_ARE = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())


@pytest.fixture
def own_modules() -> Iterator[None]:
    """Forgets the `flows.py` that was imported meanwhile: every example has its own."""
    path, before = sys.path[:], sys.modules.pop("flows", None)
    yield
    sys.path[:] = path
    sys.modules.pop("flows", None)
    if before is not None:
        sys.modules["flows"] = before


@pytest.mark.parametrize("folder", EXAMPLES_THERE_ARE)
def test_every_example_passes_the_check_and_says_how_to_run_it(
    folder: str, monkeypatch: pytest.MonkeyPatch, own_modules: None
) -> None:
    monkeypatch.chdir(EXAMPLES / folder)
    assert load_all(Path("flows.yaml"))
    assert re.search(r"millrace (run|produce|consume)", Path("README.md").read_text())


@pytest.mark.parametrize("folder", EXAMPLES_THERE_ARE)
def test_every_example_is_run_by_a_test(folder: str) -> None:
    files = [path for part in ("integration", "acceptance") for path in (ROOT / "tests" / part).glob("*.py")]
    run = re.compile(rf'\.example\("{folder}"\)|EXAMPLES / "{folder}"|examples.{{1,10}}{folder}')
    assert any(run.search(path.read_text()) for path in files)


PARTS = {"source": (SOURCES, Source), "sink": (SINKS, Sink)}


def extras_of(folder: str) -> set[str]:
    """The extras that the flows of an example can't do without."""
    needed = set()
    for flow in load_all(Path("flows.yaml")).values():
        for kind, parts in (("source", [flow.source]), ("sink", flow.sink.each)):
            for part in parts:
                table, base = PARTS[kind]
                extra = part.find(table, base).extra
                needed |= {extra.name} if extra else set()
                needed |= {"objects"} if "://" in str(part.options.get("path", "")) else set()
    code = Path("flows.py").read_text() if Path("flows.py").exists() else ""
    return needed | {name for name in ("pandas", "polars") if f"import {name}" in code}


@pytest.mark.parametrize("folder", EXAMPLES_THERE_ARE)
def test_an_example_says_which_extras_it_takes(folder: str, monkeypatch: pytest.MonkeyPatch, own_modules: None) -> None:
    monkeypatch.chdir(EXAMPLES / folder)
    said = re.findall(r"pip install 'millrace\[([\w,]+)\]'", Path("README.md").read_text())
    assert extras_of(folder) <= {name for names in said for name in names.split(",")}
