"""Slot: the keys that live together in one slot of a Redis Cluster, so that one script may touch them all.

They carry the same hash tag: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags
"""

from __future__ import annotations

from millrace_pipeline.errors import ConfigError


def key_beside(key: str, name: str) -> str:
    """Return the key called `name` that lives in the slot of `key`. Raises ConfigError for braces that are no tag."""
    return f"{key if _has_hash_tag(key) else f'{{{key}}}'}:{name}"


def _has_hash_tag(key: str) -> bool:
    opening = key.find("{")
    if opening == -1 and "}" not in key:
        return False
    closing = key.find("}", opening + 1)
    if opening != -1 and closing > opening + 1:
        return True
    raise ConfigError(f"queue key {key!r}: braces must form a Redis hash tag such as {{name}}; leave them out")
