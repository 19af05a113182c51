"""A REST API, asked once or again and again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime

from millrace_producer.sources.base import DeadLetter, Position, Record, SourceRefused
from millrace_producer.sources.incremental import mark_of
from millrace_producer.sources.orderedrounds import OrderedRounds
from millrace_producer.sources.restapi import Api
from millrace_producer.sources.restoptions import RestOptions
from millrace_producer.sources.rounds import Rounds
from millrace_producer.sources.timetable import now, wait_until


class RestSource(RestOptions):
    """Asks a REST API for records, page after page: once, or again and again at an interval or as cron says.

    A record stays byte for byte what the API gave. With `incremental` each round asks only for what is new; without,
    each round gives all there is, or nothing where the API says that nothing has changed.
    """

    @property
    def ends(self) -> bool:
        """See `Source.ends`."""
        return self.timetable() is None

    def probe(self) -> str | None:
        """See `Source.probe`. The first page is asked for, and its headers are read."""
        with closing(Api(self)) as api:
            return api.probe()

    def describe(self, position: Position) -> str:
        """See `Source.describe`."""
        if self.incremental and (self.incremental.ordered or not (isinstance(position, dict) and "page" in position)):
            return f"after the records whose {self.incremental.field} is {mark_of(position).value}"
        try:
            if "page" in position:
                page = "the first page" if position["page"] is None else f"the page {position['page']}"
                return f"in {page}, after {int(position['record']):,} of its records"
            return f"after the round that ended at {datetime.fromisoformat(position['finished']):%Y-%m-%d %H:%M:%S %Z}"
        except (AttributeError, KeyError, TypeError, ValueError):
            raise SourceRefused("it is not a position of this source as it is set up now") from None

    def read(self, resume_from: Position | None) -> Iterator[Record | DeadLetter]:
        """See `Source.read`. A position is a value of the incremental field; without one, a place in a page."""
        kind = OrderedRounds if self.incremental and self.incremental.ordered else Rounds
        timetable = self.timetable()
        with closing(Api(self)) as api:
            rounds = kind(api, self, resume_from)
            if timetable and rounds.finished and (due := timetable.after(rounds.finished)):
                wait_until(due)
            while True:
                yield from rounds.round()
                api.end()
                due = timetable.after(now()) if timetable else None
                if due is None:
                    return
                wait_until(due)
