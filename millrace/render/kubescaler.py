"""Kubescaler: the service on Kubernetes that tells KEDA how many consumers each flow should have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from millrace.render.around import GRPC
from millrace.render.engines import PORT
from millrace.render.manifest import (
    CONTAINER,
    SERVICE_USER,
    labels,
    metadata,
    named,
    pod_security,
    selector,
)
from millrace.render.plan import Plan, Scaler
from millrace.render.text import Inline

LIVE = {"httpGet": {"path": "/livez", "port": "http"}}


def scaler_objects(plan: Plan, scaler: Scaler, flows: str, version: str) -> Iterator[dict[str, Any]]:
    """Yield its Deployment, the Service by which KEDA finds it, and who may come in."""
    values = plan.values
    assert values.autoscale is not None
    own = {**labels(values, "scaler"), "millrace/metrics": "http"}
    about = metadata(values, named(values, "scaler"), own)
    yield {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": about,
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": selector(own)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": Inline(maxSurge=1, maxUnavailable=0)},
            "template": {"metadata": {"labels": own}, "spec": _pod(plan, scaler, flows, version)},
        },
    }
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": about,
        "spec": {"selector": selector(own), "ports": [Inline(name="grpc", port=GRPC, targetPort="grpc")]},
    }
    if values.network_policy:
        ingress = [_from(values.autoscale.keda_namespace, GRPC)]
        if values.metrics_namespace:
            ingress.append(_from(values.metrics_namespace, PORT))
        yield {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": about,
            "spec": {"podSelector": {"matchLabels": selector(own)}, "policyTypes": ["Ingress"], "ingress": ingress},
        }


def _from(namespace: str, port: int) -> dict[str, Any]:
    where = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    return {"from": [where], "ports": [Inline(protocol="TCP", port=port)]}


def _pod(plan: Plan, scaler: Scaler, flows: str, version: str) -> dict[str, Any]:
    values = plan.values
    plain = {"REDIS_URL": scaler.redis, "MILLRACE_HTTP": f"0.0.0.0:{PORT}", **scaler.environment}
    kept = named(values, f"env-{version}")
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 5,
        "securityContext": pod_security(SERVICE_USER),
    }
    if values.pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in values.pull_secrets]
    container = {
        "name": "millrace",
        "image": values.image,
        "command": ["millrace", "scaler", "--grpc", f"0.0.0.0:{GRPC}"],  # the rules are in each ScaledObject
        "env": [
            *(Inline(name=name, value=value) for name, value in sorted(plain.items())),
            *(
                Inline(name=name, valueFrom=Inline(secretKeyRef=Inline(name=kept, key=name)))
                for name in sorted(scaler.secrets)
            ),
        ],
        "ports": [Inline(name="http", containerPort=PORT), Inline(name="grpc", containerPort=GRPC)],
        "startupProbe": {**LIVE, "periodSeconds": 2, "failureThreshold": 30},
        "livenessProbe": {**LIVE, "periodSeconds": 10, "timeoutSeconds": 5},
        # Not /readyz: while Redis is away KEDA is to hear so, and not that nobody is there.
        "readinessProbe": {**LIVE, "periodSeconds": 10, "timeoutSeconds": 5},
        "resources": {"requests": Inline(memory="96Mi"), "limits": Inline(memory="256Mi")},
        "securityContext": CONTAINER,
        "volumeMounts": [
            *(
                Inline(name="flows", mountPath=f"/app/{name}", subPath=name, readOnly=True)
                for name in sorted(plan.files)
            ),
            Inline(name="tmp", mountPath="/tmp"),  # noqa: S108 - in the container
        ],
    }
    volumes = [
        {"name": "flows", "configMap": {"name": flows}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
    ]
    return {**pod, "containers": [container], "volumes": volumes}
