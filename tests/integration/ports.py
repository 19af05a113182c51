"""Ports on loopback: free ones, for servers that must know theirs before they start, and such as nobody answers on."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def refusing() -> Iterator[int]:
    """Where connections are refused at once: the server has died, its machine lives."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


@contextlib.contextmanager
def swallowing() -> Iterator[int]:
    """Where nothing is answered at all, as if the machine were gone: its queue is full, so Linux drops each SYN."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield int(server.getsockname()[1])


@contextlib.contextmanager
def mute() -> Iterator[int]:
    """Where connections are taken and nothing is said: the server is frozen."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield int(server.getsockname()[1])


DEAD: dict[str, Callable[[], AbstractContextManager[int]]] = {
    "refusing": refusing,
    "swallowing": swallowing,
    "mute": mute,
}
"""Each way in which nobody answers."""
