"""Repeats: warnings of one kind are said once and counted, for one a record would hide all the others."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import structlog

log = structlog.get_logger(__name__)

AGAIN_SECONDS = 60.0
"""As long as a kind goes on, its count is told so often."""

KINDS = 1000
"""So many kinds are kept apart; what comes on top is counted together, event by event."""

NAMES = 100
"""So many names are named of a kind that is of names; of what comes on top no more than that there are more."""

Heard: TypeAlias = list[tuple[str, dict[str, Any]]]

_AGAIN = 8
"""So many of a record's names stand in a line that only counts."""

_PARTICULARS = re.compile(r"'[^']*'|\"[^\"]*\"|\d+")


class _Kind:
    def __init__(self, event: str, fields: dict[str, Any], now: float) -> None:
        self.event = event
        self.fields = fields
        self.more = 0
        self.told_at = now
        self.names: set[int] = set()
        """The hashes of those that were named, for there is no bound to the length of a name."""
        self.is_full = False

    def named(self, names: Mapping[str, str]) -> list[str]:
        """Return what those of the names are shown as that weren't named yet, and note that they are."""
        new = {hash(name): shown for name, shown in names.items() if hash(name) not in self.names}
        said = list(new.values())[: NAMES - len(self.names)]
        if len(said) < len(new) and not self.is_full:
            self.is_full = True
            said.append(f"and more: {NAMES} are named, and no others")
        self.names.update(list(new)[: NAMES - len(self.names)])
        return said


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

    def warn(self, event: str, *, kind: str, of: str = "", times: int = 1, **fields: Any) -> None:
        """Log the warning, or count it where one of its kind was logged. It is for so many `times` of the same.

        `kind` is its reason: reasons that differ in numbers and quoted words alone are one kind. `of` is a name that
        the user gave, such as a field's: each is a kind of its own, digits and all.
        """
        if self._listeners:
            self._listeners[-1].append((event, fields))
            return
        with self._lock:
            known, is_new = self._known(event, kind, of, fields)
            more = self._counted(known, times, is_new=is_new)
        if more != 0:
            self._say(event, fields, more)

    def warn_of(
        self, event: str, names: Mapping[str, str], *, kind: str, says: str, times: int = 1, **fields: Any
    ) -> None:
        """Log which of these names are new to the kind, all of them in one line; count the warning where none is.

        They stand in the line as its field `says`, each as what it is shown as. No more than `NAMES` are named.
        """
        if self._listeners:
            self._listeners[-1].append((event, {says: ", ".join(names.values()), **fields}))
            return
        with self._lock:
            known, _ = self._known(event, kind, "", fields)
            named = known.named(names)
            fields = {says: ", ".join(named or list(names.values())[:_AGAIN]), **fields}
            known.fields = fields
            more = self._counted(known, times, is_new=bool(named))
        if more != 0:
            self._say(event, fields, more)

    def _known(self, event: str, kind: str, of: str, fields: dict[str, Any]) -> tuple[_Kind, bool]:
        """Return what is known of a kind, and whether it is new."""
        flow = str(fields.get("flow", ""))
        name: tuple[str, ...] = (event, flow, _PARTICULARS.sub("…", kind), of)
        if name not in self._kinds and len(self._kinds) >= KINDS:
            name = (event, flow)
        known = self._kinds.get(name)
        if known is not None:
            return known, False
        self._kinds[name] = _Kind(event, fields, self._clock())
        return self._kinds[name], True

    def _counted(self, known: _Kind, times: int, *, is_new: bool) -> int | None:
        """Count, and return how many more are to be told: None of what is told for the first time, 0 for nothing."""
        if is_new:
            known.more += times - 1
            return None
        known.more += times
        now = self._clock()
        if now - known.told_at < AGAIN_SECONDS:
            return 0
        more, known.more, known.told_at = known.more, 0, now
        return more

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
