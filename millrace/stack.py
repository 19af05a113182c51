"""The stack: docker compose on this project's files, through python-on-whales. No service imports it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from python_on_whales import Container, DockerClient
from python_on_whales.exceptions import DockerException

from millrace_pipeline.errors import StackError

WITHOUT_DOCKER = "or do without Docker: `millrace run`"


@dataclass(frozen=True)
class Replica:
    """One container of a service. `health` is empty where it has no health check."""

    service: str
    name: str
    state: str
    health: str
    exit_code: int | None


class Stack:
    """The services of one or several compose files; without any, of those that docker compose finds by itself.

    `project` keeps two stacks of the same files apart. `live` lets docker show its progress on the terminal; its words
    are then there and not in the error. Every method raises StackError with docker's own words and how to mend it.
    """

    def __init__(self, files: Sequence[str | Path] = (), *, project: str | None = None, live: bool = False) -> None:
        if missing := [str(file) for file in files if not Path(file).is_file()]:
            raise StackError(
                f"no compose file {', '.join(missing)}: go to the folder that has it, or name it by --file"
            )
        if shutil.which("docker") is None:
            raise StackError(f"there is no docker command: install Docker with Compose v2, {WITHOUT_DOCKER}")
        self._live = live
        self._docker = DockerClient(compose_files=list(files), compose_project_name=project)

    def up(
        self,
        services: Sequence[str] = (),
        *,
        scale: Mapping[str, int] | None = None,
        build: bool = False,
        wait: bool = False,
    ) -> None:
        """Starts services, or all, in the background, building the image where it is missing (`build`: in any case).

        `wait` returns only when they are healthy; not for a stack with a service that ends by itself.
        """
        self._say(
            lambda: self._docker.compose.up(
                list(services) or None, scales=dict(scale or {}), build=build, wait=wait, detach=True, quiet=self._quiet
            )
        )

    def down(self, *, volumes: bool = False) -> None:
        """Stops and removes everything but the volumes; with `volumes` what they hold is lost too."""
        self._say(lambda: self._docker.compose.down(volumes=volumes, remove_orphans=True, quiet=self._quiet))

    def scale(self, replicas: Mapping[str, int]) -> None:
        """Runs so many replicas of each service. Those that go finish what they hold; the others are left alone."""
        self._say(
            lambda: self._docker.compose.up(
                list(replicas),
                scales=dict(replicas),
                detach=True,
                recreate=False,
                dependencies=False,
                quiet=self._quiet,
            )
        )

    def logs(
        self, services: Sequence[str] = (), *, follow: bool = False, tail: int | None = None, since: str | None = None
    ) -> Iterator[str]:
        """The services' log lines, without line breaks; with `follow` for as long as there are any."""
        lines = self._docker.compose.logs(
            list(services), follow=follow, tail=None if tail is None else str(tail), since=since, stream=True
        )
        try:
            for source, line in lines:
                if source == "stdout":
                    yield line.decode(errors="replace").rstrip("\r\n")
        except DockerException as error:
            raise self._why(error) from error

    def ps(self) -> list[Replica]:
        """All containers of the stack, ended ones included, by service and name."""
        replicas: list[Replica] = []

        def look() -> None:
            for container in self._docker.compose.ps(all=True):
                state = container.state
                replicas.append(
                    Replica(
                        service=(container.config.labels or {}).get("com.docker.compose.service", ""),
                        name=container.name,
                        state=state.status or "",
                        health=(state.health.status or "") if state.health else "",
                        exit_code=state.exit_code if state.status == "exited" else None,
                    )
                )

        self._say(look)
        return sorted(replicas, key=lambda replica: (replica.service, replica.name))

    def config(self) -> dict[str, Any]:
        """The services as the compose files say they are, with their variables filled in."""
        found: list[Any] = []
        self._say(lambda: found.append(self._docker.compose.config(return_json=True)))
        whole: dict[str, Any] = found[0]
        return whole

    def kill(self, containers: Sequence[str], *, signal: str = "KILL") -> None:
        """Sends a signal to containers, by the names that `ps` tells; Docker then leaves them as they end up."""
        self._say(lambda: self._docker.kill(list(containers), signal))

    def start(self, containers: Sequence[str]) -> None:
        """Starts containers that have ended, by name, as they were made."""
        self._say(lambda: self._docker.start(list(containers)))

    def process_of(self, container: str) -> int:
        """The process of a container, as the engine's machine numbers it; 0 where none runs."""
        return self._inspected(container).state.pid or 0

    def place_of(self, container: str, path: str) -> Path | None:
        """Where on the engine's machine lies what is mounted in a container at this path."""
        mounts = self._inspected(container).mounts
        return next((Path(mount.source or "") for mount in mounts if str(mount.destination) == path), None)

    def command_of(self, container: str) -> list[str]:
        """What runs in a container, with its arguments."""
        found = self._inspected(container)
        return [found.path, *(found.args or [])]

    def _inspected(self, container: str) -> Container:
        found: list[Container] = []
        self._say(lambda: found.append(self._docker.container.inspect(container)))
        return found[0]

    def execute(self, service: str, command: Sequence[str]) -> str:
        """What a command prints in a container of the service that runs. Raises StackError where it fails, too."""
        running = next((one.name for one in self.ps() if one.service == service and one.state == "running"), None)
        if running is None:
            raise StackError(f"no container of {service} runs: `millrace ps` says why")
        said: list[object] = []
        self._say(lambda: said.append(self._docker.execute(running, list(command))))
        return str(said[0] or "")

    def copy(self, service: str, path: str, into: Path) -> None:
        """Copies a folder out of a container of the service, running or not."""
        name = next((one.name for one in self.ps() if one.service == service), None)
        if name is None:
            raise StackError(f"there is no container of {service}: `millrace up` starts the stack")
        self._say(lambda: self._docker.copy((name, path), into))

    @property
    def _quiet(self) -> bool:
        return not self._live

    def _say(self, command: Callable[[], object]) -> None:
        try:
            command()
        except DockerException as error:
            raise self._why(error) from error

    def _why(self, error: DockerException) -> StackError:
        words = (error.stderr or "").strip()
        if words:
            return StackError(f"docker compose: {words.splitlines()[-1]}{_mend(words)}")
        # Docker said it on the terminal. Where nobody answers at all, say so: it is the commonest reason.
        if not self._engine_answers():
            return StackError(f"docker compose failed: no Docker engine answers{_mend('Docker daemon')}")
        return StackError(f"docker compose failed with exit code {error.return_code}: see what it said above")

    def _engine_answers(self) -> bool:
        try:
            self._docker.system.info()
        except DockerException:
            return False
        return True


def _mend(words: str) -> str:
    for said, mend in MENDS.items():
        if said in words:
            return f"\n{mend}"
    return ""


MENDS = {
    "no configuration file provided": "Go to the folder that has docker-compose.yml, or name the file by --file.",
    "is not a docker command": "Install Compose v2 (Debian: docker-compose-plugin or docker-compose).",
    "unknown flag: --file": "Install Compose v2 (Debian: docker-compose-plugin or docker-compose).",
    "unknown shorthand flag: 'f'": "Install Compose v2 (Debian: docker-compose-plugin or docker-compose).",
    "permission denied": "This user may not use Docker: join the group docker, or run it as root.",
    "Docker daemon": f"Start the engine (`systemctl start docker`), look at DOCKER_HOST, {WITHOUT_DOCKER}.",
    "docker API": f"Start the engine (`systemctl start docker`), look at DOCKER_HOST, {WITHOUT_DOCKER}.",
    "no such service": "`millrace ps` lists the services there are.",
}
