"""Culprit: the line that keeps a file from being YAML, which often stands before the one where the parser gave up.

A guess is tried before it is said: with that line mended, the file can be read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import yaml

LARGEST = 100_000
"""Characters of a file in which it is looked for: each guess reads it once more."""

GUESSES = 40
SHIFTS = (1, -1, 2, -2)

_QUOTE_OPENS = re.compile(r"""(?:^|[:\-,\[{]\s+|[\[{]|^\s*)(["'])""")
_NAMED = re.compile(r"(?P<name>\s*(?:- +)?\w[\w-]*)(?::(?=\S))?(?P<rest>(?<=:).*)?")
_DIRECTIVE = re.compile(r"\s*(#|$)|---|\.\.\.|%")

Reads = Callable[[str], bool]
"""Whether a text can be read as YAML."""


class Culprit(NamedTuple):
    """A place, from 1, and what is wrong there."""

    line: int
    column: int
    message: str


def culprit_of(error: yaml.MarkedYAMLError, text: str, reads: Reads) -> Culprit | None:
    """Return what is to be mended; None where nothing better is known than where the parser gave up."""
    lines = text.split("\n")
    end = min(error.problem_mark.line if error.problem_mark else len(lines) - 1, len(lines) - 1)
    if len(text) <= LARGEST:
        found = _quote(lines, end, reads) or _colon(lines, end, reads) or _indentation(lines, end, reads)
        if found:
            return found
    return _begun(error)


def _begun(error: yaml.MarkedYAMLError) -> Culprit | None:
    """Return where that begins which has no end, if it is in an earlier line."""
    began, gave_up = error.context_mark, error.problem_mark
    if began is None or gave_up is None or began.line >= gave_up.line:
        return None
    place = (began.line + 1, began.column + 1)
    context = str(error.context)
    if "quoted scalar" in context:
        return Culprit(*place, "the quote that begins here has no end")
    if "flow mapping" in context or "flow sequence" in context:
        sign = "{" if "mapping" in context else "["
        return Culprit(*place, f"the {sign} here has no end: {error.problem}")
    if "simple key" in context:
        return Culprit(*place, "expected a colon behind the name, as in `name: value`")
    return None


def _quote(lines: list[str], end: int, reads: Reads) -> Culprit | None:
    """Return the first quote without an end in its line that, given one, makes the file right."""
    guesses = 0
    for number, line in enumerate(lines):
        opened = _open_quote(line)
        if opened is None:
            continue
        guesses += 1
        if guesses > GUESSES or number > end:
            return None
        for mended in _closed(line, opened):
            if reads("\n".join((*lines[:number], mended, *lines[number + 1 :]))):
                return Culprit(number + 1, opened + 1, f"the quote {line[opened]} that begins here has no end")
    return None


def _open_quote(line: str) -> int | None:
    """Return where in a line a quoted value begins that doesn't end in it."""
    place = 0
    while match := _QUOTE_OPENS.search(line, place):
        quote, start = match[1], match.start(1)
        if "#" in line[:start] and re.search(r"(^|\s)#", line[:start]):
            return None
        inner = r"""(?:[^"\\]|\\.)*\"""" if quote == '"' else r"(?:[^']|'')*'"
        closing = re.compile(inner).match(line, start + 1)
        if closing is None:
            return start
        place = closing.end()
    return None


def _closed(line: str, opened: int) -> Iterator[str]:
    """Yield the line with the quote closed where that may have been meant."""
    quote = line[opened]
    body = line.rstrip()
    tail = len(body)
    while True:
        yield body[:tail] + quote + body[tail:]
        if tail <= opened + 1 or body[tail - 1] not in "}] ":
            break
        tail -= 1
    if (comma := body.find(", ", opened)) > 0:
        yield body[:comma] + quote + body[comma:]


def _colon(lines: list[str], end: int, reads: Reads) -> Culprit | None:
    """Return a line whose name has no colon, or no blank behind it, and with it makes the file right."""
    for number in range(end, max(-1, end - 4), -1):
        named = _NAMED.fullmatch(lines[number].rstrip())
        if named is None:
            continue
        mended = f"{named['name']}: {named['rest'] or ''}"
        if reads("\n".join((*lines[:number], mended, *lines[number + 1 :]))):
            column = len(named["name"]) + 1
            lacking = "a blank behind the colon" if named["rest"] else "a colon behind the name"
            return Culprit(number + 1, column, f"expected {lacking}, as in `name: value`")
    return None


def _indentation(lines: list[str], end: int, reads: Reads) -> Culprit | None:
    """Return a line that, moved by a space or two, makes the file right: first of those that are out of step."""
    written = [number for number, line in enumerate(lines) if not _DIRECTIVE.match(line)]
    indents = {number: len(lines[number]) - len(lines[number].lstrip(" ")) for number in written}
    step = _step(indents)
    near = [number for number in written if number <= end][::-1]
    odd = [number for number in near if indents[number] % step]
    for number in (*odd[:GUESSES], *(number for number in near[:3] if number not in odd)):
        found = [
            shift
            for shift in SHIFTS
            if (wanted := indents[number] + shift) >= 0
            and not (number in odd and wanted % step)
            and reads("\n".join((*lines[:number], " " * wanted + lines[number].lstrip(" "), *lines[number + 1 :])))
        ]
        if found:
            places = " or ".join(str(indents[number] + shift) for shift in sorted(found))
            too = f"{abs(found[0])} space{'s' * (abs(found[0]) > 1)} too {'few' if found[0] > 0 else 'many'}"
            many = too if len(found) == 1 else "out of step"
            message = f"the indentation of this line is {many}: expected {places}, not {indents[number]}"
            return Culprit(number + 1, indents[number] + 1, message)
    return None


def _step(indents: dict[int, int]) -> int:
    """Return by how many spaces the file indents: 4 where nearly all lines fit that, else 2."""
    counts = Counter(indent % 4 for indent in indents.values() if indent)
    return 4 if counts[0] > 0.7 * max(1, counts.total()) and not counts[2] else 2
