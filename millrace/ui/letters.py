"""Letters: which dead letters or variants a page or a form means, and what becomes of them, within bounds."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol, TypeVar
from urllib.parse import urlencode

from millrace_pipeline.flows.units import seconds

PAGE = 25
COUNTED_BYTES = 512 * 1024 * 1024
"""So much is read at most to count letters before something is done with them."""

DOING_SECONDS = 60.0
"""So long a page works at most; what is left is said, and goes on at the next click."""

ID = re.compile(r"\d{1,20}-\d{1,20}")


DIGITS = re.compile(r"\d+")
OWN = re.compile(r"(?P<quote>['\"]).*?(?P=quote)")
"""What reasons of one kind differ in: numbers, and what is quoted."""


class Sized(Protocol):
    """A dead letter, as far as its size goes."""

    @property
    def record(self) -> bytes:
        """Its bytes."""
        ...


L = TypeVar("L", bound=Sized)
T = TypeVar("T")


@dataclass(frozen=True)
class Filter:
    """Which letters are meant: by the words of their reason, and by how long ago they were set aside."""

    reason: str = ""
    since: str = ""
    older: str = ""
    error: str = ""
    """What is wrong with a time that was typed."""
    after: datetime | None = None
    until: datetime | None = None

    @classmethod
    def of(cls, asked: Mapping[str, str]) -> Filter:
        """Return what a form or an address asks for."""
        reason, since, older = (asked.get(name, "").strip() for name in ("reason", "since", "older"))
        errors: list[str] = []
        after, until = (_ago(text, errors) for text in (since, older))
        return cls(reason, since, older, "; ".join(errors), after, until)

    @property
    def before(self) -> str:
        """The id that the letters come before; empty where there is none."""
        return f"{int(self.until.timestamp() * 1000)}-0" if self.until else ""

    @property
    def any(self) -> bool:
        """True where it leaves some out."""
        return bool(self.reason or self.since or self.older)

    def query(self, **more: str) -> str:
        """Return it as an address has it."""
        told = {"reason": self.reason, "since": self.since, "older": self.older, **more}
        return urlencode({name: value for name, value in told.items() if value})


@dataclass
class Count:
    """How many there are of each reason, and between which ids."""

    reasons: Counter[str] = field(default_factory=Counter)
    newest: str = ""
    whole: bool = True
    """False where there are more than were looked at."""

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(self.reasons.values())

    @property
    def groups(self) -> list[Group]:
        """Reasons of one kind together."""
        return grouped(self.reasons)


class Group(NamedTuple):
    """Reasons that differ only in numbers and in what is quoted: how many letters, and what all of them begin with."""

    begins: str
    letters: int
    kinds: int
    """How many different reasons."""

    @property
    def words(self) -> str:
        """The reason, or what all of them begin with."""
        return self.begins + ("…" if self.kinds > 1 else "")


def grouped(reasons: Counter[str]) -> list[Group]:
    """Return reasons of one kind together, the most frequent kind first."""
    kinds: dict[str, dict[str, int]] = {}
    for reason, count in reasons.items():
        kinds.setdefault(DIGITS.sub("0", OWN.sub("''", reason)), {})[reason] = count
    groups = [Group(_common(list(kind)), sum(kind.values()), len(kind)) for kind in kinds.values()]
    return sorted(groups, key=lambda group: -group.letters)


def within(letters: Iterable[L], most: int, most_bytes: int) -> Iterator[L]:
    """Yield so many letters at most, and no more once they are so large together."""
    size = 0
    for number, letter in enumerate(letters):
        if number >= most or size >= most_bytes:
            return
        size += len(letter.record)
        yield letter


def do_each(chosen: Iterable[T], do: Callable[[T], bool]) -> tuple[int, bool]:
    """Do it to each, for as long as a page may take. Returns how many it was done to, and if that is all of them."""
    until, done = time.monotonic() + DOING_SECONDS, 0
    for one in chosen:
        if time.monotonic() > until:
            return done, False
        done += do(one)
    return done, True


def behind(id: str) -> str:
    """Return the id just behind this one: letters before it are this one and older ones."""
    moment, _, number = id.partition("-")
    return f"{moment}-{int(number) + 1}"


def _common(texts: Sequence[str]) -> str:
    """What all these texts begin with."""
    least, most = min(texts), max(texts)
    return next((least[:at] for at, letter in enumerate(least) if letter != most[at]), least)


def _ago(text: str, errors: list[str]) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.now(UTC) - timedelta(seconds=seconds(text))
    except (ValueError, OverflowError) as error:
        errors.append(f"{text}: {error}")
        return None
