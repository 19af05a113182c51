"""Places that sinks write to, told apart however a flows file spells them: folders, and tables of databases."""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from millrace_pipeline.flows.component import Component
from millrace_pipeline.flows.flow import Flow

_MEND = "`verify --sink` can't tell whose records are there; give each flow its own"
_SEARCH_PATH = re.compile(r'search_path\s*=\s*"?([^\s,"]+)')
_HERE = re.compile(r"(localhost|127\.\d+\.\d+\.\d+|::1|/.*|@.*|)\Z")
"""The hosts that are this machine; a path is a socket's."""


class Place(NamedTuple):
    """Where a sink writes, as the steps that lead there; `is_folder` where what is below it is a part of it."""

    steps: tuple[str, ...]
    is_folder: bool

    def holds(self, other: Place) -> bool:
        """Return True where the other is this place, or within it."""
        return other.steps == self.steps or (
            self.is_folder and other.is_folder and other.steps[: len(self.steps)] == self.steps
        )


def shared_places(flows: Iterable[Flow]) -> Iterator[str]:
    """Yield where two flows write to one folder, file or table: nobody can tell their records apart there.

    Lists, topics and queues take from whoever writes, and nobody reads them again.
    """
    known: list[tuple[Place, str]] = []
    for flow in flows:
        for part in flow.sink.each:
            place = place_of(part)
            if place is None:
                continue
            option = "path" if "path" in part.options else "table"
            for other, owner in known:
                if owner != flow.name and (how := _how(place, other)):
                    shown = part.options.get(option)
                    yield str(part.error(f"{how} flow {owner} ({shown}): {_MEND}", option))
                    break
            known.append((place, flow.name))


def _how(place: Place, other: Place) -> str:
    if place.steps == other.steps:
        return "writes to the same place as"
    if other.holds(place):
        return "writes within the folder of"
    return "writes to a folder around that of" if place.holds(other) else ""


def place_of(part: Component) -> Place | None:
    """Return the place that a sink writes to; None where several may write there."""
    path, table, dsn = (part.options.get(name) for name in ("path", "table", "dsn"))
    if isinstance(path, str) and isinstance(table, str):
        *schema, name = table.split(".")
        schema = [] if schema == ["main"] else schema  # which is DuckDB's, where none is named
        return Place((*_steps_of(path, part.options), *(step.casefold() for step in (*schema, name))), is_folder=False)
    if isinstance(path, str):
        return Place(_steps_of(path, part.options), is_folder=True)
    if isinstance(dsn, str) and isinstance(table, str):
        return Place(_table_of(dsn, table), is_folder=False)
    return None


def _steps_of(path: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    scheme, is_url, rest = path.partition("://")
    if is_url:
        store = options.get("store")
        endpoint = str(store.get("endpoint") or "") if isinstance(store, Mapping) else ""
        return (f"{scheme.lower()}://", endpoint.rstrip("/"), *filter(None, rest.split("/")))
    return Path(os.path.realpath(os.path.expanduser(path))).parts  # noqa: PTH111


def _table_of(dsn: str, table: str) -> tuple[str, ...]:
    """A table of PostgreSQL, with what libpq takes where a DSN leaves it out."""
    said = _said_in(dsn)
    if said is None:
        return ("postgres", dsn, table)

    def of(name: str, variable: str) -> str:
        return said.get(name) or os.environ.get(variable) or ""

    hosts = (said.get("hostaddr") or of("host", "PGHOST")).split(",")
    ports = of("port", "PGPORT").split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    servers = sorted({f"{_host(host)}:{port or 5432}" for host, port in zip(hosts, ports, strict=False)})
    database = of("dbname", "PGDATABASE") or of("user", "PGUSER") or getpass.getuser()
    schema, _, name = table.rpartition(".")
    set_path = _SEARCH_PATH.search(of("options", "PGOPTIONS"))
    return ("postgres", ",".join(servers), database, schema or (set_path[1] if set_path else "public"), name)


def _said_in(dsn: str) -> dict[str, str] | None:
    try:
        from psycopg import Error
        from psycopg.conninfo import conninfo_to_dict
    except ImportError:  # said elsewhere
        return None
    try:
        return {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
    except Error:
        return None


def _host(host: str) -> str:
    host = host.strip().lower().rstrip(".")
    return "localhost" if _HERE.match(host) else host
