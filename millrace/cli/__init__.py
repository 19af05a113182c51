"""The `millrace` command: one file a command group. It starts the services, and is all that knows both."""

from __future__ import annotations

import sys

import typer

from millrace.cli.asked import let_go
from millrace_pipeline.errors import ConfigError, MillraceError
from millrace_pipeline.process import logs

app = typer.Typer(
    name="millrace",
    help="Scrape, listen or poll into a Redis list, and write it out once: nothing lost, nothing twice.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _compose() -> None:
    from millrace.cli import (
        chaos,
        check,
        dead,
        demo,
        docs,
        dryrun,
        lake,
        run,
        services,
        stack,
        status,
        variants,
        verify,
    )

    for group in (demo, run, services, check, docs, dryrun, status, verify, chaos, stack):
        app.registered_commands += group.app.registered_commands
    app.add_typer(dead.app, name="dead")
    app.add_typer(variants.app, name="variants")
    app.add_typer(lake.app, name="lake")


def main() -> None:
    """Runs the command. Exit codes: 0 done, 1 it failed, 2 the command or its configuration is wrong."""
    _compose()
    logs.configure("pretty", "error")  # a service says otherwise when it starts
    try:
        app()
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    except MillraceError as error:
        sys.stderr.write(f"millrace: {error}\n")
        sys.exit(1)
    finally:
        let_go()
