"""Durations and sizes as people write them: `10s`, `1m30s`, `250ms`; `32MiB`, `4kB`."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s|m|h|d)")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmg]i?b|b)", re.IGNORECASE)

_NO_DURATION = "expected a duration such as 10s, 1m30s, 250ms or 1h (a number is seconds)"
_NO_SIZE = "expected a size such as 32MiB, 4kB or 512B (a number is bytes)"


def seconds(value: Any) -> float:
    """How many seconds `"1m30s"` or `90` is. Raises PydanticCustomError, a ValueError, for anything else."""
    total = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        total = float(value) if abs(value) < 1e18 else math.inf
    elif isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        total = float(value)
    elif isinstance(value, str) and _DURATION.fullmatch(value.strip()):
        total = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(value))
    if not (math.isfinite(total) and total >= 0):
        raise PydanticCustomError("duration", _NO_DURATION)
    return total


def is_duration(text: str) -> bool:
    """Whether it is a duration with its units, as in `1m30s`."""
    return _DURATION.fullmatch(text.strip()) is not None


def size_in_bytes(value: Any) -> int:
    """How many bytes `"32MiB"` or `4096` is. Raises PydanticCustomError, a ValueError, for anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63:
        return value
    total = math.nan
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        total = float(value)
    elif isinstance(value, str) and (found := _SIZE.fullmatch(value.strip())):
        total = float(found[1]) * _BYTES[found[2].lower()]
    if not (total < 2**63 and total == int(total)):
        raise PydanticCustomError("size", _NO_SIZE)
    return int(total)


def duration_text(duration: float) -> str:
    """Seconds as a person writes them: 90.0 is `1m30s`, 0.25 is `250ms`."""
    if duration < 1:
        return f"{duration * 1000:g}ms" if duration else "0s"
    parts = []
    for unit in ("d", "h", "m"):
        count, duration = divmod(duration, _SECONDS[unit])
        if count:
            parts.append(f"{count:.0f}{unit}")
    if duration:
        parts.append(f"{duration:g}s")
    return "".join(parts)


_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,6})?) ?%")


def share(value: object) -> float:
    """A part of all, from 0 to 1, of `1%` or of a number. Raises ValueError for anything else."""
    if isinstance(value, str) and (match := _SHARE.fullmatch(value.strip())):
        value = float(match[1]) / 100
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError("expected a share such as 1%, or a fraction from 0 to 1")
    return float(value)


Duration = Annotated[
    float,
    BeforeValidator(seconds),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "description": "seconds"},
                {"type": "string", "pattern": f"^{_DURATION.pattern}$", "examples": ["10s", "1m30s", "250ms", "1h"]},
            ]
        }
    ),
]
"""Seconds. Written as a number of seconds or as `10s`, `1m30s`, `250ms`, `1h`, `7d`."""

Share = Annotated[
    float,
    BeforeValidator(share),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": 1, "description": "of all, as a fraction"},
                {"type": "string", "pattern": f"^{_SHARE.pattern}$", "examples": ["1%", "0.5%"]},
            ]
        }
    ),
]
"""A part of all. Written as `1%`, or as a fraction such as 0.01."""

Size = Annotated[
    int,
    BeforeValidator(size_in_bytes),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "description": "bytes"},
                {
                    "type": "string",
                    "pattern": "^[0-9]+([.][0-9]+)? ?([kKmMgG][iI]?)?[bB]$",
                    "examples": ["32MiB", "4kB", "512B"],
                },
            ]
        }
    ),
]
"""Bytes. Written as a number of bytes or as `32MiB`, `4kB`, `512B` (kB is 1000, KiB is 1024)."""
