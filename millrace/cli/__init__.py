"""The `millrace` command: one file a command group. It starts the services, and is all that knows both."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

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


def _compose() -> None:
    from millrace.cli import (
        chaos,
        check,
        dead,
        demo,
        docs,
        dryrun,
        history,
        init,
        lake,
        run,
        services,
        stack,
        status,
        top,
        variants,
        verify,
        where,
    )

    for group in (demo, init, run, services, check, docs, dryrun, status, top, where, history, verify, chaos, stack):
        app.registered_commands += group.app.registered_commands
    app.add_typer(dead.app, name="dead")
    app.add_typer(variants.app, name="variants")
    app.add_typer(lake.app, name="lake")


def main() -> None:
    """Run the command. It ends as `millrace.cli.exits` says, and 0 means that all is done and well."""
    _compose()
    logs.configure("pretty", "error")  # a service says otherwise when it starts
    try:
        app(prog_name="millrace")
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
