"""Addresses that a source may not be sent to: a site on the internet has no business with what is inside.

What a flow or a spider names is trusted, whatever its address: a redirect leads elsewhere, and may then lead to public
addresses alone (https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

NAT64 = IPv6Network("64:ff9b::/96")
DEFAULT_PORTS = {"http": 80, "https": 443}


def is_private(host: str) -> bool:
    """Whether an address is loopback, link-local, private, or otherwise not of the internet.

    A name is not, except localhost: what it stands for shows when it is looked up.
    """
    if host.rstrip(".").lower().rpartition(".")[2] == "localhost":
        return True
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    inside = _inside(address) if isinstance(address, IPv6Address) else None
    if inside is not None:
        address = inside
    return not address.is_global or address.is_multicast


def leads_elsewhere(url: str, target: str) -> bool:
    """Whether a redirect leaves host and port. From http to https on the usual ports is still the same place."""
    here, there = urlsplit(url), urlsplit(target)
    ports = tuple(parts.port or DEFAULT_PORTS.get(parts.scheme) for parts in (here, there))
    if here.hostname != there.hostname:
        return True
    upgrade = (here.scheme, there.scheme) == ("http", "https") and ports == (80, 443)
    return not upgrade and ports[0] != ports[1]


def _inside(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for."""
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour
