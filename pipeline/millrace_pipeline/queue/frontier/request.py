"""Requests as the frontier keeps them: JSON, a place in a line, and a fingerprint."""

from __future__ import annotations

import hashlib

import msgspec

_MIDDLE = 5_000_000_000
_MOST = 9_999_999_999

PLACE_BYTES = 26
"""What stands behind the slot in a place: a zero byte, a rank of ten digits, a number of fifteen."""


class Waiting(msgspec.Struct, frozen=True):
    """A request that is to wait on the frontier: its slot, its JSON, and when it is taken."""

    slot: str
    text: bytes
    priority: int = 0
    """Of one slot the highest is taken first; of the same priority the one that came first."""
    print: bytes = b""
    """What `print_of` makes of its fingerprint; empty where it is to be put whether it was seen or not."""
    delay_ms: int = 0
    """It waits for so long before it is due."""

    def words(self) -> tuple[str, str, bytes, int, bytes]:
        """Return it as the scripts take it."""
        rank = min(_MOST, max(0, _MIDDLE - self.priority))
        return self.slot.replace("\0", " "), f"{rank:010d}", self.print, self.delay_ms, self.text


START = Waiting("", b'{"start":true}', 10**9)
"""What a crawl begins with: whoever claims it runs the spider's start(). Nothing is known before."""


def print_of(fingerprint: bytes) -> bytes:
    """Return the eight bytes by which the frontier knows a fingerprint again.

    Among 10⁹ fingerprints there are two with the same eight bytes with a chance of 2.7 %; then one page isn't fetched.
    """
    return hashlib.blake2b(fingerprint, digest_size=8).digest()


def slot_of(place: bytes) -> str:
    """Return the slot of a place."""
    return place[:-PLACE_BYTES].decode(errors="replace")


def number_of(place: bytes) -> str:
    """Return the number of a place, in its fifteen digits."""
    return place[-15:].decode()
