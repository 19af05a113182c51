"""Pins: names that Twisted's reactor connects to at the addresses that were judged, and looks up no second time."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from scrapy import Request
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IResolutionReceiver
from zope.interface import implementer  # type: ignore[import-untyped]


@implementer(IHostnameResolver)
class PinnedNames:
    """A resolver that asks the one it stands before, except for a name that is pinned.

    A pin holds for as long as its request is on its way, also for what else asks for that name meanwhile, such as
    robots.txt.
    """

    def __init__(self, before: Any) -> None:
        self._before = before
        # Weak, since a middleware isn't always told when a request is over.
        self._pins: WeakKeyDictionary[Request, tuple[str, list[str]]] = WeakKeyDictionary()

    @classmethod
    def of(cls, reactor: Any) -> PinnedNames:
        """The reactor's, put there if it has none: not before it runs, since Scrapy puts its own resolver there."""
        resolver = reactor.nameResolver
        if not isinstance(resolver, cls):
            resolver = cls(resolver)
            reactor.installNameResolver(resolver)
        return resolver

    def look_up(self, name: str) -> Deferred[list[str]]:
        """The addresses that the name has now, by the resolver before this one; none where it isn't known."""
        receiver = _Addresses()
        self._before.resolveHostName(receiver, name)
        return receiver.found

    def pin(self, request: Request, name: str, addresses: list[str]) -> None:
        """While this request is on its way, the name has these addresses; with none of them it isn't found."""
        self._pins[request] = (_normal(name), addresses)

    def unpin(self, request: Request) -> None:
        """The request is over."""
        self._pins.pop(request, None)

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[Any]] | None = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        wanted = _normal(hostName)
        pinned = [addresses for name, addresses in self._pins.values() if name == wanted]
        if not pinned:
            return self._before.resolveHostName(
                resolutionReceiver, hostName, portNumber, addressTypes, transportSemantics
            )
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        for host in pinned[-1]:
            kind: Any = IPv6Address if ":" in host else IPv4Address
            if addressTypes is None or kind in addressTypes:
                resolutionReceiver.addressResolved(kind(transportSemantics, host, portNumber))
        resolutionReceiver.resolutionComplete()
        return resolution


@implementer(IHostResolution)
class _Resolution:
    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Nothing: it was over at once."""


@implementer(IResolutionReceiver)
class _Addresses:
    def __init__(self) -> None:
        self.found: Deferred[list[str]] = Deferred()
        self._addresses: list[str] = []

    def resolutionBegan(self, resolutionInProgress: Any) -> None:
        """Nothing to do."""

    def addressResolved(self, address: Any) -> None:
        self._addresses.append(address.host)

    def resolutionComplete(self) -> None:
        self.found.callback(self._addresses)


def _normal(name: str) -> str:
    """One name for all the ways to write it."""
    with contextlib.suppress(UnicodeError):  # no name by the book is looked up all the same
        name = name.encode("idna").decode()
    return name.lower()
