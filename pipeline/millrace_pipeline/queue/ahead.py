"""Ahead: batches that are claimed before their turn, so that Redis works while we do.

A batch that is claimed ahead is under our lease, and no attempt of it is counted until it is begun. Its states, from
`Ahead.ask` on (docs/architecture.md has the picture):

    asked     the claim was sent; nobody knows yet what it gave
    empty     there was nothing on the list: it is forgotten
    held      so many records are ours. Where nothing waits for Redis' disk, they came with the answer
    on disk   the round of the disk watch that began after the answer has ended
    fetched   its records are on their way to us, or here
    taken     `Ahead.take` has handed it out, as a Claim that is not `begun`
    begun     its attempt counts: by the ack of the batch before it, or by `Leases.begin`
    returned  `Ahead.give_back`, or `Leases.release` once it is taken: whoever comes next has it, under its id
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec

from millrace_pipeline.errors import QueueUnavailable
from millrace_pipeline.queue.claim import Asking, Claim
from millrace_pipeline.queue.diskwatch import DiskWatch
from millrace_pipeline.queue.leases import Leases
from millrace_pipeline.redis.connection import Posted

DEEPEST = 1024
"""At most so many batches are claimed ahead, however long the disk takes."""

DEEPER = 4
"""So many times as many are claimed ahead at each wait for the disk. A wait takes more than a second: were it twice
as many, ten of them would go by."""


class _Asked(msgspec.Struct):
    """A batch from asked to fetched; `held` is how many records it has, once that is known."""

    number: int
    records: int
    posted: Posted = msgspec.field(default_factory=lambda: Posted(0))  # whose replies are lost
    held: int | None = None
    moment: int = 0
    fetching: Posted | None = None


class Ahead:
    """The batches that were asked for and not taken yet, oldest first.

    That is one, or with a `watch` as many as its waits need.

    The thread that claims asks and takes; others may keep and give back.
    """

    def __init__(self, leases: Leases, asking: Asking, watch: DiskWatch | None) -> None:
        self._leases = leases
        self._session = leases.session
        self._asking = asking
        self._watch = watch
        self._asked: deque[_Asked] = deque()
        self.depth = 1
        """So many batches are asked for."""

    def __len__(self) -> int:
        return len(self._asked)

    def ask(self, records: int) -> None:
        """Ask for the next batch without waiting for the answer.

        Where a claim must be on disk before it is written to a sink, so many are asked for that none has to be waited
        for.
        """
        with suppress(QueueUnavailable):  # `take` asks again
            self._learn_all()
            self._post(records)
            first = self._asked[0]
            if self._watch and first.held and first.fetching is None and self._watch.has_ended(first.moment):
                first.fetching = self._session.connection.post(*self._asking.fetching(first.number))

    def take(self) -> Claim | None:
        """Return the oldest of the batches that have records; None where nothing was asked for, or none has any."""
        while self._asked:
            asked = self._asked[0]
            lines = self._fetch(asked) if self._watch else self._answer(asked)
            try:
                self._asked.popleft()
            except IndexError:
                return None  # another thread has given it back meanwhile
            if not asked.held:
                self.depth = 1  # we have come to the end of the list: what is ahead is for all
                continue
            claim = self._asking.claim(asked.number, lines, begun=False)
            if asked.held == len(lines) and (self._watch or self._leases.is_replicated(claim)):
                return claim
        return None

    def keep(self) -> None:
        """Extend the leases on what was claimed, as far as it is ours: all in one exchange."""
        self._ask_of_each("renew", tuple(self._asked), self._leases.ms, "")

    def give_back(self) -> None:
        """Give back what was claimed: all in one exchange."""
        given: list[_Asked] = []
        with suppress(IndexError):  # another thread may take of it meanwhile
            while True:
                given.append(self._asked.pop())  # the youngest first, so that what is older is taken first
        self._ask_of_each("release", given, 0, "")

    def await_disk(self, moment: int) -> None:
        """Return once that round of the disk watch has ended.

        Where that takes waiting, and there is more on the list, too little was claimed ahead: claim more before the
        wait, so that it serves them, too.
        """
        assert self._watch is not None
        if self._asked and not self._watch.has_ended(moment):
            self.depth = min(DEEPER * self.depth, DEEPEST)
            with suppress(QueueUnavailable, IndexError):  # who needs one asks again; or all was given back
                self._post(self._asked[-1].records)
                self._learn_all()
        self._watch.wait(moment)

    def _post(self, records: int) -> None:
        """Ask for as many batches as should be. Raises QueueUnavailable."""
        while len(self._asked) < self.depth:
            self._asked.append(asked := _Asked(self._asking.next(), records))
            asked.posted = self._session.connection.post(*self._claiming(asked))

    def _learn_all(self) -> None:
        for asked in tuple(self._asked):
            self._learn(asked)

    def _learn(self, asked: _Asked) -> None:
        """Learn how many records a batch has, where claims are watched. Raises QueueUnavailable."""
        if self._watch and asked.held is None:
            found = self._session.connection.collect(asked.posted)
            if found is None:
                found = self._session.connection.exchange(*self._claiming(asked))
            self._hear(asked, found[0])
            asked.moment = self._watch.moment()

    def _answer(self, asked: _Asked) -> list[bytes]:
        """Learn what became of a claim, and return its lines, which came with it."""
        found = None
        with suppress(QueueUnavailable):
            found = self._session.connection.collect(asked.posted)
        if found is None:
            found = self._session.persist(lambda: self._session.connection.exchange(*self._claiming(asked)))
        self._hear(asked, found[0])
        return found[1]  # type: ignore[no-any-return]

    def _fetch(self, asked: _Asked) -> list[bytes]:
        """Return the lines of a batch once it is on disk; none where it is not ours any more."""
        self._session.persist(lambda: self._learn(asked))
        if not asked.held or asked.held < 0:
            asked.held = 0
            return []
        self.await_disk(asked.moment)
        found = None
        with suppress(QueueUnavailable):
            found = asked.fetching and self._session.connection.collect(asked.fetching)
        ours, _, lines = found or self._session.persist(
            lambda: self._session.connection.exchange(*self._asking.fetching(asked.number))
        )
        return lines if ours else []

    def _claiming(self, asked: _Asked) -> list[Any]:
        # What must be on disk first is fetched when it is: until then it needn't lie in our memory.
        return self._asking.claiming(asked.number, asked.records, attempts=0, fetch=self._watch is None)

    def _hear(self, asked: _Asked, answer: Sequence[Any]) -> None:
        asked.held, *told = answer
        self._leases.hear(*told)

    def _ask_of_each(self, script: str, ahead: Sequence[_Asked], *arguments: Any) -> None:
        """Run a script for each of these claims."""
        if ahead:
            names = [self._session.keys.leases, self._session.keys.claims]
            self._session.persist(
                lambda: self._session.connection.exchange(
                    *(
                        self._session.connection.script(script, names, *self._asking.names(asked.number), *arguments)
                        for asked in ahead
                    )
                )
            )
