"""What is no CSV though it is read as one: JSON, HTML, XML, and CSV with another delimiter."""

from __future__ import annotations

import re
from collections.abc import Sequence

from millrace_pipeline.errors import EnvelopeError
from millrace_pipeline.jsontext import decode_json
from millrace_pipeline.process.repeats import repeats

USUAL = {",": ",", ";": ";", "\t": "\\t", "|": "|"}
"""What cells are usually parted by, and how that is written in flows.yaml."""

_DOCUMENT = re.compile(rb"\s*<(?:!doctype|html[\s>]|\?xml)", re.IGNORECASE)
_MARKUP = re.compile(rb"\s*<(?:!doctype|!--|\?xml|[a-z][a-z0-9:]*[\s>])", re.IGNORECASE)
_OPENED = re.compile(rb'\s*(?:\{\s*(?:["}]|$)|\[\s*(?:[\[{"\]]|-?\d|$))')
_MARK = b"\xef\xbb\xbf"


class NotCsv(EOFError):
    """Something else stands where a CSV should. The message says what."""


def check_csv(begins: bytes, *, named: bool, quoted: bool = True) -> None:
    """Raise NotCsv where a text, or its first row, begins as something else does.

    `named`: the columns' names are known, and no header is to come; then cells may be anything that a whole document
    isn't. Without quotes they may be JSON, too.
    """
    begins = begins.removeprefix(_MARK)
    what = None
    if (_DOCUMENT if named else _MARKUP).match(begins):
        what = "HTML or XML"
    elif (quoted or not named) and ((not named and _OPENED.match(begins)) or _is_json(begins)):
        what = "JSON"
    if what:
        raise NotCsv(f"{what} and no CSV: is `format` right?")


def _is_json(text: bytes) -> bool:
    if text.lstrip()[:1] not in (b"{", b"["):
        return False
    try:
        decode_json(text)
        return True
    except EnvelopeError:
        return False


def other_delimiter(cells: Sequence[str], delimiter: str) -> str | None:
    """Return what a row of one cell is likely to be parted by, as flows.yaml has it; None for nothing else."""
    if len(cells) != 1:
        return None
    found = [(cells[0].count(other), shown) for other, shown in USUAL.items() if other != delimiter]
    times, shown = max(found)
    return shown if times else None


def say_one_column(header: Sequence[str], delimiter: str) -> None:
    """Say once, and count, that a header is of one column in which another delimiter stands."""
    if other := other_delimiter(header, delimiter):
        mend = f'the header is one column, and has others in it as it seems: delimiter: "{other}"'
        repeats.warn("csv_of_one_column", kind="", of=other, header=header[0][:80], mend=mend)
