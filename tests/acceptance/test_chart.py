"""The chart says what `millrace render kubernetes` says, for every flow that there is, and refuses what it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from millrace.access import grant, make_folders
from millrace.render.chart import chart_schema
from millrace.render.kubernetes import access_version, kubernetes
from millrace.render.plan import Plan, plan
from millrace.render.values import read_values
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import load
from tests.acceptance.helm import helm, why_not
from tests.unit.test_render_kubernetes import VALUES

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "millrace"
EXAMPLES = sorted(file.parent.name for file in (ROOT / "examples").glob("*/flows.yaml"))
REFUSED = {
    "external": "only /data can be written in a container",
    "stdin": "nobody writes to the standard input of a service",
    "wikipedia-lake": "only /data can be written in a container",
}
WRONG = {
    "imag=x": "additional properties 'imag' not allowed",
    "grace=soon": "'soon' does not match pattern",
    "redis.maxmemory=lots": "'lots' does not match pattern",
    "autoscale.scaler=here": "'here' does not match pattern",
    "flows.elsewhere.consumer.replicas=1": "flows.elsewhere: there is no such flow: expected quotes, wikipedia",
    "flows.quotes.producer.replicas=2": "would read all of it again",
    "access_version=": "access_version: expected what `millrace render secrets --version-only` prints",
}
MORE = """
flows: {wikipedia: {consumer: {memory: 3GiB, nodes: {a: b}}, producer: {replicas: 3}}}
redis: {maxmemory: 1.5GiB, memory: 4GB}
env: {BATCH: 500, WIKIPEDIA_URL: "http://a/?x=1&y", MILLRACE_LOG_LEVEL: debug, MILLRACE_HTTP: "0.0.0.0:9090"}
"""


@pytest.fixture(scope="module")
def program() -> Path:
    reason = why_not()
    if reason and os.environ.get("MILLRACE_DOCKER") == "required":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    return helm()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in which commands are given."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text("s3cr3t\n")
    return tmp_path


def copied(place: Path, values: str) -> Plan:
    """What is to run for flows copied to this folder, whose variables without a default the values have."""
    for file in (*place.glob("flows.yaml"), *place.glob("*.py")):
        shutil.copy(file, file.name)
    given = yaml.safe_load(values) or {}
    unset = set(re.findall(r"\$\{([A-Z_]+)\}", Path("flows.yaml").read_text()))
    given["env"] = {**{name: f"http://example.org/{name}" for name in unset}, **given.get("env", {})}
    Path("values.yaml").write_text(yaml.safe_dump(given))
    found, document = read_values(Path("values.yaml"), {})
    flows = list(load(Path("flows.yaml"), found.env).values())
    make_folders(Path("secrets"), flows)
    grant(Path("secrets"), "redis://millrace-redis:6379/0", flows, reload=False)
    return plan(Path("flows.yaml"), found, document, "kubernetes")


def template(program: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """`helm template`, with the files of this folder."""
    files = [
        name
        for file in sorted(Path().glob("flows.yaml")) + sorted(Path().glob("*.py"))
        for name in ("--set-file", f"files.{file.name.replace('.', chr(92) + '.')}={file.name}")
    ]
    command = [str(program), "template", "millrace", str(CHART), "--values", "values.yaml", *files, *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def by_name(text: str) -> dict[tuple[str, str], Any]:
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(text) if one}


def agree(program: Path, found: Plan) -> None:
    made = template(program, "--set-string", f"access_version={access_version(found)}")
    assert made.returncode == 0, made.stderr
    ours, charts = by_name(kubernetes(found)), by_name(made.stdout)
    assert ours.keys() == charts.keys()
    for name, one in ours.items():
        assert charts[name] == one, name


@pytest.mark.parametrize("values", [*VALUES.values(), MORE], ids=[*VALUES, "more"])
def test_the_shipped_flows_are_the_same_by_chart_and_by_render(program: Path, folder: Path, values: str) -> None:
    agree(program, copied(ROOT, values))


@pytest.mark.parametrize("example", [name for name in EXAMPLES if name not in REFUSED])
def test_each_example_is_the_same_by_chart_and_by_render(program: Path, folder: Path, example: str) -> None:
    agree(program, copied(ROOT / "examples" / example, ""))


@pytest.mark.parametrize("example", REFUSED)
def test_what_render_refuses_the_chart_refuses(program: Path, folder: Path, example: str) -> None:
    with pytest.raises(ConfigError, match=REFUSED[example]):
        copied(ROOT / "examples" / example, "")
    made = template(program, "--set-string", "access_version=abc")
    assert made.returncode != 0
    assert REFUSED[example] in made.stderr


@pytest.mark.parametrize("value", WRONG)
def test_a_value_that_is_wrong_is_refused_by_its_name(program: Path, folder: Path, value: str) -> None:
    copied(ROOT, "")
    made = template(program, "--set", "access_version=abc", "--set", value)
    assert made.returncode != 0
    assert WRONG[value] in made.stderr


def test_helm_finds_nothing_to_say_of_the_chart(program: Path, folder: Path) -> None:
    version = access_version(copied(ROOT, ""))
    files = ["--set-file", r"files.flows\.yaml=flows.yaml", "--set-file", r"files.flows\.py=flows.py"]
    command = [str(program), "lint", "--strict", str(CHART), *files, "--set-string", f"access_version={version}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_values_schema_is_that_of_the_command() -> None:
    kept = json.loads((CHART / "values.schema.json").read_text())
    assert kept == chart_schema(), "python -m millrace.render.chart > deploy/helm/millrace/values.schema.json"
