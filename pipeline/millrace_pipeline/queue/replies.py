"""Replies: what Redis answers in RESP2, where lists stand for hashes, for sorted sets with scores, and for the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def pairs(flat: Sequence[Any] | Mapping[Any, Any]) -> dict[Any, Any]:
    """Return a hash, or a sorted set with scores, from its names and values in turn."""
    if isinstance(flat, Mapping):
        return dict(flat)
    return dict(zip(flat[::2], flat[1::2], strict=True))


def milliseconds(clock: Sequence[Any]) -> int:
    """Return what TIME answered as milliseconds since 1970."""
    return int(clock[0]) * 1000 + int(clock[1]) // 1000
