"""Extras: libraries that only some sources and sinks need, installed on request."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import NamedTuple

from millrace_pipeline.errors import ConfigError


class Extra(NamedTuple):
    """An extra of Millrace, by the name that pip has for it, and the module that comes with it."""

    name: str
    module: str


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


def need_for(part: type, kind: str, extra: Extra | None) -> None:
    """Imports what a source or a sink (`kind`) can't do without. Raises ConfigError as `need` does."""
    if extra is not None:
        need(extra.module, extra.name, f"{kind} {part.__name__.removesuffix(kind.title()).lower()}")
