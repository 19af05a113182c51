"""Kuberedis: the bundled Redis on Kubernetes: one pod with a volume of its own, which only our services reach."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from millrace.render.engines import ASK_REDIS, redis_command
from millrace.render.manifest import CONTAINER, labels, metadata, named, pod_security, quantity, selector
from millrace.render.text import Inline
from millrace.render.values import Values

USER = 999
PORT = 6379
USERS = "/access/users.acl"


def redis_objects(values: Values, users: str) -> Iterator[dict[str, Any]]:
    """Yield its objects; `users` is the Secret with its ACL file."""
    own = labels(values, "redis")
    about = metadata(values, named(values, "redis"), own)
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": about,
        "spec": {
            "clusterIP": "None",
            "selector": selector(own),
            "ports": [Inline(name="redis", port=PORT, targetPort="redis")],
        },
    }
    yield {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": about,
        "spec": {
            "serviceName": named(values, "redis"),
            "replicas": 1,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": selector(own)},
            "template": {"metadata": {"labels": own}, "spec": _pod(values, users)},
            "volumeClaimTemplates": [_claim(values)],
        },
    }
    if values.network_policy:
        yield {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": about,
            "spec": {
                "podSelector": {"matchLabels": selector(own)},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [
                    {
                        "from": [{"podSelector": {"matchLabels": selector(labels(values))}}],
                        "ports": [Inline(protocol="TCP", port=PORT)],
                    }
                ],
                "egress": [],
            },
        }


def _pod(values: Values, users: str) -> dict[str, Any]:
    redis = values.redis
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 60,
        "securityContext": pod_security(USER),
    }
    if redis.nodes:
        pod["nodeSelector"] = {
            "kubernetes.io/hostname" if name == "hostname" else name: value for name, value in redis.nodes.items()
        }
    answers = {"exec": {"command": ASK_REDIS}, "periodSeconds": 10, "timeoutSeconds": 5}
    pong = f"{' '.join(ASK_REDIS)} | grep -qx PONG"
    container = {
        "name": "redis",
        "image": redis.image,
        "args": redis_command(redis, USERS),
        "ports": [Inline(name="redis", containerPort=PORT)],
        # Any answer will do to live, "loading" too; to be ready it takes a PONG, which there is none of while it loads
        # or can't write its file.
        "startupProbe": {**answers, "periodSeconds": 2, "failureThreshold": 150},
        "livenessProbe": answers,
        "readinessProbe": {**answers, "exec": {"command": ["sh", "-c", pong]}},
        "resources": {
            "requests": Inline(memory=quantity(redis.memory)),
            "limits": Inline(memory=quantity(redis.memory)),
        },
        "securityContext": CONTAINER,
        "volumeMounts": [
            Inline(name="redis", mountPath="/data"),
            Inline(name="access", mountPath="/access", readOnly=True),
        ],
    }
    secret = {"name": "access", "secret": {"secretName": users, "defaultMode": 0o440}}
    return {**pod, "containers": [container], "volumes": [secret]}


def _claim(values: Values) -> dict[str, Any]:
    redis = values.redis
    return {
        "metadata": {"name": "redis"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            **({"storageClassName": redis.storage_class} if redis.storage_class else {}),
            "resources": {"requests": Inline(storage=quantity(redis.storage))},
        },
    }
