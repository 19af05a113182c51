"""Failure: why a server gave no answer, passed on as a value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Failure:
    """Why there is no answer now. A value, since an exception would carry the URL along in its chain.

    `retry_after` is how many seconds the server asked to wait, if it did.
    """

    reason: str
    retry_after: float | None = None
