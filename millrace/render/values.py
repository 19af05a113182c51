"""Values: the few things that flows.yaml doesn't say and an engine has to know, as a values file gives them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.document import Document, read_document
from millrace_pipeline.flows.options import Options
from millrace_pipeline.flows.problem import config_error
from millrace_pipeline.flows.units import Duration, size_in_bytes
from millrace_pipeline.flows.validation import validate

LABEL = r"[a-z]([a-z0-9-]{0,40}[a-z0-9])?"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_AMOUNT = re.compile(r"[0-9]+(\.[0-9]+)?(k|Ki|M|Mi|G|Gi|T|Ti)?B?")


def _amount(text: str) -> str:
    if not _AMOUNT.fullmatch(text) or not amount_in_bytes(text):
        raise ValueError("expected a size such as 512MiB, 1GiB or 4GB")
    return text


def amount_in_bytes(text: str) -> int:
    """Return how many bytes `512MiB` is, or `512Mi`, as Kubernetes writes it."""
    number, unit = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", text).groups()  # type: ignore[union-attr]
    unit = unit.removesuffix("B")
    tera = unit.startswith("T")
    scale = (1024 if unit.endswith("i") else 1000) if tera else 1
    return size_in_bytes(f"{number}{unit.replace('T', 'G')}B") * scale


Amount = Annotated[str, AfterValidator(_amount)]
"""Bytes, kept as they were written, since each engine has a spelling of its own: `512MiB`."""

Nodes = dict[str, str]
"""Labels that a node has to have."""


class Share(Options):
    """How many of a service run, what each may use, and where."""

    replicas: int | None = Field(None, ge=0, le=10_000, description="So many of them. Default: as the role has it.")
    cpus: float | None = Field(None, gt=0, le=1024, description="At most so much of the machine. Default: no limit.")
    memory: Amount = Field("1GiB", description="At most so much; one that takes more is killed and started again.")
    reserve: Amount = Field("256MiB", description="So much is kept free for each.")
    nodes: Nodes = Field(default_factory=dict, description="Labels of the nodes that they may run on.")

    @model_validator(mode="after")
    def _reserves_no_more_than_it_may_use(self) -> Share:
        if amount_in_bytes(self.reserve) > amount_in_bytes(self.memory):
            raise ValueError(f"reserve is more than memory: expected at most {self.memory}")
        return self


class Produce(Share):
    """A flow's producer."""

    ends: bool | None = Field(
        None, description="True where the source comes to an end. Default: as the source says of itself."
    )


class Shares(Options):
    """One flow's own, in place of what `producer` and `consumer` say for all."""

    producer: dict[str, Any] = Field(default_factory=dict)
    consumer: dict[str, Any] = Field(default_factory=dict)


class RedisValues(Options):
    """The Redis of the queue."""

    bundled: bool = Field(True, description="false: one of yours, whose address is in the folder `access`.")
    image: str = Field("redis:8.0-bookworm", min_length=1)
    maxmemory: Amount = Field("512MiB", description="When it is full, producers wait.")
    memory: Amount = Field("1280MiB", description="At most so much; rewriting its file may need it all twice.")
    storage: Amount = Field("8GiB", description="Kubernetes: the size of its volume.")
    storage_class: str | None = Field(None, description="Kubernetes: of its volume. Default: the cluster's own.")
    nodes: Nodes = Field(
        default_factory=dict,
        description="Labels of the node that it runs on. Default in a swarm: millrace-redis: 'true', since its volume "
        "is on one node.",
    )

    @model_validator(mode="after")
    def _has_room(self) -> RedisValues:
        if amount_in_bytes(self.memory) < 2 * amount_in_bytes(self.maxmemory):
            raise ValueError("memory is less than twice maxmemory: rewriting its file may need all of it twice")
        return self


class DataValues(Options):
    """The volume that file sinks write to, at /data."""

    driver: str | None = Field(None, description="Swarm, compose: the volume's driver, such as one for NFS.")
    options: dict[str, str] = Field(default_factory=dict, description="Swarm, compose: its options.")
    shared: bool = Field(False, description="Swarm: true where it is the same on all nodes.")
    size: Amount = Field("10GiB", description="Kubernetes: how large.")
    storage_class: str | None = Field(None, description="Kubernetes: one that many nodes can mount at once.")


