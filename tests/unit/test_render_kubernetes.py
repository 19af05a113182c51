"""The manifests for Kubernetes: valid by the schemas of each version, restricted, and true to the flows."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from millrace.render.kubernetes import access_version, kubernetes, secrets
from millrace_pipeline.errors import ConfigError
from tests.unit.test_render import BUCKET, access, flow, folder, planned

__all__ = ["folder"]  # the fixture

VERSIONS = [f"1.{minor}" for minor in range(31, 38)]
CUSTOM = {"ServiceMonitor", "ScaledObject"}
EVERYTHING = """
namespace: shop
image: registry.example/millrace:1
pull_secrets: [registry]
metrics_namespace: monitoring
service_monitor: true
autoscale: {min: 1, max: 9, age: 45s, idle: 10m}
grace: 40s
consumer: {cpus: 0.5, memory: 2GiB, reserve: 1GiB, nodes: {disk: ssd, hostname: n1}}
redis: {storage_class: fast, nodes: {disk: ssd}}
data: {storage_class: nfs, size: 1TiB}
secrets: {TOKEN: token}
env: {LEASE: 30s}
"""
VALUES = {"none": "", "everything": EVERYTHING, "a Redis elsewhere": "redis: {bundled: false}\nnetwork_policy: false"}


def objects(values: str = "", name: str = "millrace") -> list[dict[str, Any]]:
    """What is printed for the flows of this folder, read again."""
    Path("token").write_text("s3cr3t\n")
    access(f"redis://{name}-redis:6379/0")
    return list(yaml.safe_load_all(kubernetes(planned("kubernetes", values))))


def pods(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The pod of each workload, by the workload's name."""
    return {
        one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in found if "template" in one.get("spec", {})
    }


def kinds(found: list[dict[str, Any]], kind: str) -> list[str]:
    return [one["metadata"]["name"] for one in found if one["kind"] == kind]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("values", VALUES)
def test_every_object_is_valid(folder: Path, version: str, values: str) -> None:
    found = [one for one in objects(VALUES[values]) if one["kind"] not in CUSTOM]
    found += list(yaml.safe_load_all(secrets(planned("kubernetes", VALUES[values]))))
    for one in found:
        kubernetes_validate.validate(one, version, strict=True)
    assert len(found) > 10


@pytest.mark.parametrize("values", VALUES)
def test_two_renders_are_equal(folder: Path, values: str) -> None:
    assert objects(VALUES[values]) == objects(VALUES[values])


@pytest.mark.parametrize("values", VALUES)
def test_every_pod_is_restricted(folder: Path, values: str) -> None:
    found = pods(objects(VALUES[values]))
    assert len(found) >= 4
    for name, pod in found.items():
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            }, name
        assert {kind for volume in pod["volumes"] for kind in volume} <= {
            *("name", "configMap", "secret", "emptyDir", "persistentVolumeClaim")
        }, name


def test_a_service_has_its_grace_and_five_seconds_more(folder: Path) -> None:
    for values, seconds in (("", 25), ("grace: 40s", 45)):
        pod = pods(objects(values))["millrace-consumer-quotes"]
        assert pod["terminationGracePeriodSeconds"] == seconds
        environment = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
        assert environment["MILLRACE_GRACE_SECONDS"] == str(seconds - 5)


