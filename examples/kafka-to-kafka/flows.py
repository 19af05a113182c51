"""Which orders go on."""

from typing import Any


def large(order: dict[str, Any]) -> dict[str, Any] | None:
    """An order of a hundred or more."""
    return order if order["total"] >= 100 else None
