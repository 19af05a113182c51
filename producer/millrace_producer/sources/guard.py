"""Guard: connections to public addresses alone, which are looked up and judged before anything is sent there.

What is connected to is the very address that was judged, so a name that means another one each time it is asked for
(DNS rebinding) gains nothing. TLS and Host go by the name.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError, NameResolutionError

from millrace_pipeline.deadline import DeadlineAdapter, derive_connections
from millrace_producer.addresses import public_addresses


class GuardedAdapter(DeadlineAdapter):
    """Reaches public addresses only. Raises PrivateAddress; not behind a proxy, which looks names up by itself."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        derive_connections(self.poolmanager, _guarded)


def connect_public(host: str, port: int, connect: Callable[[str], socket.socket]) -> socket.socket:
    """A connection to the first address of a name that lets `connect` in.

    Raises PrivateAddress before any of them is tried, and what `connect` raised for the last.
    """
    failure: Exception | None = None
    for address in public_addresses(host, port):
        try:
            return connect(address)
        except (OSError, HTTPError) as error:
            failure = error
    raise failure or OSError("has no address")


def _guarded(kind: Any) -> type[HTTPConnection]:
    class Guarded(kind):  # type: ignore[misc]
        _dns_host: str

        def _new_conn(self) -> socket.socket:
            name = self._dns_host
            direct = super()._new_conn

            def connect(address: str) -> socket.socket:
                self._dns_host = address
                try:
                    connection: socket.socket = direct()
                    return connection
                finally:
                    self._dns_host = name

            try:
                return connect_public(name.strip("[]"), self.port, connect)
            except socket.gaierror as error:
                raise NameResolutionError(self.host, self, error) from error

    return Guarded
