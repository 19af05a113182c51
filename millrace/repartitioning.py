"""Repartitioning: a flow that has been drained is kept in another number of lists from here on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing

import msgspec

from millrace.checkpoints import source_of
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.queue import Books, Leading, Session, books_of
from millrace_pipeline.queue.books import sum_of
from millrace_pipeline.queue.changes import By
from millrace_pipeline.queue.checkpoints import move
from millrace_pipeline.queue.layout import note_partitions, partitions_of
from millrace_pipeline.queue.pausing import pause, pauses_of
from millrace_pipeline.queue.presence import presences
from millrace_pipeline.queue.replies import milliseconds, pairs
from millrace_producer.reading import dedupe_seconds
from millrace_producer.spread import LeadingEach

LEAD_SECONDS = 60.0
"""So long no producer begins meanwhile, should we die."""

MENDS = {
    "ready": "let its consumers deliver them",
    "in_flight": "let its consumers deliver them",
    "delayed": "let its consumers deliver them",
    "astray": "let its consumers deliver them",
    "dead": "put them back or drop them: `millrace dead ls {flow}`",
    "variants": "put them on the list or drop them: `millrace variants ls {flow}`",
}
"""What must not be left in a list, by what the books call it, and what to do about it."""


class Repartitioning:
    """The change of a flow to as many lists as its file says; `was` is in how many it is kept.

    `old` are the lists that it has, each with its session. Done again after it was killed at any moment, it comes to
    the same.
    """

    def __init__(self, url: str, flow: Flow, stack: ExitStack) -> None:
        """Connections last as long as `stack`. Raises QueueError."""
        self.flow = flow
        self._url = url
        self._stack = stack
        self._whole = self._session(flow.queue.key)
        kept = partitions_of(self._whole)
        self.was = kept or 1
        self._noted = kept is not None
        self.old = self._sessions(flow.in_partitions(self.was).lists)
        self._new = self._sessions(flow.lists)

    @property
    def now(self) -> int:
        """How many lists it is to have."""
        return self.flow.queue.partitions

    def look(self) -> Books:
        """Return the books of the flow as it is. Raises ConfigError for what keeps it from being changed now."""
        books = []
        for part, session in self.old:
            found = books_of(session)
            self._refuse(_left_in(part, session, found))
            books.append(found)
        for part, session in self._new:
            self._refuse(_left_in(part, session, books_of(session)))
        _ = self._position
        return sum_of(books)

    def change(self) -> None:
        """Carry all over and note the number, while nobody reads the source. Raises ConfigError as `look` does."""
        leading = LeadingEach([Leading(session) for _, session in self.old])
        if (left := leading.lead(LEAD_SECONDS)) > 0:
            leading.resign()
            raise ConfigError(
                f"{self.flow.name}: a producer reads its source, or was killed: stop it, and try again in {left:.0f} s"
            )
        try:
            self.look()
            self._carry(By.here(self._whole, via="repartition"))
            note_partitions(self._whole, self.was if self._noted else None, self.now)
        finally:
            leading.resign()

    def _carry(self, by: By) -> None:
        """Give the new lists what the old ones know; none of it counts before the number is noted."""
        counts: dict[bytes, int] = {}
        paused = {}
        for _, session in self.old:
            (found,) = session.ask(("HGETALL", session.keys.counters))
            for name, count in pairs(found).items():
                counts[name] = counts.get(name, 0) + int(count)
            paused.update(pauses_of(session))
        for index, (part, session) in enumerate(self._new):
            words = [word for name, count in counts.items() for word in (name, 0 if index else count)]
            if words:
                session.ask(("HSET", session.keys.counters, *words))
            if paused:
                pause(session, tuple(paused), note="as before it was repartitioned", by=by)
            move(session, part.name, self._position, by=by)

    @property
    def _position(self) -> object:
        """Where all lists stand. Raises ConfigError where they differ: one has what another's producer reads again."""
        texts = {session.ask(("HGET", session.keys.checkpoints, part.name))[0] for part, session in self.old}
        if len(texts) > 1:
            self._refuse(
                ["its producer was killed in the midst of a flush, which some partitions have and others haven't"],
                f"start it once more with `partitions: {self.was}`",
            )
        (text,) = texts
        return None if text is None else msgspec.json.decode(text)

    def _refuse(self, found: Sequence[str], mend: str = "") -> None:
        if found:
            raise ConfigError(f"{self.flow.name}: {'; '.join(found)}{f': {mend}' if mend else ''}. Nothing was changed")

    def _sessions(self, parts: Sequence[Flow]) -> list[tuple[Flow, Session]]:
        return [(part, self._session(part.queue.key)) for part in parts]

    def _session(self, key: str) -> Session:
        session = self._stack.enter_context(closing(Session(self._url, key)))
        session.give_up.set()
        return session


def _left_in(part: Flow, session: Session, books: Books) -> list[str]:
    """Return what is in a list, or works on it, that would be lost from sight."""
    return [*_of_books(part, books), *_of_others(part, session)]


def _of_books(part: Flow, books: Books) -> Iterator[str]:
    for name, mend in MENDS.items():
        if count := getattr(books, name):
            yield f"{part.name} has {count:,} {name.replace('_', ' ')}: {mend.format(flow=part.name)}"
    if books.difference:
        yield f"{part.name}: its books don't balance: `millrace verify {part.name}`"


def _of_others(part: Flow, session: Session) -> Iterator[str]:
    keys = session.keys
    consumers, clock, states, seen = session.ask(
        ("HGETALL", keys.consumers),
        ("TIME",),
        ("HKEYS", keys.states),
        ("ZCOUNT", keys.seen, f"({_since(part, session)}", "+inf"),
    )
    there = [one.name for one in presences(consumers, milliseconds(clock)) if not one.silent]
    if there:
        names = ", ".join(there)
        yield f"{part.name} has consumers, {names}: stop them; one that was killed is forgotten after 7 s"
    if states:
        named = json.dumps([name.decode(errors="replace") for name in states])
        yield f"{part.name} keeps what programs remember, {named}: HDEL it where they need it no more"
    if seen:
        yield f"{part.name}: dedupe remembers {seen:,} keys: wait until its window is over"


def _since(part: Flow, session: Session) -> int:
    (clock,) = session.ask(("TIME",))
    return milliseconds(clock) - int(1000 * dedupe_seconds(part, source_of(part)))
