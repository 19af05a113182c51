"""Content: the bytes of a record as a page shows them, of any size and any kind, and as a form may edit them."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import Literal

import msgspec
from markupsafe import Markup
from starlette.responses import Response

from millrace.ui.visible import number_of, visible
from millrace_pipeline.envelope import decode
from millrace_pipeline.errors import EnvelopeError

CUT_BYTES = 64 * 1024
"""So much of a record is shown; all of it can be had as a file."""

FORMATTED_BYTES = 1024 * 1024
"""Nothing larger is laid out."""

HEX_BYTES = 4 * 1024
EDITED_BYTES = 1024 * 1024
PREVIEW_LETTERS = 160

View = Literal["formatted", "text", "bytes"]
VIEWS: dict[View, str] = {"formatted": "Laid out", "text": "As it stands", "bytes": "Bytes"}


@dataclass(frozen=True)
class Content:
    """What is shown of a record: the view, its HTML, and how many bytes are left out."""

    view: View
    html: Markup
    left_out: int
    kinds: list[View]
    """The views that there are of it."""


def content_of(record: bytes, wanted: str = "") -> Content:
    """Return a record as it is asked for, or as suits it best: JSON laid out, what is no text as bytes."""
    laid_out = laid_out_json(record)
    kinds: list[View] = ["bytes"]
    if _text(record[:CUT_BYTES], cut=len(record) > CUT_BYTES) is not None:
        kinds.insert(0, "text")
    if laid_out is not None:
        kinds.insert(0, "formatted")
    view = next((kind for kind in kinds if kind == wanted), kinds[0])
    if view == "bytes":
        return Content(view, visible(_hex(record[:HEX_BYTES]), lines=True), max(0, len(record) - HEX_BYTES), kinds)
    shown = laid_out if view == "formatted" and laid_out is not None else record
    text = _text(shown[:CUT_BYTES], cut=len(shown) > CUT_BYTES) or ""
    return Content(view, visible(text, lines=True), max(0, len(shown) - CUT_BYTES), kinds)


def preview(record: bytes, letters: int = PREVIEW_LETTERS) -> str:
    """Return how a record begins, on one line: its data, where it is an envelope."""
    if len(record) <= CUT_BYTES:
        with contextlib.suppress(EnvelopeError):
            record = bytes(decode(record, foreign_id=str).text)
    begin = record[: 4 * letters]
    text = (_text(begin, cut=len(begin) < len(record)) or begin.decode(errors="replace")).strip()
    return text if len(record) <= len(begin) and len(text) <= letters else text[:letters] + "…"


def laid_out_json(record: bytes) -> bytes | None:
    """Return a JSON text with a line for each value, its numbers to the digit; None where it is none, or too large."""
    if len(record) > FORMATTED_BYTES:
        return None
    try:
        msgspec.json.decode(record)
        return msgspec.json.format(record, indent=2)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None


def editable(record: bytes) -> str | None:
    """Return the text that a form can edit and give back to the byte; None where it can't.

    What doesn't show itself is escaped, which in JSON means the same. Browsers turn line ends around and lose NULs, so
    no other text with any of these is put into a form.
    """
    text = _text(record) if len(record) <= EDITED_BYTES else None
    if text is None or "\r" in text:
        return None
    if all(letter.isprintable() or letter in "\n\t" for letter in text):
        return text
    if laid_out_json(record) is None:
        return None
    return "".join(letter if letter.isprintable() or letter in "\n\t" else _escaped(letter) for letter in text)


def edited(text: str) -> bytes:
    """Return the bytes that were edited in a form, which sends CR LF where a line ends."""
    return text.replace("\r\n", "\n").strip().encode()


def unlike_text(record: bytes) -> list[str]:
    """Return the names of what doesn't show itself in the text of a record: U+202E."""
    text = _text(record[:CUT_BYTES], cut=True) or ""
    return sorted({number_of(letter) for letter in text if not letter.isprintable() and letter not in "\n\t\r"})


def _text(record: bytes, *, cut: bool = False) -> str | None:
    """The text of these bytes, whose last character may be `cut`; None where it is no UTF-8."""
    try:
        return record.decode()
    except UnicodeDecodeError as error:
        if cut and error.reason == "unexpected end of data":
            return record[: error.start].decode()
        return None


def _escaped(letter: str) -> str:
    units = letter.encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def _hex(record: bytes) -> str:
    lines = []
    for at in range(0, len(record), 16):
        row = record[at : at + 16]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "·" for byte in row)
        lines.append(f"{at:08x}  {row[:8].hex(' '):<23}  {row[8:].hex(' '):<23}  {shown}")
    return "\n".join(lines)


def file_of(content: bytes, name: str) -> Response:
    """Return these bytes as a file to be saved, which no browser opens."""
    headers = {
        "Content-Disposition": f'attachment; filename="{re.sub(r"[^A-Za-z0-9._-]", "_", name)[:120]}.bin"',
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    return Response(content, media_type="application/octet-stream", headers=headers)
