"""Engines: what a compose file for one machine and one for a swarm have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from millrace.render.plan import Plan, Planned, Scaler
from millrace.render.stackfile import Amounts, Resources, Stackfile, Volume, dumped
from millrace.render.text import Anchored, Inline, sharing, yaml_text
from millrace.render.values import Autoscale, DataValues, RedisValues, Share, amount_in_bytes
from millrace_pipeline.errors import ConfigError

PORT = 9090
REDIS_USER = "999"
SERVICE_USER = "10001"
HARDENED: dict[str, Any] = {"read_only": True, "cap_drop": ["ALL"]}
PROBE = ["CMD", "python", "-m", "millrace_pipeline.process.probe"]


def literally(text: str) -> str:
    """Return the text as a compose file has it, where a $ begins a variable."""
    return text.replace("$", "$$")


def mebibytes(amount: str) -> str:
    """`512MiB` as Docker reads it, whose M are 2^20 bytes."""
    size = amount_in_bytes(amount)
    return f"{size >> 20}M" if size % (1 << 20) == 0 else f"{-(-size // 1024)}K"


def redis_amount(amount: str) -> str:
    """`512MiB` as Redis reads it, to which mb are 2^20 bytes and m 10^6."""
    return str(amount_in_bytes(amount)) if amount_in_bytes(amount) % (1 << 20) else f"{amount_in_bytes(amount) >> 20}mb"


def resources(share: Share) -> Resources:
    """What a service may use, and what is kept free for it."""
    cpus = f"{share.cpus:g}" if share.cpus else None
    return Resources(
        limits=Amounts(cpus=cpus, memory=mebibytes(share.memory)),
        reservations=Amounts(memory=mebibytes(share.reserve)),
    )


def redis_command(values: RedisValues, users: str) -> list[str]:
    """The bundled Redis: an append-only file synced every second, nothing evicted, users from a file."""
    return [
        *("redis-server", "--aclfile", users, "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        *("--maxmemory", redis_amount(values.maxmemory), "--maxmemory-policy", "noeviction"),
    ]


ASK_REDIS = ["redis-cli", "--user", "reader", "--pass", "none", "--no-auth-warning", "ping"]
"""As a user who needs no password and can change nothing. Exit code 0 is any answer at all."""


SCALER_PORT = 9191
SCALER_RESOURCES = Resources(limits=Amounts(cpus=None, memory="256M"), reservations=Amounts(cpus=None, memory="96M"))


def scaler_command(wanted: Autoscale) -> list[str]:
    """What runs in the container of the scaler."""
    rules = {"--min": wanted.min, "--max": wanted.max, "--age": f"{wanted.age:g}s", "--idle": f"{wanted.idle:g}s"}
    return ["millrace", "scaler", *(str(word) for pair in rules.items() for word in pair)]


def environment(plan: Plan, service: Planned | Scaler) -> dict[str, str]:
    """The variables of a service that are no secrets."""
    own = {name: literally(value) for name, value in service.environment.items()}
    grace = {} if plan.values.grace == 20 else {"MILLRACE_GRACE_SECONDS": f"{plan.values.grace:g}"}
    return {**grace, **own}


def stop_seconds(plan: Plan) -> str:
    """How long Docker waits: for as long as a service drains, and then some for it to end."""
    return f"{int(plan.values.grace) + 5}s"


def data_volume(data: DataValues) -> Any:
    """The volume that file sinks write to, as the volumes of a compose file have it."""
    found = {"driver": data.driver, "driver_opts": data.options or None}
    return {name: value for name, value in found.items() if value} or None


def beside(path: Path) -> str:
    """A file's path as compose files have it: one beside them begins with a dot."""
    return str(path) if path.is_absolute() or str(path).startswith(".") else f"./{path}"


def volume(name: str, target: str, *, read_only: bool = False) -> Volume:
    """A volume, and where it is in the container."""
    more: dict[str, Any] = {"read_only": True, "volume": Inline(nocopy=True)} if read_only else {}
    return Volume(type="volume", source=name, target=target, **more)


def text_of(file: Mapping[str, Any], alike: list[str]) -> str:
    """Return a compose file as text: what services have alike said once. Raises ConfigError if it is none."""
    try:
        checked = Stackfile.model_validate(file)
    except ValidationError as error:
        raise ConfigError(f"what was made of these values is no compose file: {error}") from error
    plain = dumped(checked)
    services = {name: _tidy(service) for name, service in plain.pop("services").items()}
    common = Anchored()
    if len(alike) > 1:
        common, services = sharing(services, alike)
    head = {"name": plain.pop("name")} if "name" in plain else {}
    shared = {"x-service": common} if common else {}
    return yaml_text({**head, **shared, "services": services, **plain})


def _tidy(service: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in service.items() if value not in ({}, [])}
