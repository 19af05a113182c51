"""What `millrace render` makes of a flows file and a few values, for each engine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from millrace.access import grant, make_folders
from millrace.render.compose import compose
from millrace.render.plan import Engine, Plan, plan
from millrace.render.swarm import swarm
from millrace.render.values import read_values
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import load

ROOT = Path(__file__).parents[2]
TEXT = {"compose": compose, "swarm": swarm}
ENGINES = sorted(TEXT)
BUCKET = "{type: jsonl, path: 's3://bucket/x', store: {region: x}}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the shipped flows, in which commands are given."""
    for name in ("flows.yaml", "flows.py"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planned(engine: Engine, values: str = "", **given: Any) -> Plan:
    """What is to run for the flows of this folder."""
    Path("values.yaml").write_text(values or "{}")
    found, document = read_values(Path("values.yaml"), given)
    return plan(Path("flows.yaml"), found, document, engine)


def rendered(engine: Engine, values: str = "", **given: Any) -> dict[str, Any]:
    """What is printed, read again."""
    access()
    found = yaml.safe_load(TEXT[engine](planned(engine, values, **given)))
    assert isinstance(found, dict)
    return found


def access(at: str = "redis://redis:6379/0") -> None:
    """`millrace access secrets`."""
    flows = list(load(Path("flows.yaml"), {"LEASE": "5s"}).values())
    make_folders(Path("secrets"), flows)
    grant(Path("secrets"), at, flows, reload=False)


def flow(source: str = "{type: sse, url: 'http://a/'}", sink: str = BUCKET, more: str = "") -> None:
    """One flow, in place of the shipped ones."""
    Path("flows.yaml").write_text(f"flows:\n  one:\n    source: {source}\n    sink: {sink}\n{more}")


@pytest.mark.parametrize("engine", ENGINES)
def test_two_renders_are_equal_whatever_the_environment_says(
    folder: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow(
        "{type: files, path: 's3://bucket/x', format: jsonl, mode: '${MODE:-watch}'}", more="    lease: ${LEASE:-5s}\n"
    )
    access()
    first = TEXT[engine](planned(engine))
    for name, value in (("DATA", "/elsewhere"), ("LEASE", "9s"), ("MODE", "once")):
        monkeypatch.setenv(name, value)
    assert TEXT[engine](planned(engine)) == first


@pytest.mark.parametrize("engine", ENGINES)
def test_each_flow_has_a_producer_and_a_consumer_and_others_push_without_one(folder: Path, engine: Engine) -> None:
    names = set(rendered(engine)["services"]) - {"access", "redis"}
    assert names == {"producer-quotes", "consumer-quotes", "producer-wikipedia", "consumer-wikipedia"}
    flow("{type: external}")
    assert set(rendered(engine)["services"]) - {"access", "redis"} == {"consumer-one"}


@pytest.mark.parametrize("engine", ENGINES)
def test_every_service_is_hardened_and_alone_knows_its_users_password(folder: Path, engine: Engine) -> None:
    found = rendered(engine)
    for name, service in found["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "ports" not in service, name
    for role, one in (("producer", "quotes"), ("consumer", "wikipedia")):
        service = found["services"][f"{role}-{one}"]
        if engine == "swarm":
            assert [secret["source"] for secret in service["secrets"]] == [f"{role}-{one}-url"]
        else:
            mounted = [volume["source"] for volume in service["volumes"] if volume["type"] == "volume"]
            assert [name for name in mounted if name.startswith("access")] == [f"access-{role}-{one}"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_scaler_is_there_when_wanted_and_only_reads(folder: Path, engine: Engine) -> None:
    assert "scaler" not in rendered(engine)["services"]
    scaler = rendered(engine, "autoscale: {max: 4, age: 1m}")["services"]["scaler"]
    assert scaler["environment"]["REDIS_URL"] == "redis://reader@redis:6379/0"
    assert scaler["command"] == ["millrace", "scaler", "--min", "0", "--max", "4", "--age", "60s", "--idle", "300s"]
    assert (scaler["read_only"], scaler["cap_drop"]) == (True, ["ALL"])
    assert not scaler.get("secrets")
    assert not [one for one in scaler["volumes"] if one["type"] == "volume"]  # no password, and no socket of Docker
    (port,) = scaler["ports"]
    assert port == (
        "127.0.0.1:${SCALER_PORT:-9191}:9191"
        if engine == "compose"
        else {"target": 9090, "published": 9191, "protocol": "tcp", "mode": "host"}
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_no_password_is_printed(folder: Path, engine: Engine) -> None:
    access()
    Path("token").write_text("s3cr3t-t0ken\n")
    flow(source="{type: sse, url: 'http://a/', headers: {Authorization: '${TOKEN}'}}")
    access()
    text = TEXT[engine](planned(engine, "secrets: {TOKEN: token}"))
    assert "s3cr3t" not in text
    for file in Path("secrets").glob("*/url"):
        assert file.read_text().partition("@")[0].rpartition(":")[2] not in text


@pytest.mark.parametrize("engine", ENGINES)
def test_a_variable_goes_to_the_services_whose_part_of_the_flow_it_is_in(folder: Path, engine: Engine) -> None:
    Path("token").write_text("t")
    more = "    lease: ${LEASE}\n"
    flow("{type: sse, url: '${WHERE}'}", "{type: http, url: 'http://b/', headers: {X: '${TOKEN}'}}", more)
    access()
    services = yaml.safe_load(
        TEXT[engine](
            planned(
                engine,
                "env: {WHERE: 'http://a/?$x', LEASE: 5s, MILLRACE_LOG_LEVEL: debug}\nsecrets: {TOKEN: token}",
            )
        )
    )["services"]
    producer, consumer = services["producer-one"], services["consumer-one"]
    assert producer["environment"]["WHERE"] == "http://a/?$$x"
    assert "WHERE" not in consumer["environment"]
    for service in (producer, consumer):
        assert service["environment"]["LEASE"] == "5s"
        assert service["environment"]["MILLRACE_LOG_LEVEL"] == "debug"
    if engine == "swarm":
        assert [secret["target"] for secret in consumer["secrets"]] == [
            "/run/secrets/redis-url",
            "/run/secrets/env/TOKEN",
        ]
        assert [secret["target"] for secret in producer["secrets"]] == ["/run/secrets/redis-url"]
    else:
        assert consumer["environment"]["TOKEN"].startswith("${TOKEN:?")
        assert "TOKEN" not in producer["environment"]


@pytest.mark.parametrize("engine", ENGINES)
def test_modules_that_flows_name_go_along_with_those_that_they_import(folder: Path, engine: Engine) -> None:
    Path("mine.py").write_text("import helping\nfrom json import dumps\ndef same(record): return record\n")
    Path("helping.py").write_text("X = 1\n")
    Path("unrelated.py").write_text("X = 1\n")
    flow(more="    transforms: [mine:same]\n")
    assert set(planned(engine).files) == {"flows.yaml", "mine.py", "helping.py"}


def test_what_changes_has_another_name_and_what_stays_keeps_its_own(folder: Path) -> None:
    before = rendered("swarm")
    Path("flows.py").write_text(Path("flows.py").read_text() + "\n# changed\n")
    after = rendered("swarm")
    assert before["configs"]["flows.py"]["name"] != after["configs"]["flows.py"]["name"]
    assert before["configs"]["flows.yaml"] == after["configs"]["flows.yaml"]
    assert before["secrets"] == after["secrets"]


def test_a_swarm_starts_the_new_before_the_old_ends_where_two_do_no_harm(folder: Path) -> None:
    services = rendered("swarm")["services"]
    order = {name: service["deploy"]["update_config"]["order"] for name, service in services.items()}
    assert order == {
        "redis": "stop-first",
        "producer-quotes": "stop-first",  # a crawl: two of them would be two crawls
        "producer-wikipedia": "start-first",  # stands by until the old one resigns
        "consumer-quotes": "start-first",
        "consumer-wikipedia": "start-first",
    }
    flow("{type: rest, url: 'http://a/'}")  # asked once, and then it ends
    assert rendered("swarm")["services"]["producer-one"]["deploy"]["update_config"]["order"] == "stop-first"
    assert services["producer-wikipedia"]["deploy"]["replicas"] == 2
    assert services["producer-quotes"]["deploy"]["restart_policy"]["condition"] == "on-failure"


def test_replicas_nodes_and_amounts_are_as_the_values_say(folder: Path) -> None:
    values = """
consumer: {replicas: 3, memory: 2GiB, nodes: {disk: ssd}}
flows: {quotes: {consumer: {replicas: 5, cpus: 0.5}}}
grace: 40s
redis: {nodes: {hostname: db1}, maxmemory: 1GB, memory: 4GiB}
"""
    services = rendered("swarm", values)["services"]
    quotes, wikipedia = (services[f"consumer-{name}"] for name in ("quotes", "wikipedia"))
    assert (quotes["deploy"]["replicas"], wikipedia["deploy"]["replicas"]) == (5, 3)
    assert quotes["deploy"]["resources"]["limits"] == {"cpus": "0.5", "memory": "2048M"}
    assert wikipedia["deploy"]["resources"]["limits"] == {"memory": "2048M"}
    assert quotes["deploy"]["placement"]["constraints"] == ["node.labels.disk == ssd"]
    assert services["redis"]["deploy"]["placement"]["constraints"] == ["node.hostname == db1"]
    assert "1000000000" in services["redis"]["command"]
    assert quotes["stop_grace_period"] == "45s"
    assert quotes["environment"]["MILLRACE_GRACE_SECONDS"] == "40"


def test_a_swarm_is_warned_of_files_on_each_node_and_refuses_databases_there(folder: Path) -> None:
    warnings = planned("swarm").warnings
    assert len(warnings) == 2
    assert warnings[0].startswith("flows.yaml:20:31: flows.quotes.sink.path: each node keeps what")
    assert planned("swarm", "data: {shared: true}").warnings == ()
    assert planned("swarm", "consumer: {nodes: {disk: big}}").warnings == ()
    assert planned("compose").warnings == ()
    flow(sink="{type: sqlite, path: '${DATA:-data}/x.db', table: t}")
    assert "another database on each node" in refusal("swarm")
    assert planned("swarm", "data: {shared: true}").services[1].writes_files
    assert planned("compose").services[1].writes_files


WRONG: Mapping[str, tuple[str, str]] = {
    "values.yaml:1:1: imag: unknown option: did you mean 'image'?": ("imag: x", ""),
    "values.yaml:1:18: consumer.cpus: expected more than 0, not -1": ("consumer: {cpus: -1}", ""),
    "values.yaml:1:9: flows.two: there is no such flow: expected one": ("flows: {two: {}}", ""),
    "values.yaml:1:36: flows.one.consumer.replicas: expected a whole number, not 'many'": (
        "flows: {one: {consumer: {replicas: many}}}",
        "",
    ),
    "redis: memory is less than twice maxmemory": ("redis: {maxmemory: 1GiB}", ""),
    "is in env and in secrets": ("env: {A: x}\nsecrets: {A: x}", ""),
    "secrets.A: can't read nowhere: No such file or directory": ("secrets: {A: nowhere}", ""),
    "sink.path: only /data can be written in a container: expected such as ${DATA:-data}/x": (
        "",
        "{type: jsonl, path: out/x}",
    ),
    "the environment variable TOKEN is not set": ("", "{type: http, url: 'http://b/', headers: {X: '${TOKEN}'}}"),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_wrong_is_said_with_its_place(folder: Path, message: str) -> None:
    values, sink = WRONG[message]
    flow(sink=sink or BUCKET)
    assert message in refusal("swarm", values)


def test_a_source_that_ends_has_one_producer_and_standard_input_none(folder: Path) -> None:
    assert "would read all of it again" in refusal("swarm", "producer: {replicas: 2}")
    flow("{type: stdin}")
    assert "nobody writes to the standard input of a service" in refusal("compose")


def test_users_that_redis_would_refuse_are_found_before_anything_is_printed(folder: Path) -> None:
    assert "`millrace access secrets` makes it" in refusal("swarm")
    access("redis://db.example:6379/0")
    assert "leads to db.example, and the Redis of these services is redis" in refusal("swarm")
    access()
    swarm(planned("swarm"))
    kept = Path("secrets/consumer-quotes/url")
    url = kept.read_text()
    kept.chmod(0o600)
    kept.write_text(url.replace(url.partition("@")[0][-8:], "deadbeef"))
    assert "doesn't let consumer-quotes at the list DATA-PIPELINE-KEY" in refusal("swarm")
    kept.write_text(url)
    Path("flows.yaml").write_text(Path("flows.yaml").read_text().replace("key: DATA-PIPELINE-KEY", "key: NEW"))
    assert "doesn't let producer-quotes at the list NEW" in refusal("swarm")
    assert swarm(planned("swarm", "redis: {bundled: false}"))


def refusal(engine: Engine, values: str = "") -> str:
    """Why nothing is printed."""
    with pytest.raises(ConfigError) as refused:
        TEXT[engine](planned(engine, values))
    return str(refused.value)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_command_prints_what_a_pipe_can_take(folder: Path, engine: Engine) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", "millrace", *words]
        mine = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE_", "REDIS_"))}
        return subprocess.run(command, capture_output=True, text=True, env=mine, timeout=60)

    assert run("access", "secrets").returncode == 0
    done = run("render", engine, "--replicas", "quotes=7", "--name", "shop", "--image", "mine:2")
    assert done.returncode == 0, done.stderr
    service = yaml.safe_load(done.stdout)["services"]["consumer-quotes"]
    assert service["deploy"]["replicas"] == 7
    assert all(line.startswith("warning: flows.yaml:") for line in done.stderr.splitlines())
    wrong = run("render", engine, "--replicas", "quotes=x")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "--replicas quotes=x: expected FLOW=N, such as quotes=4\n"
