"""Flows file: which one a command reads, and the flows of it that it is about."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from millrace.cli.completion import flow_names
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import Flow, Flows, load
from millrace_pipeline.process.settings import Settings

FlowsOption = Annotated[
    Path | None, typer.Option("--flows", "-f", help="The flows file; else MILLRACE_FLOWS, else ./flows.yaml.")
]
NamesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[FLOW]...", help="Default: every flow.", autocompletion=flow_names)
]


def settings_with(flows: Path | None) -> Settings:
    """The environment's settings, with the flows file that the command line named."""
    settings = Settings.load()
    return settings.model_copy(update={"flows": flows}) if flows else settings


def choose(settings: Settings, names: list[str]) -> list[Flow]:
    """The flows of these names, or all. Raises ConfigError naming the ones there are."""
    flows = load(settings.flows)
    return [_named(name, flows) for name in names or flows]


def choose_lists(settings: Settings, names: list[str]) -> list[Flow]:
    """The same, with its partitions in the place of a flow that has some, and a partition by its name, `events.3`.

    Each has one list. Raises ConfigError.
    """
    return _lists_of(load(settings.flows), names)


def choose_shown(settings: Settings, names: list[str]) -> list[Flow]:
    """The same as `choose_lists`, with each flow that has partitions before them, for what shows sums too."""
    flows = load(settings.flows)
    whole = {name: flows[name] for name in names or flows if name in flows and flows[name].queue.partitions > 1}
    shown: list[Flow] = []
    for part in _lists_of(flows, names):
        of = whole.pop(part.whole.name, None) if part.whole else None
        shown += [part] if of is None else [of, part]
    return shown


def choose_list(settings: Settings, name: str) -> Flow:
    """The one flow, or partition, of this name, for what can only be done to one list. Raises ConfigError."""
    lists = choose_lists(settings, [name])
    if len(lists) > 1:
        raise ConfigError(
            f"{name} has {len(lists)} partitions, and this works on one list: name a partition, "
            f"{lists[0].name} … {lists[-1].name}"
        )
    return lists[0]


def _lists_of(flows: Flows, names: list[str]) -> list[Flow]:
    parts = {part.name: part for flow in flows.values() for part in flow.lists if part is not flow}
    return [part for name in names or flows for part in ([parts[name]] if name in parts else _named(name, flows).lists)]


def _named(name: str, flows: Flows) -> Flow:
    if name in flows:
        return flows[name]
    if any(part.name == name for flow in flows.values() for part in flow.lists):
        raise ConfigError(f"{name} is a partition, and this is of all of the flow: name {name.rpartition('.')[0]}")
    raise ConfigError(f"{flows.path}: no flow {name!r}; there are: {', '.join(flows)}")
