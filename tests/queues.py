"""Queue: all that can be said about one list, in one object, for tests that publish, claim and settle in turn."""

from __future__ import annotations

import threading

from millrace_pipeline.queue import Books, Claiming, Delaying, Leading, Leases, Publishing, Session, Settling, books_of
from millrace_pipeline.queue.session import Fsync


class Queue(Session):
    """A session with every half of a queue, and their verbs."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        lease_seconds: float = 60.0,
        replicas: int = 0,
        fsync: Fsync = "off",
        in_order: bool = False,
        give_up: threading.Event | None = None,
    ) -> None:
        super().__init__(url, key, replicas=replicas, fsync=fsync, in_order=in_order, give_up=give_up)
        self.leading = Leading(self)
        self.publishing = Publishing(self, self.leading)
        self.leases = Leases(self, lease_seconds)
        self.claiming = Claiming(self.leases)
        self.settling = Settling(self)
        self.delaying = Delaying(self.leases)

        self.lead, self.resign, self.stand_by = self.leading.lead, self.leading.resign, self.leading.stand_by
        self.publish, self.checkpoint = self.publishing.publish, self.publishing.checkpoint
        self.publishes_on_disk, self.publishes_known = (
            self.publishing.publishes_on_disk,
            self.publishing.publishes_known,
        )
        self.check_publishes = self.publishing.check_publishes
        self.wait, self.claim, self.fill = self.claiming.wait, self.claiming.claim, self.claiming.fill
        self.reclaim, self.secure = self.claiming.reclaim, self.claiming.secure
        self.claim_ahead = self.claiming.ahead.ask
        self.keep_ahead, self.release_ahead = self.claiming.ahead.keep, self.claiming.ahead.give_back
        self.begin, self.renew, self.ack = self.leases.begin, self.leases.renew, self.leases.ack
        self.release, self.abandon, self.split = self.leases.release, self.leases.abandon, self.leases.split
        self.delay, self.put_off = self.delaying.delay, self.delaying.put_off
        self.settle, self.state = self.settling.settle, self.settling.state

    @property
    def publishes(self) -> int:
        return self.publishing.publishes

    def books(self) -> Books:
        return books_of(self)

    def close_all(self) -> None:
        """Drop the connections of this thread and of every half."""
        self.close()
        self.publishing.close()
        self.claiming.close()
