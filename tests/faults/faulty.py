"""Faulty: a queue whose connections go wrong as they are told to, in any exchange and in the midst of one."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Sequence
from typing import Any, TypeAlias

import redis
from hypothesis import strategies as st

from millrace_pipeline.errors import QueueUnavailable
from millrace_pipeline.redis.connection import Command, Connection, Posted, packed
from tests.queues import Queue

Fault: TypeAlias = str | int
"""What becomes of an exchange. `none`: all is well. `request lost`: the server never sees it. `reply lost`: the server
does it and nobody hears. `late`: nobody hears, and the server does it later, when `arrive` is called, over the old wire
with all its state. A number: the connection drops after so many of its commands were carried out."""

_FAULT = st.one_of(st.sampled_from(["none", "none", "request lost", "reply lost", "late", "late"]), st.integers(0, 12))
FAULTS = st.one_of(st.just([]), st.lists(_FAULT, max_size=4))
"""What becomes of the next exchanges, one after the other: what is sent again is hit, too."""


class FaultyConnection(Connection):
    """A connection whose exchanges suffer what is next in `faults`."""

    def __init__(self, pool: Any, faults: deque[Fault]) -> None:
        super().__init__(pool)
        self.faults = faults
        self.on_their_way: list[tuple[Any, tuple[Command, ...]]] = []

    def exchange(self, *commands: Command, may_fail: int = 0) -> list[Any]:
        if self._suffers(commands):
            raise QueueUnavailable("the connection is gone")
        return super().exchange(*commands, may_fail=may_fail)

    def post(self, *commands: Command) -> Posted:
        if self._suffers(commands):
            raise QueueUnavailable("the connection is gone")
        return super().post(*commands)

    def _suffers(self, commands: tuple[Command, ...]) -> bool:
        """Do to the exchange what is next; False where nothing is."""
        fault = self.faults.popleft() if self.faults else "none"
        if fault == "none":
            return False
        if fault == "late":
            self._send_later(commands)
        elif fault != "request lost":
            # A MULTI without its EXEC is gone with the connection.
            self._exchange(commands if fault == "reply lost" else commands[: int(fault)])
        self.close()
        return True

    def _send_later(self, commands: tuple[Command, ...]) -> None:
        self.open()
        self.on_their_way.append((self._wire, commands))
        self._wire = None
        self._posted.clear()

    def arrive(self) -> None:
        for wire, commands in self.on_their_way:
            wire.send_packed_command([packed(commands)], check_health=False)
            for _ in commands:
                with contextlib.suppress(redis.ResponseError):
                    wire.read_response()
            wire.disconnect()
        self.on_their_way = []


class FaultyQueue(Queue):
    """A queue on one faulty connection for publishing and one for the rest."""

    def __init__(self, url: str, key: str) -> None:
        super().__init__(url, key, lease_seconds=3600)
        self.retry_first_seconds = 0.0
        self._faults: deque[Fault] = deque()
        self._faulty = FaultyConnection(self._address, self._faults)
        self.publishing._fence.connection = self._faulty
        self._own.connection = FaultyConnection(self._address, self._faults)

    def suffer(self, faults: Sequence[Fault]) -> None:
        """From now on the next exchanges go wrong like this, and in no other way."""
        self._faults.clear()
        self._faults.extend(faults)

    def arrive(self) -> None:
        """What is on its way arrives."""
        self._faulty.arrive()
        self._own.connection.arrive()
        self.suffer([])

    def cut(self) -> None:
        """The connections drop."""
        self._faulty.close()
        self._own.connection.close()