class Autoscale(Options):
    """A service `scaler` that says how many consumers each flow should have; for Kubernetes, that KEDA asks it."""

    min: int = Field(0, ge=0, le=10_000, description="Never fewer consumers of a flow.")
    max: int = Field(8, ge=1, le=10_000, description="Never more.")
    age: Duration = Field(30.0, ge=1, description="What waits is to be done within so long.")
    idle: Duration = Field(300.0, ge=1, description="So long without work until there is none of it.")
    scaler: str | None = Field(
        None,
        description="Kubernetes: where another `millrace scaler` answers gRPC, host:port; then there is none here.",
        pattern=r"^[\w.-]+:\d{1,5}$",
    )
    redis: str | None = Field(
        None,
        description="With a Redis of yours: its address for the scaler, as a user who may only read, without password.",
        pattern=r"^(redis|rediss|redis\+|rediss\+)[^:]*://[^:]*@",
    )
    keda_namespace: str = Field("keda", pattern=rf"^{LABEL}$", description="Kubernetes: where KEDA runs.")

    @model_validator(mode="after")
    def _in_order(self) -> Autoscale:
        if self.min > self.max:
            raise ValueError("min is more than max")
        return self


class Values(Options):
    """What a values file may say. All of it has a default."""

    name: str = Field("millrace", pattern=rf"^{LABEL}$", description="What all that is made begins with.")
    image: str = Field("millrace:latest", min_length=1, description="The image that the services run.")
    access: Path = Field(Path("secrets"), description="The folder that `millrace access` made.")
    redis: RedisValues = RedisValues()
    producer: Produce = Produce()
    consumer: Share = Share()
    flows: dict[str, Shares] = Field(default_factory=dict)
    env: dict[str, str] = Field(default_factory=dict, description="Variables of flows.yaml, and of Millrace itself.")
    secrets: dict[str, Path] = Field(
        default_factory=dict, description="Variables of flows.yaml that are secret: the file that holds each."
    )
    data: DataValues = DataValues()
    grace: Duration = Field(20.0, ge=1, le=86_400, description="How long a service may drain before it is killed.")
    endpoint_mode: Literal["dnsrr", "vip"] = Field("dnsrr", description="Swarm: vip takes IP_VS in every kernel.")
    encrypted: bool = Field(False, description="Swarm: IPsec between the nodes, for what the services say to Redis.")
    namespace: str | None = Field(None, pattern=rf"^{LABEL}$", description="Kubernetes: where all of it goes.")
    pull_secrets: list[str] = Field(default_factory=list, description="Kubernetes: for a registry that asks for one.")
    network_policy: bool = Field(True, description="Kubernetes: who may talk to whom.")
    metrics_namespace: str | None = Field(
        None, pattern=rf"^{LABEL}$", description="Kubernetes: where Prometheus runs, so that it gets in."
    )
    service_monitor: bool = Field(False, description="Kubernetes: for the Prometheus operator.")
    autoscale: Autoscale | None = None

    @field_validator("env", "secrets")
    @classmethod
    def _are_variables(cls, named: dict[str, Any]) -> dict[str, Any]:
        for name in named:
            if not _VARIABLE.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a variable: expected letters, digits and _")
        return named

    @field_validator("env", mode="before")
    @classmethod
    def _values_are_text(cls, given: Any) -> Any:
        if isinstance(given, Mapping):
            return {name: _text(value) for name, value in given.items()}
        return given

    @model_validator(mode="after")
    def _a_variable_comes_from_one_place(self) -> Values:
        if twice := sorted(self.env.keys() & self.secrets.keys()):
            raise ValueError(f"{', '.join(twice)} is in env and in secrets: expected it in one of them")
        return self

    def with_consumers(self, numbers: Mapping[str, int]) -> Values:
        """Return the same with so many consumers of these flows."""
        flows = dict(self.flows)
        for name, number in numbers.items():
            own = flows.get(name, Shares())
            flows[name] = own.model_copy(update={"consumer": {**own.consumer, "replicas": number}})
        return self.model_copy(update={"flows": flows})

    def share(self, role: str, flow: str) -> Share:
        """Return what a flow's producer or consumer gets: its own values before those for all."""
        everybody = self.producer if role == "producer" else self.consumer
        own = getattr(self.flows[flow], role) if flow in self.flows else {}
        return type(everybody).model_validate({**everybody.model_dump(exclude_unset=True), **own})


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def read_values(path: Path | None, given: Mapping[str, Any]) -> tuple[Values, Document]:
    """Return the values of a file, with what the command line gave put in their place.

    Raises ConfigError with every mistake in the file, at its line and column.
    """
    document = read_document(path, os.environ) if path else Document()
    value = document.value if document.value is not None else {}
    if document.problems:
        raise config_error(document.file, document.problems)
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected values such as `image: registry.example/millrace:1`")
    values = validate(Values, {**value, **given}, document, ())
    for name in values.flows:
        for role, kind in (("producer", Produce), ("consumer", Share)):
            everybody = getattr(values, role).model_dump(exclude_unset=True)
            own = getattr(values.flows[name], role)
            validate(kind, {**everybody, **own}, document, ("flows", name, role))
    return values, document
