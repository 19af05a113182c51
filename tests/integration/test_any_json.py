"""Any JSON through every sink: what is read back is the same, and what isn't there is a dead letter, byte for byte."""

from __future__ import annotations

import csv
import io
import itertools
from collections import Counter
from contextlib import nullcontext
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from millrace_consumer.delivery import prepare
from millrace_consumer.plan import Plan
from millrace_consumer.sinks.base import Sink
from millrace_pipeline.envelope import Record, encode
from millrace_pipeline.errors import ConfigError, RecordError
from millrace_pipeline.queue import Claim
from millrace_pipeline.surrogates import well_formed
from tests.contracts.file_sink_contract import files_in
from tests.contracts.outlets import OUTLETS
from tests.contracts.typed_places import PLACES, CsvPlace, SqlPlace, TypedPlace, place_for
from tests.integration.any_json import SCALARS, VALUES, exact, objects, whole

BATCH = "20261121T000000Z-0123456789-000001"


class Delivered(NamedTuple):
    """What became of records: the texts that are to be found, and those of the dead letters."""

    written: list[str]
    dead: list[str]


def deliver(texts: list[str], sink: Sink, model: type[BaseModel] | None = None) -> Delivered:
    """Publishes the texts, as far as they can be, and writes them as a consumer does."""
    published: dict[bytes, str] = {}
    refused = []
    for number, text in enumerate(texts):
        try:
            line = encode(Record(text.encode()), id=f"{number}", source="s", mark="m")
        except RecordError:
            refused.append(text)  # the producer's dead letter
        else:
            published[line] = text
    delivery = prepare(Claim(BATCH, "token", 1, 1, list(published)), Plan("f", "m", model=model))
    delivery.offer(sink.write)
    sink.close()
    dead = [published[letter.original] for letter in delivery.dead]  # byte for byte what was on the list
    assert all(letter.reason for letter in delivery.dead)
    gone = {letter.original for letter in delivery.dead}
    written = [text for line, text in published.items() if line not in gone]
    assert len(written) == delivery.delivered
    return Delivered(written, refused + dead)


def seen(value: Any) -> str:
    """A value as one that can be counted: 1 and 1.0 are one number, true is none."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name!r}: {seen(value[name])}' for name in sorted(value))}}}"
    return f"[{', '.join(map(seen, value))}]" if isinstance(value, list) else repr(hashable(value))


def hashable(value: Any) -> Any:
    return value if isinstance(value, bool | str) or value is None else (hash(value), value + 0 == value)


MANY = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), database=None)
FEW = settings(MANY, max_examples=3)  # each has a topic of its own, which takes a second


@pytest.mark.parametrize("kind", OUTLETS)
def test_any_json_is_read_back_or_set_aside(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    outlet = OUTLETS[kind](request)
    numbers = itertools.count()

    @(FEW if kind == "kafka" else MANY)
    @given(st.lists(VALUES, min_size=1, max_size=25))
    def comes_back(texts: list[str]) -> None:
        destination = tmp_path / f"try-{next(numbers)}"
        destination.mkdir()
        with outlet.contract.reaching(destination) if outlet.contract else nullcontext():
            sink = outlet.make(destination)
            written, dead = deliver(texts, sink)
        say = whole if outlet.in_unicode else exact
        found = outlet.texts(destination) if written else []
        assert Counter(map(seen, map(exact, found))) == Counter(map(seen, map(say, written)))
        assert not [text for text in dead if not is_to_blame(text, kind)]
        try:
            counted = outlet.make(destination).read_back().read()
        except ConfigError:
            return  # what it wrote can't be counted afterwards
        assert (counted.records, counted.damaged) == (len(written), [])

    comes_back()


def is_to_blame(text: str, kind: str) -> bool:
    """Whether a record may become a dead letter at all: none does for its looks."""
    too_long = any(len(digits) > 4300 for digits in text.replace(".", " ").split())
    huge = "1" * 4301 in text
    return too_long or huge or (kind == "postgres" and "\\u0000" in text)


# ── In columns ──────────────────────────────────────────────────────────────────────────────────────────────────────

FIELDS = objects(st.sampled_from(["x", "y", "X", "other", "\ud83d"]), VALUES)


def numbered(texts: list[str]) -> list[str]:
    return [f'{{"id": {number}{", " if text != "{}" else ""}{text[1:]}' for number, text in enumerate(texts)]


def cells(place: TypedPlace, names: list[str]) -> dict[int, dict[str, Any]]:
    """What is in the columns, as text, by the number of its record."""
    if isinstance(place, SqlPlace):
        # SQLite says a float with 15 digits.
        columns = ", ".join(name if name == "real" else f"CAST({name} AS text)" for name in names)
        _, rows = place.run(f"SELECT id, {columns} FROM {place.table_name}")
        return {int(id): dict(zip(names, values, strict=True)) for id, *values in rows}
    if isinstance(place, CsvPlace):
        files = [io.StringIO(file.read_bytes().decode(), newline="") for file in files_in(place.folder)]
        found = [row for file in files for row in csv.DictReader(file)]
        return {int(row["id"]): {name: row[name] or None for name in names} for row in found}
    return {row["id"]: {name: row[name] for name in names} for row in place.rows()}


@pytest.mark.parametrize("kind", [name for name, place in PLACES.items() if place.by_columns])
def test_any_field_is_in_its_column_or_its_record_set_aside(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    numbers = itertools.count()

    @MANY
    @given(st.lists(FIELDS, min_size=1, max_size=15))
    def are_there(texts: list[str]) -> None:
        place = place_for(request, kind, tmp_path / f"try-{next(numbers)}")
        as_text = "json text" if kind == "sqlite" else "json"  # of plain json SQLite makes floats
        place.make({"id": "integer", "x": as_text, "y": as_text})
        texts = numbered(texts)
        written, dead = deliver(texts, place.sink(**plain_text(kind)))
        found = cells(place, ["x", "y"]) if written else {}
        assert {id: [said(row[name], kind) for name in ("x", "y")] for id, row in found.items()} == {
            texts.index(text): [wanted(value, kind) for value in in_columns(whole(text))] for text in written
        }
        assert not [text for text in dead if not is_to_blame(text, kind)]

    are_there()


def plain_text(kind: str) -> dict[str, Any]:
    """Options that leave text as it is."""
    return {"escape_formulas": False} if kind == "csv" else {}


def in_columns(record: dict[str, Any]) -> list[Any]:
    return [record.get("x", record.get("X")), record.get("y")]


def said(cell: str | None, kind: str) -> str:
    """What a cell says; of a CSV its text, which doesn't tell 1 from "1"."""
    if cell is None:
        return "None"
    try:
        return seen(exact(cell))
    except ValueError:
        assert kind == "csv", cell
        return seen(cell)


