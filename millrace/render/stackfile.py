"""Stackfile: what may stand in a compose file of ours, so that a mistake of this code is found before it is printed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from millrace.render.text import Inline, Octal

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?$")]
Seconds = Annotated[str, StringConstraints(pattern=r"^[0-9]+s$")]
Mebibytes = Annotated[str, StringConstraints(pattern=r"^[0-9]+[MK]$")]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


class Healthcheck(Strict):
    test: list[str]
    interval: Seconds = "10s"
    timeout: Seconds = "5s"
    retries: int = 3
    start_period: Seconds = "30s"


class Logging(Strict):
    driver: str = "json-file"
    options: Any = Inline({"max-size": "10m", "max-file": "3"})


class Condition(Strict):
    condition: Literal["service_healthy", "service_completed_successfully"]


class Build(Strict):
    context: str
    dockerfile_inline: str


class Granted(Strict):
    """A secret or a config of a service."""

    source: str
    target: str = Field(pattern="^/")
    uid: str | None = None
    gid: str | None = None
    mode: Any = Octal(0o444)


class Volume(Strict):
    type: Literal["volume", "tmpfs", "bind"]
    source: str | None = None
    target: str = Field(pattern="^/")
    read_only: bool | None = None
    volume: Any = None
    tmpfs: Any = None
    bind: Any = None


class Amounts(Strict):
    cpus: str | None = None
    memory: Mebibytes | None = None


class Resources(Strict):
    limits: Amounts | None = None
    reservations: Amounts | None = None


class Rollout(Strict):
    """How tasks are replaced: by an update, or back again."""

    order: Literal["start-first", "stop-first"]
    parallelism: int = Field(1, ge=0)
    delay: Seconds | None = None
    monitor: Seconds | None = None
    failure_action: Literal["rollback", "pause"] | None = None
    max_failure_ratio: float | None = None


class Restart(Strict):
    condition: Literal["any", "on-failure"]
    delay: Seconds = "5s"


class Placement(Strict):
    constraints: list[str]


class Deploy(Strict):
    replicas: int = Field(ge=0)
    endpoint_mode: Literal["dnsrr", "vip"] | None = None
    placement: Placement | None = None
    resources: Resources | None = None
    restart_policy: Restart | None = None
    update_config: Rollout | None = None
    rollback_config: Rollout | None = None


class Service(Strict):
    image: str
    build: Build | None = None
    init: bool | None = None
    user: str | None = None
    read_only: Literal[True] = True
    cap_drop: list[str] = ["ALL"]
    security_opt: list[str] | None = None
    entrypoint: list[str] | None = None
    command: list[str]
    depends_on: dict[str, Condition] | None = None
    environment: dict[str, str | None] = {}
    secrets: list[Granted] | None = None
    configs: list[Granted] | None = None
    volumes: list[Volume | str] | None = None
    tmpfs: list[str] | None = None
    networks: Any
    ports: list[Any] | None = None
    dns_opt: list[str] | None = None
    restart: Literal["unless-stopped", "on-failure"] | None = None
    stop_grace_period: Seconds | None = None
    healthcheck: Healthcheck | None = None
    logging: Logging = Logging()
    deploy: Deploy | None = None


class File(Strict):
    """A secret or a config, as all services see it."""

    name: Name | None = None
    file: str


class Stackfile(Strict):
    name: Name | None = None
    services: dict[Name, Service]
    networks: dict[str, Any]
    volumes: dict[str, Any] | None = None
    configs: dict[str, File] | None = None
    secrets: dict[str, File] | None = None

    @model_validator(mode="after")
    def _all_that_is_used_is_there(self) -> Stackfile:
        for name, service in self.services.items():
            for kind in ("secrets", "configs"):
                for used in getattr(service, kind) or ():
                    if used.source not in (getattr(self, kind) or {}):
                        raise ValueError(f"{name} uses {used.source}, which is not among the {kind}")
            for volume in service.volumes or ():
                source = volume.source if isinstance(volume, Volume) and volume.type == "volume" else None
                if source and source not in (self.volumes or {}):
                    raise ValueError(f"{name} uses {source}, which is not among the volumes")
            for network in service.networks:
                if network not in self.networks:
                    raise ValueError(f"{name} is on {network}, which is not among the networks")
            for other in service.depends_on or ():
                if other not in self.services:
                    raise ValueError(f"{name} waits for {other}, which is not among the services")
        return self


def dumped(value: Any) -> Any:
    """Return a model as plain values, without what is not set, and with what says how it is written."""
    if isinstance(value, BaseModel):
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        plain = {name: dumped(found) for name, found in fields.items() if found is not None}
        return Inline(plain) if isinstance(value, Condition | Granted | Volume | Amounts | File) else plain
    if isinstance(value, dict):
        return type(value)({name: dumped(found) for name, found in value.items()})
    if isinstance(value, list):
        return [dumped(found) for found in value]
    return value
