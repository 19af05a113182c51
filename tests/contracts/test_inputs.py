"""The table of docs/inputs.md: each of its rows is what happens, by every source that the row names."""

from __future__ import annotations

import codecs
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import msgspec
import pytest
import yaml
from pydantic import BaseModel, create_model

from millrace.testing import value_of
from millrace_consumer.transforms import apply
from millrace_pipeline.envelope import DeadLetter, Envelope, Record
from millrace_pipeline.errors import SourceError, SourceRefused, SourceUnavailable
from millrace_pipeline.fitting import fitted
from millrace_pipeline.process.repeats import repeats
from millrace_producer.sources.rest import RestSource
from millrace_producer.sources.sse import SseSource
from tests.integration.api_server import Answer, ApiServer, Asked, json_answer
from tests.integration.sse_server import OK, ScriptedServer
from tests.waysin import QUICK, WAYS, Ways

PAGE = (Path(__file__).parents[2] / "docs" / "inputs.md").read_text()


class Row(NamedTuple):
    """What comes, to what, and what becomes of it, as the page has it."""

    comes: str
    to: str
    becomes: str


def rows() -> list[Row]:
    table = PAGE.partition("| what comes | to | becomes |\n|---|---|---|\n")[2].partition("\n\n")[0]
    return [Row(*re.split(r" \| ", line[2:-2])) for line in table.splitlines()]


ROWS = rows()


def literal(text: str) -> bytes:
    """What stands in backticks, with bytes as `\\xff`."""
    raw = text[1:-1].encode()
    return re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), raw)


