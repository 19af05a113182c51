"""Saying: what a server wants to hear again and again on a WebSocket, or it hangs up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection


@contextmanager
def said_again(connection: ClientConnection, message: str | None, interval: float) -> Iterator[None]:
    """Say a message at an interval while the block lasts. From a thread: also while nobody can take records."""
    if message is None:
        yield
        return
    over = threading.Event()

    def say() -> None:
        with suppress(ConnectionClosed, OSError):  # whoever listens hears of it
            while not over.wait(interval):
                connection.send(message)

    thread = threading.Thread(target=say, name="say again", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
