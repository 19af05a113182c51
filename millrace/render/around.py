"""Around: what stands beside the workloads on Kubernetes: budgets, scaling, the volume, who may come in, who looks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from millrace.render.engines import PORT
from millrace.render.manifest import labels, metadata, named, quantity, selector
from millrace.render.plan import Planned
from millrace.render.text import Inline
from millrace.render.values import Autoscale, Values

GRPC = 9999
"""The port at which KEDA asks the scaler."""


def service_labels(values: Values, service: Planned) -> dict[str, str]:
    """The labels of a service's objects and of its pods."""
    return labels(values, service.role, service.name.removeprefix(f"{service.role}-"))


def budget(values: Values, service: Planned) -> dict[str, Any]:
    """How many pods may be taken away at once."""
    own = service_labels(values, service)
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(values, named(values, service.name), own),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector(own)}},
    }


def scaled_object(values: Values, service: Planned, autoscale: Autoscale) -> dict[str, Any]:
    """What has KEDA say how many consumers there are."""
    own = service_labels(values, service)
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": metadata(values, named(values, service.name), own),
        "spec": {
            "scaleTargetRef": {"name": named(values, service.name)},
            "minReplicaCount": autoscale.min,
            "maxReplicaCount": autoscale.max,
            "cooldownPeriod": int(autoscale.idle),
            # The scaler waits before there are to be fewer; Kubernetes needn't wait once more.
            "advanced": {
                "horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": Inline(stabilizationWindowSeconds=0)}}
            },
            "triggers": [
                {
                    "type": "external-push",
                    "metadata": {
                        "scalerAddress": autoscale.scaler or f"{named(values, 'scaler')}.{values.namespace}.svc:{GRPC}",
                        "flow": service.flow.name,
                        "max": str(autoscale.max),
                        "age": f"{autoscale.age:g}s",
                    },
                }
            ],
        },
    }


def data_claim(values: Values) -> dict[str, Any]:
    """The volume that file sinks write to."""
    data = values.data
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(values, named(values, "data"), labels(values)),
        "spec": {
            "accessModes": ["ReadWriteMany"],
            **({"storageClassName": data.storage_class} if data.storage_class else {}),
            "resources": {"requests": Inline(storage=quantity(data.size))},
        },
    }


def policy(values: Values) -> dict[str, Any]:
    """Nobody reaches the services but Prometheus; they reach their sources and sinks, wherever those are."""
    ingress = []
    if values.metrics_namespace:
        where = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": values.metrics_namespace}}}
        ingress.append({"from": [where], "ports": [Inline(protocol="TCP", port=PORT)]})
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(values, named(values, "services"), labels(values)),
        "spec": {
            "podSelector": {
                "matchLabels": selector(labels(values)),
                "matchExpressions": [
                    {"key": "app.kubernetes.io/component", "operator": "In", "values": ["producer", "consumer"]}
                ],
            },
            "policyTypes": ["Ingress"],
            "ingress": ingress,
        },
    }


def monitor(values: Values) -> Iterator[dict[str, Any]]:
    """Where the Prometheus operator finds the services."""
    own = {**labels(values), "app.kubernetes.io/component": "metrics"}
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(values, named(values, "metrics"), own),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {**selector(labels(values)), "millrace/metrics": "http"},
            "ports": [Inline(name="http", port=PORT, targetPort="http")],
        },
    }
    yield {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": metadata(values, named(values, "metrics"), own),
        "spec": {"selector": {"matchLabels": own}, "endpoints": [Inline(port="http", path="/metrics")]},
    }
