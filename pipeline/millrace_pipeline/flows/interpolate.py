"""`${VAR}`, `${VAR:-default}`, `${VAR-default}` and `$$`, as Docker Compose writes them.

`:-` gives the default for an unset and for an empty variable, `-` only for an unset one. A default may hold variables
itself. `$$` is one dollar sign; a lone `$` stays what it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
MAX_DEPTH = 20
"""Defaults within defaults."""

_FORMS = "${NAME}, ${NAME:-default} or ${NAME-default} ($$ for a dollar sign)"


class Fault(NamedTuple):
    """What is wrong with one `${…}`: the text it begins with, to find it by, and what to say."""

    at: str
    message: str
    unset: bool


class Interpolated(NamedTuple):
    """`variables` are those whose value, taken from the environment, is part of `text`; such values may be secret."""

    text: str
    variables: dict[str, str]
    faults: list[Fault]


def interpolate(text: str, environ: Mapping[str, str]) -> Interpolated:
    """The text with its variables replaced."""
    result = Interpolated("", {}, [])
    return result._replace(text=_replaced(text, environ, result))


def _replaced(text: str, environ: Mapping[str, str], result: Interpolated) -> str:
    pieces = []
    start = 0
    while (dollar := text.find("$", start)) >= 0:
        pieces.append(text[start:dollar])
        if text.startswith("$$", dollar):
            pieces.append("$")
            start = dollar + 2
        elif not text.startswith("${", dollar):
            pieces.append("$")
            start = dollar + 1
        elif end := _end(text, dollar + 2):
            pieces.append(_value(text[dollar + 2 : end], environ, result))
            start = end + 1
        else:
            result.faults.append(
                Fault(text[dollar : dollar + 8], f"${{ without its }}, or too many in one: expected {_FORMS}", False)
            )
            return ""
    return "".join([*pieces, text[start:]])


def _end(text: str, start: int) -> int:
    """Where the brace closes that was opened just before `start`; 0 if nowhere, or beneath too many others."""
    depth = 1
    while start < len(text):
        if text.startswith(("$$", "${"), start):
            depth += text[start + 1] == "{"
            if depth > MAX_DEPTH:
                return 0
            start += 2
            continue
        depth -= text[start] == "}"
        if not depth:
            return start
        start += 1
    return 0


def _value(inside: str, environ: Mapping[str, str], result: Interpolated) -> str:
    found = _NAME.match(inside)
    name = found[0] if found else ""
    rest = inside[len(name) :]
    if not name or (rest and not rest.startswith(("-", ":-"))):
        result.faults.append(Fault(f"${{{inside}", f"${{{inside}}} is no variable: expected {_FORMS}", False))
        return ""
    value = environ.get(name)
    if value is not None and (value or not rest.startswith(":-")):
        result.variables[name] = value
        return value
    if rest:
        return _replaced(rest.removeprefix(":").removeprefix("-"), environ, result)
    message = f"the environment variable {name} is not set: set it, or write ${{{name}:-default}}"
    result.faults.append(Fault(f"${{{name}", message, True))
    return ""
