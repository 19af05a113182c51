"""Disk watch: a thread that confirms again and again that all until a moment is on Redis' disk."""

from __future__ import annotations

import threading
from collections.abc import Callable

from millrace_pipeline.errors import QueueError


class DiskWatch:
    """Runs `confirm` in rounds, as long as somebody asks. One round serves all who asked before it began."""

    def __init__(self, confirm: Callable[[threading.Event], object], name: str) -> None:
        self._confirm = confirm
        self._changed = threading.Condition()
        self._begun = 0
        self._ended = 0
        self._asked = False
        self._error: QueueError | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"disk {name}", daemon=True)

    def moment(self) -> int:
        """Return the number of the next round: once it has ended, all that was written until now is on disk."""
        with self._changed:
            self._asked = True
            self._changed.notify_all()
            if not self._thread.is_alive() and not self._over.is_set():
                self._thread.start()
            return self._begun + 1

    def has_ended(self, moment: int) -> bool:
        """Return True once that round has ended."""
        return self._ended >= moment

    def wait(self, moment: int) -> bool:
        """Return once that round has ended; True where that took waiting. Raises what `confirm` did."""
        if self.has_ended(moment):
            return False
        with self._changed:
            self._changed.wait_for(lambda: self.has_ended(moment) or self._error is not None)
            if self._error is not None and not self.has_ended(moment):
                raise self._error
        return True

    def close(self) -> None:
        """End the thread."""
        self._over.set()
        with self._changed:
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            while self._begin():
                if self._confirm(self._over) is None:
                    return
                with self._changed:
                    self._ended = self._begun
                    self._changed.notify_all()
        except QueueError as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _begin(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._asked or self._over.is_set())
            self._asked = False
            self._begun += 1
            return not self._over.is_set()
