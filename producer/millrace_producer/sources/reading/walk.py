"""A walk through files, in an order that lets one place say which of them are done."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import takewhile
from time import sleep, time_ns
from typing import Literal, NamedTuple

from millrace_producer import trouble
from millrace_producer.sources.base import DeadLetter, Record, SourceRefused
from millrace_producer.sources.reading.base import Reading, records_of
from millrace_producer.sources.reading.files import File, Files
from millrace_producer.sources.reading.place import FilePlace

log = logging.getLogger(__name__)

Order = Literal["name", "time"]
Came = Iterator[Record | DeadLetter]


class Manner(NamedTuple):
    """How files are gone through. `grows` says of a file's name whether records may be added to it."""

    order: Order
    watch: bool
    grows: Callable[[str], bool]
    interval: float
    settle: float
    one: str = ""
    """The only file that there is to read, where the path is no pattern: then it must be there."""


class Walk:
    """Reads the files that are behind a place, in order, and where it watches those that come later too.

    `begin` makes a reading of a file: from its start, or from a place in it; None where it is done already.
    """

    def __init__(self, files: Files, manner: Manner, begin: Callable[[File, FilePlace | None], Reading | None]) -> None:
        self._files = files
        self._manner = manner
        self._begin = begin
        self._by_time = manner.order == "time"
        self._place: FilePlace | None = None
        self._seen: File | None = None
        """The file that was read last, as it was then."""
        self._rest = False
        """Whether half a record stood at its end."""
        self._listed: set[str] = set()

    def records(self, place: FilePlace | None) -> Came:
        """What follows the place. Ends once all is read, unless it watches."""
        self._place = place
        while True:
            since = None if self._place is None or self._by_time else self._place.file
            listed = sorted(self._files.found(since), key=self._key)
            ready = list(takewhile(self._settled, listed)) if self._by_time else listed
            self._say_who_is_late(listed)
            trouble.over()
            ahead = self._ahead(ready)
            for file in ahead:
                yield from self._file(file, is_last=file is ahead[-1])
            if not self._manner.watch and len(ready) == len(listed):
                if not listed:
                    if self._manner.one and place is None:
                        raise SourceRefused(f"there is no file {self._manner.one}")
                    log.warning("there is no file that fits the path")
                return
            self._wait()

    def _key(self, file: File) -> tuple[int, str]:
        return (file.changed if self._by_time else 0, file.name)

    def _ahead(self, listed: list[File]) -> list[File]:
        """The files that aren't done: the one that the place is in, perhaps changed since, and those behind it."""
        if self._place is None:
            return listed
        place = (self._place.changed or 0 if self._by_time else 0, self._place.file)
        return [file for file in listed if file.name == self._place.file or self._key(file) > place]

    def _file(self, file: File, *, is_last: bool) -> Came:
        """One file to its end, or, where it is the last and may still grow, as far as it goes."""
        grows = self._files.growing and self._manner.grows(file.name)
        may_grow = is_last and self._manner.watch and grows
        now: File | None = file
        while now is not None:
            settled = self._settled(now)
            if settled or grows:
                final = settled and not may_grow
                yield from self._as_it_is(now, final=final)
                if final or may_grow or not (self._manner.watch or self._rest):
                    return
            self._wait()
            now = self._files.look(file.name)

    def _as_it_is(self, file: File, *, final: bool) -> Came:
        """What is in a file now."""
        if file == self._seen and not (final and self._rest):
            return
        self._rest = False
        try:
            reading = self._begin(file, self._place)
        except FileNotFoundError:
            log.warning("%s is gone before it was read", file.name)
            return
        if reading is not None:
            try:
                for record in records_of(reading, file.name, final=final):
                    self._place = reading.place(file.name, changed=file.changed if self._by_time else None)
                    record.position = self._place
                    yield record
                self._rest = reading.rest
            finally:
                reading.close()
        self._seen = file

    def _settled(self, file: File) -> bool:
        """Whether it was left alone long enough. An object is complete when it appears, but its time is a rough one."""
        if not (self._files.growing or self._by_time):
            return True
        age = (time_ns() - file.changed) / 1e9
        return age >= self._manner.settle or age < -self._manner.settle  # the clock that set this one isn't ours

    def _say_who_is_late(self, listed: list[File]) -> None:
        """Warns of files that appeared before the place in their order: they are not read."""
        if self._listed and self._place is not None:
            ahead = {file.name for file in self._ahead(listed)}
            for file in listed:
                if file.name not in self._listed and file.name not in ahead:
                    log.warning(
                        "%s is not read: in order of %s it comes before what is done", file.name, self._manner.order
                    )
        self._listed = {file.name for file in listed}

    def _wait(self) -> None:
        sleep(self._manner.interval)
