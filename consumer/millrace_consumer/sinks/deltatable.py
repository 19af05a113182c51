"""A Delta table: opened, made, brought up to date, written to in commits that carry a batch's id, and kept in order.

The idempotency is the protocol's own: a commit holds a `txn` action whose `appId` names the batch. It is looked for
before a write; and a commit that finds, on its way into the log, that another one came before it with the same `appId`
is refused. So of two consumers with one batch only one commits.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, TableNotFoundError

from millrace_consumer.sinks.places import place_of
from millrace_consumer.sinks.places.disk import sync_directory, sync_file
from millrace_consumer.sinks.places.store import Store
from millrace_pipeline.errors import MillraceError, SinkUnavailable
from millrace_pipeline.killpoints import killpoint
from millrace_pipeline.objectstore import is_url, panics, s3_options, told
from millrace_pipeline.proxy import of_an_object_store

BATCH = "millrace.batch"
"""The batch's id in a commit's own words, for people and for `millrace verify --sink`."""

REMEMBERED = "interval 7 days"
"""How long tables that we make remember which batches they hold; as long as Redis remembers a session."""

REOPEN_AFTER = 100
"""Versions after which the table is opened anew, from a checkpoint: what is carried along grows with every version."""

ATTEMPTS = 10
"""Commits that may be refused because of others' before the batch is put off."""


class Kept(NamedTuple):
    """What keeping a table in order has done."""

    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int


