"""The parser against the text of the standard, however its bytes are sliced.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace_producer.sources.eventstream import EventParser, StreamEvent

Seen = tuple[str, str, str]

BOM = b"\xef\xbb\xbf"


def parse(*chunks: bytes, **options: object) -> list[StreamEvent]:
    parser = EventParser(**options)  # type: ignore[arg-type]
    return [event for chunk in chunks for event in parser.feed(chunk)]


def seen(*chunks: bytes, **options: object) -> list[Seen]:
    return [(event.event, event.data, event.id) for event in parse(*chunks, **options)]


def m(data: str, id: str = "", event: str = "message") -> Seen:
    return (event, data, id)


VECTORS: dict[str, tuple[bytes, list[Seen]]] = {
    # The examples of the standard itself.
    "standard, example 1": (b"data: YHOO\ndata: +2\ndata: 10\n\n", [m("YHOO\n+2\n10")]),
    "standard, example 2": (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        [m("first event", "1"), m("second event"), m(" third event")],
    ),
    "standard, example 3": (b"data\n\ndata\ndata\n\ndata:", [m(""), m("\n")]),
    "standard, example 4": (b"data:test\n\ndata: test\n\n", [m("test"), m("test")]),
    # Line ends.
    "LF": (b"data: a\n\n", [m("a")]),
    "CRLF": (b"data: a\r\n\r\n", [m("a")]),
    "CR": (b"data: a\r\r", [m("a")]),
    "CR ends lines beside LF": (b"data: a\rdata: b\n\n", [m("a\nb")]),
    "LF then CR is two line ends": (b"data: a\n\rdata: b\n\n", [m("a"), m("b")]),
    "CRLF then CR": (b"data: a\r\n\rdata: b\r\n\r\n", [m("a"), m("b")]),
    "CR CR LF is two line ends": (b"data: a\r\r\ndata: b\n\n", [m("a"), m("b")]),
    "mixed in one event": (b"event: x\r\ndata: a\rid: 1\ndata: b\r\n\n", [m("a\nb", "1", "x")]),
    "U+2028 and U+2029 are data": ("data: a\u2028b\u2029c\n\n".encode(), [m("a\u2028b\u2029c")]),
    "U+0085 is data": ("data: a\u0085b\n\n".encode(), [m("a\u0085b")]),
    "VT, FF, FS, GS and RS are data": (b"data: a\x0bb\x0cc\x1cd\x1de\x1e\n\n", [m("a\x0bb\x0cc\x1cd\x1de\x1e")]),
    "many blank lines": (b"\n\n\ndata: a\n\n\n\n\ndata: b\n\n\n", [m("a"), m("b")]),
    "blank lines of CRs": (b"\r\r\rdata: a\r\r\r\r", [m("a")]),
    # Encoding.
    "UTF-8": ("data: žluťoučký 水車 🦆\n\n".encode(), [m("žluťoučký 水車 🦆")]),
    "one BOM is dropped": (BOM + b"data: a\n\n", [m("a")]),
    "the second BOM is part of a field's name": (BOM + BOM + b"data: a\n\ndata: b\n\n", [m("b")]),
    "a BOM further on is text": (b"data: a\n\n" + BOM + b"data: b\n\ndata: c\n\n", [m("a"), m("c")]),
    "a BOM in data stays": (b"data: " + BOM + b"a\n\n", [m("\ufeffa")]),
    "a BOM before a comment": (BOM + b": hello\n\ndata: a\n\n", [m("a")]),
    "a BOM alone": (BOM, []),
    "what is not UTF-8 is replaced": (b"data: a\xffb\xc3\n\n", [m("a\ufffdb\ufffd")]),
    "Latin-1 is not understood as such": (b"data: caf\xe9\n\n", [m("caf\ufffd")]),
    "NUL in data": (b"data: a\0b\n\n", [m("a\0b")]),
    # Fields.
    "one space after the colon goes": (b"data:  a\n\n", [m(" a")]),
    "a tab after the colon stays": (b"data:\ta\n\n", [m("\ta")]),
    "trailing spaces stay": (b"data: a  \n\n", [m("a  ")]),
    "colons in a value": (b"data: a:b: c\n\n", [m("a:b: c")]),
    "a field without a colon": (b"data\n\n", [m("")]),
    "data with an empty value": (b"data:\n\n", [m("")]),
    "data of one space": (b"data: \n\n", [m("")]),
    "two empty data lines": (b"data:\ndata:\n\n", [m("\n")]),
    "an empty line of data at the end": (b"data: a\ndata:\n\n", [m("a\n")]),
    "no data, no event": (b"event: x\n\ndata: a\n\n", [m("a")]),
    "the event's name is not kept for the next": (b"event: x\ndata: a\n\ndata: b\n\n", [m("a", event="x"), m("b")]),
    "the last event line counts": (b"event: x\nevent: y\ndata: a\n\n", [m("a", event="y")]),
    "an empty event line means message": (b"event: x\nevent:\ndata: a\n\n", [m("a")]),
    "names are case-sensitive": (b"DATA: a\nData: b\ndata: c\nEVENT: x\nId: 1\n\n", [m("c")]),
    "a space before the colon is part of the name": (b"data : a\n\ndata: b\n\n", [m("b")]),
    "a space before the name is part of it": (b" data: a\n\ndata: b\n\n", [m("b")]),
    "unknown fields are ignored": (b"foo: 1\nbar\ndata: a\n\n", [m("a")]),
    "comments are ignored": (b":\n: hello\n:data: x\ndata: a\n:bye\n\n", [m("a")]),
    "a comment alone": (b": keep-alive\n\n", []),
    "data before the name and the id": (b"data: a\nid: 7\nevent: x\n\n", [m("a", "7", "x")]),
    # Ids.
    "an id stays until another comes": (b"id: 1\ndata: a\n\ndata: b\n\nid: 2\ndata: c\n\n", [
        m("a", "1"), m("b", "1"), m("c", "2"),
    ]),
    "an id without data counts": (b"id: 1\n\ndata: a\n\n", [m("a", "1")]),
    "an empty id resets": (b"id: 1\ndata: a\n\nid:\ndata: b\n\n", [m("a", "1"), m("b")]),
    "an id without a colon resets": (b"id: 1\ndata: a\n\nid\ndata: b\n\n", [m("a", "1"), m("b")]),
    "an id with NUL is ignored": (b"id: 1\ndata: a\n\nid: 2\x003\ndata: b\n\n", [m("a", "1"), m("b", "1")]),
    "an id with NUL leaves another of its event": (b"id: 2\nid: 3\0\ndata: a\n\n", [m("a", "2")]),
    "the last id line counts": (b"id: 1\nid: 2\ndata: a\n\n", [m("a", "2")]),
    "an id is any text": ('id: [{"o":-1}] 水\ndata: a\n\n'.encode(), [m("a", '[{"o":-1}] 水')]),
    "an id keeps its further spaces": (b"id:  1 \ndata: a\n\n", [m("a", " 1 ")]),
    "an id counts from its blank line on": (b"id: 1\ndata: a\n\nid: 2\ndata: b", [m("a", "1")]),
    # Ends.
    "half an event at the end": (b"data: a\n\ndata: b\n", [m("a")]),
    "half a line at the end": (b"data: a\n\ndata: b", [m("a")]),
    "nothing": (b"", []),
    "only line ends": (b"\n\r\n\r", []),
}  # fmt: skip


@pytest.mark.parametrize("name", VECTORS)
def test_the_standard_is_followed_whole_byte_by_byte_and_cut_anywhere(name: str) -> None:
    text, expected = VECTORS[name]
    assert seen(text) == expected
    assert seen(*(text[at : at + 1] for at in range(len(text)))) == expected
    for cut in range(len(text) + 1):
        assert seen(text[:cut], b"", text[cut:]) == expected, f"cut at {cut}"


RETRIES = {
    b"retry: 1500": 1500,
    b"retry:0": 0,
    b"retry: abc": None,
    b"retry": None,
    b"retry:": None,
    b"retry: 12.5": None,
    b"retry: -5": None,
    b"retry: +5": None,
    b"retry: 1e3": None,
    b"retry:  10": None,
    b"retry: 10 ": None,
    "retry: ٣".encode(): None,
    b"retry: 0000000000000000000005": 5,
    b"retry: 999999999999": 60_000,
    b"retry: " + b"9" * 10_000: 60_000,
    b"retry: 10\nretry: no": 10,
}


@pytest.mark.parametrize("line", RETRIES)
def test_retry_takes_ascii_digits_only_and_is_capped(line: bytes) -> None:
    parser = EventParser(max_retry=60_000)
    list(parser.feed(line + b"\n\n"))
    assert parser.retry == RETRIES[line]


def test_retry_counts_from_the_end_of_its_line_though_the_event_never_ends() -> None:
    parser = EventParser()
    assert list(parser.feed(b"data: half\nretry: 70\nretry: 9")) == []
    parser.finish()
    assert parser.retry == 70


def test_the_last_id_of_an_earlier_connection_holds_until_another_comes() -> None:
    assert seen(b"data: a\n\nid: 2\ndata: b\n\n", last_id="1") == [m("a", "1"), m("b", "2")]


def test_the_last_id_moves_as_events_are_taken_and_not_before() -> None:
    parser = EventParser()
    events = parser.feed(b"id: 1\ndata: a\n\nid: 2\ndata: b\n\n")
    next(events)
    assert parser.last_id == "1"
    next(events)
    assert parser.last_id == "2"


def test_data_stays_the_bytes_that_came() -> None:
    (event,) = parse(b'data: {"a":\xff}\r\ndata:  \xe6\xb0\xb4\n\n')
    assert event.raw == b'{"a":\xff}\n \xe6\xb0\xb4'


LINES = st.lists(
    st.sampled_from([b"data: a", b"data", b"id: 1", b"id", b": c", b"event: x", b"x" * 30, b"data: " + b"y" * 12, b":"])
    | st.binary(max_size=6),
    max_size=12,
)
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b"\r\r"])


@given(lines=LINES, ends=st.lists(ENDS, min_size=12, max_size=12), cuts=st.lists(st.integers(0, 300), max_size=6))
def test_slicing_changes_nothing_not_even_what_is_too_large(
    lines: list[bytes], ends: list[bytes], cuts: list[int]
) -> None:
    text = b"".join(line + end for line, end in zip(lines, ends, strict=False))
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    chunks = [text[start:stop] for start, stop in itertools.pairwise(bounds)]
    whole_refused: list[int] = []
    sliced_refused: list[int] = []
    whole = seen(text, max_event_bytes=24, on_too_large=whole_refused.append)
    sliced = seen(*chunks, max_event_bytes=24, on_too_large=sliced_refused.append)
    assert sliced == whole
    assert len(sliced_refused) == len(whole_refused)


def too_large(limit: int, *chunks: bytes) -> tuple[list[Seen], int]:
    refused: list[int] = []
    return seen(*chunks, max_event_bytes=limit, on_too_large=refused.append), len(refused)


@pytest.mark.parametrize("slice_bytes", [1, 7, 1000])
def test_an_event_too_large_is_refused_once_and_what_follows_arrives(slice_bytes: int) -> None:
    text = b"data: a\n\nid: 9\ndata: " + b"x" * 200 + b"\ndata: more\n\ndata: b\n\n"
    chunks = [text[at : at + slice_bytes] for at in range(0, len(text), slice_bytes)]
    assert too_large(100, *chunks) == ([m("a"), m("b", "9")], 1)


def test_an_event_of_exactly_the_limit_is_taken() -> None:
    event = b"data: " + b"x" * 94
    assert too_large(100, event + b"\n\n")[1] == 0
    assert too_large(100, event, b"\n", b"\n")[1] == 0
    assert too_large(99, event + b"\n\n")[1] == 1
    assert too_large(99, event, b"\n", b"\n")[1] == 1


def test_comments_without_a_blank_line_between_them_are_never_too_large() -> None:
    comments = [b": keep-alive\n"] * 1000
    assert too_large(100, b"data: a\n", *comments, b"data: b\n\n") == ([m("a\nb")], 0)
    assert too_large(100, b":", b"c" * 1000, b"c\ndata: a\n\n") == ([m("a")], 0)


def test_an_endless_line_takes_linear_time_and_no_memory() -> None:
    refused: list[int] = []
    parser = EventParser(max_event_bytes=4 * 1024 * 1024, on_too_large=refused.append)
    chunk = b"x" * 65_536
    began = time.perf_counter()
    list(parser.feed(b"data: "))
    for _ in range(1024):
        list(parser.feed(chunk))
        assert len(parser._pending) <= 2 * 4 * 1024 * 1024
    # 64 MiB. sseclient took 74 s for 4; this takes a fifth of a second where nothing else runs.
    assert time.perf_counter() - began < 10
    assert refused == []
    assert [event.data for event in parser.feed(b"\n\ndata: next\n\n")] == ["next"]
    assert len(refused) == 1


def test_a_long_run_of_short_lines_takes_linear_time() -> None:
    began = time.perf_counter()
    (event,) = parse(b"data\n" * 800_000 + b"\n")
    assert len(event.raw) == 799_999
    assert time.perf_counter() - began < 10


def test_real_events_come_through_byte_for_byte(wikimedia_events: list[bytes]) -> None:
    text = b"".join(b"event: message\nid: %d\ndata: %b\n\n" % (n, data) for n, data in enumerate(wikimedia_events))
    for size in (1000, 65_536):
        events = parse(*(text[at : at + size] for at in range(0, len(text), size)))
        assert [event.raw for event in events] == wikimedia_events
        assert [event.id for event in events] == [str(n) for n in range(len(wikimedia_events))]
