"""Swarm: a flows file's services on the nodes of a Docker swarm, for `docker stack deploy`."""

from __future__ import annotations

from typing import Any

from millrace.render.engines import (
    ASK_REDIS,
    HARDENED,
    PORT,
    PROBE,
    REDIS_USER,
    SCALER_PORT,
    SCALER_RESOURCES,
    SERVICE_USER,
    beside,
    data_volume,
    environment,
    mebibytes,
    redis_command,
    resources,
    scaler_command,
    stop_seconds,
    text_of,
    volume,
)
from millrace.render.grants import grants, versioned
from millrace.render.plan import Plan, Planned, Scaler
from millrace.render.stackfile import (
    Amounts,
    Deploy,
    File,
    Granted,
    Healthcheck,
    Placement,
    Resources,
    Restart,
    Rollout,
    Service,
    Volume,
)
from millrace.render.text import Inline, Octal
from millrace.render.values import Nodes

HEAD = """\
# The flows of {path}, on a Docker swarm. `millrace render swarm` wrote it.
#
#   millrace render swarm | docker stack deploy --prune -c - {name}
"""
REDIS = "redis"
REDIS_NODE = {"millrace-redis": "true"}
"""The label of the node that holds the queue, where the values name none: a volume is on one node."""

UPDATE: dict[str, Any] = {
    "delay": "2s",
    "monitor": "45s",
    "failure_action": "rollback",
    "max_failure_ratio": 0.5,
}
"""Watched for so long that one that finds no Redis has ended, and the update is taken back. Where half of them run, it
is a node that failed and not what they were updated to."""

WITH_SECRETS = 'for file in /run/secrets/env/*; do export "$${file##*/}=$$(cat "$$file")"; done; exec "$$@"'
"""Variables that are secret: the image's command begins with them in its environment, and no `inspect` shows them."""


def swarm(plan: Plan) -> str:
    """Return the stack file. Raises ConfigError where a secret is missing, or a config too large."""
    values = plan.values
    secrets = grants(plan, REDIS)
    services = {service.name: _service(plan, service) for service in plan.services}
    if values.redis.bundled:
        services = {REDIS: _redis(plan), **services}
    if plan.scaler:
        services["scaler"] = _scaler(plan, plan.scaler)
    networks: dict[str, Any] = {"metrics": Inline(internal=True), "outside": None}
    if values.redis.bundled:
        networks = {"queue": _queue(encrypted=values.encrypted), **networks}
    volumes: dict[str, Any] = {REDIS: None} if values.redis.bundled else {}
    if plan.writes_files:
        volumes["data"] = data_volume(values.data)
    named = {**secrets, **{f"env-{name}": file for name, file in values.secrets.items()}}
    file = {
        "services": services,
        "networks": networks,
        "volumes": volumes or None,
        "configs": {
            name: File(name=versioned(plan, name.replace(".", "-"), path), file=beside(path))
            for name, path in plan.files.items()
        },
        "secrets": {name: File(name=versioned(plan, name, path), file=beside(path)) for name, path in named.items()},
    }
    head = HEAD.format(path=plan.path, name=values.name)
    return f"{head}{text_of(file, [service.name for service in plan.services])}"


def _service(plan: Plan, service: Planned) -> Service:
    values = plan.values
    mounted = [Volume(type="tmpfs", target="/tmp", tmpfs=Inline(size=64 << 20))]  # noqa: S108 - in the container
    if service.writes_files:
        mounted.append(volume("data", "/data"))
    granted = [_secret(f"{service.user}-url", "redis-url")]
    granted += [_secret(f"env-{name}", f"env/{name}") for name in service.secrets]
    return Service(
        **HARDENED,
        image=values.image,
        init=True,
        entrypoint=["sh", "-c", WITH_SECRETS, "sh"] if service.secrets else None,
        command=service.command,
        environment={
            "REDIS_URL_FILE": "/run/secrets/redis-url",
            # By no name: a swarm lets none lead to a container before that is healthy, so not to itself either.
            "MILLRACE_HTTP": f"0.0.0.0:{PORT}",
            **environment(plan, service),
        },
        secrets=granted,
        configs=[Granted(source=name, target=f"/app/{name}") for name in plan.files],
        volumes=mounted,
        networks={
            **({"queue": None} if values.redis.bundled else {}),
            "metrics": Inline(aliases=["metrics"]),  # the name of all services there, for Prometheus
            "outside": None,
        },
        stop_grace_period=stop_seconds(plan),
        # Alive, and not ready: a swarm kills what is unhealthy, and nothing is gained by that while Redis is away.
        healthcheck=Healthcheck(test=[*PROBE, "/livez"]),
        deploy=Deploy(
            replicas=service.replicas,
            endpoint_mode=values.endpoint_mode,
            placement=_placement(service.share.nodes),
            resources=resources(service.share),
            restart_policy=Restart(condition="on-failure" if service.ends else "any"),
            **_replaced(service),
        ),
    )


