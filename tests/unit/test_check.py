"""`millrace check`: a flows file down to each option and import, and nothing run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from millrace.cli.check import build_all, load_all
from millrace_consumer.sinks import SINKS
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import load
from millrace_producer.sources import SOURCES

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "    source: {type: scrapy, spider: quotes}\n"
SINK = "    sink: {type: stdout}\n"

TYPES = ", ".join(sorted(SOURCES))

Errors = Callable[[str], list[str]]


def millrace(*arguments: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "millrace", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a flows file. Modules that are imported from it are forgotten after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def errors(beside: Path) -> Errors:
    """The lines that are said of a wrong flows file."""

    def errors(text: str) -> list[str]:
        (beside / "flows.yaml").write_text(text)
        with pytest.raises(ConfigError) as caught:
            load_all(Path("flows.yaml"))
        return str(caught.value).splitlines()

    return errors


def test_the_shipped_flows_pass(tmp_path: Path) -> None:
    checked = millrace("check", folder=ROOT)
    assert checked.returncode == 0, checked.stderr
    assert "flows.yaml: 2 flows OK" in checked.stdout
    for shown in ("quotes", "scrapy", "DATA-PIPELINE-KEY", "jsonl", "wikipedia", "RecentChange", "parquet"):
        assert shown in checked.stdout
    assert checked.stderr == ""
    elsewhere = millrace("check", folder=tmp_path, MILLRACE_FLOWS=str(ROOT / "flows.yaml"))
    assert elsewhere.returncode == 0, elsewhere.stderr


def test_a_wrong_file_exits_with_2_and_one_line_a_mistake_on_stderr(tmp_path: Path) -> None:
    (tmp_path / "flows.yaml").write_text(f"flows:\n  a:\n{SOURCE}    sink: {{type: jsonl}}\n    lease: soon\n")
    checked = millrace("check", folder=tmp_path)
    assert (checked.returncode, checked.stdout) == (2, "")
    assert [line.split(": ")[:2] for line in checked.stderr.splitlines()] == [
        ["flows.yaml:4:5", "flows.a.sink.path"],
        ["flows.yaml:5:12", "flows.a.lease"],
    ]


def test_a_file_that_is_not_there_exits_with_2(tmp_path: Path) -> None:
    checked = millrace("check", "--flows", "no.yaml", folder=tmp_path)
    assert (checked.returncode, checked.stdout) == (2, "")
    assert checked.stderr == (
        f"there is no no.yaml (looked for {tmp_path}/no.yaml): set MILLRACE_FLOWS to the file, or cd to its folder\n"
    )


def test_mistakes_of_several_flows_of_every_kind_are_said_in_the_order_of_the_file(errors: Errors) -> None:
    found = errors(
        "flows:\n"
        "  a:\n"
        "    sink: {type: jsonl, pth: data}\n"
        "    transforms: [no.such:thing]\n"
        "    source: {type: sse, url: x, headers: {A: [1]}, read_timeout: never}\n"
        "  b:\n"
        "    source: {type: ssse}\n"
        "    sink: {type: csv, path: data, columns: [1, {}]}\n"
        "    model: json:loads\n"
        "    lease: 0\n"
    )
    assert [line.split(": ")[:2] for line in found] == [
        ["flows.yaml:3:5", "flows.a.sink.path"],
        ["flows.yaml:3:25", "flows.a.sink.pth"],
        ["flows.yaml:4:18", "flows.a.transforms[0]"],
        ["flows.yaml:5:30", "flows.a.source.url"],
        ["flows.yaml:5:46", "flows.a.source.headers.A"],
        ["flows.yaml:5:66", "flows.a.source.read_timeout"],
        ["flows.yaml:7:20", "flows.b.source.type"],
        ["flows.yaml:8:48", "flows.b.sink.columns[1]"],
        ["flows.yaml:9:12", "flows.b.model"],
        ["flows.yaml:10:12", "flows.b.lease"],
    ]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("source: {type: scrapi}", f"unknown source type, 'scrapi': did you mean 'scrapy'? expected {TYPES}, or"),
        ("source: {type: pigeon}", f"unknown source type, 'pigeon': expected {TYPES}, or the path of a class"),
        (
            "source: {type: 'millrace_consumer.sinks.stdout:StdoutSink'}",
            "is no source: expected a class derived from millrace_producer.",
        ),
        (
            "source: {type: 'json:loads'}",
            "'json:loads' is no source: expected a class derived from millrace_producer.sources.",
        ),
        ("source: {type: 'millrace_producer.sources.sse:SseSorce'}", "has no SseSorce: did you mean 'SseSource'?"),
        (
            "source: {type: 'nowhere_y:S'}",
            "nowhere_y:S: there is no module nowhere_y beside the flows file, or installed",
        ),
    ],
)
def test_an_unknown_type_of_source_is_said_with_those_there_are(part: str, expected: str, errors: Errors) -> None:
    (found,) = errors(f"flows:\n  a:\n    {part}\n{SINK}")
    assert found.startswith("flows.yaml:3:20: flows.a.source.type: ")
    assert expected in found


def test_an_unknown_type_of_sink_is_said_with_those_there_are(errors: Errors) -> None:
    assert errors(f"flows:\n  a:\n{SOURCE}    sink: {{type: s3, path: x}}\n") == [
        "flows.yaml:4:18: flows.a.sink.type: unknown sink type, 's3': "
        f"expected {', '.join(sorted(SINKS))}, or the path of a class, such as mine:MySink"
    ]


def test_an_unset_variable_of_a_sink_is_no_matter_to_load_and_a_mistake_to_check(beside: Path) -> None:
    path = beside / "flows.yaml"
    path.write_text(f'flows:\n  a:\n{SOURCE}    sink: {{type: jsonl, path: "${{NOT_SET_HERE}}"}}\n')
    assert load(path)["a"].source.type == "scrapy"
    with pytest.raises(ConfigError, match=r":4:32: flows\.a\.sink\.path: the environment variable NOT_SET_HERE is not"):
        load_all(path)


def test_what_a_sink_says_of_the_flows_model_is_placed_at_the_sink(errors: Errors) -> None:
    (found,) = errors(f"flows:\n  a:\n{SOURCE}    sink: {{type: csv, path: data}}\n")
    assert found.startswith("flows.yaml:4:11: flows.a.sink: csv needs to know its columns")


def test_no_value_of_the_environment_is_in_what_check_says(tmp_path: Path) -> None:
    (tmp_path / "flows.yaml").write_text(
        "flows:\n  a:\n"
        "    source:\n      type: sse\n      url: https://me:${TOKEN}@host:${TOKEN}/\n"
        '      headers: {Authorization: ["${TOKEN}"]}\n      format: ${TOKEN}\n      since: ${TOKEN}\n'
        "    sink: {type: '${TOKEN}'}\n    lease: ${TOKEN}\n    queue: {key: '${TOKEN} x'}\n    model: ${TOKEN}:X\n"
    )
    checked = millrace("check", folder=tmp_path, TOKEN="s3cr3t_Qz9x")
    assert checked.returncode == 2
    assert len(checked.stderr.splitlines()) == 8
    assert "s3cr3t" not in checked.stderr + checked.stdout


OWN = """
from millrace_producer.sources.base import Record, Source
from millrace_consumer.sinks.base import Sink

