"""Held: what a command holds until it ends, wherever it ends: the Redis that it asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from millrace.server import Server

_held: list[Server] = []


def hold(server: Server) -> None:
    """Hold a Redis until this process ends: by `let_go`, or else by the kernel."""
    _held.append(server)


def asking() -> bool:
    """Return True in a command that asks a Redis, rather than one that works with it."""
    return bool(_held)


def let_go() -> None:
    """Let go of every Redis that is held: an embedded one that was started for this command is stopped."""
    while _held:
        _held.pop().close()
