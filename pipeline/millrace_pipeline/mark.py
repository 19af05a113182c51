"""Mark: who pushed a record, told by what it says and not by what it looks like.

Every envelope that is published on a list bears its name, in the extension attribute `millrace`
(docs/decisions/0015-who-pushed.md). All else on that list is foreign: bare objects, CloudEvents from elsewhere,
envelopes passed on from another list, and what is no envelope at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from millrace_pipeline.envelope import decode
from millrace_pipeline.errors import EnvelopeError
from millrace_pipeline.jsontext import encode_json


def is_foreign(line: bytes, mark: str) -> bool:
    """True for a record that we didn't publish on this list, whatever it looks like.

    Ours stays ours where it can't be decoded: too deep for who stands deeper in the stack, or broken by a person.
    """
    if _as_written(mark).match(line):
        return False
    try:
        return decode(line, foreign_id=str).mark != mark
    except EnvelopeError:
        return True


def foreign_among(lines: Iterable[bytes], mark: str) -> int:
    """Return how many of these records are foreign on this list."""
    return sum(is_foreign(line, mark) for line in lines)


def unmarked(line: bytes, mark: str) -> bytes:
    """An envelope without this list's mark, for another list of that name, which it wasn't published on."""
    found = _as_written(mark).match(line)
    return line[: found.end(1)] + line[found.end() :] if found else line


def traced(line: bytes, mark: str, parent: str, state: str) -> bytes:
    """An envelope as `encode` writes it, with `traceparent` and `tracestate`; any other is returned as it is."""
    found = _as_written(mark).match(line)
    if not found:
        return line
    end = found.end()
    return b'%b,"traceparent":"%b","tracestate":"%b"%b' % (line[:end], parent.encode(), state.encode(), line[end:])


@lru_cache(maxsize=64)
def _as_written(mark: str) -> re.Pattern[bytes]:
    """How an envelope with this mark begins, as `encode` writes it; the first group ends before the mark."""
    text = rb'"(?:[^"\\]|\\.)*"'
    head = rb'\{"specversion":"1\.0","id":%b,"source":%b,"type":%b,"time":(?:null|%b)' % (text, text, text, text)
    return re.compile(rb'(%b),"millrace":%b(?=,"(?:data|traceparent)":)' % (head, re.escape(encode_json(mark))))
