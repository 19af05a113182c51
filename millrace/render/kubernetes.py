"""Kubernetes: a flows file's services as manifests, for `kubectl apply`. The chart in deploy/helm says the same."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from millrace.render.around import budget, data_claim, monitor, policy, scaled_object, service_labels
from millrace.render.engines import PORT
from millrace.render.grants import grants
from millrace.render.kuberedis import redis_objects
from millrace.render.kubescaler import scaler_objects
from millrace.render.manifest import (
    CONTAINER,
    SERVICE_USER,
    checked,
    labels,
    metadata,
    named,
    pod_security,
    quantity,
    selector,
)
from millrace.render.plan import Plan, Planned, read_secret, short
from millrace.render.text import Inline, yaml_texts
from millrace.render.values import Share, Values

HEAD = """\
# The flows of {path}, on Kubernetes. `millrace render kubernetes` wrote it. Secrets are apart, with the passwords:
#
#   millrace render secrets | kubectl apply -f -
#   millrace render kubernetes | kubectl apply -f -
"""
LIVE = {"httpGet": {"path": "/livez", "port": "http"}}
READY = {"httpGet": {"path": "/readyz", "port": "http"}}


def kubernetes(plan: Plan) -> str:
    """Return the manifests. Raises ConfigError where a user's file is missing."""
    return HEAD.format(path=plan.path) + yaml_texts(checked(objects(plan)))


def secrets(plan: Plan) -> str:
    """Return the Secrets, with the passwords in them."""
    version = access_version(plan)
    files = _files(plan)
    found = [
        _secret(plan.values, f"{name.removesuffix('-url')}-{version}", {_key(name): file.read_bytes()})
        for name, file in files.items()
    ]
    if plan.values.secrets:
        values = {name: read_secret(name, file).encode() for name, file in plan.values.secrets.items()}
        found.append(_secret(plan.values, f"env-{version}", values))
    return yaml_texts(checked(found))


def access_version(plan: Plan) -> str:
    """What the names of all Secrets end with: another for other passwords, so that whoever has them rolls."""
    return short(*(file.read_bytes() for file in (*_files(plan).values(), *plan.values.secrets.values())))


