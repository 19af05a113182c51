"""Guard: HTTP connections that end before a byte is sent where they have reached a private address.

What is looked at is the address that the connection has, so a name that means another address each time it is asked
for (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import socket
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from producer.addresses import is_private


class PrivateAddress(Exception):
    """There, and not to be talked to. No OSError, which would be tried again."""


class GuardedAdapter(HTTPAdapter):
    """Reaches public addresses only. Raises PrivateAddress; not behind a proxy, which looks names up by itself."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _public(super()._new_conn())


class _TlsConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _public(super()._new_conn())


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def _public(connection: socket.socket) -> socket.socket:
    address = connection.getpeername()[0]
    if is_private(address):
        connection.close()
        raise PrivateAddress(address)
    return connection
