"""Watcher: looks at a flow's alerts beside a service's work, in one of all the processes of the flow at a time.

Each process tries to be the one, by a lease in Redis; whoever has it looks, writes down what has changed together with
the notices that are due, and tells them. Who takes over goes on from there: what was told isn't told again, what wasn't
is. An outage of Redis is told by the one that watched when it began.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol

import msgspec
import structlog

from millrace_pipeline.alerting.courier import Courier
from millrace_pipeline.alerting.judging import dropped, judge, turn
from millrace_pipeline.alerting.notice import Notice, What, dropped_notice, notice_of
from millrace_pipeline.alerting.targets import targets_of
from millrace_pipeline.alerting.timeline import Mark, Timeline
from millrace_pipeline.errors import QueueError, QueueFull, QueueUnavailable
from millrace_pipeline.flows.alerts import Alert
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.queue import Session
from millrace_pipeline.queue.alerts import NOTICE, RULE, Board, Stand, states_in
from millrace_pipeline.queue.history import History

log = structlog.get_logger(__name__)

LOOK_SECONDS = 5.0
LEAST_SECONDS = 0.25
NOTICES_KEPT = 100
"""So many wait to be told at most; beyond it the oldest are dropped, and it is said."""

CLOSE_SECONDS = 2.0


class Counted(Protocol):
    """What a consumer has counted of the values in records since it was asked last: looked at, and null, by field."""

    def take(self) -> Mapping[str, tuple[int, int]]:
        """Return the counts, and begin anew."""


class Watcher:
    """One process's part in watching a flow. A failure of its own stops nothing else."""

    def __init__(self, flow: Flow, queue: Session, *, counted: Counted | None = None) -> None:
        self._flow = flow
        self._queue = queue
        self._board = Board(queue)
        self._history = History(queue.keys, queue.ask_script_once)
        self._counted = counted
        self._stir = threading.Event()  # something was told, which Redis is to know of, or it is over
        ways = targets_of(flow.notify) if flow.alerts else {}
        self._couriers = {name: Courier(name, tell, flow.name, self._stir.set) for name, tell in ways.items()}
        spans = [span / 4 for alert in flow.alerts for span in alert.spans]
        self._every = max(LEAST_SECONDS, min([LOOK_SECONDS, *spans]))
        self._timeline: Timeline | None = None
        self._fields: dict[str, bytes] = {}
        self._watches = True  # until Redis says that another does
        self._away_since: float | None = None
        self._local: dict[str, Notice] = {}
        self._outages: dict[str, float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"alerts {flow.name}", daemon=True)

    def start(self) -> None:
        """Begin, where the flow has alerts."""
        if self._flow.alerts:
            self._thread.start()

    def close(self) -> None:
        """Let another watch; waits but a moment for that. What is not told yet is the other's to tell."""
        self._over.set()
        self._stir.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS + 1)
        for courier in self._couriers.values():
            courier.close()

    def _run(self) -> None:
        try:
            while True:
                self._stir.wait(self._every if self._fields or not self._watches else LEAST_SECONDS)
                self._stir.clear()
                over = self._over.is_set()
                try:
                    self._look()
                except QueueUnavailable:
                    self._outage()
                else:
                    self._back()
                self._tell()
                if over:
                    self._leave()
                    return
        except QueueError as error:
            log.warning("alerts_not_watched", flow=self._flow.name, reason=str(error), mend="docs/how-to/redis.md")
        except Exception:
            log.exception("alerts_not_watched", flow=self._flow.name)
        finally:
            self._queue.close()

    def _leave(self) -> None:
        """Let another watch at once, after a moment for what is due."""
        over = time.monotonic() + CLOSE_SECONDS
        for courier in self._couriers.values():
            courier.finish(over - time.monotonic())
        if self._watches and self._away_since is None:
            with suppress(QueueUnavailable):
                self._board.watch(0.0, self._told())

    def _look(self) -> None:
        """Become the watcher, or stay it, and look. Raises QueueError."""
        self._share()
        self._write(self._told())
        if not self._watches:
            self._timeline = None
            return
        self._history.note()
        stand = self._board.stand()
        if self._timeline is None:
            self._timeline = Timeline(Mark(*note) for note in self._board.notes())
        self._timeline.add(stand.now, stand.came, stand.published)
        if changes := self._changes(stand, self._timeline):
            self._write(changes)

    def _write(self, changes: Mapping[str, bytes]) -> None:
        left, self._fields = self._board.watch(3 * self._every + 2, changes)
        self._watches = not left

    def _told(self) -> dict[str, bytes]:
        return {name: b"" for name in self._fields if name.startswith(NOTICE) and self._is_told(name)}

    def _share(self) -> None:
        """Add what this process has counted, whoever watches. A full Redis has no room for it."""
        if self._counted is not None and (counts := self._counted.take()):
            with suppress(QueueFull):
                self._board.add_shares(counts)

    def _changes(self, stand: Stand, timeline: Timeline) -> dict[str, bytes]:
        states, changes = states_in(self._fields), dict[str, bytes]()
        about = {"flow": self._flow.name, "project": self._flow.project.name}
        for alert in self._flow.alerts:
            finding = judge(alert, stand, timeline, self._flow.queue.max_ready, self._board.shares)
            made = finding and turn(alert, finding, states.get(alert.rule), stand.now, self._flow.name)
            if not made:
                continue
            changes[RULE + alert.rule] = b"" if made.state is None else msgspec.json.encode(made.state)
            if (state := made.state or made.before) is not None and state.raised:
                what: What = "raised" if made.state else "over"
                since = state.since / 1000
                changes |= self._due(
                    notice_of(alert, what, **about, id=state.id, value=made.value, since=since, at=stand.now), stand.now
                )
        for rule in dropped(self._flow.alerts, states):
            changes[RULE + rule] = b""
            if (state := states[rule]).raised:
                over = dropped_notice(rule, **about, id=state.id, since=state.since / 1000, at=stand.now)
                changes |= self._due(over, stand.now)
        return self._within_bounds(changes)

    def _due(self, notice: Notice, now: float) -> dict[str, bytes]:
        text = msgspec.json.encode(notice)
        return dict.fromkeys(self._names(notice, now), text)

    def _names(self, notice: Notice, now: float) -> list[str]:
        return [f"{NOTICE}{target}:{round(now * 1000)}:{notice.state}:{notice.id}" for target in self._couriers]

    def _within_bounds(self, changes: dict[str, bytes]) -> dict[str, bytes]:
        waiting = sorted(name for name in (*self._fields, *changes) if name.startswith(NOTICE))
        if (more := len(waiting) - NOTICES_KEPT) > 0:
            log.error("alerts_not_told", flow=self._flow.name, notices=more, reason="too many wait to be told")
            changes |= dict.fromkeys(sorted(waiting, key=_when)[:more], b"")
        return changes

    def _is_told(self, name: str) -> bool:
        courier = self._couriers.get(_target(name))
        return courier is None or name in courier.told

    def _tell(self) -> None:
        """Have the couriers tell what is due: what stands in Redis, while we watch, and what only we know."""
        kept = {name: value for name, value in self._fields.items() if name.startswith(NOTICE)} if self._watches else {}
        self._local = {name: notice for name, notice in self._local.items() if not self._is_told(name)}
        for target, courier in self._couriers.items():
            due = {name: msgspec.json.decode(kept[name], type=Notice) for name in kept if _target(name) == target}
            due |= {name: notice for name, notice in self._local.items() if _target(name) == target}
            courier.due(dict(sorted(due.items(), key=lambda item: _when(item[0]))))

    def _outage(self) -> None:
        self._queue.close()
        if self._away_since is None:
            self._away_since = time.time()
        away = time.time() - self._away_since
        for alert in self._flow.alerts if self._watches else ():
            if alert.outage is not None and away >= alert.outage and alert.rule not in self._outages:
                self._outages[alert.rule] = self._away_since
                self._say_outage(alert, "raised")

    def _back(self) -> None:
        for alert in self._flow.alerts:
            if alert.rule in self._outages:
                self._say_outage(alert, "over")
                del self._outages[alert.rule]
        self._away_since = None

    def _say_outage(self, alert: Alert, what: What) -> None:
        since, now = self._outages[alert.rule], time.time()
        id = f"{self._flow.name}:{alert.rule}:{round(since * 1000)}"
        about = {"flow": self._flow.name, "project": self._flow.project.name}
        notice = notice_of(alert, what, **about, id=id, value=now - since, since=since, at=now)
        self._local |= dict.fromkeys(self._names(notice, now), notice)


def _target(name: str) -> str:
    return name.split(":", 2)[1]


def _when(name: str) -> int:
    return int(name.split(":", 3)[2])