class Count(Source):
    to: int = 3
    def read(self, resume_from):
        for number in range(self.to):
            yield Record({"n": number}, position=number)

class Keep(Sink):
    label: str
    def write(self, batch):
        pass

class Half(Sink):
    pass
"""


def test_a_source_and_a_sink_of_the_users_own_are_found_beside_the_flows_file(beside: Path) -> None:
    from millrace_producer.sources.base import Source

    (beside / "own_parts.py").write_text(OWN)
    path = beside / "flows.yaml"
    path.write_text(
        "flows:\n  a:\n    source: {type: 'own_parts:Count', to: 2}\n    sink: {type: 'own_parts:Keep', label: 7}\n"
    )
    source = load_all(path)["a"].source.build({}, Source)
    assert [record.data for record in source.read(None)] == [{"n": 0}, {"n": 1}]


def test_wrong_options_of_the_users_own_are_placed_as_all_others(beside: Path, errors: Errors) -> None:
    (beside / "own_parts.py").write_text(OWN)
    assert errors(
        "flows:\n"
        "  a:\n    source: {type: 'own_parts:Count', too: 2}\n    sink: {type: 'own_parts:Keep'}\n"
        "  b:\n    source: {type: 'own_parts:Cuont'}\n    sink: {type: 'own_parts:Half'}\n"
    ) == [
        "flows.yaml:3:39: flows.a.source.too: unknown option: did you mean 'to'?",
        "flows.yaml:4:5: flows.a.sink.label: is missing: expected a value, as there is no default",
        "flows.yaml:6:20: flows.b.source.type: own_parts:Cuont: own_parts "
        f"({beside}/own_parts.py) has no Cuont: did you mean 'Count'?",
        "flows.yaml:7:18: flows.b.sink.type: 'own_parts:Half' is abstract: it must define write",
    ]


@pytest.fixture
def installed(beside: Path) -> Path:
    """A package as pip installs it, that adds a source and a sink by entry points."""
    (beside / "own_parts.py").write_text(OWN)
    (beside / "own_parts-1.0.dist-info").mkdir()
    (beside / "own_parts-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: own-parts\nVersion: 1.0\n"
    )
    (beside / "own_parts-1.0.dist-info" / "entry_points.txt").write_text(
        "[millrace.sources]\ncount = own_parts:Count\n[millrace.sinks]\nkeep = own_parts:Keep\n"
    )
    sys.path.insert(0, str(beside))
    return beside


def test_an_installed_package_adds_types_by_entry_points(installed: Path, errors: Errors) -> None:
    path = installed / "flows.yaml"
    path.write_text("flows:\n  a:\n    source: {type: count}\n    sink: {type: keep, label: x}\n")
    assert load_all(path)["a"].sink.type == "keep"
    found = errors("flows:\n  a:\n    source: {type: cont}\n    sink: {type: nope, label: x}\n")
    assert f"did you mean 'count'? expected {', '.join(sorted({*SOURCES, 'count'}))}, or" in found[0]
    assert f"expected {', '.join(sorted({*SINKS, 'keep'}))}, or" in found[1]


def test_the_schema_has_the_types_that_an_installed_package_adds(installed: Path) -> None:
    printed = millrace("schema", folder=installed, PYTHONPATH=f"{ROOT}{os.pathsep}{installed}")
    assert (printed.returncode, printed.stderr) == (0, "")
    schema = json.loads(printed.stdout)
    assert schema["$defs"]["sink.keep"]["required"] == ["type", "label"]
    assert {"$ref": "#/$defs/source.count"} in schema["$defs"]["Flow"]["properties"]["source"]["anyOf"]


def test_a_broken_package_that_nobody_named_breaks_no_check(installed: Path) -> None:
    (installed / "own_parts.py").write_text("1 / 0")
    path = installed / "flows.yaml"
    path.write_text(f"flows:\n  a:\n{SOURCE}{SINK}")
    assert load_all(path)


def test_a_variable_of_an_anchor_that_no_flow_uses_need_not_be_set(beside: Path, errors: Errors) -> None:
    lake = '{type: jsonl, path: "${NO_LAKE_HERE}"}'
    path = beside / "flows.yaml"
    path.write_text(f"x-lake: &lake {lake}\nflows:\n  a:\n{SOURCE}{SINK}")
    assert load_all(path)
    path.write_text(f"x-lake: &lake {lake}\nflows:\n  a:\n{SOURCE}    sink: *lake\n")
    assert load(path)["a"].source.type == "scrapy"
    (found,) = errors(path.read_text())
    assert found.startswith("flows.yaml:1:36: flows.a.sink.path: the environment variable NO_LAKE_HERE is not set")


BROKEN = """
from pydantic import field_validator
from millrace_producer.sources.base import Source
from millrace_consumer.sinks.base import Sink

