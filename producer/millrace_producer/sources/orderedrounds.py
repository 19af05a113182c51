"""Ordered rounds: an API whose records ascend by a field that it can be asked by is read from value to value."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from millrace_pipeline.errors import SourceRefused
from millrace_pipeline.process.repeats import repeats
from millrace_producer.sources.base import DeadLetter, Position, Record
from millrace_producer.sources.fieldvalue import read_field
from millrace_producer.sources.incremental import Incremental, mark_of
from millrace_producer.sources.lookback import LookBack
from millrace_producer.sources.restapi import Api
from millrace_producer.sources.restpage import Page

if TYPE_CHECKING:
    from millrace_producer.sources.restoptions import RestOptions

_NOT_ASCENDING = "doesn't ascend from record to record: ask the API for that order, or set ordered: false"
_COARSE = "the API gives what is far below the value that it is asked for: rows that are edited meanwhile can be missed"


class _Ask:
    """What was asked for by one value, and how far its pages have got."""

    def __init__(self, value: Any, incremental: Incremental) -> None:
        self._incremental = incremental
        self.value = value
        self.pages = 0
        self.before: Any = None
        """The highest value but one, of which all records have come."""
        self.latest: Any = None

    def rise(self, value: Any) -> None:
        """Another record's value. Raises SourceRefused for one that is below the last."""
        order = 1 if self.latest is None else self._incremental.compare(value, self.latest)
        if order < 0:
            raise SourceRefused(f"{self._incremental.field} {_NOT_ASCENDING}")
        if order > 0:
            self.before, self.latest = self.latest, value

    def is_coarse(self) -> bool:
        """Whether a whole first page is below what was asked for: to ask by value would begin there each time."""
        first = self.pages == 1 and self.value is not None and self.latest is not None
        return first and self._incremental.compare(self.latest, self.value) < 0


class OrderedRounds:
    """Rounds of an API whose records ascend by the incremental field: each is a place to go on from.

    Rows that are edited while a round runs move to the end, and all behind them move up, over the edge between two
    pages. So the next request goes by the last value, from the first page, and by a page only inside one value.
    """

    finished: datetime | None = None

    def __init__(self, api: Api, options: RestOptions, resume_from: Position | None) -> None:
        assert options.incremental is not None
        self._api = api
        self._fields = options.fields()
        self._incremental = options.incremental
        self._mark = mark_of(resume_from)
        self._here: set[str] = set()  # of the highest value, also beyond what a mark holds
        self._bad: set[str] = set()  # of this round
        self._look_back: LookBack | None = None
        if self._incremental.overlap is not None:
            seen = resume_from.get("seen", ()) if isinstance(resume_from, dict) else ()
            self._look_back = LookBack(self._incremental, seen)

    def round(self) -> Iterator[Record | DeadLetter]:
        """Every record beyond the mark."""
        self._api.begin()
        self._bad.clear()
        by_page = False
        ask: _Ask | None = self._first_ask()
        while ask is not None:
            following: _Ask | None = None
            for _, page in self._api.pages(None, self._incremental.ask_for(ask.value)):
                yield from self._records(page, ask)
                ask.pages += 1
                if page.following is None:
                    break
                if ask.is_coarse() and not by_page:
                    by_page = True
                    repeats.warn("rest_goes_by_page", kind="", of=self._incremental.field, why=_COARSE)
                if not by_page and (following := self._next_ask(ask)) is not None:
                    break
            ask = following
        self._mark = self._mark.settled()

    def _first_ask(self) -> _Ask:
        if self._look_back is not None:
            return _Ask(self._look_back.begin(self._mark), self._incremental)
        value = self._mark.value if self._incremental.inclusive else self._mark.before
        return _Ask(value, self._incremental)

    def _next_ask(self, ask: _Ask) -> _Ask | None:
        """What to ask for next; None where the next page of this is to be asked for: all of it had one value.

        Two values show that the order ascends. Of one alone it isn't known, and a page may show that it doesn't.
        """
        value = ask.latest if self._incremental.inclusive else ask.before
        if ask.before is None or (ask.value is not None and self._incremental.compare(value, ask.value) <= 0):
            return None
        return _Ask(value, self._incremental)

    def _records(self, page: Page, ask: _Ask) -> Iterator[Record | DeadLetter]:
        for raw in page.records:
            record, value, identity = read_field(raw, self._incremental, self._fields)
            if isinstance(record, DeadLetter):
                has_come = identity in self._mark.at or identity in self._bad
                self._bad.add(identity)  # the mark forgets it with the next value
                if has_come:
                    continue
                self._mark = self._mark.noted(identity)
            else:
                ask.rise(value)
                if self._has_come(value, identity):
                    continue
                self._note(value, identity)
            record.position = self._position()
            yield record

    def _has_come(self, value: Any, identity: str) -> bool:
        here = self._mark.value is not None and self._incremental.compare(value, self._mark.value) == 0
        if here and (identity in self._mark.at or identity in self._here):
            return True
        if self._look_back is not None:
            return self._look_back.has(value, identity)
        return self._mark.has(value, identity, self._incremental.compare)

    def _note(self, value: Any, identity: str) -> None:
        order = 1 if self._mark.value is None else self._incremental.compare(value, self._mark.value)
        self._mark = self._mark.raised(value, identity, self._incremental.compare)
        if order > 0:
            self._here.clear()
        if order >= 0:
            self._here.add(identity)
        if self._look_back is not None:
            self._look_back.add(value, identity)

    def _position(self) -> dict[str, Any]:
        seen = {} if self._look_back is None else {"seen": self._look_back.position()}
        return {**self._incremental.position(self._mark), **seen}
