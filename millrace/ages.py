"""Ages: spans of time as people read them."""

from __future__ import annotations


def age(seconds: float) -> str:
    """The span in its fitting unit: 3.1 s, 12.0 min, 5.2 h, 3.4 d."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} d"


def span(seconds: float) -> str:
    """The span to about two units: 45 s, 3 min 20 s, 2 h 5 min, 3 d 4 h."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    for unit, size, below, part in (("min", 60, "s", 1), ("h", 3600, "min", 60), ("d", 86400, "h", 3600)):
        if whole < size * (60 if unit == "min" else 24) or unit == "d":
            count, rest = divmod(whole, size)
            return f"{count:,} {unit}" + (f" {rest // part} {below}" if rest // part else "")
    raise AssertionError
