"""Courier: tells the notices that are due to one target, one after another, each until it is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import structlog

from millrace_pipeline.alerting.notice import Notice
from millrace_pipeline.alerting.targets import NotTold, Tell
from millrace_pipeline.backoff import Backoff
from millrace_pipeline.process.repeats import repeats

log = structlog.get_logger(__name__)

RETRY_FIRST_SECONDS = 1.0
RETRY_CAP_SECONDS = 300.0
CLOSE_SECONDS = 2.0


class Courier:
    """One target's thread, started by the first notice. `told` are the names of those that are told."""

    def __init__(self, target: str, tell: Tell, flow: str, has_told: Callable[[], object]) -> None:
        """`has_told` is called from its thread after each notice that is told."""
        self._target = target
        self._tell = tell
        self._has_told = has_told
        self._flow = flow
        self._changed = threading.Condition()
        self._due: dict[str, Notice] = {}
        self._told: set[str] = set()
        self._over = False
        self._thread: threading.Thread | None = None

    def due(self, notices: Mapping[str, Notice]) -> None:
        """These are to be told, in this order, and no others; of those that were told nothing is done."""
        with self._changed:
            self._due = {name: notice for name, notice in notices.items() if name not in self._told}
            self._told &= set(notices)
            if self._due and self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"notify {self._target}", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    @property
    def told(self) -> set[str]:
        """The names of those that were told, as long as they are said to be due."""
        with self._changed:
            return set(self._told)

    def finish(self, seconds: float) -> None:
        """Wait until nothing is due, at most so long."""
        with self._changed:
            self._changed.wait_for(lambda: not self._due, max(0.0, seconds))

    def close(self) -> None:
        """End, after the notice that is on its way; waits but a moment for that."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        backoff = Backoff(first=RETRY_FIRST_SECONDS, cap=RETRY_CAP_SECONDS)
        not_before = 0.0
        while True:
            with self._changed:
                while not self._over and (not self._due or time.monotonic() < not_before):
                    left = not_before - time.monotonic()
                    self._changed.wait(left if self._due and left > 0 else None)
                if self._over:
                    return
                name, notice = next(iter(self._due.items()))
            try:
                self._tell(notice)
            except NotTold as error:
                not_before = time.monotonic() + max(0.5, backoff.next(at_least=error.retry_after or 0.0))
                repeats.warn("alert_not_told", kind=f"{self._flow} {error}", flow=self._flow, reason=str(error))
            except Exception:
                log.exception("alert_not_told", flow=self._flow, target=self._target)
                not_before = time.monotonic() + RETRY_CAP_SECONDS
            else:
                backoff.reset()
                with self._changed:
                    self._told.add(name)
                    self._due.pop(name, None)
                    self._changed.notify_all()
                self._has_told()
