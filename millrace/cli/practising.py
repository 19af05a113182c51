"""Practising: the bundled sites in place of the real ones, for as long as a command runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import structlog

from millrace.cli.bundled import bundled_flows, bundled_sites
from millrace_pipeline.errors import ConfigError

log = structlog.get_logger(__name__)


@contextlib.contextmanager
def practising(told: Path | None) -> Iterator[Path]:
    """The flows file to run, with the addresses of the bundled sites in this process's environment.

    It is the file that was told, or the folder's own, where that names QUOTES_URL or WIKIPEDIA_URL; else the bundled
    one. Raises ConfigError where the one that was told names neither: it would read the real sites.
    """
    own = Path(os.environ.get("MILLRACE_FLOWS") or "flows.yaml")
    with bundled_sites() as sites:
        if told is not None and not _names_any(told, sites):
            names = " or ".join(f"${{{name}:-…}}" for name in sites)
            raise ConfigError(f"{told}: no address in it is {names}, so no source of it would read the bundled sites")
        flows = told or (own if _names_any(own, sites) else bundled_flows())
        os.environ.update(sites)
        try:
            yield flows
        finally:
            for name in sites:
                os.environ.pop(name, None)


def say_practising(flows: Path) -> None:
    """Log what is read, and where the flows of it are, which other commands have to be told."""
    sites = {name.lower(): os.environ[name] for name in ("QUOTES_URL", "WIKIPEDIA_URL")}
    log.info("practice_sites", flows=str(flows), **sites)


def _names_any(path: Path, sites: dict[str, str]) -> bool:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any(f"${{{name}" in text for name in sites)
