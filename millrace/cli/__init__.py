"""The `millrace` command: one file a command group. It starts the services, and is all that knows both."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from millrace.cli import lean  # noqa: F401 - before anything imports structlog
from millrace.cli.asked import asking, let_go
from millrace.cli.exits import FAILED, UNREACHED, WRONG
from millrace_pipeline.errors import ConfigError, MillraceError, QueueMisuse, QueueUnavailable, SinkUnavailable
from millrace_pipeline.process import logs

app = typer.Typer(
    name="millrace",
    help="Scrape, listen or poll into a Redis list, and write it out once: nothing lost, nothing twice.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _say_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"millrace {version('millrace')}\n")
        raise typer.Exit


@app.callback()
def _whole(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", is_eager=True, callback=_say_version, help="Print which version of Millrace this is."
        ),
    ] = False,
) -> None:
    pass  # and no docstring, which would take the place of `help` above


COMMANDS = {
    "demo": ("demo",),
    "init": ("init",),
    "run": ("run",),
    "services": ("produce", "consume"),
    "check": ("check", "schema"),
    "docs": ("docs",),
    "dryrun": ("test",),
    "status": ("status",),
    "pause": ("pause", "resume"),
    "purge": ("purge", "requeue"),
    "audit": ("audit",),
    "top": ("top",),
    "ui": ("ui",),
    "tap": ("tap",),
    "where": ("where",),
    "history": ("history",),
    "verify": ("verify",),
    "chaos": ("chaos",),
    "access": ("access",),
    "stack": ("up", "down", "scale", "logs", "ps"),
}
"""The commands of each file; in the order in which help shows them."""

GROUPS = ("dead", "crawl", "variants", "checkpoint", "alerts", "lake", "render")
"""Files that are a command with commands of its own."""


def compose(arguments: Sequence[str]) -> typer.Typer:
    """Return the command, with what these arguments ask for; with everything where that can't be told from them."""
    asked = next((word for word in arguments if not word.startswith("-")), None)
    files = [name for name in (*COMMANDS, *GROUPS) if asked in COMMANDS.get(name, (name,))]
    for name in files or (*COMMANDS, *GROUPS):
        group = importlib.import_module(f"millrace.cli.{name}").app
        if name in GROUPS:
            app.add_typer(group, name=name)
        else:
            app.registered_commands += group.registered_commands
    return app


def main() -> None:
    """Run the command. It ends as `millrace.cli.exits` says, and 0 means that all is done and well."""
    command = compose(sys.argv[1:])
    logs.configure("pretty", "error")  # a service says otherwise when it starts
    try:
        command(prog_name="millrace")
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(WRONG)
    except QueueMisuse as error:
        sys.stderr.write(f"millrace: {error}\n")
        sys.exit(WRONG)
    except (QueueUnavailable, SinkUnavailable) as error:
        sys.stderr.write(f"millrace: {error}\n")
        sys.exit(UNREACHED if asking() else FAILED)
    except MillraceError as error:
        sys.stderr.write(f"millrace: {error}\n")
        sys.exit(FAILED)
    finally:
        let_go()
