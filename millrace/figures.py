"""Figures: counts, rates and shares, as people read them in little room."""

from __future__ import annotations

NOTHING = "–"


def number(count: float) -> str:
    """A count in at most seven characters: 99,999, 123.4k, 1.23M."""
    if count < 100_000:
        return f"{count:,.0f}"
    for size, letter in ((1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T")):
        if count < 1000 * size or letter == "T":
            scaled = count / size
            return f"{scaled:.2f}{letter}" if scaled < 10 else f"{scaled:.1f}{letter}"
    raise AssertionError


def rate(a_second: float | None) -> str:
    """A rate in at most seven characters."""
    if a_second is None:
        return NOTHING
    return f"{a_second:.1f}" if 0 < a_second < 9.95 else number(a_second)


def size(count: float) -> str:
    """Bytes in at most eight characters: 512 B, 12.3 kB, 1.23 MB."""
    if count < 1000:
        return f"{count:.0f} B"
    for unit, letter in ((1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T")):
        if count < 999.95 * unit or letter == "T":
            scaled = count / unit
            return f"{scaled:.2f} {letter}B" if scaled < 9.995 else f"{scaled:.1f} {letter}B"
    raise AssertionError


def share(of_time: float | None) -> str:
    """A share of time in percent."""
    return NOTHING if of_time is None else f"{of_time * 100:.0f}%"
