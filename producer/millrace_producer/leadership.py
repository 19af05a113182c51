"""Leadership: one producer at a time for a source that must not run twice; the others stand by.

And what people say of the flow meanwhile: whoever asks Redis whether we still lead is told that, too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from millrace_pipeline.errors import CheckpointMoved, ProducerFenced, QueueError
from millrace_pipeline.queue import Leading
from millrace_producer.spread import LeadingEach

log = structlog.get_logger(__name__)

LEASE_SECONDS = 5.0
"""How long a producer may be silent before a standby takes over. Short, since a leader that comes back is fenced."""

LOOK_SECONDS = 0.5


class Leadership:
    """Waits until we lead, then stays so from a thread of its own until `resign`.

    Where the source may be read by several at once it leads nothing, and only asks what people say. `heard` is called
    each time with that; what it raises, or a ProducerFenced if another producer takes over all the same, since we were
    silent for longer than the lease, `lost` is called with, once.
    """

    def __init__(
        self,
        leading: Leading | LeadingEach,
        flow: str,
        *,
        exclusive: bool,
        stopping: threading.Event,
        heard: Callable[..., None],
        lost: Callable[[QueueError], None],
    ) -> None:
        self._leading = leading
        self._exclusive = exclusive
        self._heard = heard
        self._flow = flow
        self._stopping = stopping
        self._lost = lost
        self._over = threading.Event()
        self.stands_by = False
        """True while another producer leads and we wait."""

    def wait(self) -> bool:
        """Returns True once we lead; False if we are to stop first."""
        while self._exclusive and (left := self._leading.lead(LEASE_SECONDS)) > 0:
            if not self.stands_by:
                self.stands_by = True
                log.info("producer_stands_by", flow=self._flow)
            if self._stopping.wait(min(left, LOOK_SECONDS)):
                return False
        if self.stands_by:
            self.stands_by = False
            log.info("producer_takes_over", flow=self._flow)
        threading.Thread(target=self._stay, name=f"lead {self._flow}", daemon=True).start()
        return True

    def leave(self) -> None:
        """Stop staying the leader, without a word: another has taken over, or a later wait goes on from here."""
        self._over.set()

    def resign(self) -> None:
        """Lets a standby take over at once. What we read must be on the list by then."""
        self._over.set()
        self._leading.resign()

    def _stay(self) -> None:
        try:
            while not self._over.wait(LEASE_SECONDS / 3):
                self._leading.lead(LEASE_SECONDS) if self._exclusive else self._leading.look()
                self._heard(*self._leading.steering)
        except (ProducerFenced, CheckpointMoved) as error:
            self._lost(error)
        except QueueError:
            return  # we are giving up; the publisher says so
        finally:
            self._leading.session.close()
