"""The postgres sink keeps the sink contract on a real server, and its own claims."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.contracts.sink_contract import SinkContract
from tests.contracts.sink_records import ORDINARY, NarrowThing
from tests.postgres_server import NOBODY, PostgresServer

WITHOUT_NUL = [record for record in ORDINARY if record["id"] != "controls"]
NUL = {"id": "nul", "text": "a \0 in it"}


class TestPostgresSink(SinkContract):
    """Without a model: `id`, `time` and `data`."""

    sink = "millrace_consumer.sinks.postgres:PostgresSink"
    kill_points = (
        "sink.before_write",
        "sink.before_copy",
        "sink.after_copy",
        "sink.before_commit",
        "sink.after_commit",
    )
    ordinary = WITHOUT_NUL

    @pytest.fixture(autouse=True)
    def _on_the_server(self, postgres: PostgresServer) -> None:
        self.server = postgres
        self.dsn = postgres.dsn

    def options(self, destination: Path) -> dict[str, Any]:
        return {"dsn": self.dsn, "table": f"{schema_of(self.server, destination)}.things"}

    def read_back(self, destination: Path) -> list[Any]:
        return [data for (data,) in self.rows(destination, "data")]

    def rows(self, destination: Path, columns: str) -> list[Any]:
        table = self.options(destination)["table"]
        with self.server.session() as session:
            if session.execute("SELECT to_regclass(%s)", [table]).fetchone() == (None,):
                return []
            return session.execute(f"SELECT {columns} FROM {table} ORDER BY ctid").fetchall()

    @contextmanager
    def full(self, destination: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
        """A tablespace on a file system that is full, where we may mount one; else a user who may not connect."""
        with small_tablespace(self.server, destination) as room:
            if room is None:
                role, free = nobody_gets_in(self.server, destination)
                self.dsn = role
            else:
                space, free = room
                self.dsn = f"{self.server.dsn}?options=-c%20default_tablespace%3D{space}"
            yield destination, free
            with self.server.session() as session:
                session.execute(f"DROP SCHEMA {schema_of(self.server, destination)} CASCADE")


class TestPostgresSinkWithModel(TestPostgresSink):
    """With typed columns."""

    model = NarrowThing
    unwritable: ClassVar[list[Any]] = [{"id": "wide", "number": 2**63}, NUL]

    def read_back(self, destination: Path) -> list[Any]:
        return [dict(zip(COLUMNS, row, strict=True)) for row in self.rows(destination, ", ".join(COLUMNS))]

    def expected(self, record: dict[str, Any]) -> Any:
        return {name: record.get(name) for name in COLUMNS}


class TestPostgresSinkUpserting(TestPostgresSinkWithModel):
    """By the record's id."""

    def options(self, destination: Path) -> dict[str, Any]:
        return {**super().options(destination), "mode": "upsert", "key": "id", "record_id": "envelope"}

    def wanted(self, *batches: list[dict[str, Any]]) -> list[Any]:
        """The last record of each id."""
        return super().wanted(list({record["id"]: record for records in batches for record in records}.values()))

    def read_back(self, destination: Path) -> list[Any]:
        """In the order of the envelopes: an upsert takes rows by their key."""
        columns = [*COLUMNS, "envelope"]
        rows = [dict(zip(columns, row, strict=True)) for row in self.rows(destination, ", ".join(columns))]
        rows.sort(key=lambda row: int(row.pop("envelope").rpartition("-")[2]))
        return rows


COLUMNS = ("id", "text", "flag", "nested", "number")


def schema_of(server: PostgresServer, destination: Path) -> str:
    """A schema of the destination's own."""
    name = f"s{blake2b(str(destination).encode(), digest_size=8).hexdigest()}"
    with server.session() as session:
        session.execute(f"CREATE SCHEMA IF NOT EXISTS {name}")
    return name


@contextmanager
def small_tablespace(server: PostgresServer, folder: Path) -> Iterator[tuple[str, Callable[[], None]] | None]:
    """One without any room left, and what makes room; None where we may not mount a file system for it."""
    disk = Path(tempfile.mkdtemp(dir="/tmp", prefix="millrace-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0777", "tmpfs", str(disk)]
    try:
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            yield None
            return
        place = disk / "space"
        place.mkdir()
        os.chown(place, NOBODY, NOBODY)
        disk.chmod(0o755)
        name = f"t{disk.name[-8:]}"
        try:
            with server.session() as session:
                session.execute(f"CREATE TABLESPACE {name} LOCATION '{place}'")
            filler = disk / "filler"
            with suppress(OSError), filler.open("wb") as file:
                file.write(bytes(4 << 20))
            yield name, filler.unlink
            with server.session() as session:
                session.execute(f"DROP TABLESPACE {name}")
        finally:
            subprocess.run(["umount", "--lazy", str(disk)], check=False)
    finally:
        disk.rmdir()


def nobody_gets_in(server: PostgresServer, destination: Path) -> tuple[str, Callable[[], None]]:
    """The address of a user for whom there is no connection left, and what makes room for more."""
    name = f"r{blake2b(str(destination).encode(), digest_size=8).hexdigest()}"
    with server.session() as session:
        session.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'let-me-in' CONNECTION LIMIT 0")
        session.execute(f"GRANT ALL ON SCHEMA {schema_of(server, destination)} TO {name}")

    def free() -> None:
        with server.session() as session:
            session.execute(f"ALTER ROLE {name} CONNECTION LIMIT -1")

    return f"postgresql://{name}:let-me-in@127.0.0.1:{server.port}/postgres", free
