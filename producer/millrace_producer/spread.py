"""Spread: publishing and leading in all partitions of a flow, one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeAlias

from millrace_pipeline.envelope import Position
from millrace_pipeline.killpoints import killpoint
from millrace_pipeline.queue import Leading, Published, Publishing, Session
from millrace_pipeline.queue.pausing import Paused
from millrace_producer.entries import Entry

IsBehind: TypeAlias = Callable[[Position, Position], bool]


class Spread:
    """The producer's half of a queue with partitions, as `Publishing` is that of one list.

    A flush is a publish in each partition, with the source's position, also where there is no record for it. All of a
    flush is on its lists before the next begins, so partitions are apart by one flush at most: the source is resumed
    from the least of their positions, and each leaves out what is at or before its own. `sources` are the names that
    the partitions keep the position under, `is_behind` tells which of two positions comes first.
    """

    def __init__(self, each: Sequence[Publishing], sources: Sequence[str], is_behind: IsBehind) -> None:
        self.each = list(each)
        self.session = self.each[0].session
        self.keys = self.each[0].keys
        self.tap = _Taps(self.each)
        self._sources = list(sources)
        self._is_behind = is_behind
        self._had: list[Position | None] = [None] * len(self.each)
        """Up to where a partition has all that comes again."""
        self._flush: object = None  # the one that is being published, and what became of it in each partition
        self._done: list[Published | None] = []
        self._flushes = 0
        self._ahead = [0] * len(self.each)  # so many more publishes than flushes

    @property
    def sessions(self) -> list[Session]:
        """The session of each partition."""
        return [one.session for one in self.each]

    @property
    def paused(self) -> Paused:
        """Whether we are to stand still: in one partition is in all, since a flush goes to all."""
        return next((one.paused for one in self.each if one.paused.now is not None), self.each[0].paused)

    def publish(
        self, entries: Sequence[Entry], position: Position, *, seen_seconds: float = 0, although_paused: bool = False
    ) -> Published:
        """Append each entry to the list of its partition, and keep the position in all of them.

        Raises as `Publishing.publish` does, perhaps when some partitions have theirs already; called again with the
        same entries it goes on with the others.
        """
        if self._flush is not entries:
            self._flush, self._done = entries, [None] * len(self.each)
        parts: list[list[Entry]] = [[] for _ in self.each]
        for entry in entries:
            parts[entry.part].append(entry)
        for index, part in enumerate(parts):
            if self._done[index] is None:
                self._done[index] = self._publish(index, part, position, seen_seconds, although_paused=although_paused)
                killpoint("producer.between_partitions")
        self._flush = None
        self._flushes += 1
        self._count()
        done = [one for one in self._done if one is not None]
        records, duplicates, lag = (sum(one[place] for one in map(_counts, done)) for place in range(3))
        return Published(records, duplicates, lag)

    def _publish(
        self, index: int, entries: list[Entry], position: Position, seen_seconds: float, *, although_paused: bool
    ) -> Published:
        had, keep = self._had[index], position
        if had is not None:
            entries = [entry for entry in entries if entry.position is None or not self._is_behind(entry.position, had)]
            keep = had if self._is_behind(position, had) else position
        alive = [entry for entry in entries if entry.dead is None]
        published = self.each[index].publish(
            [entry.line for entry in alive],
            ids=[entry.id for entry in alive],
            variants={place for place, entry in enumerate(alive) if entry.variant},
            seen_seconds=seen_seconds,
            dead=[entry.dead for entry in entries if entry.dead is not None],
            checkpoint=(self._sources[index], keep),
            although_paused=although_paused,
        )
        if keep is not had:
            self._had[index] = None
        return published

    def begin_at(self, source: str) -> Position | None:  # noqa: ARG002 - the partitions have names of their own for it
        """Return the least position of the partitions, and leave out from there on what any of them has already."""
        found = [one.begin_at(name) for one, name in zip(self.each, self._sources, strict=True)]
        least = found[0]
        for position in found[1:]:
            if least is not None and (position is None or self._is_behind(position, least)):
                least = position
        self._had = [None if position == least else position for position in found]
        self._flush = None
        self._count()
        return least

    @property
    def publishes(self) -> int:
        """The number of flushes that all partitions have told us of."""
        return self._flushes

    def publishes_on_disk(self, stop: threading.Event) -> int | None:
        """Return how many flushes all partitions know of, once these are on disk; None once `stop` is set."""
        known = [one.publishes_on_disk(stop) for one in self.each]
        return None if None in known else self._least(known)

    def publishes_known(self, stop: threading.Event) -> int:
        """Return how many flushes all partitions know of. Raises as one of a single list."""
        return self._least([one.publishes_known(stop) for one in self.each])

    def check_publishes(self) -> None:
        """Raise PublishesLost where a partition has forgotten publishes of ours."""
        for one in self.each:
            one.check_publishes()

    def lag(self) -> int:
        """How many records are ready or in flight."""
        return sum(one.lag() for one in self.each)

    def look(self) -> None:
        """Ask what people say of each partition. Raises CheckpointMoved."""
        for one in self.each:
            one.look()

    def hear(self, *told: tuple[bytes | None, bytes | None]) -> None:
        """Take note of what people say of each partition. Raises CheckpointMoved."""
        for one, (paused, moves) in zip(self.each, told, strict=False):
            one.hear(paused, moves)

    def forget_moves(self) -> None:
        """Forget which checkpoints are known, until `begin_at`."""
        for one in self.each:
            one.forget_moves()

    def _count(self) -> None:
        self._ahead = [one.publishes - self._flushes for one in self.each]

    def _least(self, known: Sequence[int | None]) -> int:
        return min((number or 0) - more for number, more in zip(known, self._ahead, strict=True))


class LeadingEach:
    """Our claim to lead in all partitions: whoever leads in the first may come to lead in the others."""

    def __init__(self, each: Sequence[Leading]) -> None:
        self._each = list(each)
        self.session = self._each[0].session

    @property
    def steering(self) -> tuple[tuple[bytes | None, bytes | None], ...]:
        """What people say of each partition, as of the last time we asked."""
        return tuple(one.steering for one in self._each)

    def lead(self, lease_seconds: float) -> float:
        """Become or stay the producer in all partitions. Returns 0 where we are, else the seconds to wait at most.

        Raises ProducerFenced as `Leading.lead` does.
        """
        return next((left for one in self._each if (left := one.lead(lease_seconds)) > 0), 0.0)

    def look(self) -> None:
        """Ask for the steering alone."""
        for one in self._each:
            one.look()

    def resign(self) -> None:
        """Stop leading: in the first partition last, so that who takes that finds the others free."""
        for one in reversed(self._each):
            one.resign()

    def stand_by(self) -> None:
        """Forget that we have led."""
        for one in self._each:
            one.stand_by()


class _Taps:
    def __init__(self, each: Sequence[Publishing]) -> None:
        self._each = each

    def close(self) -> None:
        for one in self._each:
            one.tap.close()


def _counts(published: Published) -> tuple[int, int, int]:
    return published.records, published.duplicates, published.lag
