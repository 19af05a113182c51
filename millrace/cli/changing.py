"""Changing: what commands that change something of a flow have in common: whose list it is, and who says yes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import typer

from millrace.cli.asked import Asked
from millrace.cli.flowsfile import choose_list, choose_lists, settings_with
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.queue import Session


def queues_to_change(names: Sequence[str], flows: Path | None, *, any_project: bool) -> Iterator[tuple[Flow, Session]]:
    """The flows of these names with their queues, after saying which Redis they are on.

    Raises ConfigError where one of them is another project's; then nothing is changed of any.
    """
    settings = settings_with(flows)
    chosen = choose_lists(settings, list(names))
    asked = Asked.of(settings)
    queues = [(flow, asked.queue(flow)) for flow in chosen]
    for flow, queue in queues:
        asked.may_change(flow, queue, any_project=any_project)
    return iter(queues)


def queue_to_change(name: str, flows: Path | None, *, any_project: bool) -> tuple[Flow, Session]:
    """The one flow, or partition, of this name with its queue, as `queues_to_change`.

    Raises ConfigError where the flow has several lists.
    """
    choose_list(settings_with(flows), name)
    ((flow, queue),) = queues_to_change([name], flows, any_project=any_project)
    return flow, queue


def agreed(question: str, *, yes: bool) -> bool:
    """Return True where a person says so, or `--yes` did. Raises ConfigError where there is nobody to ask."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise ConfigError(f"{question} There is no terminal to ask at: --yes says it, --dry-run only looks")
    return typer.confirm(question)
