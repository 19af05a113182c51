"""Extras: libraries that only some sources and sinks need, installed on request."""

from __future__ import annotations

import importlib
from types import ModuleType

from millrace_pipeline.errors import ConfigError


def need(module: str, extra: str, what: str) -> ModuleType:
    """The module. Raises ConfigError saying how to install it; `what` needs it, such as `source websocket`."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        library = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != library:
            raise
        mend = f"pip install 'millrace[{extra}]', or in Docker EXTRAS={extra} docker compose build"
        raise ConfigError(f"{what} needs {library}: {mend}") from error
