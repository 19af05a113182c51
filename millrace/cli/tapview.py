"""Tapview: a tapped record as JSON, as YAML, as a line of a table, or before and after the transforms side by side."""

from __future__ import annotations

import base64
import difflib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any, Literal, TypeAlias

import msgspec
from rich.cells import cell_len, set_cell_size
from rich.filesize import decimal

from millrace.feeds import Tapped
from millrace_pipeline import envelope
from millrace_pipeline.errors import EnvelopeError, RecordError
from millrace_pipeline.jsontext import checked_text, one_line
from millrace_pipeline.queue.tap import Text

Format: TypeAlias = Literal["json", "yaml", "table"]
View: TypeAlias = Callable[[Tapped], str]

WIDTH = 80
"""Of what is no terminal, where two columns stand beside each other."""


def view_of(form: Format, *, diff: bool, width: int | None) -> View:
    """Return what shows records in this form; `width` is the terminal's, None where there is none."""
    on_terminal = width is not None
    if form == "json":
        return lambda one: _visible_json(_json(one, diff)) if on_terminal else _json(one, diff)
    if form == "yaml":
        return lambda one: _yaml(one, diff)
    if diff:
        return lambda one: "\n".join(_side_by_side(one, width or WIDTH))
    return lambda one: "\n".join(_row(one, text, width) for text in one.delivered or [one.record])


def heading(width: int | None) -> str:
    """Return the first line of a table."""
    return _fitted(f"{'UTC':<12}  {'id':<{_id_cells(width)}}  record", width)


def visible(text: str) -> str:
    """Return the text with what would steer a terminal, or turn its letters around, as escapes that JSON has, too."""
    return (
        text if text.isprintable() else "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)
    )


def _escaped(letter: str) -> str:
    return json.dumps(letter)[1:-1] if letter != "\x7f" else "\\u007f"


def _visible_json(line: str) -> str:
    return visible(line.replace("\t", " "))  # outside of text, where JSON has no escapes; inside, a tab is one already


def _when(one: Tapped) -> datetime | None:
    return datetime.fromtimestamp(one.time, UTC) if one.time else None


def _head(one: Tapped) -> dict[str, Any]:
    """What is known of it beside its bytes; what isn't is left out."""
    when = _when(one)
    told = {
        "position": one.position or None,
        "time": f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond // 1000:03}Z" if when else None,
        "party": one.party,
        "batch": one.batch,
        "became": one.became,
        "id": one.id,
        "reason": one.reason,
    }
    return {name: value for name, value in told.items() if value}


def _json(one: Tapped, diff: bool) -> str:
    if diff:
        return _line({**_head(one), "before": _bare(one.record), "after": [_bare(text) for text in one.delivered]})
    texts = one.delivered or [one.record]
    return "\n".join(_line({**_head(one), **_record(text)}) for text in texts)


def _line(told: dict[str, Any]) -> str:
    return msgspec.json.encode(told).decode()


def _record(text: Text) -> dict[str, Any]:
    """The record under a name that says what is there: its JSON, what there is of its text, or base64 of its bytes."""
    more = {"bytes": text.size} if text.is_cut else {}
    if (found := _json_of(text)) is not None:
        return {"record": found}
    try:
        return {"record_text": _text(text), **more}
    except UnicodeDecodeError:
        return {"record_base64": base64.b64encode(text.content).decode(), **more}


def _bare(text: Text) -> Any:
    """The same where it has a name already: the JSON itself, or an object that says what it is."""
    told = _record(text)
    return told.get("record", told)


def _json_of(text: Text) -> msgspec.Raw | None:
    if text.is_cut:
        return None
    try:
        checked_text(text.content)
    except RecordError:
        return None
    return msgspec.Raw(one_line(text.content))


def _text(text: Text) -> str:
    """What there is of it as text, without a part of a letter that the cut may have left. Raises UnicodeDecodeError."""
    try:
        return text.content.decode()
    except UnicodeDecodeError as error:
        if text.is_cut and error.start > len(text.content) - 4:
            return text.content[: error.start].decode()
        raise


def _yaml(one: Tapped, diff: bool) -> str:
    from millrace.cli.yamltext import yaml_of

    if diff:
        told = {**_head(one), "before": _bare(one.record), "after": [_bare(text) for text in one.delivered]}
        return "---\n" + yaml_of(told)
    return "".join("---\n" + yaml_of({**_head(one), **_record(text)}) for text in one.delivered or [one.record])


def _row(one: Tapped, text: Text, width: int | None) -> str:
    id, data = _opened(text)
    when = _when(one)
    first = f"{when:%H:%M:%S}.{when.microsecond // 1000:03}" if when else f"{one.position:>12,}"
    said = f"{one.reason}: {data}" if one.reason else data
    return _fitted(f"{first}  {_end_of(visible(one.id or id), _id_cells(width))}  {visible(said)}", width)


def _id_cells(width: int | None) -> int:
    return 36 if width is None or width >= 120 else 20


def _end_of(id: str, cells: int) -> str:
    """An id in so many cells; of a longer one the end, in which those of one party differ."""
    if cell_len(id) <= cells:
        return set_cell_size(id, cells)
    return "…" + set_cell_size(id[1 - cells :], cells - 1)


def _opened(text: Text) -> tuple[str, str]:
    """Its id, and its data on one line, or what there is of it."""
    try:
        if not text.is_cut:
            found = envelope.decode(text.content, foreign_id=lambda: "")
            return found.id, found.text.decode()
    except (EnvelopeError, RecordError):
        pass
    return "", ("cut: " * text.is_cut) + text.content.decode(errors="backslashreplace")


def _fitted(line: str, width: int | None) -> str:
    return line if width is None or cell_len(line) <= width else set_cell_size(line, width - 1) + "…"


def _side_by_side(one: Tapped, width: int) -> Iterator[str]:
    """The data before the transforms on the left, after them on the right; between them what is other."""
    id, _ = _opened(one.record)
    when = _when(one)
    count = len(one.delivered)
    became = f"{one.became}: {one.reason}" if one.reason else one.became
    became += f" as {count} records" if count > 1 else ""
    clock = f"{when:%H:%M:%S} " if when else ""
    yield _fitted(f"── {clock}{visible(id)} ── {visible(became)} ", width).ljust(width, "─")
    half = (width - 3) // 2
    before = _pretty(one.record)
    for number, text in enumerate(one.delivered or [None]):
        if number:
            yield "─" * width
        after = _pretty(text) if text is not None else []
        for left, mark, right in _aligned(before, after):
            yield f"{set_cell_size(_fitted(left, half), half)} {mark} {_fitted(right, half)}".rstrip()


def _pretty(text: Text) -> list[str]:
    """The data as indented JSON, line by line; what is none as it is."""
    try:
        if not text.is_cut:
            data = envelope.decode(text.content, foreign_id=str).text
            return [visible(line) for line in msgspec.json.format(data, indent=2).decode().split("\n")]
    except (EnvelopeError, RecordError, msgspec.DecodeError):
        pass
    left = "" if not text.is_cut else f"… cut: it has {decimal(text.size)}"
    return [visible(text.content[:1000].decode(errors="backslashreplace")), *filter(None, [left])]


def _aligned(before: list[str], after: list[str]) -> Iterator[tuple[str, str, str]]:
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for tag, left_from, left_to, right_from, right_to in matcher.get_opcodes():
        for left, right in zip_longest(before[left_from:left_to], after[right_from:right_to]):
            mark = " " if tag == "equal" else "<" if right is None else ">" if left is None else "|"
            yield left or "", mark, right or ""
