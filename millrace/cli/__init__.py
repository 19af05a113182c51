"""The `millrace` command: one file a command group. It starts the services, and is all that knows both."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from millrace.cli.commands import COMMANDS, GROUPS
from millrace.cli.exits import FAILED, UNREACHED, WRONG
from millrace.cli.held import asking, let_go
from millrace.cli.lean import be_lean
from millrace_pipeline.errors import ConfigError, MillraceError, QueueMisuse, QueueUnavailable, SinkUnavailable

if TYPE_CHECKING:
    from millrace_pipeline.process import logs

app = typer.Typer(
    name="millrace",
    help="Scrape, listen or poll into a Redis list, and write it out once: nothing lost, nothing twice.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


SERVICES = frozenset({"run", "produce", "consume"})
"""The commands whose standard error is a log. Others print for people."""

COMPLETION = frozenset({"--install-completion", "--show-completion"})


def _say_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

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


def compose(arguments: Sequence[str]) -> typer.Typer:
    """Return the command, with what these arguments ask for; with everything where that can't be told from them."""
    be_lean()  # before anything imports structlog or redis
    for name in _files(arguments) or (*COMMANDS, *GROUPS):
        group = importlib.import_module(f"millrace.cli.{name}").app
        if name in GROUPS:
            app.add_typer(group, name=name)
        else:
            app.registered_commands += group.registered_commands
    return app


def list_commands() -> typer.Typer:
    """Return the command with the names of all commands and what they do, and nothing behind them: for help."""
    for name, summary in chain(*(names.items() for names in COMMANDS.values()), GROUPS.items()):
        app.command(name, help=summary)(lambda: None)
    return app


def main() -> None:
    """Run the command. It ends as `millrace.cli.exits` says, and 0 means that all is done and well."""
    words = sys.argv[1:]
    completes = any(name.endswith("_COMPLETE") for name in os.environ) or not COMPLETION.isdisjoint(words)
    if _files(words) or completes:
        _run(compose(words))
    else:
        list_commands()(prog_name="millrace")


def _files(arguments: Sequence[str]) -> list[str]:
    """The files of the command that is asked for; none for help, and for a word that is no command."""
    asked = _asked(arguments)
    return [name for name in (*COMMANDS, *GROUPS) if asked in COMMANDS.get(name, (name,))]


def _run(command: typer.Typer) -> None:
    from millrace_pipeline.process import logs

    logs.configure("pretty", "error")  # a service says otherwise when it starts
    try:
        command(prog_name="millrace")
    except MillraceError as error:
        _say_why(error)
        sys.exit(_exit_code(error))
    except Exception as error:
        if not _logs_for_programs():
            raise
        _say_why(error)
        sys.exit(FAILED)
    finally:
        let_go()


def _exit_code(error: MillraceError) -> int:
    if isinstance(error, ConfigError | QueueMisuse):
        return WRONG
    return UNREACHED if isinstance(error, QueueUnavailable | SinkUnavailable) and asking() else FAILED


def _asked(arguments: Sequence[str]) -> str | None:
    return next((word for word in arguments if not word.startswith("-")), None)


def _logs_for_programs() -> bool:
    """Whether this is a service whose log is lines of JSON: then its last words are one, too."""
    from millrace_pipeline.process import logs

    return _asked(sys.argv[1:]) in SERVICES and not logs.is_pretty(_style())


def _style() -> logs.Style:
    from millrace_pipeline.process.settings import Settings

    try:
        return Settings.load().log
    except ConfigError:  # which may be what is to be said
        return "auto"


def _say_why(error: Exception) -> None:
    """Say why the command ends: on standard error, or in the log where it is one for programs."""
    from millrace_pipeline.process import logs
    from millrace_pipeline.process.supervisor import SERVICE

    if _logs_for_programs():
        expected = isinstance(error, MillraceError)
        reason = str(error) if expected else f"{type(error).__name__}: {error}"
        service = os.environ.get(SERVICE) or str(_asked(sys.argv[1:]))
        logs.say_last_words(_style(), service, reason, error=None if expected else error)
    else:
        sys.stderr.write(f"{error}\n" if isinstance(error, ConfigError) else f"millrace: {error}\n")
