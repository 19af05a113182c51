"""Listening: what MILLRACE_HTTP says, and which addresses of this machine that is.

    9090                    loopback alone
    10.0.0.5:9090           one address
    0.0.0.0:9090            all addresses, in all networks
    9090,metrics:9090       loopback, and what is ours of the addresses that the name `metrics` stands for: an alias
                            that the containers of a service share in one of their networks

Small on purpose: the probe that Docker runs every few seconds needs it too.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket

LOOPBACK = "127.0.0.1"
EXPECTED = "expected a port, which is then on loopback, or host:port such as 0.0.0.0:9090; several with commas between"

Place = tuple[str, int]


def places_in(text: str) -> tuple[Place, ...]:
    """Hosts and ports. Raises ValueError."""
    return tuple(map(_place, text.split(",")))


def _place(text: str) -> Place:
    host, colon, port = text.strip().rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535 and bool(host) == bool(colon)):
        raise ValueError(EXPECTED)
    return host or LOOPBACK, int(port)


def own_addresses(host: str) -> list[str]:
    """Those of a host's addresses that are this machine's; a name may stand for others too, or for none."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [address for address in dict.fromkeys(str(where[0]) for *_, where in found) if _is_ours(address)]


def is_address(host: str) -> bool:
    """Whether this is an address and no name."""
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(host))
    return False


def within(address: str) -> str:
    """Where a process of this machine reaches what listens at this address."""
    return {"0.0.0.0": LOOPBACK, "::": "::1"}.get(address, address)  # noqa: S104 - it is asked, not listened at


def family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _is_ours(address: str) -> bool:
    try:
        with socket.socket(family(address), socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
