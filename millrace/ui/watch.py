"""Watch: looks at the flows that anybody looks at, once a tick for all viewers, and at none where nobody does."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import structlog

from millrace.meter import WINDOW_SECONDS
from millrace.observing import FlowSeen, Observer
from millrace_pipeline.errors import QueueError
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.queue import Session
from millrace_pipeline.queue.changes import Change, changes_of
from millrace_pipeline.queue.spans import Note, read_notes

log = structlog.get_logger(__name__)

TICK_SECONDS = 1.0
FLOWS_A_SECOND = 50
"""So many flows are looked at in a second at most: with more of them the tick is longer."""

HISTORY_SECONDS = 10.0
"""A history has a new note that often."""

MARKED = 50
"""So many changes are marked in charts, the newest."""

PATIENCE_SECONDS = 2.5
"""So long a page waits for Redis before it is shown as things were when they were last seen."""

FIRST_RATE_SECONDS = 0.4
"""What is looked at after a while is looked at twice, so far apart: a rate takes two looks."""


@dataclass
class Looked:
    """What a round saw. `number` counts the rounds."""

    number: int = 0
    flows: dict[str, FlowSeen] = field(default_factory=dict)
    at: dict[str, float] = field(default_factory=dict)
    """When each flow was looked at last, by this machine's steady clock."""
    notes: dict[str, list[Note]] = field(default_factory=dict)
    changes: dict[str, list[Change]] = field(default_factory=dict)
    """What people changed of the flows whose notes are here."""
    notes_at: dict[str, float] = field(default_factory=dict)


class Viewer:
    """Somebody who looks on: at these flows, with the history of some."""

    def __init__(self, names: frozenset[str], histories: frozenset[str]) -> None:
        self.names = names
        self.histories = histories
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Event()

    async def turn(self, seconds: float) -> bool:
        """Return once there is something new; False where there is nothing for so long."""
        try:
            await asyncio.wait_for(self._turn.wait(), seconds)
        except TimeoutError:
            return False
        self._turn.clear()
        return True

    def tell(self) -> None:
        """Say that there is something new, from any thread."""
        with contextlib.suppress(RuntimeError):  # its loop is over
            self._loop.call_soon_threadsafe(self._turn.set)


