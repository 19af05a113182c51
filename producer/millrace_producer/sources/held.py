"""Held: what was taken from an origin and is not on the list yet, kept ours for as long as that takes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

import structlog

from millrace_pipeline.errors import SourceError

log = structlog.get_logger(__name__)


class Held:
    """Messages by what names them, each with its receipt.

    From the first on a thread says `extend` of all of them, every so many seconds.

    What `extend` raises is logged and tried again: it isn't the end of what we hold, only perhaps of having it alone.
    """

    def __init__(self, extend: Callable[[Mapping[str, str]], None], *, every: float) -> None:
        self._extend = extend
        self._every = every
        self._receipts: dict[str, str] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hold", daemon=True)

    def __contains__(self, name: object) -> bool:
        with self._lock:
            return name in self._receipts

    def add(self, receipts: Mapping[str, str]) -> None:
        """These are held, too."""
        with self._lock:
            self._receipts.update(receipts)
            if self._thread.ident is None:
                self._thread.start()

    def drop(self, names: Iterable[str]) -> dict[str, str]:
        """These are not held any more. Returns those that were, with their receipts."""
        with self._lock:
            return {name: self._receipts.pop(name) for name in names if name in self._receipts}

    def drop_all(self) -> dict[str, str]:
        with self._lock:
            dropped, self._receipts = self._receipts, {}
        return dropped

    def close(self) -> None:
        """Nothing is extended from here on."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(self._every):
            with self._lock:
                receipts = dict(self._receipts)
            try:
                if receipts:
                    self._extend(receipts)
            except Exception as error:  # whatever it is: with this thread all would be over
                unforeseen = None if isinstance(error, SourceError) else error
                log.warning("hold_not_extended", messages=len(receipts), reason=str(error), exc_info=unforeseen)
