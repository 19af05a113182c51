"""Manifest: what Kubernetes' objects of ours have in common, and the rules that all of them are held to."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from typing import Any

from millrace.render.text import Inline
from millrace.render.values import Values
from millrace_pipeline.errors import ConfigError

SERVICE_USER = 10001
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

CONTAINER: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": Inline(drop=["ALL"]),
    "readOnlyRootFilesystem": True,
}
"""What Pod Security calls restricted, of a container."""


def pod_security(user: int) -> dict[str, Any]:
    """What Pod Security calls restricted, of a pod whose containers run as this user."""
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": Inline(type="RuntimeDefault"),
    }


def named(values: Values, name: str) -> str:
    """The name of an object."""
    return f"{values.name}-{name}"


def labels(values: Values, component: str | None = None, flow: str | None = None) -> dict[str, str]:
    """The labels of an object, and of the pods that it makes."""
    found = {"app.kubernetes.io/name": "millrace", "app.kubernetes.io/instance": values.name}
    if component:
        found["app.kubernetes.io/component"] = component
    if flow:
        found |= {"millrace/flow": flow, "millrace/metrics": "http"}
    return found


def selector(own: dict[str, str]) -> dict[str, str]:
    """The labels by which pods are found again."""
    return {name: value for name, value in own.items() if name not in ("app.kubernetes.io/name", "millrace/metrics")}


def metadata(values: Values, name: str, own: dict[str, str]) -> dict[str, Any]:
    return {"name": name, **({"namespace": values.namespace} if values.namespace else {}), "labels": own}


def quantity(amount: str) -> str:
    """`512MiB` as Kubernetes writes it: 512Mi."""
    return amount.removesuffix("B")


def checked(objects: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the objects. Raises ConfigError for what no API server would take."""
    found = list(objects)
    there: set[tuple[str, str]] = set()
    for one in found:
        kind, name = one["kind"], one["metadata"]["name"]
        if not NAME.fullmatch(name):
            raise ConfigError(f"{kind} {name}: expected a name of at most 63 small letters, digits and -")
        if (kind, name) in there:
            raise ConfigError(f"{kind} {name} would be there twice: call one of the flows otherwise")
        there.add((kind, name))
        _hold_to_schema(one)
    return found


SINCE = "1.31"
"""The oldest Kubernetes that manifests are made for."""


def _hold_to_schema(one: dict[str, Any]) -> None:
    """Hold an object to Kubernetes' own schema, where its library is installed."""
    try:
        library = importlib.import_module("kubernetes_validate")
    except ImportError:
        return
    if "." in one["apiVersion"].partition("/")[0] and not one["apiVersion"].partition("/")[0].endswith("k8s.io"):
        return  # somebody else's kind, which it knows nothing of
    try:
        library.validate(one, SINCE, strict=True)
    except library.ValidationError as error:
        where = ".".join(map(str, error.path))
        raise ConfigError(f"{one['kind']} {one['metadata']['name']}: {where}: {error.message}") from error