class Watch:
    """The one party that asks Redis for all viewers: a thread, from `start` to `close`."""

    def __init__(self, url: str, flows: Sequence[Flow]) -> None:
        self.tick_seconds = max(TICK_SECONDS, len(flows) / FLOWS_A_SECOND)
        self.looked = Looked()
        self.closing = False
        self._observer = Observer(url, flows)
        self._sessions = {flow.name: Session(url, flow.queue.list_name) for flow in flows}
        for session in self._sessions.values():
            session.give_up.set()  # an outage is said, and not waited out
        self.looked.flows = {seen.name: seen for seen in self._observer.seen}
        self._viewers: set[Viewer] = set()
        self._wanted: set[str] = set()
        self._wanted_histories: set[str] = set()
        self._asking_since = 0.0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="ui looks", daemon=True)

    def start(self) -> None:
        """Begin to look, as soon as somebody looks on."""
        self._thread.start()

    def close(self) -> None:
        """End it, and let the viewers go."""
        with self._changed:
            self.closing = True
            self._changed.notify_all()
        for viewer in list(self._viewers):
            viewer.tell()

    @property
    def viewers(self) -> int:
        """How many look on."""
        return len(self._viewers)

    @property
    def waits_seconds(self) -> float:
        """How long Redis hasn't answered by now; 0 where it isn't being asked."""
        since = self._asking_since
        return time.monotonic() - since if since else 0.0

    @contextlib.contextmanager
    def viewing(self, names: frozenset[str], histories: frozenset[str] = frozenset()) -> Iterator[Viewer]:
        """Have these flows looked at for as long as the block lasts, and be told of it."""
        viewer = Viewer(names, histories)
        with self._changed:
            self._viewers.add(viewer)
            self._changed.notify_all()
        try:
            yield viewer
        finally:
            self._viewers.discard(viewer)

    def look(self, names: Sequence[str], histories: Sequence[str] = ()) -> Looked:
        """Return these flows as they are now, or as they were last seen where Redis takes long to answer."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        with self._changed:
            self._wanted.update(name for name in names if not self._is_fresh(name))
            self._wanted_histories.update(name for name in histories if not self._has_notes(name))
            self._changed.notify_all()
            while (self._wanted & set(names) or self._wanted_histories & set(histories)) and not self.closing:
                if (left := give_up - time.monotonic()) <= 0:
                    break
                self._changed.wait(left)
            return self.looked

    def forget(self, name: str) -> None:
        """Have the next page of this flow look anew: somebody changed it."""
        with self._changed:
            for at, stale in ((self.looked.at, self.tick_seconds), (self.looked.notes_at, HISTORY_SECONDS)):
                if name in at:
                    at[name] -= stale

    def _is_fresh(self, name: str) -> bool:
        return time.monotonic() - self.looked.at.get(name, -1e9) < self.tick_seconds

    def _has_notes(self, name: str) -> bool:
        return time.monotonic() - self.looked.notes_at.get(name, -1e9) < HISTORY_SECONDS

    def _run(self) -> None:
        next_tick = 0.0
        while True:
            with self._changed:
                while not self.closing and not self._wanted and not self._wanted_histories:
                    left = next_tick - time.monotonic()
                    if self._viewers and left <= 0:
                        break
                    self._changed.wait(left if self._viewers else None)
                if self.closing:
                    break
                viewers = list(self._viewers) if time.monotonic() >= next_tick else []
                names = {*self._wanted, *(name for viewer in viewers for name in viewer.names)}
                histories = {*self._wanted_histories, *(name for viewer in viewers for name in viewer.histories)}
                if viewers:
                    next_tick = time.monotonic() + self.tick_seconds
            try:
                self._round(names, histories)
            except Exception:  # a bug of ours must not leave every page without news for good
                log.exception("ui_look_failed")
            with self._changed:
                self._wanted -= names
                self._wanted_histories -= histories
                self._changed.notify_all()
            for viewer in list(self._viewers):
                viewer.tell()
        self._observer.close()
        for session in self._sessions.values():
            session.close()

    def _round(self, names: set[str], histories: set[str]) -> None:
        self._asking_since = time.monotonic()
        try:
            self._look(names, histories)
        finally:
            self._asking_since = 0.0

    def _look(self, names: set[str], histories: set[str]) -> None:
        last, now = self.looked, time.monotonic()
        seen = self._observer.look(names) if names else self._observer.seen
        if any(now - last.at.get(name, -1e9) > WINDOW_SECONDS for name in names) and not _away(seen, names):
            self._asking_since = 0.0
            with self._changed:
                self._changed.wait_for(lambda: self.closing, FIRST_RATE_SECONDS)
            self._asking_since = time.monotonic()
            seen = self._observer.look(names)
        now = time.monotonic()
        notes, changes, notes_at = dict(last.notes), dict(last.changes), dict(last.notes_at)
        for name in histories:
            if self._has_notes(name) or _away(seen, {name}):
                continue
            try:
                notes[name] = read_notes(self._sessions[name])
                changes[name] = changes_of(self._sessions[name], limit=MARKED)
                notes_at[name] = now
            except QueueError:
                self._sessions[name].close()  # the next look says so
        self.looked = Looked(
            last.number + 1,
            {one.name: one for one in seen},
            {**last.at, **dict.fromkeys(names, now)},
            notes,
            changes,
            notes_at,
        )


def _away(seen: Sequence[FlowSeen], names: set[str]) -> bool:
    return any(one.unreachable for one in seen if one.name in names)
