"""Records as rows of a table: what all sinks do alike whose database is asked in SQL."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, ClassVar

from pydantic import BaseModel, PrivateAttr

from millrace_consumer.batch import Batch
from millrace_consumer.readback import Readback
from millrace_consumer.sinks.base import RecordsRejected, SinkUnavailable
from millrace_consumer.sinks.ledger import PRUNE_SECONDS, Entry, Refusals, settle
from millrace_consumer.sinks.sqldatabase import Database
from millrace_consumer.sinks.sqloptions import SqlOptions
from millrace_consumer.sinks.sqltable import SqlTable
from millrace_consumer.sinks.tablereadback import Reading, TableReadback
from millrace_consumer.sinks.upserting import A_TABLE_THAT_IS_THERE
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.killpoints import killpoint


class SqlSink(SqlOptions):
    """One transaction a batch: its records, and its id in a ledger beside them."""

    in_a_file: ClassVar[bool] = False
    """Whether the database is a file, which can be looked at without asking a server."""

    _refusals: Refusals = PrivateAttr(default_factory=Refusals)
    _database: Database | None = PrivateAttr(None)
    _table: SqlTable | None = PrivateAttr(None)
    _seen: object = PrivateAttr(None)
    _prune_at: float = PrivateAttr(0.0)

    @abstractmethod
    def connect(self) -> Database:
        """Return the database, which connects when it is used."""

    @property
    def database(self) -> Database:
        """The database, made once."""
        if self._database is None:
            self._database = self.connect()
        return self._database

    def check(self, model: type[BaseModel] | None) -> None:
        """Refuses an upsert of whole records: into a table that would be made, where that can be seen from here."""
        super().check(model)
        if self._makes_of_records(model) and self.in_a_file and self._lacks_table():
            raise ConfigError(A_TABLE_THAT_IS_THERE)

    def doubt(self, model: type[BaseModel] | None) -> str | None:
        """See `Sink.doubt`: whether there is a table on a server isn't known before it is asked."""
        if self._makes_of_records(model) and not self.in_a_file:
            return (
                f"if there is no table {self.table} yet, nothing will be written: {A_TABLE_THAT_IS_THERE} "
                "(create: false says that it is)"
            )
        return None

    def _makes_of_records(self, model: type[BaseModel] | None) -> bool:
        return model is None and self.upserts and self.create

    def _lacks_table(self) -> bool:
        """Return True where there is no table, or one of whole records; False also where that can't be seen now."""
        with suppress(SinkUnavailable, OSError):
            if not self.database.exists():
                return True
            with self.database.looking() as connection:
                table = connection and self.database.find(connection, self.table)
                return connection is not None and (table is None or table.is_plain(self.record_id))
        return False

    def probe(self) -> str | None:
        """See `Sink.probe`. It looks for the table, and asks for its own rights to it."""
        database = self.database
        if not database.exists():
            return f"{database.place} will be made"
        with database.looking() as connection:
            if connection is None:
                return f"{database.place} is there, and somebody writes to it now"
            if database.find(connection, self.table) is None:
                if not self.create:
                    raise SinkUnavailable(self._no_table())
                return f"{database.place}: no table {self.table} yet: it will be made"
            if right := database.lacking(connection, self.table):
                raise SinkUnavailable(f"{database.place}: no right to {right} on {self.table}: GRANT it")
            return f"{database.place}: table {self.table} is there"

    def write(self, batch: Batch) -> None:
        """Writes the batch in one transaction, unless the ledger has it."""
        if not len(batch):
            return
        try:
            self._write_once(batch)
        except RecordsRejected as rejection:
            self._refusals.add(batch, rejection.reasons)
            raise

    def has_batch(self, batch_id: str) -> bool:
        """Whether the ledger has this batch; yes where that can't be asked, so that the batch keeps its id."""
        try:
            if not self.database.exists():
                return False
            with self.database.session() as connection:
                known = self.database.find(connection, self._ledger) is not None
                return known and self._entry(connection, batch_id) is not None
        except (SinkUnavailable, OSError):
            return True

    def read_back(self, *, model: type[BaseModel] | None = None, key: str | None = None) -> Readback:
        """See `Sink.read_back`: the ledger and the table."""
        return TableReadback(
            self.reading,
            self.table,
            record_id=self.record_id,
            has_model=model is not None,
            key=key,
            replaced=self.mode != "append",
        )

    @contextmanager
    def reading(self) -> Iterator[Reading | None]:
        """The table and its ledger as they are at one instant; None where there are none. Raises SinkUnavailable."""
        if not self.database.exists():
            yield None
            return
        with self.database.reading() as connection:
            table, ledger = (self.database.find(connection, name) for name in (self.table, self._ledger))
            there = table is not None and ledger is not None
            record_id = self.record_id and table.spelled(self.record_id) if table else None
            yield Reading(self.database, connection, table, self._ledger, record_id) if there and table else None

    def close(self) -> None:
        """Ends the connection."""
        if self._database is not None:
            self._database.close()

    @property
    def _ledger(self) -> str:
        return self.database.beside(self.table, self.ledger)

    def _write_once(self, batch: Batch) -> None:
        killpoint("sink.before_write")
        with self.database.session() as connection:
            table = self._ready(connection, batch)
            try:
                rows = table.staged(self.cells(batch, table))
            except RecordsRejected as rejection:
                if (entry := self._entry(connection, batch.id)) is not None:
                    settle(batch, entry)  # it is in, whatever the table and what it holds have become since
                    return
                raise RecordsRejected(self._all_misfits(connection, table, batch, rejection.reasons)) from None
            try:
                entry = self._transaction(connection, table, batch, rows)
            except self.database.misfits as error:
                if reasons := self._narrow(connection, table, batch, rows):
                    raise RecordsRejected(reasons) from None
                said = f"{table.why(error)}, and a moment later it wasn't so"
                raise SinkUnavailable(f"{self.database.place}: {said}") from None
            if entry is not None:
                settle(batch, entry)
            self._prune(connection)

    # ── The table ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _ready(self, connection: Any, batch: Batch) -> SqlTable:
        """The table, looked at again whenever it may have changed, and made where there is none; so is the ledger."""
        if self._table is None or self.database.version(connection) != self._seen:
            self._table = self._look(connection, batch)
            self._seen = self.database.version(connection)
        return self._table

    def _look(self, connection: Any, batch: Batch) -> SqlTable:
        database = self.database
        with database.transaction(connection):
            if turn := database.turn(self.table):
                database.run(connection, turn)
            if database.find(connection, self._ledger) is None:
                database.run(connection, database.make_ledger(self._ledger))
            table = database.find(connection, self.table)
            if table is None and self._makes_of_records(batch.model):
                raise SinkUnavailable(f"{database.place}: there is no table {self.table}: {A_TABLE_THAT_IS_THERE}")
            if table is None and self.create:
                database.run(connection, database.make_table(self.table, self.columns(batch.model), self.key))
                table = database.find(connection, self.table)
        if table is None:
            raise SinkUnavailable(self._no_table())
        if drift := self.drift(table, batch.model):
            raise SinkUnavailable(f"{database.place}: table {self.table} {drift}")
        return table

    def _no_table(self) -> str:
        return f"{self.database.place}: there is no table {self.table}: create it, or set create: true"

    # ── The transaction ─────────────────────────────────────────────────────────────────────────────────────────────

    def _transaction(self, connection: Any, table: SqlTable, batch: Batch, rows: Any) -> Entry | None:
        """Writes the batch, or returns what the ledger says of it. Raises one of `Database.misfits` of a misfit."""
        database = self.database
        refused = self._refusals.text(batch.id)
        with database.transaction(connection):
            # First of all: another consumer that writes this batch right now is waited for here.
            values = map(database.literal, (batch.id, self.table, batch.flow, len(batch), refused))
            mine = database.change(
                connection,
                f"INSERT INTO {database.qualified(self._ledger)} "
                "(batch_id, target, flow, records, rejected, written_at) "
                f"VALUES ({', '.join(values)}, {database.ago(0)}) ON CONFLICT DO NOTHING",
            )
            if not mine:
                return self._entry(connection, batch.id)
            self._clear(connection)
            table.put(connection, rows, self.upsert_in(table, batch.model))
            killpoint("sink.before_commit")
        killpoint("sink.after_commit")
        return None

    def _entry(self, connection: Any, batch_id: str) -> Entry | None:
        batch, target = self.database.literal(batch_id), self.database.literal(self.table)
        found = self.database.run(
            connection,
            f"SELECT records, CAST(rejected AS text) FROM {self.database.qualified(self._ledger)} "
            f"WHERE batch_id = {batch} AND target = {target}",
        )
        return Entry(*found[0]) if found else None

    def _clear(self, connection: Any) -> None:
        if self.mode == "replace":
            self.database.run(connection, f"DELETE FROM {self.database.qualified(self.table)}")

    def _all_misfits(self, connection: Any, table: SqlTable, batch: Batch, known: dict[int, str]) -> dict[int, str]:
        """Those that are known, and why the table refuses which of the others, so that all are named at once."""
        rest = [index for index in range(len(batch)) if index not in known]
        if not rest:
            return known
        part = batch.pick(rest)
        try:
            found = self._narrow(connection, table, part, table.staged(self.cells(part, table)))
        except RecordsRejected as rejection:
            found = self._all_misfits(connection, table, part, rejection.reasons)
        return dict(sorted((known | {rest[index]: reason for index, reason in found.items()}).items()))

    def _narrow(self, connection: Any, table: SqlTable, batch: Batch, rows: Any) -> dict[int, str]:
        """Why the table refuses which of the rows, by index. Writes nothing."""
        database, upsert = self.database, self.upsert_in(table, batch.model)
        reasons = table.misfits(connection, rows)
        good: list[int] = []

        def put(indices: list[int]) -> None:
            again = [] if database.savepoints else good
            try:
                with (database.savepoint if database.savepoints else database.undone)(connection):
                    if not database.savepoints or not good:
                        self._clear(connection)
                    table.put(connection, rows.take([*again, *indices]), upsert)
            except database.misfits as error:
                if len(indices) == 1:
                    reasons[indices[0]] = table.why(error, rows.take(indices))
                else:
                    middle = len(indices) // 2
                    put(indices[:middle])
                    put(indices[middle:])
            else:
                good.extend(indices)

        with database.undone(connection) if database.savepoints else nullcontext():
            if left := [index for index in range(len(batch)) if index not in reasons]:
                put(left)
        return dict(sorted(reasons.items()))

    # ── The ledger's age ────────────────────────────────────────────────────────────────────────────────────────────

    def _prune(self, connection: Any) -> None:
        """Now and then, drops old batches from the ledger. The batch in hand is durable, whatever becomes of this."""
        if time.monotonic() < self._prune_at:
            return
        self._prune_at = time.monotonic() + PRUNE_SECONDS
        database = self.database
        with database.at_will(), database.transaction(connection):
            for statement in database.prune(database.qualified(self._ledger), self.table, self.ledger_keep):
                database.run(connection, statement)