def objects(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yield what is printed, one by one."""
    values = plan.values
    version = access_version(plan)
    contents = {name: path.read_text(encoding="utf-8") for name, path in sorted(plan.files.items())}
    flows = named(values, f"flows-{short(_whole(contents).encode())}")
    yield {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(values, flows, labels(values)),
        "immutable": True,
        "data": contents,
    }
    if plan.writes_files:
        yield data_claim(values)
    if values.redis.bundled:
        yield from redis_objects(values, named(values, f"redis-users-{version}"))
    for service in plan.services:
        pod = _pod(plan, service, flows, version)
        yield _job(values, service, pod) if service.ends else _deployment(values, service, pod)
        if not service.ends:
            yield budget(values, service)
        if service.role == "consumer" and values.autoscale:
            yield scaled_object(values, service, values.autoscale)
    if plan.scaler:
        yield from scaler_objects(plan, plan.scaler, flows, version)
    if values.network_policy:
        yield policy(values)
    if values.service_monitor:
        yield from monitor(values)


def _whole(contents: Mapping[str, str]) -> str:
    return "".join(f"{name}\n{text}\n" for name, text in contents.items())


def _files(plan: Plan) -> dict[str, Path]:
    return grants(plan, named(plan.values, "redis"))


def _key(name: str) -> str:
    return "url" if name.endswith("-url") else "users.acl"


def _secret(values: Values, name: str, data: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(values, named(values, name.replace("_", "-")), labels(values)),
        "immutable": True,
        "type": "Opaque",
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }


def _deployment(values: Values, service: Planned, pod: dict[str, Any]) -> dict[str, Any]:
    own = service_labels(values, service)
    scaled = values.autoscale is not None and service.role == "consumer"
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(values, named(values, service.name), own),
        "spec": {
            **({} if scaled else {"replicas": service.replicas}),
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": selector(own)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": Inline(maxSurge="25%", maxUnavailable=0)},
            "template": {"metadata": {"labels": own}, "spec": pod},
        },
    }


def _job(values: Values, service: Planned, pod: dict[str, Any]) -> dict[str, Any]:
    """A producer whose source comes to an end. A Job can't be changed, so another one has another name."""
    own = service_labels(values, service)
    ended = {**pod, "restartPolicy": "OnFailure"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(values, named(values, f"{service.name}-{short(_flat(ended).encode())}"), own),
        "spec": {"backoffLimit": 1000, "template": {"metadata": {"labels": own}, "spec": ended}},
    }


def _flat(pod: Mapping[str, Any]) -> str:
    """What of a Job's pod makes it another Job."""
    container = pod["containers"][0]
    mounted = [volume[kind][name] for volume in pod["volumes"] for kind, name in _NAMES if kind in volume]
    return "\n".join([container["image"], *container["command"], *mounted, *_variables(container["env"])])


_NAMES = (("configMap", "name"), ("secret", "secretName"))


def _variables(environment: list[dict[str, Any]]) -> list[str]:
    return [f"{one['name']}={one.get('value', '')}" for one in environment]


def _pod(plan: Plan, service: Planned, flows: str, version: str) -> dict[str, Any]:
    values = plan.values
    own = service_labels(values, service)
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": int(values.grace) + 5,
        "securityContext": pod_security(SERVICE_USER),
    }
    if values.pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in values.pull_secrets]
    if service.share.nodes:
        pod["nodeSelector"] = {_label(name): value for name, value in service.share.nodes.items()}
    if not service.ends:
        pod["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector(own)},
            }
        ]
    volumes: list[dict[str, Any]] = [
        {"name": "flows", "configMap": {"name": flows}},
        {"name": "access", "secret": {"secretName": named(values, f"{service.name}-{version}"), "defaultMode": 0o440}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
    ]
    mounts: list[dict[str, Any]] = [
        *(Inline(name="flows", mountPath=f"/app/{name}", subPath=name, readOnly=True) for name in sorted(plan.files)),
        Inline(name="access", mountPath="/access", readOnly=True),
        Inline(name="tmp", mountPath="/tmp"),  # noqa: S108 - in the container
    ]
    if service.writes_files:
        volumes.append({"name": "data", "persistentVolumeClaim": {"claimName": named(values, "data")}})
        mounts.append(Inline(name="data", mountPath="/data"))
    container = {
        "name": "millrace",
        "image": values.image,
        "command": service.command,
        "env": _environment(plan, service, version),
        "ports": [Inline(name="http", containerPort=PORT)],
        "startupProbe": {**LIVE, "periodSeconds": 2, "failureThreshold": 30},
        "livenessProbe": {**LIVE, "periodSeconds": 10, "timeoutSeconds": 5},
        "readinessProbe": {**READY, "periodSeconds": 10, "timeoutSeconds": 5},
        "resources": _resources(service.share),
        "securityContext": CONTAINER,
        "volumeMounts": mounts,
    }
    return {**pod, "containers": [container], "volumes": volumes}


def _label(name: str) -> str:
    return "kubernetes.io/hostname" if name == "hostname" else name


def _environment(plan: Plan, service: Planned, version: str) -> list[dict[str, Any]]:
    plain = {
        "REDIS_URL_FILE": "/access/url",
        "MILLRACE_HTTP": f"0.0.0.0:{PORT}",  # the kubelet asks from outside; the policy keeps others away
        "MILLRACE_GRACE_SECONDS": f"{plan.values.grace:g}",
        **service.environment,
    }
    kept = named(plan.values, f"env-{version}")
    return [
        *(Inline(name=name, value=value) for name, value in sorted(plain.items())),
        *(
            Inline(name=name, valueFrom=Inline(secretKeyRef=Inline(name=kept, key=name)))
            for name in sorted(service.secrets)
        ),
    ]


def _resources(share: Share) -> dict[str, Any]:
    limits = {"memory": quantity(share.memory), **({"cpu": f"{share.cpus:g}"} if share.cpus else {})}
    return {"requests": Inline(memory=quantity(share.reserve)), "limits": Inline(limits)}