def ways_of(to: str) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The ways that a row names, and the options."""
    names, _, options = to.partition(", with ")
    said: dict[str, Any] = {}
    for option in re.findall(r"`([^`]+)`", options):
        said |= yaml.safe_load(option)
    if names.startswith("all"):
        without = names.removeprefix("all").removeprefix(" but ")
        return tuple(way for way in WAYS if way != without), said
    return tuple(names.split(", ")), said


IS_LITERAL = re.compile(r"`[^`]+`")
TEXTS = [row for row in ROWS if IS_LITERAL.fullmatch(row.comes) and set(ways_of(row.to)[0]) <= set(WAYS)]
IN_MODELS = [row for row in ROWS if row.to.startswith("model, as ")]
IN_COLUMNS = [row for row in ROWS if ", into `" in row.to]  # test_exact_columns runs them


@pytest.fixture
def ways(tmp_path: Path, redis_url: str) -> Iterator[Ways]:
    with Ways(tmp_path, redis_url) as ways:
        yield ways


def outcome_of(came: Record | DeadLetter, text: bytes, heard: list[str], becomes: str) -> str:
    """What became of a text, in the words of the page that it is compared with."""
    if isinstance(came, DeadLetter):
        assert came.original == text
        return "dead letter"
    if becomes.startswith("time "):
        return f"time `{came.time.isoformat()}`" if came.time else "no time"
    if becomes.startswith("key "):
        return f"key `{came.key}`"
    if becomes.startswith("no "):
        what = becomes[3:].partition(":")[0]
        return f"no {what}: said ({', '.join(f'`{event}`' for event in heard)})"
    data = came.data if isinstance(came.data, bytes) else msgspec.json.encode(came.data)
    return "as it came" if data == text else f"`{data.decode()}`"


def expected(becomes: str) -> str:
    return f"`{literal(becomes).decode()}`" if IS_LITERAL.fullmatch(becomes) else becomes


@pytest.mark.parametrize("way", WAYS)
def test_each_text_of_the_table_becomes_what_it_says(ways: Ways, way: str) -> None:
    by_options: dict[str, list[Row]] = defaultdict(list)
    for row in TEXTS:
        if way in ways_of(row.to)[0]:
            by_options[str(ways_of(row.to)[1])].append(row)
    for group in by_options.values():
        options = ways_of(group[0].to)[1]
        lots: dict[str, list[Row]] = defaultdict(list)
        for row in group:  # what is said of one must not be taken for what is said of another
            lots[row.becomes if row.becomes.startswith(("no ", "passed")) else ""].append(row)
        for lot in lots.values():
            texts = [literal(row.comes) for row in lot]
            with repeats.heard() as heard:
                came = ways.read(way, texts, **options)
            if lot[0].becomes == "passed over":
                assert came == []
                continue
            assert len(came) == len(lot)
            if way == "sqs":  # in no order that is promised
                places = {text.removeprefix(codecs.BOM_UTF8): place for place, text in enumerate(texts)}
                came = sorted(came, key=lambda one: places.get(text_of(one), 0))
            assert not lot[0].becomes.startswith("no ") or len(heard) == len(lot)
            events = sorted({event for event, _ in heard})
            for row, text, one in zip(lot, texts, came, strict=True):
                assert outcome_of(one, text, events, row.becomes) == expected(row.becomes), row


def text_of(came: Record | DeadLetter) -> bytes:
    return came.original if isinstance(came, DeadLetter) else bytes(came.data)


class Colour(Enum):
    RED = "red"


class Number(IntEnum):
    ONE = 1


TYPES: dict[str, Any] = {
    kind.__name__: kind
    for kind in (datetime, date, time, timedelta, bool, int, float, Decimal, bytes, str, Colour, Number)
} | {"dict[int, str]": dict[int, str]}


@pytest.mark.parametrize("row", IN_MODELS, ids=lambda row: f"{row.comes} {row.to}")
def test_each_value_of_the_table_is_in_a_model_what_it_says(row: Row) -> None:
    kind = TYPES[row.to.removeprefix("model, as ").strip("`")]
    model: type[BaseModel] = create_model("Row", x=(kind, ...))
    found = fitted(b'{"x": %b}' % literal(row.comes), model)
    value = None if isinstance(found, str) else found.x  # type: ignore[attr-defined]
    assert ("dead letter" if isinstance(found, str) else f"`{value}`") == row.becomes


def the_last_value(ways: Ways, row: Row) -> str:
    envelope = Envelope("i", "s", "t", None, msgspec.Raw(literal(row.comes)))
    model = create_model("Row", a=(int, ...))
    for how in ({"transforms": [lambda record: record]}, {"model": model}):
        with repeats.heard() as heard:
            done = apply([envelope], **how)  # type: ignore[arg-type]
        assert done.rows is None or done.rows[0].a == 2
        assert [event for event, _ in heard] == ["name_twice"]
    return "the last value: said (`name_twice`)"


def status(ways: Ways, row: Row) -> str:
    code = int(row.comes.removeprefix("HTTP "))
    body = b"[1]" if code in (200, 206) else b""
    with ApiServer(lambda asked: Answer(code, body, {"Retry-After": "0"} if code == 202 else {})) as api:
        try:
            came = list(RestSource(url=api.url, **QUICK).read(None))
        except SourceRefused:
            assert len(api.asked) == 1
            return "refused"
        except SourceUnavailable:
            assert len(api.asked) > 1
            return "asked again"
    return "a page" if came else "no records"


def a_wait(ways: Ways, row: Row) -> str:
    name, _, said = row.comes.split("`")[1].partition(": ")
    at: list[float] = []

    def answer(asked: Asked) -> Answer:
        at.append(monotonic())
        return json_answer([1]) if len(at) > 1 else Answer(429, b"", {name: said})

    with ApiServer(answer) as api:
        assert len(list(RestSource(url=api.url, **{**QUICK, "backoff_max": 2}).read(None))) == 1
    seconds = float(row.becomes.split()[1])
    return row.becomes if seconds <= at[1] - at[0] < seconds + 30 else "?"


def wide(ways: Ways, row: Row) -> str:
    prefix = "utf-16" if "UTF-16" in row.comes else "utf-32"
    for name in (f"{prefix}-le", f"{prefix}-be"):
        mark = getattr(codecs, f"BOM_{name.upper().replace('-', '', 1).replace('-', '_')}")
        how = {"encoding": name} if "named" in row.comes else {}
        json_lines = (mark if "with a byte" in row.comes else b"") + '{"a":"é"}\n'.encode(name)
        charset = f"application/jsonl; charset={name}" if how else "application/jsonl"
        csv = "a\né\n".encode(name)
        if "CSV" in row.comes:
            for read, how in (
                (ways.file, {"name": ".csv"}),
                (ways.file, {"name": ".txt"}),
                (ways.input, {"format": "text"}),
                (ways.body, {"content_type": "text/csv", "format": "csv"}),
            ):
                assert f"looks like {name.upper()}" in reason_of(partial(read, csv, **how))
            continue
        for came in (
            ways.file(json_lines, ".jsonl", **how),
            ways.input(json_lines, **how),
            ways.body(json_lines, charset, format="jsonl"),
        ):
            assert [value_of(record) for record in came] == [{"a": "é"}]
    return row.becomes


def reason_of(read: Callable[[], Any]) -> str:
    try:
        (letter,) = read()
    except SourceError as error:
        return str(error)
    assert isinstance(letter, DeadLetter)
    return letter.reason


def events_in_a_wide_encoding(ways: Ways, row: Row) -> str:
    said = 'data: {"a": 1}\n\n'.encode(row.comes.rpartition(" ")[2].lower())
    with ScriptedServer(OK + said) as server, pytest.raises(SourceRefused):
        list(SseSource(url=server.url).read(None))
    return "refused"


def charset(ways: Ways, row: Row) -> str:
    said = row.comes.split("`")[1]
    try:
        (record,) = ways.body('["é"]'.encode("latin-1"), f"application/json; {said}")
    except SourceRefused:
        return "refused"
    return "read" if value_of(record) == "é" else "?"


def empty_cells(ways: Ways, row: Row) -> str:
    model = create_model("Row", n=(int | None, ...), s=(str | None, ...))
    for read in (
        lambda **how: ways.file(b"n,s\n,\n", ".csv", **how),
        lambda **how: ways.body(b"n,s\n,\n", format="csv", **how),
        lambda **how: ways.entries([{"n": b"", "s": b""}], **how),
    ):
        assert [value_of(*read())] == [{"n": "", "s": ""}]
        assert [value_of(*read(model=model))] == [{"n": None, "s": ""}]
        assert [value_of(*read(null=""))] == [{"n": None, "s": None}]
    return row.becomes


def answered(*answers: Answer, **options: Any) -> tuple[list[Any], int, str]:
    """The values of one round, how often it was asked, and why it ended where it was refused or given up."""
    with ApiServer(lambda asked: answers[-1]) as api:
        api.script.extend(answers)
        came: list[Any] = []
        why = ""
        try:
            came.extend(map(value_of, RestSource(url=api.url, **{**QUICK, **options}).read(None)))
        except SourceError as error:
            why = f"{type(error).__name__}: {error}"
        return came, len(api.asked), why


def an_empty_body(ways: Ways, row: Row) -> str:
    return "no records" if answered(Answer(200, b"", {"Content-Length": "0"})) == ([], 1, "") else "?"


def a_body_that_is_cut(ways: Ways, row: Row) -> str:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
    page = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\n[1]"
    with ScriptedServer(head, page) as server:
        assert len(list(RestSource(url=server.url, **QUICK).read(None))) == 1
        return "asked again" if len(server.asked) == 2 else "?"


def unchanged(ways: Ways, row: Row) -> str:
    with ApiServer(lambda asked: Answer(304)) as api:
        api.script.append(json_answer([1], ETag='"a"'))
        reading = RestSource(url=api.url, **QUICK)
        first = list(reading.read(None))
        again = list(reading.read(first[-1].position))
        assert api.asked[1].headers["if-none-match"] == '"a"'
    return "unchanged: no records" if len(first) == 1 and again == [] else "?"


def null_records(ways: Ways, row: Row) -> str:
    return "no records" if answered(json_answer({"data": None}), records="/data") == ([], 1, "") else "?"


def an_error_for_records(ways: Ways, row: Row) -> str:
    came, asked, why = answered(json_answer({"data": None, "errors": [{"message": "late"}]}), records="/data")
    return "asked again, and given up" if (came, asked > 1) == ([], True) and "late" in why else "?"


def no_place(ways: Ways, row: Row) -> str:
    came, asked, _ = answered(json_answer({}), json_answer({"data": [1]}), records="/data")
    return "asked again" if (came, asked) == ([1], 2) else "?"


def two_places(ways: Ways, row: Row) -> str:
    came, asked, why = answered(Answer(200, b'{"data":[1],"data":[2]}'), records="/data")
    return "asked again, and given up" if not came and asked > 1 and "stands twice" in why else "?"


def no_more_pages(ways: Ways, row: Row) -> str:
    page = {"pagination": {"type": "page"}}
    assert answered(json_answer([1]), json_answer([]), **page) == ([1], 2, "")
    assert answered(json_answer([1]), Answer(404), **page) == ([1], 2, "")
    assert answered(json_answer([1]), pagination={"type": "link"}) == ([1], 1, "")
    return "finished"


def an_empty_page_before_another(ways: Ways, row: Row) -> str:
    pages = [json_answer({"rows": rows, "more": more}) for rows, more in (([1], True), ([], True), ([2], False))]
    kind = "offset" if "offset" in row.to else "page"
    came, asked, why = answered(*pages, records="/rows", pagination={"type": kind, "more": "/more"})
    if (came, asked, why) == ([1, 2], 3, ""):
        return "read on"
    return "refused" if why.startswith("SourceRefused") and "/more" in why and asked == 2 else "?"


def no_page_though_there_is_one(ways: Ways, row: Row) -> str:
    first = json_answer({"rows": [1], "more": True})
    for kind in ("page", "offset"):
        paged = {"type": kind, "more": "/more"}
        _, asked, why = answered(first, Answer(404), records="/rows", pagination=paged)
        assert why.startswith("SourceUnavailable")
        assert asked > 2
    return "asked again, and given up"


def stamped_pages(**pagination: Any) -> tuple[list[Any], str, list[str]]:
    def answer(asked: Asked) -> Answer:
        return json_answer({"data": [{"a": 1, "at": datetime.now(UTC)}], "next": len(api.asked)})

    came: list[Any] = []
    why = ""
    with repeats.heard() as heard, ApiServer(answer) as api:
        source = RestSource(url=api.url, records="/data", pagination=pagination, **QUICK)  # type: ignore[arg-type]
        try:
            came.extend(value_of(record)["a"] for record in source.read(None))
        except SourceRefused as error:
            why = str(error)
    return came, why, [event for event, _ in heard]


def the_same_page_counted(ways: Ways, row: Row) -> str:
    came, why, heard = stamped_pages(type="page")
    return f"finished: said ({', '.join(f'`{event}`' for event in heard)})" if came == [1] and not why else "?"


def the_same_page(ways: Ways, row: Row) -> str:
    _, why, _ = stamped_pages(type="cursor", field="/next")
    return 'refused: "the same page again"' if "the same page again" in why else "?"


def no_url(ways: Ways, row: Row) -> str:
    came, _, why = answered(json_answer({"next": 7, "data": [1]}), records="/data", pagination={"type": "next"})
    return "refused" if why.startswith("SourceRefused") and came == [] else "?"


def a_known_cursor(ways: Ways, row: Row) -> str:
    repeated = ways_of(row.to)[1].get("repeated")
    pages = [json_answer({"data": data, "next": "x"}) for data in ([1], [2], [3], [])]
    with repeats.heard() as heard:
        paged = {"type": "cursor", "field": "/next", "repeated": repeated}
        came, asked, why = answered(*pages, records="/data", pagination=paged)
    said = [event for event, _ in heard]
    if repeated == "allow":
        return "a page; finished when one is empty" if (came, asked, why, said) == ([1, 2, 3], 4, "", []) else "?"
    assert (came, asked) == ([1, 2], 2)
    if repeated == "end":
        return f"finished: said ({', '.join(f'`{event}`' for event in said)})" if not why else "?"
    return 'refused: "the same page again"' if "the same page again" in why else "?"


def no_link(ways: Ways, row: Row) -> str:
    for header in ('‹https://a/2›; rel="next"', "https://a/2; rel=next", "next"):
        link = header.encode().decode("latin-1")
        came, _, why = answered(json_answer([1], Link=link), pagination={"type": "link"})
        assert (came, why[:13]) == ([], "SourceRefused"), header
    return "refused"


def no_cursor_in_the_last(ways: Ways, row: Row) -> str:
    paged = {"type": "cursor", "record": "/idd", "more": "/more"}
    page = {"more": True, "data": [{"id": 1}]}
    came, _, why = answered(json_answer(page), records="/data", pagination=paged)
    assert answered(json_answer({**page, "more": False}), records="/data", pagination=paged) == ([{"id": 1}], 1, "")
    return "refused" if why.startswith("SourceRefused") and "/idd" in why and came == [] else "?"


def no_word_of_another(ways: Ways, row: Row) -> str:
    page = {"has_more": True, "next": "x", "data": [1]}
    for paged in (
        {"type": "cursor", "field": "/next", "more": "/hasMore"},
        {"type": "cursor", "field": "/nxt"},
        {"type": "next", "field": "/links/next"},
        {"type": "page", "more": "/hasMore"},
        {"type": "offset", "more": "/hasMore"},
    ):
        with repeats.heard() as heard:
            came = answered(json_answer(page), records="/data", pagination=paged)
        assert came == ([1], 1, "")
        assert [event for event, _ in heard] == ["field_not_found"], paged
    for page in ({"next": None, "data": [1]}, {"data": []}):
        with repeats.heard() as heard:
            assert answered(json_answer(page), records="/data", pagination={"type": "next"})[1:] == (1, "")
        assert heard == []
    return "finished: said (`field_not_found`)"


def no_csv(ways: Ways, row: Row) -> str:
    for body in (
        b'{"error": "x"}',
        b"[1,\n2]",
        b"<html><body>\n</body></html>",
        b"<!DOCTYPE html>\nx",
        b"<?xml?>\n<a/>\n",
    ):
        came, asked, why = answered(Answer(200, body), format="csv")
        assert came == []
        assert why.startswith("SourceUnavailable")
        assert asked > 1
    return "asked again, and given up"


def no_csv_in_a_file(ways: Ways, row: Row) -> str:
    for body in (
        b'{"a":1}\n{"a":2}\n',
        b'\xef\xbb\xbf{\n  "a": 1\n}\n',
        b"[1,\n2]",
        b"<html><body>\n</body></html>",
        b"<!DOCTYPE html>\nx",
        b"<?xml?>\n<a/>\n",
    ):
        (letter,) = ways.file(body, ".csv")
        assert isinstance(letter, DeadLetter)
        assert " and no CSV: is `format` right?" in letter.reason
    return "dead letter"


def another_delimiter(ways: Ways, row: Row) -> str:
    for sign, mend in ((";", ";"), ("\t", "\\t"), ("|", "|")):
        text = f"a{sign}b\n1{sign}2\n".encode()
        for read in (partial(ways.file, text, ".csv"), partial(ways.body, text, format="csv")):
            with repeats.heard() as heard:
                assert [value_of(*read())] == [{f"a{sign}b": f"1{sign}2"}]
            assert [event for event, _ in heard] == ["csv_of_one_column"]
            assert f'delimiter: "{mend}"' in heard[0][1]["mend"]
    return "one column: said (`csv_of_one_column`)"


def of_a_csv(ways: Ways, text: bytes, **options: Any) -> list[Any]:
    """What both sources that read a CSV make of it, which is the same."""
    of_file = list(map(value_of, ways.file(text, ".csv", **options)))
    assert list(map(value_of, ways.body(text, format="csv", **options))) == of_file
    return of_file


def a_line_of_the_delimiter(ways: Ways, row: Row) -> str:
    for first in (b"sep=;", b"\xef\xbb\xbfsep=;\r", b'"sep=;"', b"SEP=;"):
        assert of_a_csv(ways, first + b"\na;b\n1;2,3\n") == [{"a": "1", "b": "2,3"}]
        assert of_a_csv(ways, first + b"\na;b\n1;2\n", delimiter=";") == [{"a": "1", "b": "2"}]
        assert of_a_csv(ways, first + b"\n1;2\n", columns=["a", "b"]) == [{"a": "1", "b": "2"}]
        assert of_a_csv(ways, first + b"\na,b\n1,2;3\n", delimiter=",") == [{"a": "1", "b": "2;3"}]
    assert of_a_csv(ways, b"sep=,\na,b\n1,2\n") == [{"a": "1", "b": "2"}]
    assert of_a_csv(ways, b"sep=\t\na\tb\n1\t2\n") == [{"a": "1", "b": "2"}]
    assert of_a_csv(ways, b"a\nsep=;\n") == [{"a": "sep=;"}]
    assert of_a_csv(ways, b"sep=x\n1\n") == [{"sep=x": "1"}]
    return "passed over: the delimiter, where none is set"


def a_header_of_these_columns(ways: Ways, row: Row) -> str:
    columns = ["id", "name"]
    for first in (b"id,name\n", b"sep=,\nid,name\n", b"\xef\xbb\xbfid,name\r\n", b""):
        text = first + b"1,a\nid,name\n"
        assert of_a_csv(ways, text, columns=columns) == [{"id": "1", "name": "a"}, {"id": "id", "name": "name"}]
    assert of_a_csv(ways, b"id,name\n", columns=columns) == []
    assert of_a_csv(ways, b"name,id\n", columns=columns) == [{"id": "name", "name": "id"}]
    return "passed over"


def cells_of_json(ways: Ways, row: Row) -> str:
    for text, options in (
        (b'{"a":1}\tx\n', {"delimiter": "\t", "quote": None}),
        (b'"{""a"":1}",x\n', {}),
    ):
        for read in (partial(ways.file, text, ".csv"), partial(ways.body, text, format="csv")):
            assert [value_of(*read(columns=["p", "q"], **options))] == [{"p": '{"a":1}', "q": "x"}]
    return "read"


def no_header(ways: Ways, row: Row) -> str:
    options = ways_of(row.to)[1]
    columns = options.get("columns")
    pages = [Answer(200, body) for body in (b"a,b\n1,2\n", b"3,4\n5,6\n", b"")]
    came, _, why = answered(*pages, pagination={"type": "page"}, **options)
    if columns:
        assert came == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}, {"a": "5", "b": "6"}]
        return "read" if not why else "?"
    return "refused" if why.startswith("SourceRefused") and "columns" in why and len(came) < 2 else "?"


def a_no_beyond_the_last(ways: Ways, row: Row) -> str:
    for status in (400, 410, 416, 422):
        with repeats.heard() as heard:
            assert answered(json_answer([1]), Answer(status), pagination={"type": "page"}) == ([1], 2, ""), status
        assert [event for event, _ in heard] == ["rest_page_gone"]
        assert answered(Answer(status), pagination={"type": "page"})[2].startswith("SourceRefused")
    return "finished: said (`rest_page_gone`)"


def no_order(ways: Ways, row: Row) -> str:
    came, _, why = answered(json_answer([{"u": "12/31/2025"}]), incremental={"field": "/u", "parameter": "since"})
    return "refused" if why.startswith("SourceRefused") and came == [] else "?"


def nearly_right_tags(ways: Ways, row: Row) -> str:
    for text, records in (
        (b"<a><I>1</I></a>", "i"),
        (b'<a xmlns:y="u"><y:i>1</y:i></a>', "x:i"),
        (b'<a xmlns:x="u"><x:I/></a>', "x:i"),
    ):
        (letter,) = ways.file(text, ".xml", records=records)
        assert isinstance(letter, DeadLetter)
        assert letter.reason.endswith("is `records` right?")
    return "dead letter"


def other_tags(ways: Ways, row: Row) -> str:
    with repeats.heard() as heard:
        assert list(ways.file(b"<a><b>1</b></a>", ".xml", records="i")) == []
        assert list(ways.file(b'<a xmlns:x="u"><i/></a>', ".xml", records="x:i")) == []
        assert list(ways.file(b"<a/>", ".xml", records="i")) == []
    said = [(event, fields["mend"]) for event, fields in heard if event == "field_not_found"]
    assert said == [("field_not_found", f"there are a, {tag}: is `records` right?") for tag in "bi"]
    return "said (`field_not_found`)"


CASES: dict[str, Callable[[Ways, Row], str]] = {
    "200 with an empty body that says its length": an_empty_body,
    "200 that breaks off before its body": a_body_that_is_cut,
    "304": unchanged,
    "`null` where the records are": null_records,
    "`null` where the records are, and a list `errors` at the top that isn't empty": an_error_for_records,
    "nothing where the records are": no_place,
    "records at a name that stands twice": two_places,
    "no next page, or without `more` an empty one or a 404, where pages are counted": no_more_pages,
    "an empty page that says by `more` that there is another": an_empty_page_before_another,
    "a 404 to a page that is there by `more`": no_page_though_there_is_one,
    "a page that is there again, but for stamps, where pages are counted": the_same_page_counted,
    "a page that is there again, but for stamps, elsewhere": the_same_page,
    "a cursor that was there before": a_known_cursor,
    "JSON, HTML or XML": no_csv,
    "a file of JSON lines, JSON, HTML or XML": no_csv_in_a_file,
    "a header of one column in which `;`, a bar or a tab stands": another_delimiter,
    "a first line `sep=;`": a_line_of_the_delimiter,
    "a first row that is the very names of `columns`": a_header_of_these_columns,
    "JSON in a cell, and `columns` that name it": cells_of_json,
    "a next page without a header": no_header,
    "a next page that is no URL": no_url,
    "400, 410, 416 or 422 beyond the first page, where pages are counted": a_no_beyond_the_last,
    "XML whose tags are like `records` but for letters or prefix": nearly_right_tags,
    "XML without an element named as in `records`": other_tags,
    "a `Link` in which there is no link": no_link,
    "no cursor in the last record of a page, where it is to be": no_cursor_in_the_last,
    "an only page without what is to say whether, or where, there is another": no_word_of_another,
    "text that is neither number nor time, in the field that `incremental` goes by": no_order,
    "an empty CSV cell, or field of an entry": empty_cells,
}
ENDS = {
    "no words and no end": "test_a_quiet_queue_ends_nothing_and_what_comes_later_is_read",
    "nothing": "test_queues_of_others_tell_records_nothing_new_and_emptiness_apart",
    "all that there is": "test_queues_of_others_tell_records_nothing_new_and_emptiness_apart",
    "nothing new since the checkpoint": "test_queues_of_others_tell_records_nothing_new_and_emptiness_apart",
    "one that is named and not there": "test_files_tell_records_nothing_new_and_emptiness_apart",
}
"""Rows that are run by real producers, in tests/integration/test_source_ends.py."""


def case_of(row: Row) -> Callable[[Ways, Row], str] | None:
    if row.comes.startswith("HTTP "):
        return status
    if row.comes.endswith("with a 429"):
        return a_wait
    if row.comes.startswith("UTF-"):
        return wide
    if row.comes.startswith("an event stream in"):
        return events_in_a_wide_encoding
    if row.comes.startswith("`charset="):
        return charset
    if row.to == "transforms, model":
        return the_last_value
    return CASES.get(row.comes)


OTHERS = [row for row in ROWS if row not in {*TEXTS, *IN_MODELS, *IN_COLUMNS} and row.comes not in ENDS]


@pytest.mark.parametrize("row", OTHERS, ids=lambda row: f"{row.comes} {row.to}")
def test_each_other_row_of_the_table_is_what_happens(ways: Ways, row: Row) -> None:
    case = case_of(row)
    assert case is not None, "a row that no test runs"
    assert case(ways, row) == row.becomes


def test_the_table_is_one_and_no_row_of_it_stands_twice() -> None:
    assert len(ROWS) > 130
    assert len(set(ROWS)) == len(ROWS)
    assert set(CASES) | set(ENDS) <= {row.comes for row in ROWS}
    headings = re.findall(r"^#+ .*$", PAGE, re.MULTILINE)
    assert len(set(headings)) == len(headings)
    ends = (Path(__file__).parents[1] / "integration" / "test_source_ends.py").read_text()
    assert all(f"def {name}(" in ends for name in ENDS.values())
