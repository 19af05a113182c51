"""Leading: the one producer of a list whose source must not be read twice at once."""

from __future__ import annotations

from millrace_pipeline.errors import ProducerFenced
from millrace_pipeline.queue.session import Session
from millrace_pipeline.redis.connection import Command

TAKEN_OVER = "another producer has taken over this source"


class Leading:
    """Our claim to lead. Who publishes under it is fenced once another has taken over."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._takeover: str | None = None  # the number of ours, once we lead
        self.steering: tuple[bytes | None, bytes | None] = (None, None)
        """Who paused the producers, and how often a checkpoint was set by hand: as of the last time we asked."""

    def lead(self, lease_seconds: float) -> float:
        """Become or stay the one producer of this list. Returns 0 where we lead, else the seconds to wait at most.

        Once we have led, this and a publish raise ProducerFenced after somebody else's takeover, even where that one's
        lease has run out, too, and we could lead again: it has published from where we stood.
        """
        keys = [self.session.keys.leader, self.session.keys.epochs]
        arguments = [self.session.id, int(lease_seconds * 1000), self.session.name]
        (left_ms, takeover, first), self.steering = self.session.ask_script("lead", keys, arguments, self._steering)
        epoch = takeover.decode()
        # We may lead again although another has led meanwhile. First of all leaders is a Redis that came back empty.
        if self._takeover is not None and (left_ms or (epoch != self._takeover and not first)):
            raise ProducerFenced(TAKEN_OVER)
        if left_ms == 0:
            self._takeover = epoch
        return float(left_ms) / 1000

    def look(self) -> None:
        """Ask for the steering alone, for a source that needs no leader. Raises QueueError."""
        (self.steering,) = self.session.ask(self._steering)

    @property
    def _steering(self) -> Command:
        return ("HMGET", self.session.keys.steering, "producers", "moves")

    def resign(self) -> None:
        """Stop leading, so that a standby needn't wait for the lease to run out."""
        if self._takeover is not None:
            self.session.ask_script("resign", [self.session.keys.leader], [self.session.id])

    def stand_by(self) -> None:
        """Forget that we have led: after a ProducerFenced `lead` may be asked for again."""
        self._takeover = None

    def is_still(self, session: str, takeover: str) -> bool:
        """Return True unless we have led and this leader is another.

        No leader at all is a Redis that came back empty: nobody has taken over.
        """
        return self._takeover is None or not session or (session, takeover) == (self.session.id, self._takeover)
