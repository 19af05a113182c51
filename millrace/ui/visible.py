"""Visible: text of others as people can read it: what would hide, turn round or steer is named instead."""

from __future__ import annotations

import unicodedata

from markupsafe import Markup, escape


def visible(text: object, *, lines: bool = False) -> Markup:
    """Return the text as HTML, with each character that doesn't show itself by its number. `lines` may end and indent.

    That is controls, formats (bidi overrides and isolates, zero widths), separators other than a space, halves of
    surrogate pairs, and what no Unicode defines.
    """
    text = str(text)
    if text.isprintable():
        return escape(text)
    parts: list[Markup] = []
    run: list[str] = []
    for letter in text:
        if letter.isprintable() or (lines and letter in "\n\t"):
            run.append(letter)
            continue
        parts.append(escape("".join(run)))
        run.clear()
        parts.append(
            Markup('<span class="hidden-letter" title="{}">{}</span>').format(_name(letter), number_of(letter))
        )
    parts.append(escape("".join(run)))
    return Markup("").join(parts)


def plain(text: object) -> str:
    """Return the text for an attribute, on one line, with what doesn't show itself by its number."""
    text = str(text)
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else f"⟨{number_of(letter)}⟩" for letter in text)


def number_of(letter: str) -> str:
    """Return how a character is called where it can't be shown: U+202E."""
    return f"U+{ord(letter):04X}"


def _name(letter: str) -> str:
    return unicodedata.name(
        letter, {"\n": "LINE FEED", "\r": "CARRIAGE RETURN", "\t": "TAB", "\0": "NULL"}.get(letter, "")
    )
