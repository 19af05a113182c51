"""Compacting: few large Parquet files of the many small ones that batches leave, in a directory on a disk.

The first file of a group is replaced by all of them, and then the others go. A note beside says so from before the
replacing until all is done, so that whoever comes next ends what a killed one began. Only settled batches are touched:
one that is in flight may be written again, under its own name.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from millrace_consumer.readback import BATCH_ID
from millrace_consumer.sinks.parquetwriting import WRITING
from millrace_consumer.sinks.places.disk import sync_directory, sync_file
from millrace_pipeline.errors import SinkUnavailable
from millrace_pipeline.killpoints import killpoint

MADE_BY = b"millrace.compacted"
"""In a file's own metadata: the note by which it was made."""

NOTE = ".compacting-{}.json"
ROWS_A_GROUP = 100_000
BYTES_A_GROUP = 64 << 20


class Compacted:
    """How many files there were and are, and their bytes."""

    def __init__(self) -> None:
        self.files_before = self.files_after = self.bytes_before = self.bytes_after = 0

    def add(self, other: Compacted) -> None:
        """Count another directory in."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def as_dict(self) -> dict[str, int]:
        """All of it as JSON can say it."""
        return dict(vars(self))


def compact(root: Path, target: int, older_than: float, in_flight: Callable[[], Collection[str]]) -> Compacted:
    """Make files of about `target` bytes of those whose batches are settled. Raises SinkUnavailable.

    `in_flight` is asked behind the listing: a batch that has a file and is not in flight then was acked. What is
    younger than `older_than` seconds stays, for a Redis that loses its last second would have the batch again.
    """
    done = Compacted()
    try:
        with _alone(root):
            for note in sorted(root.rglob(NOTE.format("*"))):
                _finish(note)
            files = list(_files(root))
            busy = {batch.rstrip("ab") for batch in in_flight()}
            done.files_before, done.bytes_before = len(files), sum(size for _, size, _ in files)
            before = time.time() - older_than
            settled = [
                (file, size)
                for file, size, changed in files
                if changed <= before and file.stem.rstrip("ab") not in busy
            ]
            for group in _groups(settled, target):
                _merge(group)
            left = list(_files(root))
            done.files_after, done.bytes_after = len(left), sum(size for _, size, _ in left)
    except (OSError, pa.ArrowException) as error:
        raise SinkUnavailable(f"can't compact {root}: {error}") from error
    return done


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[IO[str]]:
    with (root / ".compacting.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SinkUnavailable(f"somebody compacts {root} already") from None
        yield lock


def _files(root: Path) -> Iterator[tuple[Path, int, float]]:
    """Yield the batches' files, their sizes and when they were written, in a steady order."""
    for file in sorted(root.rglob("*.parquet")):
        if BATCH_ID.fullmatch(file.stem) and not any(step.startswith(".") for step in file.relative_to(root).parts):
            found = file.stat()
            yield file, found.st_size, found.st_mtime


def _groups(files: list[tuple[Path, int]], target: int) -> Iterator[list[Path]]:
    """Yield files that belong together: of one directory and with the same columns, and in all about as large."""
    group: list[Path] = []
    schema: pa.Schema | None = None
    total = 0
    for file, size in files:
        if size >= target:
            continue
        columns = pq.read_schema(file)
        fits = group and file.parent == group[0].parent and columns.equals(schema) and total + size <= target
        if not fits:
            if len(group) > 1:
                yield group
            group, total, schema = [], 0, columns
        group.append(file)
        total += size
    if len(group) > 1:
        yield group


def _merge(group: list[Path]) -> None:
    first, *others = group
    name = secrets.token_hex(4)
    temporary = first.with_name(f".{first.name}.tmp-{name}")
    note = first.with_name(NOTE.format(name))
    try:
        _write(group, temporary, name)
        sync_file(temporary)
        note.write_text(json.dumps({"first": first.name, "others": [file.name for file in others]}))
        sync_file(note)
        sync_directory(first.parent)
        killpoint("lake.before_replace")
        os.replace(temporary, first)  # noqa: PTH105
    except BaseException:
        temporary.unlink(missing_ok=True)
        note.unlink(missing_ok=True)
        raise
    sync_directory(first.parent)
    killpoint("lake.after_replace")
    _finish(note)


def _write(group: list[Path], target: Path, name: str) -> None:
    waiting: list[pa.Table] = []
    with pq.ParquetWriter(target, pq.read_schema(group[0]), **WRITING) as writer:
        for file in group:
            waiting.append(pq.ParquetFile(file).read())
            if sum(map(len, waiting)) >= ROWS_A_GROUP or sum(one.nbytes for one in waiting) >= BYTES_A_GROUP:
                writer.write_table(pa.concat_tables(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.concat_tables(waiting))
        writer.add_key_value_metadata({MADE_BY.decode(): name})


def _finish(note: Path) -> None:
    """Remove the files that are in the one that replaced the first; where nothing was replaced, only the note."""
    said = json.loads(note.read_text() or "{}")
    first = note.with_name(said.get("first", ""))
    name = note.stem.rpartition("-")[2]
    made_by = (pq.read_metadata(first).metadata or {}).get(MADE_BY, b"") if first.is_file() else b""
    if made_by.decode() == name:
        for other in said["others"]:
            note.with_name(other).unlink(missing_ok=True)
            killpoint("lake.after_remove")
        sync_directory(note.parent)
    note.unlink()
