"""What the doors for programs of one's own need: a flow by its name, and where Redis is."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.flow import Flow, load
from pipeline.observe.logs import stay_quiet
from pipeline.settings import Settings


def found(name: str, flows: Path | str | None) -> tuple[Flow, str]:
    """The flow, and the address of Redis. Raises ConfigError."""
    stay_quiet()
    settings = Settings.load()
    loaded = load(Path(flows) if flows else settings.flows)
    if name not in loaded:
        raise ConfigError(f"{loaded.path}: no flow {name!r}; there are: {', '.join(loaded)}")
    return loaded[name], settings.url
