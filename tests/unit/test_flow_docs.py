"""The pages about flows, sources and sinks name every option, and what they show is right."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from millrace.cli.check import load_all
from millrace.render.values import read_values
from millrace_consumer.sinks import SINKS
from millrace_consumer.sinks.places.store import Store
from millrace_consumer.transforms import TRANSFORMS
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.flows.reference import load_object
from millrace_producer.sources import SOURCES

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def listed(page: Path) -> set[str]:
    """The options that a page has a row for in a table."""
    return set(re.findall(r"^\| `([\w.]+)`", page.read_text(), re.MULTILINE))


def options(model: type[BaseModel]) -> dict[str, type[BaseModel] | None]:
    """A model's options, and for those that are a mapping of options its model."""
    found: dict[str, type[BaseModel] | None] = {}
    for name, field in model.model_fields.items():
        if not field.exclude:
            kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
            models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
            found[field.alias or name] = models[0] if models else None
    return found


def test_every_option_of_a_flow_is_in_its_reference() -> None:
    names = set()
    for name, inner in options(Flow).items():
        if name in ("source", "sink") or inner is None:
            names.add(name)
        else:
            names |= {f"{name}.{option}" for option in options(inner)}
    assert {"lease", "queue.key", "dedupe.window", "batch.linger"} <= names
    assert names == listed(DOCS / "flows.md")


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_every_option_of_a_built_in_transform_is_in_its_section(name: str) -> None:
    _, _, section = (DOCS / "transforms.md").read_text().partition(f"\n## {name}\n")
    rows = set(re.findall(r"^\| `(\w+)`", section.partition("\n## ")[0], re.MULTILINE))
    assert rows == set(options(load_object(TRANSFORMS[name])))


@pytest.mark.parametrize(
    ("kind", "name", "path"),
    [(kind, name, path) for kind, table in (("sources", SOURCES), ("sinks", SINKS)) for name, path in table.items()],
)
def test_every_option_of_a_shipped_source_and_sink_is_in_its_page(kind: str, name: str, path: str) -> None:
    page = DOCS / kind / f"{name}.md"
    missing = set(options(load_object(path))) - listed(page)
    assert not missing, f"{page.relative_to(ROOT)} has no row for {sorted(missing)}"
    assert f"({kind}/{name}.md)" in (DOCS / "flows.md").read_text()


def test_every_option_of_an_object_store_is_in_its_page() -> None:
    assert set(options(Store)) == listed(DOCS / "sinks" / "objects.md") - {"s3://bucket/prefix"}


@pytest.mark.parametrize("default", sorted({"1000000", "500", "100ms", "32MiB", "1s", "60s", "3", "millrace:<flow>"}))
def test_the_reference_shows_the_defaults(default: str) -> None:
    assert f"| `{default}` |" in (DOCS / "flows.md").read_text()


WRONG = re.search(  # what a page shows of mistakes, and of what is said of them
    r"```console\n\$ cat flows\.yaml\n([^`]*)\$ millrace check\n([^`]*)```", (DOCS / "flows.md").read_text()
)


def examples() -> Iterator[tuple[str, str]]:
    """Every flows file that a page shows, with the page and line it begins at."""
    for page in PAGES:
        text = page.read_text()
        for block in re.finditer(r"```yaml\n(.*?)```", text, re.DOTALL):
            if re.search(r"^flows:", block[1], re.MULTILINE) and not _says_how_to_render(block[1]):
                yield f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, block.start()) + 2}", block[1]


def _says_how_to_render(text: str) -> bool:
    """Return True for what `render --values` takes, in which flows have services, and no source."""
    return "image:" in text and "source:" not in text


EXAMPLES = dict(examples())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder as the reader of docs/flows.md has it: flows.py, and mine.py as it stands there."""
    code = re.search(r"```python\n(# mine\.py.*?)```", (DOCS / "flows.md").read_text(), re.DOTALL)
    assert code
    (tmp_path / "mine.py").write_text(code[1])
    (tmp_path / "flows.py").write_text((ROOT / "flows.py").read_text())
    monkeypatch.setattr(sys, "path", sys.path[:])
    for name in ("mine", "flows"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("mine", "flows"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("page", ["kubernetes", "swarm"])
def test_the_values_that_a_page_shows_are_such(page: str, tmp_path: Path) -> None:
    text = (DOCS / "how-to" / f"{page}.md").read_text()
    (shown,) = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if _says_how_to_render(block)]
    (tmp_path / "values.yaml").write_text(shown)
    values, _ = read_values(tmp_path / "values.yaml", {})
    assert values.image == "registry.example/millrace:1"


def test_there_are_examples_to_try() -> None:
    pages = {place.partition(":")[0] for place in EXAMPLES}
    assert {"README.md", "docs/flows.md", "docs/sinks/csv.md", "docs/sources/sse.md"} <= pages


@pytest.mark.parametrize("place", EXAMPLES)
def test_every_flows_file_that_a_page_shows_passes_the_check(
    place: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in re.findall(r"\$\{(\w+)\}", EXAMPLES[place]):
        monkeypatch.setenv(name, "secret")
    for code, name in re.findall(
        r"```python\n(# (\w+)\.py.*?)```", (ROOT / place.partition(":")[0]).read_text(), re.DOTALL
    ):
        (folder / f"{name}.py").write_text(code)  # what the page itself shows
        monkeypatch.delitem(sys.modules, name, raising=False)
    (folder / "flows.yaml").write_text(EXAMPLES[place])
    assert load_all(folder / "flows.yaml")


def test_the_mistakes_that_the_reference_shows_are_said_in_these_words(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert WRONG
    monkeypatch.delenv("NEWS_URL", raising=False)
    (folder / "flows.yaml").write_text(WRONG[1])
    with pytest.raises(ConfigError) as caught:
        load_all(Path("flows.yaml"))
    assert str(caught.value) + "\n" == WRONG[2]


def test_the_source_that_the_reference_shows_reads_a_file_and_goes_on_after_its_position(folder: Path) -> None:
    log = folder / "log.txt"
    log.write_text("one\ntwo\nthree\n")
    text = next(text for place, text in EXAMPLES.items() if "mine:Lines" in text)
    (folder / "flows.yaml").write_text(text.replace("/var/log/syslog", "log.txt"))
    from millrace_producer.sources.base import Source

    source = load_all(folder / "flows.yaml")["log"].source.build(SOURCES, Source)
    assert [record.data for record in source.read(None)] == [{"line": "one"}, {"line": "two"}, {"line": "three"}]
    assert [record.data for record in source.read(0)] == [{"line": "two"}, {"line": "three"}]
