"""Repeats: warnings of one kind are said once and counted, for one a record would hide all the others."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import structlog

log = structlog.get_logger(__name__)

AGAIN_SECONDS = 60.0
"""As long as a kind goes on, its count is told so often."""

KINDS = 1000
"""So many kinds are kept apart; what comes on top is counted together, event by event."""

Heard: TypeAlias = list[tuple[str, dict[str, Any]]]

_PARTICULARS = re.compile(r"'[^']*'|\"[^\"]*\"|\d+")


class _Kind:
    def __init__(self, event: str, fields: dict[str, Any], now: float) -> None:
        self.event = event
        self.fields = fields
        self.more = 0
        self.told_at = now


class Repeats:
    """Says the first warning of each kind, then how many more like it there were. For any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kinds: dict[tuple[str, ...], _Kind] = {}
        self._lock = threading.Lock()
        self._listeners: list[Heard] = []

    @contextmanager
    def heard(self) -> Iterator[Heard]:
        """Every warning while the block lasts, each as its event and what it says; none is logged or counted."""
        found: Heard = []
        self._listeners.append(found)
        try:
            yield found
        finally:
            self._listeners.remove(found)

    def warn(self, event: str, *, kind: str, times: int = 1, **fields: Any) -> None:
        """Log the warning, or count it where one of its kind was logged. It is for so many `times` of the same.

        `kind` is its reason: reasons that differ in numbers and quoted words alone are one kind.
        """
        if self._listeners:
            self._listeners[-1].append((event, fields))
            return
        now = self._clock()
        flow = str(fields.get("flow", ""))
        name: tuple[str, ...] = (event, flow, _PARTICULARS.sub("…", kind))
        with self._lock:
            if name not in self._kinds and len(self._kinds) >= KINDS:
                name = (event, flow)
            known = self._kinds.get(name)
            if known is None:
                known = self._kinds[name] = _Kind(event, fields, now)
                known.more = times - 1
                more = None
            else:
                known.more += times
                if now - known.told_at < AGAIN_SECONDS:
                    return
                more, known.more, known.told_at = known.more, 0, now
        self._say(event, fields, more)

    def summarise(self) -> None:
        """Log how many more there were of each kind since that was last told: what a service does at its end."""
        with self._lock:
            left = [(kind.event, kind.fields, kind.more) for kind in self._kinds.values() if kind.more]
            for kind in self._kinds.values():
                kind.more = 0
        for event, fields, more in left:
            self._say(event, fields, more)

    def _say(self, event: str, fields: dict[str, Any], more: int | None) -> None:
        if more is None:
            log.warning(event, **fields)
        else:
            log.warning(event, **fields, more_like_this=more)


repeats = Repeats()
"""Those of this process."""
