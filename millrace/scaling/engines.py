"""Engines: what runs a flow's consumers, asked how many there are and told how many there should be."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from millrace.control import Steering
from millrace_pipeline.errors import ConfigError, StackError

if TYPE_CHECKING:
    from millrace.stack import Stack


class Group(msgspec.Struct, frozen=True):
    """Consumers that are more or fewer together: a service, and the flows that it takes."""

    name: str
    flows: tuple[str, ...]


class Engine(Protocol):
    """What runs them. Raises StackError, or RunGone, where it can't be asked."""

    @property
    def groups(self) -> Sequence[Group]:
        """What is scaled, each by itself."""
        ...

    def count(self) -> dict[str, int]:
        """Return how many consumers each group has."""
        ...

    def scale(self, group: str, consumers: int) -> None:
        """Have a group have so many. May return only once those that go have ended."""
        ...

    def close(self) -> None:
        """Scale nothing any more."""
        ...


class OfRun:
    """The `millrace run` of this folder."""

    def __init__(self, flows: Sequence[str]) -> None:
        """Raises ConfigError where it doesn't run these flows."""
        self.groups: Sequence[Group] = [Group(flow, (flow,)) for flow in flows]
        self._steering = {flow: Steering.of(flow) for flow in flows}

    def count(self) -> dict[str, int]:
        """Return how many consumers each flow has."""
        return {flow: steering.consumers() for flow, steering in self._steering.items()}

    def scale(self, group: str, consumers: int) -> None:
        """Say it; the run sees to it."""
        self._steering[group].consumers(consumers)

    def close(self) -> None:
        """Let go of it."""
        for steering in self._steering.values():
            steering.close()


class OfCompose:
    """The services of a compose stack whose command is `millrace consume`."""

    def __init__(self, stack: Stack, flows_file: Path, flows: Sequence[str]) -> None:
        """Raises ConfigError where there is none that takes one of these flows."""
        self._stack = stack
        services = stack.config()["services"]
        ours = {name: service for name, service in services.items() if not _reads_another(service, flows_file)}
        self.groups: Sequence[Group] = _groups({name: service.get("command") for name, service in ours.items()}, flows)

    def count(self) -> dict[str, int]:
        """Return how many containers of each service run, or are about to."""
        there = Counter(one.service for one in self._stack.ps() if one.state not in ("exited", "dead", "removing"))
        return {group.name: there[group.name] for group in self.groups}

    def scale(self, group: str, consumers: int) -> None:
        """Start containers, or stop those with the highest numbers, and wait until they have ended."""
        self._stack.scale({group: consumers})

    def close(self) -> None:
        """Nothing is held."""


class OfSwarm:
    """The services of a stack of Docker Swarm whose command is `millrace consume`."""

    def __init__(self, stack: str, flows: Sequence[str]) -> None:
        """Raises ConfigError where there is none that takes one of these flows, and StackError without a manager."""
        self._stack = stack
        commands = {name: _arguments(spec) for name, spec in self._services().items()}
        self.groups: Sequence[Group] = _groups(commands, flows)

    def count(self) -> dict[str, int]:
        """Return how many tasks each service is to have."""
        services = self._services()
        return {
            group.name: int(services.get(group.name, {}).get("Mode", {}).get("Replicated", {}).get("Replicas", 0))
            for group in self.groups
        }

    def scale(self, group: str, consumers: int) -> None:
        """Say it; the swarm sees to it."""
        _docker("service", "scale", "--detach", f"{group}={consumers}")

    def close(self) -> None:
        """Nothing is held."""

    def _services(self) -> dict[str, Any]:
        label = f"label=com.docker.stack.namespace={self._stack}"
        ids = _docker("service", "ls", "--quiet", "--filter", label).split()
        if not ids:
            raise ConfigError(f"there is no stack {self._stack}: `docker stack ls` names those there are; say --stack")
        found = json.loads(_docker("service", "inspect", *ids))
        return {one["Spec"]["Name"]: one["Spec"] for one in found}


def _groups(commands: Mapping[str, Any], flows: Sequence[str]) -> list[Group]:
    """Return the services that consume some of these flows. Raises ConfigError where a flow has none."""
    found = []
    for name, command in commands.items():
        words = command.split() if isinstance(command, str) else [str(word) for word in command or ()]
        if "consume" not in words:
            continue
        named = [word for word in words[words.index("consume") + 1 :] if not word.startswith("-")]
        taken = tuple(flow for flow in flows if not named or flow in named)
        if taken:
            found.append(Group(name, taken))
    if missing := [flow for flow in flows if not any(flow in group.flows for group in found)]:
        raise ConfigError(
            f"no service there runs `millrace consume` for {', '.join(missing)}: name the flows that are to be scaled"
        )
    return found


def _reads_another(service: Mapping[str, Any], flows_file: Path) -> bool:
    """Return True for a service that has the flows of another file in its container."""
    mounted = [one for one in service.get("volumes") or () if str(one.get("target")) == "/app/flows.yaml"]
    return any(Path(str(one.get("source"))).resolve() != flows_file.resolve() for one in mounted)


def _arguments(spec: Mapping[str, Any]) -> list[str]:
    container = spec["TaskTemplate"]["ContainerSpec"]
    return [*(container.get("Command") or ()), *(container.get("Args") or ())]


def _docker(*words: str) -> str:
    try:
        done = subprocess.run(("docker", *words), capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError:
        raise StackError("there is no docker command: install Docker") from None
    except subprocess.TimeoutExpired:
        raise StackError(f"docker {words[0]} {words[1]}: no answer for 60 s") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise StackError(f"docker {words[0]} {words[1]}: {said[-1] if said else f'exit code {done.returncode}'}")
    return done.stdout
