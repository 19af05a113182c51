"""Ages: spans of time as people read them."""

from __future__ import annotations


def age(seconds: float) -> str:
    """The span in its fitting unit: 3.1 s, 12.0 min, 5.2 h, 3.4 d."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} d"
