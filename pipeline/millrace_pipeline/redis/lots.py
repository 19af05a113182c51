"""Lots: requests of no more arguments than any Redis takes. ElastiCache Serverless refuses one of 4,000."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

ARGUMENTS = 3_999
"""At most so many words has a request, its own name included."""

BYTES = 256 << 20
"""What is more than that stays in words of its own: Redis takes no word of 512 MiB."""

PACKED = "packed"
"""The first of two arguments that stand for all: how long each is, and behind it the arguments in one word."""


def in_lots(head: Sequence[Any], items: Sequence[Any], tail: Sequence[Any] = (), *, size: int = 1) -> Iterator[Any]:
    """Yield commands with these words around the items, as many in each as a request has room for.

    `size` items belong together. Without items there is no command.
    """
    room = (ARGUMENTS - len(head) - len(tail)) // size * size
    for first in range(0, len(items), room):
        yield (*head, *items[first : first + room], *tail)


def packed_arguments(keys: int, arguments: Sequence[Any]) -> Sequence[Any]:
    """Return the arguments of a script; packed where they would be too many beside so many keys.

    A script that may get so many has `--include arguments`, which parts them again.
    """
    if 3 + keys + len(arguments) <= ARGUMENTS:
        return arguments
    words = [word if isinstance(word, bytes) else str(word).encode() for word in arguments]
    if sum(map(len, words)) > BYTES:
        return arguments
    return (PACKED, " ".join(str(len(word)) for word in words), b"".join(words))
