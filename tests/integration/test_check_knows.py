"""`millrace check` knows what it can know without a network, and no service runs what it refuses."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from millrace.cli.examine import build_to_consume, build_to_produce, dotted_names, doubts, load_all
from millrace_consumer.sinks import SINKS
from millrace_consumer.sinks.places.writable import check_folder
from millrace_consumer.transforms import TRANSFORMS
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import load
from millrace_pipeline.flows.reference import load_object
from millrace_producer.sources import SOURCES

SOURCE = "source: {type: stdin}"
SINK = "sink: {type: stdout}"
NOBODY = 65534
POSTGRES = "{type: postgres, dsn: 'postgresql://127.0.0.1:9/d', table: t}"


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a flows file, with a Scrapy project, some input, and things that are in the way."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    project = tmp_path / "shop"
    (project / "shop" / "spiders").mkdir(parents=True)
    (project / "scrapy.cfg").write_text("[settings]\ndefault = shop.settings\n")
    (project / "shop" / "settings.py").write_text("SPIDER_MODULES = ['shop.spiders']\n")
    spiders = project / "shop" / "spiders"
    (spiders / "__init__.py").write_text("")
    (spiders / "plain.py").write_text("import scrapy\nclass A(scrapy.Spider):\n    name = 'prices'\n")
    (spiders / "made.py").write_text("import scrapy\nB = type('B', (scrapy.Spider,), {'name': 'st' + 'ock'})\n")
    (tmp_path / "in.jsonl").write_text("{}\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "taken").write_text("")
    return tmp_path


def flow(folder: Path, *lines: str) -> Path:
    path = folder / "flows.yaml"
    path.write_text("flows:\n  a:\n" + "".join(f"    {line}\n" for line in lines))
    return path


REFUSED_SOURCES = {
    "a spider that isn't there": ("{type: scrapy, spider: qoutes}", "there is no spider 'qoutes'"),
    "a spider, nearly": ("{type: scrapy, spider: qoutes}", "did you mean 'quotes'?"),
    "a spider of a project": ("{type: scrapy, project: shop, spider: price}", "did you mean 'prices'?"),
    "a project that isn't there": ("{type: scrapy, project: shp, spider: prices}", "there is no folder"),
    "a folder inside": ("{type: scrapy, project: shop/shop, spider: prices}", "holds no scrapy.cfg"),
    "a folder around": ("{type: scrapy, project: ., spider: prices}", "/shop has one"),
    "a file that isn't there": ("{type: files, path: none.jsonl}", "there is no file none.jsonl"),
    "a folder in a pattern": ("{type: files, path: 'none/*.jsonl'}", "there is no folder none"),
    "a folder as a file": ("{type: files, path: folder, format: jsonl}", "folder is a folder"),
    "a setting of kafka": (
        "{type: kafka, brokers: 'h:1', topics: [a], config: {sesion.timeout.ms: 5}}",
        "No such configuration property",
    ),
    "a function that isn't there": ("{type: python, function: 'json:lods'}", "did you mean 'loads'?"),
    "a function at a tick": ("{type: schedule, every: 1s, function: 'json:lods'}", "did you mean 'loads'?"),
}
REFUSED_SINKS = {
    "a folder below a file": ("{type: jsonl, path: taken/out}", "taken is not a directory"),
    "a file as a folder": ("{type: csv, path: taken, columns: [a]}", "taken is not a directory"),
    "parquet below a file": ("{type: parquet, path: taken/out}", "taken is not a directory"),
    "delta below a file": ("{type: delta, path: taken/out}", "taken is not a directory"),
    "a folder as a database": ("{type: sqlite, path: folder, table: t}", "folder is a directory"),
    "sqlite below a file": ("{type: sqlite, path: taken/a.db, table: t}", "taken is not a directory"),
    "a folder as a duckdb": ("{type: duckdb, path: folder, table: t}", "folder is a directory"),
    "duckdb below a file": ("{type: duckdb, path: taken/a.db, table: t}", "taken is not a directory"),
    "arguments of a function": (
        "{type: python, function: 'json:loads', arguments: {s: 1}}",
        "can't be called with a batch and these arguments",
    ),
    "one of several": ("[{type: stdout}, {type: jsonl, path: taken}]", "taken is not a directory"),
}
WELL = {
    "a spider that a file names": "source: {type: scrapy, project: shop, spider: prices}",
    "a spider that only loading shows": "source: {type: scrapy, project: shop, spider: stock}",
    "a bundled spider": "source: {type: scrapy, spider: books}",
    "a file": "source: {type: files, path: in.jsonl}",
    "a file that is still to come": "source: {type: files, path: none.jsonl, mode: tail}",
    "files that are still to come": "source: {type: files, path: 'none/*.jsonl', mode: watch}",
}


@pytest.mark.parametrize("case", REFUSED_SOURCES)
def test_a_source_that_cant_work_is_refused_by_check_and_produce(beside: Path, case: str) -> None:
    source, expected = REFUSED_SOURCES[case]
    path = flow(beside, f"source: {source}", SINK)
    with pytest.raises(ConfigError, match=r"flows\.yaml:3:") as caught:
        load_all(path)
    assert expected in str(caught.value)
    with pytest.raises(ConfigError, match=r"flows\.a\.source"):
        build_to_produce(load(path)["a"])
    build_to_consume(load(path).values())


@pytest.mark.parametrize("case", REFUSED_SINKS)
def test_a_sink_that_cant_work_is_refused_by_check_and_consume(beside: Path, case: str) -> None:
    sink, expected = REFUSED_SINKS[case]
    path = flow(beside, SOURCE, f"sink: {sink}")
    with pytest.raises(ConfigError, match=r"flows\.yaml:4:") as caught:
        load_all(path)
    assert expected in str(caught.value)
    with pytest.raises(ConfigError, match=r"flows\.a\.sink"):
        build_to_consume(load(path).values())
    build_to_produce(load(path)["a"])


@pytest.mark.parametrize("case", WELL)
def test_what_is_there_or_may_come_passes(beside: Path, case: str) -> None:
    load_all(flow(beside, WELL[case], SINK))


def test_check_leaves_nothing_behind(beside: Path) -> None:
    sinks = "[{type: jsonl, path: new/a}, {type: sqlite, path: new/b.db, table: t}, {type: delta, path: new/c}]"
    load_all(flow(beside, SOURCE, f"sink: {sinks}"))
    assert not (beside / "new").exists()


def refused(folder: Path) -> bool:
    """Whether somebody who is not root is refused this folder: a child that gave up being root says."""
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(NOBODY)
            check_folder(folder)
        except ConfigError:
            os._exit(7)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_folder_that_this_user_may_not_write_to_is_refused() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        assert not refused(folder)
        assert not refused(folder / "new" / "one")
        folder.chmod(0o555)
        assert refused(folder)
        assert refused(folder / "new" / "one")


def test_only_the_named_flows_are_made(beside: Path) -> None:
    path = beside / "flows.yaml"
    path.write_text(
        f"flows:\n  a:\n    {SOURCE}\n    {SINK}\n  b:\n    source: {{type: files, path: none.jsonl}}\n    {SINK}\n"
    )
    load_all(path, ["a"])
    with pytest.raises(ConfigError, match=r"none\.jsonl"):
        load_all(path, ["b"])


def pointer_options(kind: str, model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """The options of a part that take a field or a JSON pointer, by its kind."""
    for name, field in model.model_fields.items():
        if "JSON pointer" in (field.description or ""):
            yield kind, name


ALL = {
    **{f"source {name}": path for name, path in SOURCES.items()},
    **{f"sink {name}": path for name, path in SINKS.items()},
    **{f"transform {name}": path for name, path in TRANSFORMS.items()},
}


@pytest.mark.parametrize(
    ("kind", "option"), [found for kind, path in ALL.items() for found in pointer_options(kind, load_object(path))]
)
def test_a_dotted_name_for_a_pointer_is_doubted_wherever_one_can_stand(kind: str, option: str) -> None:
    model = load_object(ALL[kind])
    annotation = str(model.model_fields[option].annotation)
    for value, doubted in (("meta.id", 1), ("/meta/id", 0), ("id", 0)):
        given = {"header": value} if annotation.startswith("dict[") else value
        given = [value] if annotation.startswith(("list[", "typing.Annotated[list", "tuple")) else given
        found = list(dotted_names(model.model_construct(**{option: given})))
        assert len(found) == doubted, (given, found)


def test_a_dotted_key_is_said_with_its_place_and_the_pointer(beside: Path) -> None:
    path = flow(beside, "source: {type: files, path: in.jsonl, key: meta.id}", SINK, "dedupe: {window: 1h, key: a.b}")
    said = list(doubts(load_all(path).values()))
    assert [line.partition(": '")[0] for line in said] == [
        f"{path}:3:48: flows.a.source.key",
        f"{path}:5:31: flows.a.dedupe.key",
    ]
    assert "/meta/id" in said[0]
    assert "/a/b" in said[1]


def sqlite(table: str, path: str = "a.db") -> str:
    return f"{{type: sqlite, path: {path}, table: {table}}}"


def duckdb(table: str) -> str:
    return f"{{type: duckdb, path: a.duckdb, table: {table}}}"


def postgres(dsn: str, table: str = "t") -> str:
    return f"{{type: postgres, dsn: '{dsn}', table: {table}}}"


URL = "postgresql://me@localhost:5432/d"


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("{type: jsonl, path: data/x}", "{type: csv, path: ./data/x/, columns: [a]}", "the same place as"),
        ("{type: jsonl, path: data/x}", "{type: parquet, path: data/x/y}", "within the folder of"),
        ("{type: jsonl, path: data/x/y}", "{type: parquet, path: data/x}", "a folder around that of"),
        ("{type: jsonl, path: data/x}", "{type: jsonl, path: data/xy}", ""),
        ("{type: jsonl, path: data}", sqlite("t", "data/a.db"), ""),
        ("{type: jsonl, path: 's3://b/x'}", "{type: jsonl, path: 's3://b/x//y/'}", "within the folder of"),
        (
            "{type: jsonl, path: 's3://b/x', store: {endpoint: 'https://a'}}",
            "{type: jsonl, path: 's3://b/x', store: {endpoint: 'https://b'}}",
            "",
        ),
        (sqlite("t"), sqlite("t"), "the same place as"),
        (sqlite("t"), sqlite("T"), "the same place as"),
        (sqlite("t"), sqlite("u"), ""),
        (duckdb("t"), duckdb("main.T"), "the same place as"),
        (duckdb("t"), duckdb("other.t"), ""),
        ("{type: delta, path: lake}", "{type: delta, path: lake2}", ""),
        (postgres(URL), postgres(URL), "the same place as"),
        (postgres(URL), postgres(URL, "public.t"), "the same place as"),
        (postgres(URL), postgres("postgres://you:secret@127.0.0.1/d?application_name=x"), "the same place as"),
        (postgres(URL), postgres("host=localhost dbname=d user=x"), "the same place as"),
        (postgres(URL), postgres("dbname=d port=5432"), "the same place as"),
        (postgres(URL), postgres("postgresql://LOCALHOST/d?options=-csearch_path%3Dmine"), ""),
        (postgres("user=d"), postgres("dbname=d"), "the same place as"),
        (postgres(URL), postgres(URL, "T"), ""),
        (postgres(URL), postgres(URL, "other.t"), ""),
        (postgres(URL), postgres("postgresql://localhost:5433/d"), ""),
        (postgres(URL), postgres("postgresql://elsewhere/d"), ""),
        (postgres(URL), postgres("postgresql://localhost/e"), ""),
        ("{type: redis, key: k}", "{type: redis, key: k}", ""),
        ("{type: stdout}", "{type: stdout}", ""),
    ],
)
def test_two_flows_that_write_to_one_place_are_doubted(
    beside: Path, monkeypatch: pytest.MonkeyPatch, one: str, other: str, shared: str
) -> None:
    for name in ("PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGOPTIONS"):
        monkeypatch.delenv(name, raising=False)
    path = beside / "flows.yaml"
    path.write_text(f"flows:\n  a:\n    {SOURCE}\n    sink: {one}\n  b:\n    {SOURCE}\n    sink: {other}\n")
    said = list(doubts(load_all(path).values()))
    assert [": flows.b.sink." in line and f"{shared} flow a (" in line for line in said] == [True] * bool(shared)


def millrace(*arguments: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "millrace", *arguments],
        cwd=folder,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", [["run"], ["run", "--inline", "a"], ["produce", "a"], ["check"], ["check", "a"]])
def test_no_command_runs_a_source_that_check_refuses(beside: Path, command: list[str]) -> None:
    flow(beside, "source: {type: files, path: none.jsonl}", SINK)
    done = millrace(*command, folder=beside, REDIS_URL="redis://127.0.0.1:9/0")
    assert done.returncode == 2, done.stderr
    assert "there is no file none.jsonl" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["run"], ["consume"], ["check", "a"]])
def test_no_command_runs_a_sink_that_check_refuses(beside: Path, command: list[str]) -> None:
    flow(beside, SOURCE, "sink: {type: jsonl, path: taken}")
    done = millrace(*command, folder=beside, REDIS_URL="redis://127.0.0.1:9/0")
    assert done.returncode == 2, done.stderr
    assert "flows.yaml:4:11: flows.a.sink: path: taken is not a directory" in done.stderr


def test_check_prints_its_doubts_and_ends_well(beside: Path) -> None:
    flow(beside, "source: {type: files, path: in.jsonl, key: meta.id}", SINK)
    done = millrace("check", folder=beside)
    assert (done.returncode, done.stderr) == (0, "")
    assert "warning flows.yaml:3:48: flows.a.source.key: 'meta.id' is a field of that very name" in done.stdout


def test_connect_says_what_each_part_answered(beside: Path) -> None:
    sqlite3.connect(beside / "a.db").execute("CREATE TABLE t (id TEXT)")
    sinks = f"[{{type: sqlite, path: a.db, table: t}}, {POSTGRES}, {{type: stdout}}]"
    flow(beside, "source: {type: sse, url: 'http://127.0.0.1:9/'}", f"sink: {sinks}")
    done = millrace("check", "--connect", folder=beside, REDIS_URL="redis://127.0.0.1:9/0")
    assert done.returncode == 1, done.stdout
    lines = {" ".join(line.split()) for line in done.stdout.splitlines()}
    assert "ok a: sink sqlite: a.db: table t is there" in lines
    assert "– a: sink stdout: not tried: that would take or write something" in lines
    assert any(line.startswith("error a: source sse: http://127.0.0.1:9/: ") for line in lines), lines
    assert any(line.startswith("error a: sink postgres: PostgreSQL at 127.0.0.1:9, database d: ") for line in lines)
    assert sorted(one.name for one in beside.iterdir() if one.is_file()) == ["a.db", "flows.yaml", "in.jsonl", "taken"]
