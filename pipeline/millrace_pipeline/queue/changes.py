"""Changes: what people change of a flow, noted beside its list in the very step: who, what, when, how many."""

from __future__ import annotations

import getpass
import json
import os
import secrets
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from millrace_pipeline.errors import QueueMisuse
from millrace_pipeline.queue.session import Session

KEPT = 1000
"""So many changes of a flow are kept; the oldest go first."""

LONGEST_NOTE = 500


class By(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who changes something: the user of Redis, as Redis tells, and the user and host of the process, as these tell."""

    user: str
    os_user: str
    host: str
    via: str = ""
    """What it was done with, where that was not a command."""

    @classmethod
    def here(cls, session: Session, *, via: str = "") -> By:
        """Return who we are. A user of Redis who may not ask who he is, is `?`."""
        try:
            user = session.ask(("ACL", "WHOAMI"))[0].decode()
        except QueueMisuse:
            user = "?"
        return cls(user, _os_user(), socket.gethostname(), via)

    def __str__(self) -> str:
        with_what = f" by {self.via}" if self.via else ""
        return f"{self.os_user}@{self.host} (Redis user {self.user}){with_what}"


class Change(msgspec.Struct, frozen=True):
    """What somebody changed: `what` is the command, `records` how many it was about, `detail` what else there is."""

    id: str
    at: int
    """When, in milliseconds since 1970 by Redis' clock; of a change in several steps the first."""
    records: int
    what: str
    by: By
    detail: dict[str, Any] = {}

    @property
    def time(self) -> datetime:
        """When it was."""
        return datetime.fromtimestamp(self.at / 1000, UTC)

    @property
    def more(self) -> str:
        """What else there is to say of it, in a line."""
        told = []
        for name, value in self.detail.items():
            words = ", ".join(map(str, value)) if isinstance(value, list) else value
            said = words if isinstance(words, str) else json.dumps(words)
            told.append(said if name in ("note", "parts") else f"{name} {json.dumps(words)}")
        return "; ".join(told)


class Changing:
    """A change that is being made, in one step or in several: what a script notes of it."""

    def __init__(
        self, session: Session, what: str, by: By | None = None, detail: Mapping[str, Any] | None = None
    ) -> None:
        self.what = what
        self._session = session
        self._by = by
        self._detail = dict(detail or {})
        self._id = secrets.token_hex(8)

    @property
    def by(self) -> By:
        """Who makes it. Raises QueueError where Redis has to be asked, and can't."""
        if self._by is None:
            self._by = By.here(self._session)
        return self._by

    def arguments(self, **detail: Any) -> list[Any]:
        """Return what its script is told of it: its id, what it says of itself, and how many changes are kept.

        `detail` is of this step, beside that of the whole.
        """
        told = {"what": self.what, "by": self.by, "detail": {**self._detail, **detail}}
        return [self._id, msgspec.json.encode(told), KEPT]


def changes_of(session: Session, *, limit: int = KEPT) -> list[Change]:
    """Return what people changed, the newest first. Raises QueueError."""
    (found,) = session.ask(("LRANGE", session.keys.changes, 0, limit - 1))
    return [msgspec.json.decode(text, type=Change) for text in found]


def _os_user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user often has no name
        return str(os.getuid())