def test_probes_tell_the_truth(folder: Path) -> None:
    found = pods(objects())
    for name, pod in found.items():
        container = pod["containers"][0]
        if name == "millrace-redis":
            assert container["readinessProbe"]["exec"]["command"][-1].endswith("| grep -qx PONG")
            assert container["livenessProbe"]["exec"]["command"][-1] == "ping"
        else:
            asked = [container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")]
            assert asked == ["/livez", "/livez", "/readyz"]


def test_a_consumer_has_no_volume_of_its_own_and_no_list_of_peers(folder: Path) -> None:
    flow()
    pod = pods(objects())["millrace-consumer-one"]
    assert [volume["name"] for volume in pod["volumes"]] == ["flows", "access", "tmp"]
    assert kinds(objects(), "PersistentVolumeClaim") == []
    assert planned("kubernetes").warnings == ()


def test_files_are_on_a_volume_for_many_pods_and_it_is_said(folder: Path) -> None:
    found = objects()
    claim = next(one for one in found if one["kind"] == "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert "ReadWriteMany" in planned("kubernetes").warnings[0]


def test_a_source_that_ends_is_a_job_and_others_are_deployments_with_a_budget(folder: Path) -> None:
    found = objects()
    (job,) = kinds(found, "Job")
    assert job.startswith("millrace-producer-quotes-")
    deployments = ["millrace-consumer-quotes", "millrace-producer-wikipedia", "millrace-consumer-wikipedia"]
    assert kinds(found, "Deployment") == kinds(found, "PodDisruptionBudget") == deployments
    assert kinds(objects("image: another"), "Job") != [job]  # since a Job can't be changed
    assert kinds(objects(), "Job") == [job]


def test_redis_keeps_its_list_on_a_volume_and_lets_only_our_pods_in(folder: Path) -> None:
    found = objects()
    (redis,) = (one for one in found if one["kind"] == "StatefulSet")
    assert redis["spec"]["volumeClaimTemplates"][0]["spec"]["accessModes"] == ["ReadWriteOnce"]
    arguments = redis["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[arguments.index("--appendonly") + 1] == "yes"
    policy = next(
        one for one in found if one["metadata"]["name"] == "millrace-redis" and one["kind"] == "NetworkPolicy"
    )
    assert policy["spec"]["egress"] == []
    assert policy["spec"]["ingress"][0]["from"] == [
        {"podSelector": {"matchLabels": {"app.kubernetes.io/instance": "millrace"}}}
    ]
    assert kinds(objects("redis: {bundled: false}"), "StatefulSet") == []


def test_a_scaled_consumer_leaves_its_number_to_keda(folder: Path) -> None:
    found = objects(EVERYTHING)
    consumer = next(one for one in found if one["kind"] == "Deployment" and "consumer" in one["metadata"]["name"])
    assert "replicas" not in consumer["spec"]
    scaled = next(one for one in found if one["kind"] == "ScaledObject")
    assert scaled["spec"]["scaleTargetRef"]["name"] == consumer["metadata"]["name"]
    assert (scaled["spec"]["minReplicaCount"], scaled["spec"]["maxReplicaCount"]) == (1, 9)
    where = {"scalerAddress": "millrace-scaler.shop.svc:9999", "flow": "quotes", "max": "9", "age": "45s"}
    assert scaled["spec"]["triggers"] == [{"type": "external-push", "metadata": where}]


def test_the_scaler_looks_as_a_reader_and_lets_keda_alone_in(folder: Path) -> None:
    found = [one for one in objects(EVERYTHING) if one["metadata"]["name"] == "millrace-scaler"]
    by_kind = {one["kind"]: one["spec"] for one in found}
    assert set(by_kind) == {"Deployment", "Service", "NetworkPolicy"}
    (container,) = by_kind["Deployment"]["template"]["spec"]["containers"]
    environment = {one["name"]: one.get("value") for one in container["env"]}
    assert environment["REDIS_URL"] == "redis://reader@millrace-redis:6379/0"
    assert "TOKEN" in environment  # nothing in the flows says whose it is
    assert [volume["name"] for volume in by_kind["Deployment"]["template"]["spec"]["volumes"]] == ["flows", "tmp"]
    (port,) = by_kind["Service"]["ports"]
    keda, prometheus = by_kind["NetworkPolicy"]["ingress"]
    assert keda["ports"] == [{"protocol": "TCP", "port": port["port"]}]
    assert keda["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}}}]
    assert prometheus["ports"] == [{"protocol": "TCP", "port": 9090}]


def test_one_scaler_may_be_elsewhere_and_must_be_reachable(folder: Path) -> None:
    elsewhere = objects("autoscale: {scaler: 'scaler.other.svc:9999'}")
    assert "millrace-scaler" not in kinds(elsewhere, "Deployment")
    scaled = next(one for one in elsewhere if one["kind"] == "ScaledObject")
    assert scaled["spec"]["triggers"][0]["metadata"]["scalerAddress"] == "scaler.other.svc:9999"
    with pytest.raises(ConfigError, match=r"expected `namespace"):
        planned("kubernetes", "autoscale: {}")
    with pytest.raises(ConfigError, match=r"autoscale\.redis: expected"):
        planned("kubernetes", "{namespace: shop, redis: {bundled: false}, autoscale: {}}")


def test_passwords_are_in_the_secrets_alone_and_other_ones_have_another_name(folder: Path) -> None:
    found = objects()
    version = access_version(planned("kubernetes"))
    text = yaml.safe_dump_all(found)
    urls = {file.parent.name: file.read_bytes() for file in Path("secrets").glob("*/url")}
    kept = {one["metadata"]["name"]: one["data"] for one in yaml.safe_load_all(secrets(planned("kubernetes")))}
    for user, url in urls.items():
        if user.startswith("operator"):
            continue  # a person's: no service has it
        assert base64.b64decode(kept[f"millrace-{user}-{version}"]["url"]) == url
        assert url.decode().partition("@")[0].rpartition(":")[2] not in text
    mounted = {
        volume["secret"]["secretName"]
        for pod in pods(found).values()
        for volume in pod["volumes"]
        if "secret" in volume
    }
    assert mounted == set(kept)
    (Path("secrets") / "consumer-quotes" / "url").unlink()
    objects()
    assert access_version(planned("kubernetes")) != version


def test_a_redis_by_another_name_is_found_before_anything_is_printed(folder: Path) -> None:
    access()
    with pytest.raises(ConfigError, match=r"leads to redis, .*--at redis://millrace-redis:6379/0"):
        kubernetes(planned("kubernetes"))


def test_a_flow_elsewhere_named_alike_is_refused(folder: Path) -> None:
    Path("flows.yaml").write_text(
        f"flows:\n  a-b: {{source: {{type: external}}, sink: {BUCKET}}}\n"
        f"  a_b: {{source: {{type: external}}, sink: {BUCKET}}}\n"
    )
    with pytest.raises(ConfigError, match=r"flows\.a_b: has the same name as a-b"):
        planned("kubernetes")
