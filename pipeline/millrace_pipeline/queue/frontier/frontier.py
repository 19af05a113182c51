"""Frontier: what a spider says of the requests of its crawl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from millrace_pipeline.errors import QueueMisuse, QueueUnavailable
from millrace_pipeline.queue.frontier.claimed import Answer, Claimed, answer_from
from millrace_pipeline.queue.frontier.keys import CrawlKeys
from millrace_pipeline.queue.frontier.politeness import Politeness
from millrace_pipeline.queue.frontier.request import Waiting
from millrace_pipeline.queue.frontier.settlement import Settlement
from millrace_pipeline.queue.session import SESSION_SECONDS, Session
from millrace_pipeline.redis.connection import Command

MOST_OFFERED = 1000
"""So many requests at most are put on the frontier in one step."""


class CrawlGone(QueueMisuse):
    """There is no crawl of this name: it was never begun, or a person has dropped it."""


class Frontier:
    """A spider's part in a crawl: begins it, claims requests, renews their leases, settles them, offers others.

    One thread uses it. Every call waits out an outage; QueueFull is raised where Redis is at maxmemory and nothing, or
    not all of it, was done: the same call may be made again. `seconds` is how long a request stays ours without a word
    from us; one that was given out `max_attempts` times and never settled is set aside.
    """

    def __init__(
        self, session: Session, crawl: str, *, seconds: float = 60.0, max_attempts: int = 3, politeness: Politeness
    ) -> None:
        self.session = session
        self.name = crawl
        self.keys = CrawlKeys(session.keys, crawl)
        self.lease_ms = int(seconds * 1000)
        self._max_attempts = max_attempts
        self._politeness = politeness
        self._claims = self._settles = self._offers = 0
        self._outages = session.outages

    def begin(self, about: Mapping[str, Any], first: Sequence[Waiting]) -> bool:
        """Begin the crawl with these requests, unless it was begun. Returns True where it began by this."""
        words = [word for request in first for word in request.words()]
        arguments = [self.name, msgspec.json.encode(about), len(first), *words]
        return bool(self.session.ask_script("crawl_begin", [*self.keys.all, self.session.keys.crawls], arguments)[0])

    def claim(self, want: int) -> Answer:
        """Return up to so many requests, as each host's politeness allows, and how the crawl stands."""
        return self.step([], want)[1]

    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Settle these in turn. Returns for each False where its lease was lost, and so nothing was done."""
        return self._settle(settlements, None)[0]

    def step(
        self, settlements: Sequence[Settlement], want: int, asked: Sequence[Claimed] = ()
    ) -> tuple[list[bool], Answer]:
        """Settle these in turn, claim so many in the same breath, and return what `settle` and `claim` do.

        Before that it is said of `asked` what `say_asked` says. After QueueFull the same settlements are to be given
        first, in the same order.
        """
        ours, answer = self._settle(settlements, want, asked)
        assert answer is not None
        return ours, answer

    def say_asked(self, held: Sequence[Claimed]) -> list[bool]:
        """Say that the hosts of these have been asked: from now on their delay runs, and then it is the next's turn.

        Of a host with a delay nobody is given a request before, unless this one is settled or its lease is lost.
        Returns for each False where it is someone else's by now.
        """
        (ours,) = self.session.ask_script("request_asked", self.keys.all, _named(held))
        return [bool(one) for one in ours]

    def renew(self, held: Sequence[Claimed]) -> list[bool]:
        """Extend the leases on these. Returns for each False where it is someone else's by now."""
        (ours,) = self.session.ask_script(
            "request_renew", [self.keys.leases, self.keys.tokens], [self.lease_ms, *_named(held)]
        )
        return [bool(one) for one in ours]

    def offer(self, requests: Sequence[Waiting]) -> int:
        """Put requests on the frontier, whose fingerprint is new. Returns how many were.

        Raises CrawlGone, and QueueFull.
        """
        new = 0
        for at in range(0, len(requests), MOST_OFFERED):
            some = requests[at : at + MOST_OFFERED]
            number = self._offers + 1
            words = [word for request in some for word in request.words()]
            (found,) = self.session.ask_script(
                "request_offer", [*self.keys.all, self.session.key], [number, SESSION_SECONDS, len(some), *words]
            )
            if found < 0:
                raise CrawlGone(f"there is no crawl {self.keys.crawl}: it was dropped, or never begun")
            self._offers = number
            new += found
        return new

    def stop(self, reason: str) -> None:
        """Have all spiders of the crawl end with this finish reason, unless one is set."""
        self.session.ask(("HSETNX", self.keys.crawl, "stopped", reason))

    def _settle(
        self, settlements: Sequence[Settlement], want: int | None, asked: Sequence[Claimed] = ()
    ) -> tuple[list[bool], Answer | None]:
        if any(settlement.items or settlement.dead for settlement in settlements):
            self.session.history.note()
        first, wait = self._settles, self.session.replicas.wait
        token = f"{self.session.id}.request.{self._claims + 1}"
        ours = [False] * len(settlements)
        left = list(range(len(settlements)))

        def attempt() -> Answer | None:
            nonlocal left, first
            paused = self._who_paused_the_flow() if want else b""
            while True:
                commands = [self._settling(first + n, settlements[index]) for n, index in enumerate(left, 1)]
                outages = self.session.outages
                claiming = [] if want is None else [self._claiming(want, token, paused, outages != self._outages)]
                asking = [self._asking(asked)] if asked else []
                replies = self.session.connection.exchange(*asking, *commands, *claiming, *wait)[len(asking) :]
                done = replies[: len(commands)]
                known = [number for status, number in done if status < 0]
                if not known:
                    for index, (status, _) in zip(left, done, strict=True):
                        ours[index] = bool(status)
                    first, left = first + len(left), []
                    self._await_replicas(replies[len(replies) - 1] if wait else 0, wait)
                    if claiming:
                        self._outages = outages
                    return answer_from(replies[len(commands)], token) if claiming else None
                # Redis came back without the last that it was told of us: what we held then is ours again, as it says.
                first = known[0]

        answer = self.session.persist(attempt)
        self._settles = first
        if answer is not None and (answer.requests or answer.repeated):
            self._claims += 1
        return ours, answer

    def _settling(self, number: int, settlement: Settlement) -> Command:
        keys = self.session.keys
        return self.session.connection.script(
            "request_settle",
            [*self.keys.all, self.session.key, keys.ready, keys.counters, keys.dead],
            *(number, SESSION_SECONDS, *settlement.words()),
        )

    def _asking(self, asked: Sequence[Claimed]) -> Command:
        return self.session.connection.script("request_asked", self.keys.all, *_named(asked))

    def _who_paused_the_flow(self) -> bytes:
        (paused,) = self.session.connection.exchange(("HGET", self.session.keys.steering, "producers"))
        return paused or b""

    def _claiming(self, want: int, token: str, paused: bytes, doubted: bool) -> Command:
        keys = self.session.keys
        return self.session.connection.script(
            "request_claim",
            [*self.keys.all, self.session.key, keys.ready, keys.woken, keys.counters],
            *(token, self._claims + 1, SESSION_SECONDS, want, self.lease_ms, self._max_attempts),
            *self._politeness.words(paused, doubted),
        )

    def _await_replicas(self, holding: int, wait: Sequence[Command]) -> None:
        """Return once enough replicas hold what was written on this connection. Raises QueueUnavailable."""
        while wait and not self.session.replicas.enough(holding):
            if self.session.give_up.is_set():
                raise QueueUnavailable(self.session.replicas.shortage)
            (holding,) = self.session.connection.exchange(*wait)


def _named(held: Sequence[Claimed]) -> list[bytes | str]:
    """Return how scripts are told of these: place and token of each."""
    return [word for one in held for word in (one.place, one.token)]
