"""A REST API, asked once or again and again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from millrace_producer.sources.base import DeadLetter, Position, Record
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
                due = timetable.after(now()) if timetable else None
                if due is None:
                    return
                wait_until(due)
