"""Remote Redis: a Redis that is not the queue's, for a sink that writes there."""

from __future__ import annotations

import math
from collections.abc import Sequence

from millrace_pipeline.redis.address import Address
from millrace_pipeline.redis.connection import Command, Connection
from millrace_pipeline.redis.slot import key_beside


class RemoteRedis:
    """Where `key` is, by way of `url`; of a cluster, the node that has it. For one thread.

    What is said is said once: after QueueUnavailable nobody knows whether it was done, and the same batch again
    finds out. Raises QueueMisuse for a URL that is wrong.
    """

    def __init__(self, url: str, key: str) -> None:
        self._key = key
        self._connection = Connection(Address(url, key=key, name="millrace-sink"))

    def write_once(self, batch_id: str, writes: Sequence[Command], *, remember_seconds: float) -> None:
        """Carries out the writes in one step with a note that this batch was delivered, unless there is such a note.

        Writes are as `Queue.ack` takes them, to the one key. Raises QueueUnavailable, QueueFull or QueueMisuse.
        """
        words = [word for write in writes for word in (len(write), *write)]
        keys = [self._ledger(batch_id), *dict.fromkeys(write[1] for write in writes)]
        connection = self._connection
        connection.exchange(connection.script("deliver", keys, math.ceil(remember_seconds), *words))

    def has(self, batch_id: str) -> bool:
        """Whether there is such a note. Raises as `write_once` does."""
        (found,) = self._connection.exchange(("EXISTS", self._ledger(batch_id)))
        return bool(found)

    def kind(self) -> str:
        """Return what the key holds there: list, stream, hash, or none. Raises as `write_once` does."""
        (found,) = self._connection.exchange(("TYPE", self._key))
        return found.decode() if isinstance(found, bytes) else str(found)

    def close(self) -> None:
        """Drops the connection; the next call makes a new one."""
        self._connection.close()

    def _ledger(self, batch_id: str) -> str:
        return key_beside(self._key, f"delivered:{batch_id}")
