"""Compose: a flows file's services in Docker on one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from millrace.render.engines import (
    ASK_REDIS,
    HARDENED,
    PORT,
    PROBE,
    REDIS_USER,
    SCALER_PORT,
    SCALER_RESOURCES,
    beside,
    data_volume,
    environment,
    redis_command,
    resources,
    scaler_command,
    stop_seconds,
    text_of,
    volume,
)
from millrace.render.plan import Plan, Planned, Scaler
from millrace.render.stackfile import Build, Condition, Deploy, Healthcheck, Resources, Service, Volume
from millrace.render.text import Inline

HEAD = """\
# The flows of {path}, in Docker on this machine. `millrace render compose` wrote it.
#
#   docker compose up --scale {consumer}=4
#   docker compose exec {consumer} millrace status {flow}
"""
TMP = "/tmp:size=64m,mode=1777,nosuid,nodev,noexec"  # noqa: S108 - in the container
UNGAINING = ["no-new-privileges:true"]


def compose(plan: Plan) -> str:
    """Return the compose file, to be put beside the flows file."""
    services = {service.name: _service(plan, service) for service in plan.services}
    bundled = plan.values.redis.bundled
    volumes: dict[str, Any] = {}
    if bundled:
        users = [service.user for service in plan.services]
        services = {"access": _access(plan, users), "redis": _redis(plan), **services}
        volumes = {"redis": None, **dict.fromkeys(f"access-{name}" for name in ("redis", *users))}
    if plan.writes_files:
        volumes["data"] = data_volume(plan.values.data)
    if plan.scaler:
        services["scaler"] = _scaler(plan, plan.scaler)
    networks: dict[str, Any] = {"queue": Inline(internal=True), "metrics": Inline(internal=True), "outside": None}
    if plan.scaler:
        networks["scale"] = Inline(driver_opts=Inline({"com.docker.network.bridge.enable_ip_masquerade": "false"}))
    file = {
        "name": plan.values.name,
        "services": services,
        "networks": networks if bundled else {name: value for name, value in networks.items() if name != "queue"},
        "volumes": volumes or None,
    }
    last = plan.services[-1]  # a consumer: there is one for each flow
    head = HEAD.format(path=plan.path, consumer=last.name, flow=last.flow.name)
    return f"{head}{text_of(file, [service.name for service in plan.services])}"


def _service(plan: Plan, service: Planned) -> Service:
    bundled = plan.values.redis.bundled
    named = Inline(aliases=["metrics"])  # the name of all services there: for MILLRACE_HTTP and Prometheus
    share = service.share
    chosen = Resources(limits=resources(share).limits) if share.model_fields_set & {"cpus", "memory"} else None
    deploy = Deploy(replicas=service.replicas, resources=chosen)
    mounted = [volume(f"access-{service.user}", "/access", read_only=True)] if bundled else []
    if service.writes_files:
        mounted.append(volume("data", "/data"))
    if service.role == "producer":
        mounted += [_bind(folder, f"/app/{folder}") for folder in plan.folders]
    reached = {"REDIS_URL_FILE": "/access/url"} if bundled else {"REDIS_URL": "${REDIS_URL:?where is your Redis?}"}
    return Service(
        **HARDENED,
        image=_image(plan),
        build=_build(plan),
        security_opt=UNGAINING,
        init=True,
        command=service.command,
        depends_on={"redis": Condition(condition="service_healthy")} if bundled else None,
        environment={
            **reached,
            "MILLRACE_HTTP": f"{PORT},metrics:{PORT}",
            **environment(plan, service),
            **{name: f"${{{name}:?is a secret of the flows}}" for name in service.secrets},
        },
        tmpfs=[TMP],
        volumes=[*_files(plan), *mounted],
        networks={**({"queue": None} if bundled else {}), "metrics": named, "outside": None},
        restart="on-failure" if service.ends else "unless-stopped",
        stop_grace_period=stop_seconds(plan),
        healthcheck=Healthcheck(test=PROBE),
        deploy=deploy if chosen or service.replicas != 1 else None,
    )


def _scaler(plan: Plan, scaler: Scaler) -> Service:
    """Says how many consumers there should be: to `millrace autoscale --scaler`, on this machine."""
    assert plan.values.autoscale is not None
    bundled = plan.values.redis.bundled
    return Service(
        **HARDENED,
        image=_image(plan),
        build=_build(plan),
        security_opt=UNGAINING,
        init=True,
        command=scaler_command(plan.values.autoscale),
        environment={
            "REDIS_URL": scaler.redis or "${REDIS_URL:?where is your Redis?}",
            "MILLRACE_HTTP": f"{PORT},metrics:{PORT},scale:{SCALER_PORT}",
            **environment(plan, scaler),
            **{name: f"${{{name}:?is a secret of the flows}}" for name in scaler.secrets},
        },
        tmpfs=[TMP],
        volumes=_files(plan),
        networks={
            **({"queue": None} if bundled else {"outside": None}),
            "metrics": Inline(aliases=["metrics"]),
            "scale": Inline(aliases=["scale"]),  # which this machine reaches, and which leads nowhere
        },
        ports=[f"127.0.0.1:${{SCALER_PORT:-{SCALER_PORT}}}:{SCALER_PORT}"],
        restart="unless-stopped",
        stop_grace_period="5s",
        healthcheck=Healthcheck(test=[*PROBE, "/livez"]),
        deploy=Deploy(replicas=1, resources=Resources(limits=SCALER_RESOURCES.limits)),
    )


def _access(plan: Plan, users: list[str]) -> Service:
    """Runs and ends at each `up`: makes the passwords once, and lets each user at the list that is his."""
    return Service(
        **HARDENED,
        image=_image(plan),
        build=_build(plan),
        security_opt=UNGAINING,
        command=["python", "-m", "millrace.access", "/access", "/app/flows.yaml"],
        environment={"REDIS_URL": "redis://redis:6379/0"},
        tmpfs=[TMP],
        volumes=[*_files(plan), *(volume(f"access-{name}", f"/access/{name}") for name in ("redis", *users))],
        networks=["queue"],
        dns_opt=["timeout:1", "attempts:1"],
    )


def _redis(plan: Plan) -> Service:
    return Service(
        **HARDENED,
        image=plan.values.redis.image,
        security_opt=UNGAINING,
        user=f"{REDIS_USER}:{REDIS_USER}",
        depends_on={"access": Condition(condition="service_completed_successfully")},
        command=redis_command(plan.values.redis, "/access/users.acl"),
        volumes=[volume("redis", "/data"), volume("access-redis", "/access", read_only=True)],
        networks=["queue"],
        restart="unless-stopped",
        stop_grace_period="30s",
        # No PONG while it loads, nor when it can't write its append-only file.
        healthcheck=Healthcheck(
            test=["CMD-SHELL", f"{' '.join(ASK_REDIS)} | grep -qx PONG"],
            interval="5s",
            timeout="3s",
            retries=5,
            start_period="60s",
        ),
    )


def _image(plan: Plan) -> str:
    return f"{plan.values.name}-flows:latest" if plan.values.redis.bundled else plan.values.image


def _build(plan: Plan) -> Build | None:
    """The image with a folder for each user, whose owner a volume takes over that is put on it."""
    if not plan.values.redis.bundled:
        return None
    folders = " ".join(f"/access/{name}" for name in ("redis", *(service.user for service in plan.services)))
    return Build(context=".", dockerfile_inline=f"FROM {plan.values.image}\nRUN mkdir -p {folders}\n")


def _files(plan: Plan) -> list[Volume]:
    return [_bind(path, f"/app/{name}") for name, path in plan.files.items()]


def _bind(path: Path, target: str) -> Volume:
    return Volume(type="bind", source=beside(path), target=target, read_only=True, bind=Inline(create_host_path=False))
