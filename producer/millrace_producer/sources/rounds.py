"""Rounds: what is made of an API's pages from its first to its last, and where to go on after a kill."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import structlog

from millrace_pipeline.errors import SourceRefused
from millrace_pipeline.moment import timestamp
from millrace_producer.sources.base import DeadLetter, Position, Record
from millrace_producer.sources.fieldvalue import read_field
from millrace_producer.sources.incremental import Compare, Mark, mark_of
from millrace_producer.sources.lookahead import mark_last
from millrace_producer.sources.lookback import LookBack
from millrace_producer.sources.restapi import Api
from millrace_producer.sources.restbody import Raw
from millrace_producer.sources.restpage import PageGone, Validators
from millrace_producer.sources.timetable import now

if TYPE_CHECKING:
    from millrace_producer.sources.restoptions import RestOptions

log = structlog.get_logger(__name__)


class Rounds:
    """Rounds of an API whose records come in any order.

    In the middle of a round a position is a page and how many of its records have come; at its end the highest value of
    the incremental field, or when it ended.
    """

    def __init__(self, api: Api, options: RestOptions, resume_from: Position | None) -> None:
        self._api = api
        self._fields = options.fields()
        self._incremental = options.incremental
        self._mark = Mark()  # up to which the rounds before have read
        self._highest = Mark()  # of this round, so far
        self._page: Any = None
        self._done = 0
        self._validators = Validators()
        self._look_back: LookBack | None = None
        if self._incremental is not None and self._incremental.overlap is not None:
            seen = resume_from.get("seen", ()) if isinstance(resume_from, dict) else ()
            self._look_back = LookBack(self._incremental, seen)
        self.finished: datetime | None = None
        """When the last round ended, where the position says that it has."""
        if resume_from is not None:
            self._resume(resume_from)

    def round(self) -> Iterator[Record | DeadLetter]:
        """Every record from where we are to the last page."""
        self._api.begin(self._validators)
        resumed = self._page is not None
        try:
            yield from self._rest_of_round()
            return
        except PageGone as error:
            if not resumed:
                raise
            log.warning("rest_page_gone", reason=str(error))
        self._page, self._done, self._highest = None, 0, self._mark
        yield from self._rest_of_round()

    def _rest_of_round(self) -> Iterator[Record | DeadLetter]:
        for (record, place), is_last in mark_last(self._records()):
            record.position = self._end() if is_last else place
            yield record
        self._mark = self._highest = self._highest.settled()
        self._page, self._done, self._validators = None, 0, Validators()

    def _records(self) -> Iterator[tuple[Record | DeadLetter, Position]]:
        asked = self._incremental.asked(self._mark) if self._incremental else {}
        if self._incremental is not None and self._look_back is not None:
            asked = self._incremental.ask_for(self._look_back.begin(self._mark))
        done = self._done
        for token, page in self._api.pages(self._page, asked):
            begun = self._begun(token)
            for number, raw in enumerate(page.records, 1):
                record = self._record(raw)
                if record is not None and number > done:
                    yield record, {**begun, "record": number, **self._seen()}
            done = 0

    def _record(self, raw: Raw) -> Record | DeadLetter | None:
        """The record, or None where it has come in a round before."""
        if self._incremental is None:
            return raw if isinstance(raw, DeadLetter) else self._fields.record(raw)
        record, value, identity = read_field(raw, self._incremental, self._fields)
        if isinstance(record, DeadLetter):
            if identity in self._mark.at:
                return None
            self._highest = self._highest.noted(identity)
        elif self._has_come(value, identity, self._incremental.compare):
            return None
        else:
            if self._look_back is not None:
                self._look_back.add(value, identity)
            self._highest = self._highest.raised(value, identity, self._incremental.compare)
        return record

    def _has_come(self, value: Any, identity: str, compare: Compare) -> bool:
        if self._look_back is not None:
            return self._look_back.has(value, identity)
        return self._mark.has(value, identity, compare)

    def _seen(self) -> dict[str, Any]:
        return {} if self._look_back is None else {"seen": self._look_back.position()}

    def _begun(self, token: Any) -> dict[str, Any]:
        """The position of a page, before any of its records."""
        if self._incremental is None:
            return {"page": token}
        marks = {"mark": self._mark, "highest": self._highest}
        return {"page": token, **{name: self._incremental.position(mark) for name, mark in marks.items()}}

    def _end(self) -> dict[str, Any]:
        """The position of the round's last record."""
        if self._incremental is not None:
            return {**self._incremental.position(self._highest.settled()), **self._seen()}
        validators = self._api.validators()
        return {"finished": timestamp(now()), **({"validators": validators} if any(validators) else {})}

    def _resume(self, position: Position) -> None:
        try:
            if "page" in position:
                self._page, self._done = position["page"], int(position["record"])
                self._mark, self._highest = mark_of(position.get("mark")), mark_of(position.get("highest"))
            elif self._incremental is not None:
                self._mark = self._highest = mark_of(position)
            else:
                self.finished = datetime.fromisoformat(position["finished"])
                self._validators = Validators(*position.get("validators", ()))
        except (AttributeError, KeyError, TypeError, ValueError):
            raise SourceRefused("the checkpoint is not one of this source as it is set up now") from None
