"""Completion: the words that a shell proposes, for what this folder's flows file holds."""

from __future__ import annotations

import os
from pathlib import Path

import typer


def flow_names(context: typer.Context, incomplete: str) -> list[str]:
    """The flows whose name begins so, in the file that the command line names so far, or this folder's."""
    from millrace_pipeline.errors import ConfigError
    from millrace_pipeline.flows.flow import load

    path = context.params.get("flows") or os.environ.get("MILLRACE_FLOWS") or "flows.yaml"
    try:
        return [name for name in load(Path(path)) if name.startswith(incomplete)]
    except ConfigError:
        return []  # nobody may be told here, between two keys
