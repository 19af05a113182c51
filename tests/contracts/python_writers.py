"""Functions as users write them for the python sink."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from millrace_consumer.sinks.base import Batch, RecordsRejected, SinkUnavailable


def append(batch: Batch, *, path: str) -> None:
    """One that knows nothing of ids: what is written twice is there twice."""
    try:
        with (Path(path) / "lines").open("ab", buffering=0) as file:
            file.write(b"".join(line + b"\n" for line in batch.lines))
    except OSError as error:
        raise SinkUnavailable(f"no room: {error.strerror}") from error


def insert(batch: Batch, *, path: str) -> None:
    """One that keeps the ids it has seen, in the transaction of the records."""
    with closing(sqlite3.connect(f"{path}/table")) as db, db:
        db.execute("CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY)")
        db.execute("CREATE TABLE IF NOT EXISTS lines (line TEXT)")
        if db.execute("INSERT OR IGNORE INTO seen VALUES (?)", [batch.id]).rowcount:
            db.executemany("INSERT INTO lines VALUES (?)", [[line.decode()] for line in batch.lines])


def picky(batch: Batch) -> None:
    """One that has something against a record."""
    if bad := {index: "odd" for index, record in enumerate(batch.records) if record["n"] % 2}:
        raise RecordsRejected(bad)


NOT_A_FUNCTION = "text"
