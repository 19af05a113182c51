"""Pointer: the way to a value within a record, as a JSON pointer (RFC 6901) or the name of a field."""

from __future__ import annotations

import re
import sys
from typing import Any

_POINTER_STEP = re.compile(r"~[01]")


def steps_of(pointer: str) -> list[str]:
    """The names that a JSON pointer (RFC 6901, `/meta/id`) leads through; one without a leading slash is a name."""
    steps = pointer[1:].split("/") if pointer.startswith("/") else [pointer]
    return [_POINTER_STEP.sub(lambda m: "~" if m[0] == "~0" else "/", step) if "~" in step else step for step in steps]


def resolve(pointer: str, value: Any, absent: Any = None) -> Any:
    """Return what a JSON pointer finds in a value; None, or what `absent` says, where there is nothing."""
    for step in steps_of(pointer):
        if isinstance(value, dict):
            value = value.get(step, absent)
        elif isinstance(value, list) and (place := place_of(step)) < len(value):
            value = value[place]
        else:
            return absent
    return value


def resolve_alike(pointer: str, value: Any, absent: Any = None) -> Any:
    """Return what a JSON pointer finds in a value, by the letter, else regardless of case where one name is alike."""
    for step in steps_of(pointer):
        if isinstance(value, dict):
            if step not in value:
                folded = step.casefold()
                alike = [name for name in value if isinstance(name, str) and name.casefold() == folded]
                if len(alike) != 1:
                    return absent
                step = alike[0]
            value = value[step]
        elif isinstance(value, list) and (place := place_of(step)) < len(value):
            value = value[place]
        else:
            return absent
    return value


def meant_by(name: str, value: Any) -> str | None:
    """Return the pointer that a name with dots was meant for, where that finds something; else None."""
    nested = "/" + name.replace(".", "/")
    meant = not name.startswith("/") and "." in name and resolve(nested, value) is not None
    return nested if meant else None


def place_of(step: str) -> int:
    """The place in a list that a step of a JSON pointer names; one that no list has where it names none."""
    return int(step) if step.isascii() and step.isdigit() and len(step) < 18 else sys.maxsize
