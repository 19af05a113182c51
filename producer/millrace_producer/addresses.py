"""Addresses that a source may not be sent to: a site on the internet has no business with what is inside.

What a flow or a spider names is trusted, whatever its address: a redirect leads elsewhere, and may then lead to public
addresses alone (https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html).
"""

from __future__ import annotations

import socket
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

NAT64 = IPv6Network("64:ff9b::/96")
DEFAULT_PORTS = {"http": 80, "https": 443}


class PrivateAddress(Exception):
    """There, and not to be talked to. No OSError, which would be tried again."""


def is_private(host: str) -> bool:
    """Whether an address is loopback, link-local, private, or otherwise not of the internet, however it is written.

    A name is not, except localhost: what it stands for shows when it is looked up.
    """
    with suppress(UnicodeError):  # digits and dots can be written in other alphabets, too
        host = host.encode("idna").decode()
    host = host.rstrip(".").lower()
    if host.rpartition(".")[2] == "localhost":
        return True
    address = _address(host.partition("%")[0])
    if address is None:
        return False
    inside = _inside(address) if isinstance(address, IPv6Address) else None
    if inside is not None:
        address = inside
    return not address.is_global or address.is_multicast


def public_addresses(host: str, port: int) -> list[str]:
    """The addresses of a name, all of them public, so that to connect to one is to connect to what was judged here.

    Raises PrivateAddress where one of them isn't, since nobody says which is meant, and OSError where there are none.
    """
    if is_private(host):
        raise PrivateAddress(host)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(place[0]) for *_, place in found))
    for address in addresses:
        if is_private(address):
            raise PrivateAddress(host)
    return addresses


def leads_elsewhere(url: str, target: str) -> bool:
    """Whether a redirect leaves host and port. From http to https on the usual ports is still the same place."""
    here, there = urlsplit(url), urlsplit(target)
    ports = tuple(parts.port or DEFAULT_PORTS.get(parts.scheme) for parts in (here, there))
    if here.hostname != there.hostname:
        return True
    upgrade = (here.scheme, there.scheme) == ("http", "https") and ports == (80, 443)
    return not upgrade and ports[0] != ports[1]


def strips_secrets(url: str, target: str) -> bool:
    """Whether what is said to this URL must not be said to that one: another host, port or scheme, but for http to
    https on the usual ports.
    """
    here, there = urlsplit(url), urlsplit(target)
    if here.scheme == there.scheme or (here.scheme, there.scheme) == ("http", "https"):
        return leads_elsewhere(url, target) or (here.scheme != there.scheme and bool(here.port not in (None, 80)))
    return True


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """The address that is written here, None for a name. 127.1, 0x7f.1, 0177.0.0.1 and 2130706433 are addresses."""
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))  # reads them as getaddrinfo does, which looks no name up for them
    except (OSError, ValueError):
        return None


def _inside(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for."""
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour
