"""What the doors for programs of one's own need: a flow by its name, and where Redis is."""

from __future__ import annotations

from pathlib import Path

from millrace.server import Server, server_of
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import Flow, load
from millrace_pipeline.process.logs import stay_quiet
from millrace_pipeline.process.settings import Settings


def found(name: str, flows: Path | str | None) -> tuple[Flow, Server]:
    """The flow, or the partition, and the Redis of its folder, which is to be closed. Raises ConfigError."""
    stay_quiet()
    settings = Settings.load()
    loaded = load(Path(flows) if flows else settings.flows)
    known = {part.name: part for flow in loaded.values() for part in (flow, *flow.lists)}
    if name not in known:
        raise ConfigError(f"{loaded.path}: no flow {name!r}; there are: {', '.join(loaded)}")
    return known[name], server_of(settings)
