"""Slot: the keys that live together in one slot of a Redis Cluster, so that one script may touch them all.

They carry the same hash tag: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags
"""

from __future__ import annotations

from functools import cache
from itertools import count, product
from string import ascii_lowercase

from millrace_pipeline.errors import ConfigError

SLOTS = 16384


def key_beside(key: str, name: str) -> str:
    """Return the key called `name` that lives in the slot of `key`. Raises ConfigError for braces that are no tag."""
    return f"{key if _has_hash_tag(key) else f'{{{key}}}'}:{name}"


def spread_keys(key: str, count: int) -> list[str]:
    """Return so many keys `K{0/8}`, `K{1/8}` … whose slots lie evenly: the first in the first 8th of them, and so on.

    A letter or more behind the numbers see to that; which they are never changes.
    """
    return [f"{key}{{{_tag(index, count)}}}" for index in range(count)]


@cache
def _tag(index: int, of: int) -> str:
    """The shortest tag for this one of so many that lies where it should."""
    from redis.crc import key_slot  # here, as every command imports this file and few flows have partitions

    names = (f"{index}/{of}{''.join(letters)}" for size in count() for letters in product(ascii_lowercase, repeat=size))
    return next(name for name in names if key_slot(name.encode()) * of // SLOTS == index)


def _has_hash_tag(key: str) -> bool:
    opening = key.find("{")
    if opening == -1 and "}" not in key:
        return False
    closing = key.find("}", opening + 1)
    if opening != -1 and closing > opening + 1:
        return True
    raise ConfigError(f"queue key {key!r}: braces must form a Redis hash tag such as {{name}}; leave them out")