class Source1(Source):
    token: str

    @field_validator("token")
    def picky(cls, token):
        return {}[token]

    def read(self, resume_from):
        yield

class Sink1(Sink):
    def write(self, batch):
        pass

    def check(self, model):
        raise RuntimeError("no such lake")
"""


def test_a_bug_in_the_users_own_source_or_sink_is_placed(beside: Path, errors: Errors) -> None:
    home = beside / "broken_parts.py"
    home.write_text(BROKEN)
    assert errors(
        f"flows:\n  a:\n    source: {{type: 'broken_parts:Source1', token: tea}}\n{SINK}"
        f"  b:\n{SOURCE}    sink: {{type: 'broken_parts:Sink1'}}\n"
    ) == [
        f"flows.yaml:3:13: flows.a.source: can't be made: KeyError: 'tea' ({home}:11)",
        f"flows.yaml:7:11: flows.b.sink: can't be used: RuntimeError: no such lake ({home}:21)",
    ]


def test_a_bug_in_the_users_own_source_tells_no_secret(
    beside: Path, errors: Errors, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = beside / "broken_parts.py"
    home.write_text(BROKEN)
    monkeypatch.setenv("TEA", "hunter2_Zq9")
    (found,) = errors(f"flows:\n  a:\n    source: {{type: 'broken_parts:Source1', token: '${{TEA}}'}}\n{SINK}")
    assert found == f"flows.yaml:3:13: flows.a.source: can't be made: KeyError: '${{TEA}}' ({home}:11)"


def test_what_doesnt_fit_together_in_one_flow_is_said_with_the_mistakes_of_another(errors: Errors) -> None:
    found = errors(f"flows:\n  a:\n{SOURCE}    sink: {{type: csv, path: data}}\n  b:\n{SOURCE}{SINK}    lease: soon\n")
    assert [line.split(": ")[:2] for line in found] == [
        ["flows.yaml:4:11", "flows.a.sink"],
        ["flows.yaml:8:12", "flows.b.lease"],
    ]


def test_a_path_that_cant_be_looked_at_is_placed(errors: Errors) -> None:
    (found,) = errors(f"flows:\n  a:\n{SOURCE}    sink: {{type: jsonl, path: {'x' * 300}}}\n")
    assert found.startswith("flows.yaml:4:11: flows.a.sink: can't be used: OSError: [Errno 36] File name too long: 'x")
    assert ".py" not in found


def test_flows_that_are_built_are_not_run(beside: Path) -> None:
    path = beside / "flows.yaml"
    path.write_text(f"flows:\n  a:\n{SOURCE}    sink: {{type: jsonl, path: data}}\n")
    build_all(load(path).values())
    assert [found.name for found in beside.iterdir()] == ["flows.yaml"]