class LakeTable:
    """One table. Every method raises SinkUnavailable where the table or its store says no."""

    def __init__(self, path: str, store: Store | None, partition: list[str]) -> None:
        self.path = path
        self._place = place_of(path, store)
        self._options = storage_options(store or Store()) if is_url(path) else {}
        self._partition = partition
        self._table: DeltaTable | None = None
        self._opened_at = 0

    def read(self) -> DeltaTable | None:
        """The table as it is now; None where there is none."""
        with self._telling("read"):
            if self._table is not None:
                self._table.update_incremental()
                if self._table.version() - self._opened_at < REOPEN_AFTER:
                    return self._table
            self._table = None
            try:
                self._table = DeltaTable(self.path, storage_options=self._options)
            except TableNotFoundError:
                return None
            self._opened_at = self._table.version()
            return self._table

    def has_batch(self, batch_id: str) -> bool:
        """Whether the batch is committed."""
        table = self.read()
        with self._telling("read"):
            return table is not None and table.transaction_version(_app_id(batch_id)) is not None

    def commit(
        self, batch_id: str, flow: str, schema: pa.Schema, write: Callable[[DeltaTable, CommitProperties], None]
    ) -> int:
        """Has the batch written and committed, unless it is. Returns how many bytes the commit added, as encoded.

        `write` may be called several times: each time the log turned out to have gone on meanwhile.
        """
        properties = CommitProperties(
            custom_metadata={BATCH: batch_id, "millrace.flow": flow},
            app_transactions=[Transaction(_app_id(batch_id), 1, int(time.time() * 1000))],
        )
        for _ in range(ATTEMPTS):
            table = self.read() or self._made(schema)
            with self._telling("write to"):
                if table.transaction_version(_app_id(batch_id)) is not None:
                    self._sync_all()
                    return 0
                try:
                    write(table, properties)
                except CommitFailedError:  # another commit was first: perhaps this batch's own
                    self._table = None
                    continue
                killpoint("sink.after_commit")
                return self._settle(table.version(), batch_id)
        raise SinkUnavailable(f"can't write to {self.path}: others commit at the same time, {ATTEMPTS} times in a row")

    def compact(self, target_bytes: int) -> Kept:
        """Makes few large files of many small ones. Readers and writers may go on; what is read stays the same."""
        return self._keep(lambda table: table.optimize.compact(target_size=target_bytes))

    def vacuum(self, hours: int, *, dry_run: bool) -> list[str]:
        """Removes files that no version of the last hours needs; returns their names."""
        table = self.read()
        with self._telling("tidy"):
            if table is None:
                return []
            # In full: also what no commit ever named. How short the time may be is for the caller to say.
            return table.vacuum(hours, dry_run=dry_run, enforce_retention_duration=False, full=True)

    def commits(self) -> Iterator[dict[str, Any]]:
        """What the log says of each commit that it still holds, the newest first."""
        table = self.read()
        with self._telling("read"):
            yield from () if table is None else table.history()

    def _keep(self, work: Callable[[DeltaTable], object]) -> Kept:
        for _ in range(ATTEMPTS):
            table = self.read()
            if table is None:
                raise SinkUnavailable(f"there is no Delta table at {self.path}")
            with self._telling("tidy"):
                before = _sizes(table)
                try:
                    work(table)
                except CommitFailedError:
                    self._table = None
                    continue
                table.update_incremental()
                after = _sizes(table)
                return Kept(len(before), len(after), sum(before), sum(after))
        raise SinkUnavailable(f"can't tidy {self.path}: others commit at the same time, {ATTEMPTS} times in a row")

    def _made(self, schema: pa.Schema) -> DeltaTable:
        """The table, made where there is none: empty, since commits can only be told apart in one that is there."""
        with self._telling("make"), suppress(CommitFailedError):  # which says that somebody else has just made it
            DeltaTable.create(
                self.path,
                Schema.from_arrow(schema),
                mode="ignore",
                partition_by=self._partition,
                configuration={"delta.setTransactionRetentionDuration": REMEMBERED},
                storage_options=self._options,
            )
        made = self.read()
        if made is None:
            raise SinkUnavailable(f"can't make a Delta table at {self.path}")
        return made

    def _settle(self, version: int, batch_id: str) -> int:
        """Makes a commit outlast a power cut, and says how many bytes it added."""
        name = f"_delta_log/{version:020d}.json"
        entries = [json.loads(line) for line in self._text(name).splitlines()]
        if not any(entry.get("commitInfo", {}).get(BATCH) == batch_id for entry in entries):
            self._sync_all()
            return 0
        added = [entry["add"] for entry in entries if "add" in entry]
        if not is_url(self.path):
            root = Path(self.path)
            files = [root / unquote(add["path"]) for add in added]
            for file in [*files, root / name]:
                sync_file(file)
            for directory in {parent for file in [*files, root / name] for parent in _up_to(root, file.parent)}:
                sync_directory(directory)
        return sum(add["size"] for add in added)

    def _text(self, name: str) -> str:
        # Not by the library, which would keep all other threads waiting meanwhile, also the one that renews the lease.
        with self._place.open(name) as file:
            return file.read().decode()

    def _sync_all(self) -> None:
        """For a commit of a process that is dead: it may have been killed before it synced."""
        if not is_url(self.path):
            os.sync()

    @contextmanager
    def _telling(self, verb: str) -> Iterator[None]:
        try:
            yield
        except MillraceError:
            raise
        except Exception as error:  # the library raises many, some of them bare
            raise self._unavailable(verb, error) from error
        except panics() as error:
            raise self._unavailable(verb, error) from None

    def _unavailable(self, verb: str, error: BaseException) -> SinkUnavailable:
        return SinkUnavailable(f"can't {verb} {self.path}: {told(error)}")


def storage_options(store: Store) -> dict[str, str]:
    """How to reach the store, by the names that the library has for it."""
    options = s3_options(store) | {"timeout": f"{store.timeout:g}s", "max_retries": "3", "retry_timeout": "20s"}
    options |= of_an_object_store(store.proxy)
    return options | ({"allow_http": "true"} if store.allow_http else {})


def _app_id(batch_id: str) -> str:
    return f"millrace:{batch_id}"


def _sizes(table: DeltaTable) -> list[int]:
    return [int(size) for size in pa.table(table.get_add_actions(flatten=True))["size_bytes"].to_pylist()]


def _up_to(root: Path, directory: Path) -> Iterator[Path]:
    """The directory and those around it, up to the one that the root is in."""
    yield directory
    while directory != root.parent and directory != directory.parent:
        directory = directory.parent
        yield directory
