"""`millrace render`: what runs the flows' services on other people's engines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from millrace.cli.flowsfile import FlowsOption, settings_with
from millrace_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from millrace.render.plan import Engine, Plan

app = typer.Typer(
    help="Prints what runs the flows' services on an engine: Docker Compose, Docker Swarm, Kubernetes.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

ValuesOption = Annotated[
    Path | None, typer.Option("--values", "-v", help="A file of values: what flows.yaml doesn't say.")
]
NameOption = Annotated[str | None, typer.Option(help="What all that is made begins with. Default: millrace.")]
ImageOption = Annotated[str | None, typer.Option(help="The image that the services run. Default: millrace:latest.")]
AccessOption = Annotated[Path | None, typer.Option(help="The folder that `millrace access` made. Default: secrets.")]
ReplicasOption = Annotated[
    list[str] | None, typer.Option("--replicas", metavar="FLOW=N", help="So many consumers of a flow.")
]


@app.command(epilog="Example: `millrace render compose > docker-compose.yml`")
def compose(
    flows: FlowsOption = None,
    values: ValuesOption = None,
    name: NameOption = None,
    image: ImageOption = None,
    replicas: ReplicasOption = None,
) -> None:
    """Prints a compose file for one machine: a producer and a consumer for each flow, and their Redis.

    It belongs beside the flows file. Passwords are made by the stack itself, at the first `up`.

    Exit codes: 0 printed; 2 the flows file or a value is wrong.
    """
    from millrace.render.compose import compose as text

    sys.stdout.write(text(_plan("compose", flows, values, replicas, name=name, image=image)))


@app.command(
    epilog="Example: `millrace render swarm --image registry.example/millrace:1 | docker stack deploy -c - millrace`"
)
def swarm(
    flows: FlowsOption = None,
    values: ValuesOption = None,
    name: NameOption = None,
    image: ImageOption = None,
    access: AccessOption = None,
    replicas: ReplicasOption = None,
) -> None:
    """Prints a stack file for Docker Swarm. The passwords are secrets, made before by `millrace access`.

    Secrets and configs are named by what they hold, so deploying it again replaces those services alone whose files,
    image or values are others.

    Exit codes: 0 printed; 2 the flows file, a value or a secret is wrong or missing.
    """
    from millrace.render.swarm import swarm as text

    sys.stdout.write(text(_plan("swarm", flows, values, replicas, name=name, image=image, access=access)))


@app.command(epilog="Example: `millrace render kubernetes --values values.yaml | kubectl apply -f -`")
def kubernetes(
    flows: FlowsOption = None,
    values: ValuesOption = None,
    name: NameOption = None,
    image: ImageOption = None,
    access: AccessOption = None,
    replicas: ReplicasOption = None,
) -> None:
    """Prints manifests for Kubernetes, 1.31 and later. `millrace render secrets` prints the Secrets that they name.

    Exit codes: 0 printed; 2 the flows file, a value or a secret is wrong or missing.
    """
    from millrace.render.kubernetes import kubernetes as text

    sys.stdout.write(text(_plan("kubernetes", flows, values, replicas, name=name, image=image, access=access)))


@app.command(epilog="Example: `millrace render secrets --values values.yaml | kubectl apply -f -`")
def secrets(
    flows: FlowsOption = None,
    values: ValuesOption = None,
    name: NameOption = None,
    access: AccessOption = None,
    version: Annotated[
        bool, typer.Option("--version-only", help="Only what their names end with, for the chart's `access_version`.")
    ] = False,
) -> None:
    """Prints the Secrets of Kubernetes, passwords and all: for a pipe, and for no file.

    Exit codes: 0 printed; 2 the flows file, a value or a secret is wrong or missing.
    """
    from millrace.render.kubernetes import access_version
    from millrace.render.kubernetes import secrets as text

    plan = _plan("kubernetes", flows, values, None, name=name, access=access)
    sys.stdout.write(f"{access_version(plan)}\n" if version else text(plan))


def _plan(engine: Engine, flows: Path | None, values: Path | None, replicas: list[str] | None, **given: Any) -> Plan:
    """Return what is to run, having said on standard error what there is to say of it. Raises ConfigError."""
    from millrace.render.plan import plan
    from millrace.render.values import read_values

    path = settings_with(flows).flows
    found, document = read_values(values, {name: value for name, value in given.items() if value is not None})
    found = found.with_consumers(_numbers(replicas or []))
    made = plan(path, found, document, engine)
    for warning in made.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    return made


def _numbers(wanted: list[str]) -> dict[str, int]:
    found = {}
    for text in wanted:
        flow, equals, number = text.partition("=")
        if not (flow and equals and number.isascii() and number.isdigit()):
            raise ConfigError(f"--replicas {text}: expected FLOW=N, such as quotes=4")
        found[flow] = int(number)
    return found