def _scaler(plan: Plan, scaler: Scaler) -> Service:
    """Says how many consumers there should be: to `millrace autoscale --scaler`, on the manager that it runs on."""
    values = plan.values
    assert values.autoscale is not None
    return Service(
        **HARDENED,
        image=values.image,
        init=True,
        entrypoint=["sh", "-c", WITH_SECRETS, "sh"] if scaler.secrets else None,
        command=scaler_command(values.autoscale),
        environment={"REDIS_URL": scaler.redis, "MILLRACE_HTTP": f"0.0.0.0:{PORT}", **environment(plan, scaler)},
        secrets=[_secret(f"env-{name}", f"env/{name}") for name in scaler.secrets] or None,
        configs=[Granted(source=name, target=f"/app/{name}") for name in plan.files],
        volumes=[Volume(type="tmpfs", target="/tmp", tmpfs=Inline(size=64 << 20))],  # noqa: S108 - in the container
        networks={
            **({"queue": None} if values.redis.bundled else {}),
            "metrics": Inline(aliases=["metrics"]),
            "outside": None,
        },
        ports=[Inline(target=PORT, published=SCALER_PORT, protocol="tcp", mode="host")],
        stop_grace_period="5s",
        healthcheck=Healthcheck(test=[*PROBE, "/livez"]),
        deploy=Deploy(
            replicas=1,
            endpoint_mode=values.endpoint_mode,
            placement=Placement(constraints=["node.role == manager"]),
            resources=SCALER_RESOURCES,
            restart_policy=Restart(condition="any"),
            update_config=Rollout(order="stop-first", **UPDATE),  # a port of the node is had by one alone
            rollback_config=Rollout(order="stop-first", delay=UPDATE["delay"], failure_action="pause"),
        ),
    )


def _replaced(service: Planned) -> dict[str, Rollout]:
    """How it is updated and taken back. A consumer takes nothing of another's, and a producer of which one leads stands
    by: the new one is there before the old one goes. A source that only one may read is left by the old one first."""
    stands_by = service.exclusive and not service.ends
    order: Any = "start-first" if service.role == "consumer" or stands_by else "stop-first"
    return {
        "update_config": Rollout(order=order, parallelism=max(1, service.replicas // 4), **UPDATE),
        "rollback_config": Rollout(order=order, delay=UPDATE["delay"], failure_action="pause"),
    }


def _redis(plan: Plan) -> Service:
    redis = plan.values.redis
    return Service(
        **HARDENED,
        image=redis.image,
        user=f"{REDIS_USER}:{REDIS_USER}",
        command=redis_command(redis, "/run/secrets/users.acl"),
        secrets=[_secret("redis-users", "users.acl", user=REDIS_USER)],
        volumes=[volume(REDIS, "/data")],
        networks=["queue"],
        stop_grace_period="60s",
        # Any answer will do, "loading" too: a swarm kills what is unhealthy.
        healthcheck=Healthcheck(test=["CMD", *ASK_REDIS], start_period="60s"),
        deploy=Deploy(
            replicas=1,
            endpoint_mode=plan.values.endpoint_mode,
            placement=_placement(redis.nodes or REDIS_NODE),
            resources=Resources(
                limits=Amounts(memory=mebibytes(redis.memory)), reservations=Amounts(memory=mebibytes(redis.memory))
            ),
            restart_policy=Restart(condition="any"),
            update_config=Rollout(order="stop-first", monitor="45s", failure_action="pause"),
            rollback_config=Rollout(order="stop-first", failure_action="pause"),
        ),
    )


def _secret(source: str, target: str, *, user: str = SERVICE_USER) -> Granted:
    return Granted(source=source, target=f"/run/secrets/{target}", uid=user, gid=user, mode=Octal(0o400))


def _placement(nodes: Nodes) -> Placement | None:
    found = [
        f"node.hostname == {value}" if name == "hostname" else f"node.labels.{name} == {value}"
        for name, value in sorted(nodes.items())
    ]
    return Placement(constraints=found) if found else None


def _queue(*, encrypted: bool) -> Inline:
    return Inline(internal=True, **({"driver_opts": Inline(encrypted="true")} if encrypted else {}))
