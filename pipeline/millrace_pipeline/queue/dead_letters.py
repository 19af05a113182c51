"""Dead letters of one flow: what a person does with them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

from millrace_pipeline.mark import is_foreign
from millrace_pipeline.queue.changes import By, Changing
from millrace_pipeline.queue.pages import Pages
from millrace_pipeline.queue.replies import pairs
from millrace_pipeline.queue.session import Session


class SetAside(msgspec.Struct, frozen=True):
    """A dead letter as it lies in Redis. `id` holds the time (Redis' clock); `record` is the exact bytes."""

    id: str
    record: bytes
    reason: str
    attempts: int
    batch: str

    @property
    def time(self) -> datetime:
        """When it was set aside."""
        return datetime.fromtimestamp(int(self.id.partition("-")[0]) / 1000, UTC)


class DeadLetters:
    """The dead letters of the queue, newest first. What is done with them is noted as done `by` somebody, or by us."""

    def __init__(self, session: Session, by: By | None = None) -> None:
        self._session = session
        self._keys = session.keys
        self._replays, self._edits, self._drops = (
            Changing(session, f"dead {what}", by) for what in ("replay", "edit", "drop")
        )

    def __len__(self) -> int:
        return int(self._session.ask(("XLEN", self._keys.dead))[0])

    def newest(self, *, since: datetime | None = None, before: str = "", reason: str = "") -> Iterator[SetAside]:
        """Letters from the newest on, or from the one before this id, back to `since`, whose reason has these words."""
        oldest = str(int(since.timestamp() * 1000)) if since else "-"
        newest, pages = f"({before}" if before else "+", Pages()
        while True:
            (page,) = self._session.ask(("XREVRANGE", self._keys.dead, newest, oldest, "COUNT", pages.count))
            for id, fields in page:
                letter = letter_of(id, fields)
                if reason.casefold() in letter.reason.casefold():
                    yield letter
            if pages.is_last([sum(map(len, fields)) for _, fields in page]):
                return
            newest = "(" + page[-1][0].decode()

    def get(self, id: str) -> SetAside | None:
        """One letter, or None where there is none of that id."""
        (found,) = self._session.ask(("XRANGE", self._keys.dead, id, id))
        return letter_of(*found[0]) if found else None

    def replay(self, letter: SetAside, *, edited: bytes | None = None) -> bool:
        """Puts the record back on the list, as it is or edited, to be delivered next. False where it is gone."""
        record = letter.record if edited is None else edited
        self._session.history.note()
        keys = [self._keys.ready, self._keys.dead, self._keys.counters, self._keys.changes]
        changing = self._replays if edited is None else self._edits
        arguments = [
            letter.id,
            record,
            int(is_foreign(record, self._keys.ready)),
            *changing.arguments(letter=letter.id),
        ]
        return bool(self._session.ask_script("replay", keys, arguments)[0])

    def drop(self, letter: SetAside) -> bool:
        """Throws it away for good; it counts as discarded. False where it is gone."""
        self._session.history.note()
        keys = [self._keys.dead, self._keys.counters, self._keys.changes]
        return bool(self._session.ask_script("drop", keys, [letter.id, *self._drops.arguments(letter=letter.id)])[0])


def letter_of(id: bytes, flat: list[bytes]) -> SetAside:
    """Return the letter of an entry in the stream."""
    fields = pairs(flat)
    return SetAside(
        id.decode(),
        fields[b"record"],
        fields[b"reason"].decode(errors="replace"),
        int(fields[b"attempts"]),
        fields[b"batch"].decode(),
    )
