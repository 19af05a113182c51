"""Prometheus and Grafana: every rule fires and clears, and every question of theirs has an answer while the stack runs.

promtool and Prometheus are those of the image of docker-compose.yml. Of Grafana it is what it asks that is tried.
"""

from __future__ import annotations

import json
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.acceptance.stackrun import ROOT, StackRun, until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

FOLDER = ROOT / "docker" / "prometheus"
IMAGE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["prometheus"]["image"]
ALERTS = {rule["alert"]: rule for rule in yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"][0]["rules"]}
DASHBOARD = json.loads((ROOT / "docker" / "grafana" / "dashboards" / "millrace.json").read_text())
QUERIES = {
    f"{panel['title']}, {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
}
SERIES = sorted(
    {
        name
        for rule in ALERTS.values()
        for name in re.findall(r"\b(?:millrace_[a-z_]+|up)\b", rule["expr"])
        if name != "millrace"
    }
)
AT_WORK = {"producer-wikipedia", "consumer"}
OVERRIDE = """
services:
  consumer:
    environment: {BATCH: "100", LINGER: 1s}
"""


def promtool(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """What promtool of the stack's Prometheus says of the files in a folder."""
    inside = ["--network", "none", "--volume", f"{folder}:/rules:ro", "--workdir", "/rules", "--entrypoint", "promtool"]
    command = ["docker", "run", "--rm", *inside, IMAGE, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_each_rule_fires_and_clears(engine: None) -> None:
    said = promtool(FOLDER, "test", "rules", "rules-test.yml")
    assert said.returncode == 0, said.stdout + said.stderr
    proof = yaml.safe_load((FOLDER / "rules-test.yml").read_text())["tests"][0]["promql_expr_test"]
    before, wrong, after = (
        {found for one in moment["exp_samples"] for found in re.findall(r'alertname="(\w+)"', one["labels"])}
        for moment in proof
    )
    assert (before, wrong, after) == (set(), set(ALERTS), set())


@pytest.mark.parametrize("alert", ALERTS)
def test_a_rule_that_never_fires_is_noticed(engine: None, alert: str, tmp_path: Path) -> None:
    rules = yaml.safe_load((FOLDER / "rules.yml").read_text())
    for rule in rules["groups"][0]["rules"]:
        if rule["alert"] == alert:
            rule["expr"] = f"({rule['expr']}) unless ({rule['expr']})"
    tmp_path.chmod(0o755)
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    (tmp_path / "rules-test.yml").write_text((FOLDER / "rules-test.yml").read_text())
    said = promtool(tmp_path, "test", "rules", "rules-test.yml")
    assert said.returncode != 0
    assert alert in said.stdout + said.stderr


def test_the_configuration_is_one_that_prometheus_takes(engine: None) -> None:
    said = promtool(FOLDER, "check", "config", "prometheus.yml")
    assert said.returncode == 0, said.stdout + said.stderr


@dataclass
class Evidence:
    """What Prometheus said while the stack ran."""

    targets: list[dict[str, Any]] = field(default_factory=list)
    answers: dict[str, list[Any]] = field(default_factory=dict)
    series: dict[str, list[Any]] = field(default_factory=dict)
    rules: dict[str, dict[str, Any]] = field(default_factory=dict)
    lint: str = ""
    container: dict[str, Any] = field(default_factory=dict)


class Asked:
    """The Prometheus of a run, by the port it has on loopback."""

    def __init__(self, run: StackRun) -> None:
        self.address = run.compose("port", "prometheus", "9090").strip()

    def get(self, path: str, **query: str) -> Any:
        with urllib.request.urlopen(f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(query)}") as answer:
            return json.load(answer)["data"]

    def query(self, text: str) -> list[Any]:
        """The samples that a query has as its answer now, with what Grafana would put in for its variables."""
        text = text.replace("$__rate_interval", "1m").replace("$flow", ".*")
        found: list[Any] = self.get("query", query=text)["result"]
        return [sample for sample in found if sample["value"][1] != "NaN"]


@pytest.fixture(scope="module")
def evidence(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evidence]:
    """The whole run. Its containers, networks and volumes are gone afterwards, however it ends."""
    with StackRun.built(
        tmp_path_factory.mktemp("stack"), OVERRIDE, PROMETHEUS_PORT="0", COMPOSE_PROFILES="observe"
    ) as run:
        yield look(run)


def look(run: StackRun) -> Evidence:
    evidence = Evidence()
    run.stack.up()
    until("Prometheus is ready", lambda: healthy(run, "prometheus") == 1)
    asked = Asked(run)

    def targets() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = asked.get("targets")["activeTargets"]
        return [one for one in found if one["health"] == "up"]

    until("Prometheus has asked all that run", lambda: len(targets()) >= len(AT_WORK))
    for title, query in QUERIES.items():
        evidence.answers[title] = until(f"an answer to {title}: {query}", lambda query=query: asked.query(query))
    evidence.series = {name: asked.query(name) for name in SERIES}

    def rules() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = asked.get("rules")["groups"][0]["rules"]
        return found

    until("the rules were tried", lambda: all(rule["health"] == "ok" for rule in rules()))
    evidence.rules = {rule["name"]: rule for rule in rules()}
    evidence.targets = targets()
    for service in AT_WORK:
        text = run.execute(service, "python", "-c", SHOW)
        command = ["docker", "run", "--rm", "--interactive", "--network", "none", "--entrypoint", "promtool", IMAGE]
        said = subprocess.run([*command, "check", "metrics"], input=text, capture_output=True, text=True, timeout=120)
        evidence.lint += said.stdout + said.stderr
    evidence.container = run.inspect(run.running("prometheus")[0])
    return evidence


SHOW = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9090/metrics').read().decode(), end='')"


def healthy(run: StackRun, service: str) -> int:
    return sum(one.service == service and one.health == "healthy" for one in run.stack.ps())


def test_every_panel_of_the_dashboard_has_data(evidence: Evidence) -> None:
    assert set(evidence.answers) == set(QUERIES)
    assert all(evidence.answers.values())


def test_every_series_that_a_rule_asks_for_is_there(evidence: Evidence) -> None:
    assert [name for name, found in evidence.series.items() if not found] == []


def test_prometheus_tries_every_rule_and_finds_no_fault_in_it(evidence: Evidence) -> None:
    assert set(evidence.rules) == set(ALERTS)
    assert [name for name, rule in evidence.rules.items() if rule.get("lastError")] == []


def test_no_rule_fires_while_all_is_well(evidence: Evidence) -> None:
    assert [name for name, rule in evidence.rules.items() if rule["state"] == "firing"] == []


def test_names_and_units_are_as_promtool_would_have_them(evidence: Evidence) -> None:
    assert [line for line in evidence.lint.splitlines() if "millrace_" in line] == []


def test_prometheus_is_published_on_loopback_alone_and_can_do_nothing_else(evidence: Evidence) -> None:
    (bound,) = evidence.container["NetworkSettings"]["Ports"]["9090/tcp"]
    assert bound["HostIp"] == "127.0.0.1"
    host = evidence.container["HostConfig"]
    assert (host["ReadonlyRootfs"], host["CapDrop"]) == (True, ["ALL"])
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert evidence.container["Config"]["User"] == "65534:65534"


def test_grafana_shows_what_is_asked_here_and_is_published_on_loopback_alone() -> None:
    grafana = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    assert all(port.startswith("127.0.0.1:") for port in grafana["ports"])
    assert (grafana["read_only"], grafana["cap_drop"]) == (True, ["ALL"])
    (source,) = yaml.safe_load((ROOT / "docker/grafana/provisioning/datasources/millrace.yml").read_text())[
        "datasources"
    ]
    used = {target["datasource"]["uid"] for panel in DASHBOARD["panels"] for target in panel["targets"]}
    assert used == {source["uid"]}
