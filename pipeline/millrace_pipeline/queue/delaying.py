"""Delaying: how records of a batch are put off, to be tried again when their time has come."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from millrace_pipeline.errors import LeaseLost, RetryLater
from millrace_pipeline.queue.claim import Claim, delayed_id
from millrace_pipeline.queue.leases import Leases
from millrace_pipeline.queue.session import SESSION_SECONDS

STEPS = 8
"""Delays are rounded up to one of so many for each doubling, at least to a second: a batch parts into few others."""

REASON_LENGTH = 500


class Delaying:
    """Puts records off. One thread at a time does.

    What is put off stays in flight, in a batch of its own that has a lease and no holder: when that is over, whoever
    looks for batches that were left behind takes it, and its attempt counts as any other's.
    """

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._session = leases.session
        self._delays = 0
        self._named = 0

    def delay(self, claim: Claim, places: Mapping[int, RetryLater]) -> None:
        """Take the records at these places out of a batch that no sink has seen, and put them off.

        `claim.lines` are those that are left; where none is, the batch is gone. Returns once that can't be undone by
        what a power cut or a failover of Redis takes back, as far as the flow asks for it: else a batch that a sink has
        would come again with other records. Raises LeaseLost.
        """
        groups: dict[int, list[int]] = {}
        for place, later in sorted(places.items()):
            groups.setdefault(rounded_up(later.seconds), []).append(place)
        keys, number = self._session.keys, self._delays + 1
        parts = keys.parts(claim.id, claim.steps)
        arguments: list[Any] = [claim.id, claim.token, number, SESSION_SECONDS, len(parts), len(claim.lines)]
        lists = []
        for seconds, group in sorted(groups.items()):
            self._named += 1
            id = delayed_id(self._session.id, self._named)
            lists.append(keys.batch(id))
            arguments += (id, seconds * 1000, str(places[group[0]])[:REASON_LENGTH], len(group), *group)
        (ours,) = self._session.ask_script(
            "delay", [keys.leases, keys.claims, self._session.key, *parts, *lists], arguments
        )
        if not ours:
            raise LeaseLost(f"batch {claim.id} was taken over before records of it could be put off")
        self._delays = number
        claim.lines = [line for place, line in enumerate(claim.lines) if place not in places]
        self._secure(claim)

    def put_off(self, claim: Claim, later: RetryLater) -> None:
        """Put a batch off whole, under its id, since a sink may have seen it; its attempt counts.

        A batch that is not ours is left alone.
        """
        self._leases.put_off(claim, rounded_up(later.seconds) * 1000, str(later)[:REASON_LENGTH])

    def _secure(self, claim: Claim) -> None:
        if not claim.lines:
            return  # nothing will be written under its id
        if self._session.fsync != "off":
            disk = self._session.disk()
            try:
                self._session.persist(lambda: disk.confirm(stop=threading.Event()))
            finally:
                disk.close()
            if not self._leases.holds(claim):
                raise LeaseLost(f"batch {claim.id} was taken over, or Redis has forgotten that records were put off")
        if not self._leases.is_replicated(claim):
            raise LeaseLost(f"batch {claim.id} was taken over, or a failover lost it")


def rounded_up(seconds: float) -> int:
    """Return the next of the delays that there are, in seconds: 1, 2, … 8, 9, … 16, 18, … 32, 36, …"""
    whole = max(1, -int(-seconds // 1))
    step = max(1, 1 << max(0, (whole - 1).bit_length() - STEPS.bit_length()))
    return -(-whole // step) * step
