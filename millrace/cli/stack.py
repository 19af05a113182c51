"""`millrace up`, `down`, `scale`, `logs` and `ps`: the stack in Docker."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from millrace.cli.tables import console_for_all, table
from millrace_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from millrace.stack import Replica, Stack

app = typer.Typer()

COMPOSE_FILE = Path("docker-compose.yml")
PRACTICE_FILE = Path("docker-compose.practice.yml")
BAD = {"exited", "dead", "restarting"}

FileOption = Annotated[
    list[Path] | None,
    typer.Option("--file", help="A compose file; several add up. Default: what docker compose finds here."),
]
ProjectOption = Annotated[
    str | None, typer.Option("--project", "-p", help="Name of the stack, to run two of them side by side.")
]
PracticeOption = Annotated[
    bool, typer.Option("--practice", help="On the bundled web site and event stream instead of the real ones.")
]
ServicesArgument = Annotated[list[str] | None, typer.Argument(metavar="[SERVICE]...", help="Default: all.")]


@app.command(epilog="Example: `millrace up --practice --scale consumer=4`")
def up(
    services: ServicesArgument = None,
    scale: Annotated[list[str] | None, typer.Option(metavar="SERVICE=N", help="Replicas of a service.")] = None,
    build: Annotated[bool, typer.Option("--build", help="Build the image again, after a change of the code.")] = False,
    practice: PracticeOption = False,
    file: FileOption = None,
    project: ProjectOption = None,
) -> None:
    """Starts the stack in Docker, in the background.

    Exit codes: 0 started; 1 docker said no; 2 the command is wrong.
    """
    _stack(file, project, practice, live=True).up(services or [], scale=replicas(scale or []), build=build)
    sys.stdout.write("started: `millrace ps` shows how they are, `millrace logs --follow` what they say\n")


@app.command(epilog="Example: `millrace down --volumes`")
def down(
    volumes: Annotated[
        bool, typer.Option("--volumes", help="Also delete the volumes: the queue and the files are lost.")
    ] = False,
    practice: PracticeOption = False,
    file: FileOption = None,
    project: ProjectOption = None,
) -> None:
    """Stops the stack and removes its containers; queue and files stay for the next `up`.

    Exit codes: 0 it is down; 1 docker said no.
    """
    _stack(file, project, practice, live=True).down(volumes=volumes)


@app.command(epilog="Example: `millrace scale consumer=4`")
def scale(
    wanted: Annotated[list[str], typer.Argument(metavar="SERVICE=N...", help="Replicas of each service.")],
    practice: PracticeOption = False,
    file: FileOption = None,
    project: ProjectOption = None,
) -> None:
    """Runs more or fewer replicas of a service; those that go finish or hand back what they hold.

    Exit codes: 0 so many run; 1 docker said no; 2 the command is wrong.
    """
    _stack(file, project, practice, live=True).scale(replicas(wanted))


@app.command(epilog="Example: `millrace logs --follow consumer`")
def logs(
    services: ServicesArgument = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    tail: Annotated[int | None, typer.Option(min=0, help="Only the last N lines of each container.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Only since a time (2026-11-21T01:30:00Z) or so long ago (5m).")
    ] = None,
    practice: PracticeOption = False,
    file: FileOption = None,
    project: ProjectOption = None,
) -> None:
    """Prints what the services say.

    Exit codes: 0 printed; 1 docker said no.
    """
    for line in _stack(file, project, practice).logs(services or [], follow=follow, tail=tail, since=since):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


@app.command(epilog="Example: `millrace ps --json | jq -r '.[] | select(.health == \"unhealthy\").name'`")
def ps(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
    practice: PracticeOption = False,
    file: FileOption = None,
    project: ProjectOption = None,
) -> None:
    """Lists the containers of the stack and how they are.

    Exit codes: 0 all run well, or have ended well; 1 one is unhealthy or failed, none is there, or docker said no.
    """
    found = _stack(file, project, practice).ps()
    if as_json:
        sys.stdout.write(json.dumps([asdict(replica) for replica in found], indent=2) + "\n")
    elif found:
        _print(found)
    else:
        sys.stdout.write("nothing runs: `millrace up` starts the stack\n")
    if not found or any(not well(replica) for replica in found):
        raise typer.Exit(1)


def replicas(wanted: Iterable[str]) -> dict[str, int]:
    """`consumer=4` and the like, as a mapping. Raises ConfigError for anything else."""
    found = {}
    for text in wanted:
        service, equals, number = text.partition("=")
        if not (service and equals and number.isascii() and number.isdigit()):
            raise ConfigError(f"{text!r} is no number of replicas: write SERVICE=N, e.g. consumer=4")
        found[service] = int(number)
    return found


def well(replica: Replica) -> bool:
    """Whether a container does what it should: runs and is not unhealthy, or has ended with exit code 0."""
    if replica.state == "exited":
        return replica.exit_code == 0
    return replica.state not in BAD and replica.health != "unhealthy"


def _stack(file: list[Path] | None, project: str | None, practice: bool, *, live: bool = False) -> Stack:
    from millrace.stack import Stack  # here, so that no service loads Docker's client

    files = list(file or [])
    if practice:
        files = [*(files or [COMPOSE_FILE]), PRACTICE_FILE]
    return Stack(files, project=project, live=live)


def _print(found: Iterable[Replica]) -> None:
    rows = table("service", "container", "state", "health")
    for replica in found:
        state = replica.state if replica.exit_code is None else f"{replica.state} ({replica.exit_code})"
        rows.add_row(replica.service, replica.name, state, replica.health, style=None if well(replica) else "red")
    console_for_all(highlight=True).print(rows)
