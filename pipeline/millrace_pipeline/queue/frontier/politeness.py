"""Politeness: how often, and how many at a time, all spiders of a crawl together ask one host."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

import msgspec


class Pace(msgspec.Struct, frozen=True):
    """Seconds from one request of a host to the next, by how much of that they differ, and how many may be out."""

    delay: float = 0.0
    jitter: float = 0.0
    concurrency: int = 8
    """0 for any number."""

    @property
    def shortest(self) -> float:
        """The shortest delay that the jitter leaves."""
        return max(0.0, self.delay * (1 - self.jitter))

    def words(self) -> tuple[int, int, int]:
        """Return it as the script takes it."""
        return round(self.delay * 1000), round(self.jitter * 1000), self.concurrency


class Politeness(msgspec.Struct, frozen=True):
    """The pace of every host, and of those that have their own."""

    usual: Pace = Pace()
    own: Mapping[str, Pace] = {}

    def of(self, slot: str) -> Pace:
        """Return the pace of a host."""
        return self.own.get(slot, self.usual)

    def words(self, paused: bytes, doubted: bool) -> list[int | str | bytes]:
        """Return it as the script takes it.

        With a throw of the dice for the jitter, who paused the flow, and whether Redis may have forgotten who asked.
        """
        hosts = [word for slot, pace in self.own.items() for word in (slot, *pace.words())]
        return [secrets.randbelow(2001) - 1000, paused, int(doubted), *self.usual.words(), len(self.own), *hosts]
