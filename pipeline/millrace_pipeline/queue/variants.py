"""Variants of one flow: records that its contract set aside, and what a person does with them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import msgspec

from millrace_pipeline.envelope import Envelope, decode
from millrace_pipeline.jsontext import encode_json
from millrace_pipeline.queue.changes import By, Changing
from millrace_pipeline.queue.pages import Pages
from millrace_pipeline.queue.session import Session


def variant_of(line: bytes, reason: str) -> bytes:
    """The envelope as it stands on the variant list: with the reason, as a CloudEvents extension attribute."""
    return b'%b,"misfit":%b}' % (line[:-1], encode_json(reason))


class _Reason(msgspec.Struct):
    misfit: str = ""


class Variant(msgspec.Struct, frozen=True):
    """A record on the variant list, exactly as it stands there."""

    line: bytes

    @property
    def envelope(self) -> Envelope:
        """The record, as it was to be published."""
        return decode(self.line, foreign_id=str)

    @property
    def reason(self) -> str:
        """Why it didn't fit the model."""
        return msgspec.json.decode(self.line, type=_Reason).misfit

    @property
    def time(self) -> datetime | None:
        """The envelope's time."""
        found = self.envelope.time
        return None if found is None else msgspec.convert(found, datetime)


class Variants:
    """The variants of the queue, newest first. What is done with them is noted as done `by` somebody, or by us."""

    def __init__(self, session: Session, by: By | None = None) -> None:
        self._session = session
        self._keys = session.keys
        self._replays, self._drops = (Changing(session, f"variants {what}", by) for what in ("replay", "drop"))

    def __len__(self) -> int:
        return int(self._session.ask(("LLEN", self._keys.variants))[0])

    def newest(self, *, reason: str = "", ids: frozenset[str] | None = None) -> Iterator[Variant]:
        """Those whose reason holds these words, and whose envelope's id is among `ids`, if given."""
        pages = Pages()
        while True:
            (page,) = self._session.ask(("LRANGE", self._keys.variants, *pages.indexes))
            for line in page:
                found = Variant(line)
                if reason.casefold() in found.reason.casefold() and (ids is None or found.envelope.id in ids):
                    yield found
            if pages.is_last([*map(len, page)]):
                return

    def replay(self, variant: Variant) -> bool:
        """Puts the record on the list as it was to be published, to be delivered next. False where it is gone.

        It bears the list's mark, since it counts as published from when it was set aside.
        """
        self._session.history.note()
        keys = [self._keys.ready, self._keys.variants, self._keys.changes]
        ours = msgspec.structs.replace(variant.envelope, mark=self._keys.ready)
        return bool(self._session.ask_script("restore", keys, [variant.line, ours.line, *self._replays.arguments()])[0])

    def drop(self, variant: Variant) -> bool:
        """Throws it away for good; it counts as discarded. False where it is gone."""
        self._session.history.note()
        keys = [self._keys.variants, self._keys.counters, self._keys.changes]
        return bool(self._session.ask_script("discard", keys, [variant.line, *self._drops.arguments()])[0])
