"""Asking: what becomes of a source that can't say who asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from millrace_pipeline.errors import AuthRefused, AuthUnavailable, SourceRefused, SourceUnavailable

T = TypeVar("T")


def saying_who_asks(ask: Callable[[], T]) -> T:
    """Return what `ask` does. Raises SourceUnavailable and SourceRefused for what its credentials raise."""
    failed: SourceUnavailable | SourceRefused
    cause: BaseException | None = None
    try:
        return ask()
    except AuthUnavailable as error:
        failed, cause = SourceUnavailable(str(error)), error.__cause__
    except AuthRefused as error:
        failed = SourceRefused(str(error))
    raise failed from cause  # here, with nothing in its chain but what a function of the user's raised
