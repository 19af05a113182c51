"""Grants: the users of Redis that the services are, from the folder that `millrace access` made."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

from millrace.render.plan import Plan, Planned, short
from millrace_pipeline.errors import ConfigError

USERS = Path("redis") / "users.acl"


def grants(plan: Plan, host: str) -> dict[str, Path]:
    """Return the secrets of a plan, the file of each; `host` is where the bundled Redis answers.

    Raises ConfigError where a service's user is not there, or Redis would refuse it.
    """
    folder = plan.values.access
    found = {f"{service.user}-url": folder / service.user / "url" for service in plan.services}
    if plan.values.redis.bundled:
        found["redis-users"] = folder / USERS
    for file in found.values():
        if not file.is_file():
            at = f" --at redis://{host}:6379/0" if host != "redis" else ""
            raise ConfigError(f"there is no {file}: `millrace access {folder}{at}` makes it")
    for service in plan.services if plan.values.redis.bundled else ():
        _is_let_in(plan, service, found, host)
    return found


def versioned(plan: Plan, name: str, file: Path) -> str:
    """Return the name under which an engine keeps a secret or a config: another for each content."""
    return f"{plan.values.name}-{name}-{short(file.read_bytes())}".lower().replace("_", "-")


def _is_let_in(plan: Plan, service: Planned, found: dict[str, Path], host: str) -> None:
    file = found[f"{service.user}-url"]
    url = urlsplit(file.read_text(encoding="utf-8").strip())
    folder = plan.values.access
    if url.hostname != host:
        raise ConfigError(
            f"{file} leads to {url.hostname}, and the Redis of these services is {host}: "
            f"`millrace access {folder} --at redis://{host}:6379/0`, or `redis: {{bundled: false}}` in the values"
        )
    password = hashlib.sha256((url.password or "").encode()).hexdigest()
    users = found["redis-users"]
    lines = (line.split() for line in users.read_text(encoding="utf-8").splitlines())
    line = next((words for words in lines if words[1:2] == [url.username or ""]), [])
    if f"#{password}" not in line or any(f"~{part.queue.key}" not in line for part in service.flow.lists):
        raise ConfigError(
            f"{users} doesn't let {service.user} at the list {service.flow.queue.key}, as the flows file has it now: "
            f"`millrace access {folder}` again"
        )
