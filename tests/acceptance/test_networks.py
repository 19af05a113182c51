"""Who can ask the stack what: /metrics in its own network alone, and a consumer's user for its own flow alone.

One run with the profile `observe`, and what docs/how-to/docker.md says to put into an override for a user of each flow.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from tests.acceptance.stackrun import ROOT, StackRun, until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

SERVICES = {"consumer-quotes": 1, "consumer-wikipedia": 3, "producer-wikipedia": 1}
NETWORKS = ("outside", "queue", "tables", "practice", "metrics")

ASK = """
import json, socket, sys, urllib.request
from concurrent.futures import ThreadPoolExecutor
def ask(address):
    try:
        return urllib.request.urlopen(f"http://{address}:9090/metrics", timeout=3).status
    except OSError as error:
        return type(getattr(error, "reason", error)).__name__
try:
    named = sorted({where[0] for *_, where in socket.getaddrinfo("metrics", 9090, type=socket.SOCK_STREAM)})
except OSError:
    named = []
with ThreadPoolExecutor(32) as pool:
    asked = dict(zip(sys.argv[1:], pool.map(ask, sys.argv[1:])))
print(json.dumps({"asked": asked, "named": named}))
"""
"""Run in a container of somebody else's, in one network of the stack."""

TARGETS = """
import urllib.request
print(urllib.request.urlopen("http://prometheus:9090/api/v1/targets", timeout=5).read().decode())
"""

REACH = """
import os, redis
client = redis.Redis.from_url(open(os.environ["REDIS_URL_FILE"]).read())
for key in ("DATA-PIPELINE-KEY", "WIKIPEDIA-PIPELINE-KEY"):
    try:
        client.llen(key)
        print(key)
    except redis.exceptions.NoPermissionError:
        pass
"""


@dataclass
class Evidence:
    """What was found."""

    addresses: dict[str, dict[str, str]] = field(default_factory=dict)  # container → network → address
    asked: dict[str, dict[str, Any]] = field(default_factory=dict)  # from the network
    targets: list[dict[str, Any]] = field(default_factory=list)
    healthy: int = 0
    reached: dict[str, list[str]] = field(default_factory=dict)
    books: dict[str, dict[str, int]] = field(default_factory=dict)
    alone: str = ""


def documented(first: str) -> str:
    """The YAML of docs/how-to/docker.md whose first lines hold these words."""
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "how-to" / "docker.md").read_text(), re.DOTALL)
    return next(block for block in blocks if first in "".join(block.splitlines(keepends=True)[:3]))


@pytest.fixture(scope="module")
def evidence(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evidence]:
    """The whole run. Its containers, networks and volumes are gone afterwards, however it ends."""
    with StackRun.built(
        tmp_path_factory.mktemp("stack"), json.dumps(adapted()), PROMETHEUS_PORT="0", COMPOSE_PROFILES="observe"
    ) as run:
        yield look(run)


def adapted() -> dict[str, Any]:
    """The override, with absolute paths for relative ones."""
    flows: dict[str, Any] = yaml.safe_load(documented("access:"))
    for service in flows["services"].values():
        if "extends" in service:
            service["extends"]["file"] = str(ROOT / "docker-compose.yml")
    flows["services"]["consumer-wikipedia"] |= {"environment": {"BATCH": "100", "LINGER": "1s"}}
    return flows


