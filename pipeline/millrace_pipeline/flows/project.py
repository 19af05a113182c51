"""Project: one flows file and all its copies, wherever they run. A list is marked with the project that uses it."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path
from typing import NamedTuple

import msgspec


class Part(NamedTuple):
    """A source or a sink as it stands in the file: its type, and all that is written of it."""

    type: str
    written: object


class Project(msgspec.Struct, frozen=True):
    """Who a flow belongs to, as far as its file says so.

    Paths, hosts and the values of variables are not part of that: the copies on other machines have others. Nor is any
    one option, as options are changed.
    """

    name: str
    """`project:` of the file; empty where it has none."""
    flow: str
    source: str
    """Type and digest of what is written of it, `sse:5f3a`."""
    sink: str
    place: str
    """Where the file was that marked the list first, for people."""

    @classmethod
    def of(cls, name: str | None, flow: str, source: Part, sink: Part, file: Path | None) -> Project:
        """The project of a flow in this file."""
        place = f"{socket.gethostname()}:{file}" if file else socket.gethostname()
        return cls(name or "", flow, _digest(source), _digest(sink), place)

    def is_of(self, mark: Project) -> bool:
        """Whether a list with this mark is this project's.

        A mark with a name is for the project of that name alone. Without one, two of flow, source and sink have to be
        the same: so one of them may change at a time, and each start of a service renews the mark.
        """
        if mark.name:
            return self.name == mark.name
        return sum((self.flow == mark.flow, self.source == mark.source, self.sink == mark.sink)) >= 2

    def differs_by_name(self, mark: Project) -> bool:
        """Whether both say who they are, and are not the same."""
        return bool(self.name and mark.name and self.name != mark.name)

    def __str__(self) -> str:
        types = " → ".join(part.rpartition(":")[0] for part in (self.source, self.sink))
        named = f"project {self.name}, " if self.name else ""
        return f"{named}flow {self.flow} ({types}) of {self.place}"


DIGITS = 4
"""Hex digits of a digest: enough to tell two apart, and too few to try passwords on that may stand in an option."""


def _digest(part: Part) -> str:
    return f"{part.type}:{hashlib.sha256(repr(part.written).encode()).hexdigest()[:DIGITS]}"
