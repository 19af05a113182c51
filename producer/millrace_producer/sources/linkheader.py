"""Link header: what a server says of where else to look, as RFC 8288 has it.

The parser of `requests` cuts at every comma and semicolon, and takes `rel` as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_TARGET = re.compile(r"""(?:[^<"]|"(?:[^"\\]|\\.)*"?)*<([^>]*)>""", re.DOTALL)
_PARAMETER = re.compile(r"""\s*;\s*([^\s=;,"<>]*)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^;,"]*)))?""", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class Link(NamedTuple):
    """A link: its target, as it stands there, and its parameters by name in lower case, the first of each."""

    target: str
    parameters: dict[str, str]

    @property
    def relations(self) -> list[str]:
        """What the target is to the answer, in lower case, also where that stands in the quotes of another language."""
        return self.parameters.get("rel", "").strip("'").lower().split()


def links_in(header: str) -> Iterator[Link]:
    """The links of a Link header; of several headers they stand behind each other, with commas between."""
    at = 0
    while target := _TARGET.match(header, at):
        at = target.end()
        parameters: dict[str, str] = {}
        while (found := _PARAMETER.match(header, at)) and found.end() > at:
            at = found.end()
            name, quoted, plain = found.groups()
            value = (plain or "").strip() if quoted is None else _ESCAPED.sub(r"\1", quoted)
            parameters.setdefault(name.lower(), value)
        yield Link(target[1].strip(), parameters)


def is_readable(header: str) -> bool:
    """Return False for a header that says something in which there is no link."""
    return not header.strip(" \t,;") or next(links_in(header), None) is not None


def next_link(headers: Sequence[str]) -> str | None:
    """The target of the link to the next page; None where there is none, or where it is said to have no results."""
    for link in links_in(", ".join(headers)):
        has_results = link.parameters.get("results", "").strip().lower() != "false"
        if "next" in link.relations and "anchor" not in link.parameters:
            return (link.target or None) if has_results else None
    return None