def look(run: StackRun) -> Evidence:
    evidence = Evidence()
    run.stack.up()
    run.stack.scale({"consumer-wikipedia": SERVICES["consumer-wikipedia"]})
    until("all healthy", lambda: healthy(run) == sum(SERVICES.values()))
    evidence.healthy = healthy(run)
    for service in SERVICES:
        for name in run.running(service):
            networks = run.inspect(name)["NetworkSettings"]["Networks"]
            evidence.addresses[name] = {
                network.removeprefix(f"{run.project}_"): found["IPAddress"] for network, found in networks.items()
            }
    every = [address for networks in evidence.addresses.values() for address in networks.values()]
    for network in NETWORKS:
        evidence.asked[network] = json.loads(elsewhere(run, network, ASK, *every))
    until("Prometheus found them", lambda: len(targets(run)) == sum(SERVICES.values()))
    until("Prometheus has asked them", lambda: {one["health"] for one in targets(run)} == {"up"})
    evidence.targets = targets(run)
    for flow in ("quotes", "wikipedia"):
        evidence.reached[flow] = run.execute(f"consumer-{flow}", "python", "-c", REACH).split()
        until(f"{flow} delivered", lambda flow=flow: books(run, flow)["delivered"])
        evidence.books[flow] = books(run, flow)
    # A container that `run` makes has not got the name of the service.
    evidence.alone = run.compose(
        "run",
        "--rm",
        "--no-deps",
        "--no-TTY",
        "consumer-quotes",
        "sh",
        "-c",
        "millrace consume quotes --until-empty 2>&1",
    )
    return evidence


def healthy(run: StackRun) -> int:
    return sum(one.service in SERVICES and one.health == "healthy" for one in run.stack.ps())


def books(run: StackRun, flow: str) -> dict[str, int]:
    found: dict[str, dict[str, int]] = json.loads(run.execute(f"consumer-{flow}", "millrace", "verify", flow, "--json"))
    return found[flow]


def elsewhere(run: StackRun, network: str, script: str, *words: str) -> str:
    """What a script prints in a container that is in this network and has nothing to do with the stack."""
    command = ["docker", "run", "--rm", "--network", f"{run.project}_{network}", "python:3.13-slim"]
    done = subprocess.run([*command, "python", "-c", script, *words], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


def targets(run: StackRun) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(elsewhere(run, "metrics", TARGETS))["data"]["activeTargets"]
    return found


def of(evidence: Evidence, network: str) -> list[str]:
    return [networks[network] for networks in evidence.addresses.values() if network in networks]


def test_every_service_is_healthy_by_its_own_loopback(evidence: Evidence) -> None:
    assert evidence.healthy == sum(SERVICES.values())


def test_metrics_answer_in_their_network_at_each_replica_s_own_address(evidence: Evidence) -> None:
    mine = of(evidence, "metrics")
    assert len(set(mine)) == sum(SERVICES.values())
    assert {evidence.asked["metrics"]["asked"][address] for address in mine} == {200}
    assert evidence.asked["metrics"]["named"] == sorted(mine)


@pytest.mark.parametrize("network", [network for network in NETWORKS if network != "metrics"])
def test_metrics_are_refused_in_every_other_network(evidence: Evidence, network: str) -> None:
    asked = evidence.asked[network]["asked"]
    here = of(evidence, network)
    assert here
    assert {asked[address] for address in here} == {"ConnectionRefusedError"}
    assert 200 not in asked.values()


def test_the_documented_way_to_find_replicas_is_prometheus_own() -> None:
    own = yaml.safe_load((ROOT / "docker" / "prometheus" / "prometheus.yml").read_text())
    assert yaml.safe_load(documented("scrape_configs"))["scrape_configs"] == own["scrape_configs"]


def test_prometheus_finds_all_replicas(evidence: Evidence) -> None:
    assert {one["health"] for one in evidence.targets} == {"up"}
    found = sorted(one["labels"]["instance"].partition(":")[0] for one in evidence.targets)
    assert found == sorted(of(evidence, "metrics"))


def test_a_consumer_as_documented_reaches_its_own_flow_alone(evidence: Evidence) -> None:
    assert evidence.reached == {"quotes": ["DATA-PIPELINE-KEY"], "wikipedia": ["WIKIPEDIA-PIPELINE-KEY"]}
    for books in evidence.books.values():
        assert books["delivered"] > 0
        assert books["difference"] == 0


def test_a_container_without_the_name_works_and_says_that_it_has_not_got_it(evidence: Evidence) -> None:
    assert "http_not_there" in evidence.alone
    assert "service_stopped" in evidence.alone
