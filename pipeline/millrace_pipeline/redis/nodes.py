"""Places: hosts with ports, any of which leads to the same thing, and which of them were silent lately."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

SILENT_SECONDS = 30.0
"""For so long one that didn't answer is asked after all others, by everybody in this process."""


class Place(NamedTuple):
    """A host and its port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Places:
    """The nodes of a cluster, or the Sentinels of a primary: whoever wants one of them tries them in turn.

    May be used from several threads.
    """

    def __init__(self, places: Iterable[Place] = ()) -> None:
        self._places = list(dict.fromkeys(places))
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Place]:
        """All of them, the one to try next first, and at the end those that were silent lately."""
        with self._lock:
            places = list(self._places)
        return iter(sorted(places, key=lambda place: silent(place) is not None))

    def __len__(self) -> int:
        return len(self._places)

    def prefer(self, place: Place) -> None:
        """Puts this one first, known until now or not."""
        with self._lock:
            self._places = [place, *(other for other in self._places if other != place)]

    def add(self, places: Iterable[Place]) -> None:
        """Puts those that are not known yet behind the others."""
        with self._lock:
            self._places = list(dict.fromkeys((*self._places, *places)))


_silences: dict[Place, tuple[float, str]] = {}
"""Who did not answer, when, and why: for all flows and commands of this process, so that one pays for finding out."""


def note_silence(place: Place, reason: object) -> None:
    """Remembers that this one did not answer."""
    _silences[place] = (time.monotonic(), str(reason))


def note_answer(place: Place) -> None:
    """Forgets that it ever was silent."""
    _silences.pop(place, None)


def silent(place: Place) -> str | None:
    """Why this one did not answer, if that was not long ago and it hasn't answered since; else None."""
    when, reason = _silences.get(place, (-SILENT_SECONDS, ""))
    return reason if time.monotonic() - when < SILENT_SECONDS else None


def places_in(hosts: str, port: int) -> list[Place]:
    """The places in `host1:7000,host2,[::1]:7001`, with this port where none is given. Raises ValueError."""
    places = []
    for text in hosts.split(","):
        parts = urlsplit(f"//{text}")
        if not parts.hostname:
            raise ValueError(f"expected host1:{port},host2:{port}")
        places.append(Place(parts.hostname, parts.port or port))
    return places