def wanted(value: Any, kind: str) -> str:
    """What a cell should say of a value."""
    if kind != "csv" or not isinstance(value, str):
        return seen(value)
    return said(value or None, kind)


class Typed(BaseModel):
    id: int
    text: str | None = None
    number: int | None = None
    real: float | None = None
    flag: bool | None = None
    anything: Any = None


NAMES = list(Typed.model_fields)[1:]
TYPED = objects(st.sampled_from([*NAMES, "Text", "other"]), SCALARS | VALUES)
HUGE = "1" * 5000
"""More digits than pydantic reads, in a field that it would drop: docs/decisions/0011-a-models-twin.md."""
DROPPED = [f'{{"Text": {HUGE}}}', f'{{"other": [{{"a": {HUGE}}}], "number": 1}}', '{"text": "t"}']
AT_THE_EDGE = [
    '{"anything": 1e400}',
    '{"anything": [1e400]}',
    '{"number": 9223372036854775808}',
    '{"number": true}',
    f'{{"real": {"9" * 400}}}',
    '{"real": 1e400}',
    '{"flag": true}',
]


@pytest.mark.parametrize("kind", PLACES)
def test_any_value_is_what_the_model_makes_of_it_or_set_aside(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    numbers = itertools.count()

    @MANY
    @given(st.lists(TYPED, min_size=1, max_size=15))
    @example(AT_THE_EDGE)
    @example(DROPPED)
    def are_there(texts: list[str]) -> None:
        place = place_for(request, kind, tmp_path / f"try-{next(numbers)}")
        texts = numbered(texts)
        written, dead = deliver(texts, place.sink(**plain_text(kind)), Typed)
        found = cells(place, NAMES) if written else {}
        assert {id: [told(name, row[name]) for name in NAMES] for id, row in found.items()} == {
            texts.index(text): as_modelled(text, kind) for text in written
        }
        assert not [text for text in dead if not (is_to_blame(text, kind) or is_misfit(text))]

    are_there()


def told(name: str, cell: Any) -> Any:
    """What a cell of the model's columns says."""
    if cell is None or name == "text":
        return cell
    if name == "flag":
        return {"true": True, "false": False, "1": True, "0": False}.get(str(cell).lower(), cell)
    if name == "anything":
        try:
            return seen(exact(cell))
        except ValueError:
            return seen(cell)  # text in a CSV
    return float(cell) if name == "real" else int(cell)


def as_modelled(text: str, kind: str) -> list[Any]:
    """What the cells of a record should say."""
    record = Typed.model_validate_json(known_to_it(well_formed(text.encode())))
    anything: Any = None
    if record.anything is not None:
        anything = seen(exact(record.model_dump_json(include={"anything"})[len('{"anything":') : -1]))
    if kind == "csv" and record.anything in (float("inf"), float("-inf")):
        anything = seen(str(record.anything))  # as it has it of a float
    if kind == "csv" and isinstance(record.anything, str):
        anything = told("anything", record.anything or None)
    words = record.text or None if kind == "csv" else record.text
    return [words, record.number, record.real, record.flag, anything]


def known_to_it(text: bytes) -> bytes:
    """A record without what the model drops, which it may not be able to read."""
    fields = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    return msgspec.json.encode({name: value for name, value in fields.items() if name in Typed.model_fields})


def is_misfit(text: str) -> bool:
    """Whether the model as we read it, or 64 bits, or floats have no place for a record."""
    fields = msgspec.json.decode(well_formed(text.encode()), type=dict[str, msgspec.Raw])
    numbers = [bytes(fields[name]) for name in ("number", "real") if name in fields]
    if any(number in (b"true", b"false") or (number.startswith(b'"') and b"_" in number) for number in numbers):
        return True  # pydantic has them as numbers
    try:
        record = Typed.model_validate_json(well_formed(text.encode()))
    except ValueError:
        return True
    wide = record.number is not None and not -(2**63) <= record.number < 2**63
    if record.real in (inf, -inf) and bytes(fields["real"]).removeprefix(b"-").isdigit():
        return True  # infinity to pydantic
    return wide or "inf" in repr(record.anything)
