"""The source contract, by the rest source: by a field that grows, and by the places in an API's pages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from millrace.testing import FaultyOrigin, FaultySourceContract, read
from millrace_pipeline.jsontext import encode_json
from millrace_producer.sources.rest import RestSource
from tests.integration.api_server import Answer, ApiServer, Asked

RECORDS: list[Any] = [
    {"id": 1, "at": "2026-03-01T10:00:00Z", "text": "plain"},
    {"id": 2, "at": "2026-03-01T10:00:00Z", "text": "žluťoučký 水車 🦆"},
    {"id": 3, "at": "2026-03-01T10:00:00.5Z", "big": 2**64 - 1, "nothing": None},
    {"id": 4, "at": "2026-03-01T11:00:01+01:00", "text": "x" * 70_000},
    {"id": 5, "at": "2026-03-01T10:00:01Z"},
    {"id": 6, "at": "2026-03-01T10:00:01Z"},
    {"id": 7, "at": "2026-03-01T12:00:00Z"},
]
MINUTES = [0, 0, 0.5, 1, 1, 1, 7200]
"""When each of them was, in seconds after the first."""

FAST: dict[str, Any] = {"max_failures": 3, "backoff_initial": 0.01, "backoff_max": 0.05}


class ApiOrigin(FaultyOrigin):
    """Pages of two records. `since` narrows them down to those from a time on, or after it."""

    options: ClassVar[dict[str, Any]] = {}
    inclusive = True

    def __init__(self, server: ApiServer) -> None:
        self.expected = list(RECORDS)
        self._server = server
        self._broken: int | None = None
        self._spoilt: int | None = None
        self._status = 200
        server.route = self._answer

    def source(self) -> RestSource:
        return RestSource(url=self._server.url + "/things", records="/things", key="/id", **FAST, **self.options)

    def break_off(self, after: int) -> None:
        self._broken = after

    def spoil(self, at: int) -> bytes:
        self._spoilt = at
        return b'{"id": "\xff"}'

    def refuse(self) -> None:
        self._status = 410

    def fall_over(self) -> None:
        self._status = 503

    def recover(self) -> None:
        self._status = 200

    def held(self) -> int:
        return self._server.connections

    def _answer(self, asked: Asked) -> Answer:
        if self._status != 200:
            return Answer(self._status)
        texts = [json.dumps(record, ensure_ascii=False).encode() for record in self._after(asked.query.get("since"))]
        if self._spoilt is not None:
            before = json.dumps(RECORDS[self._spoilt], ensure_ascii=False).encode()
            if before in texts:
                texts.insert(texts.index(before), b'{"id": "\xff"}')
        begin = int(asked.query.get("begin", 0))
        body = b'{"things": [' + b", ".join(texts[begin : begin + 2]) + b'], "more": %d}' % (begin + 2 < len(texts))
        headers = {}
        if begin + 2 < len(texts):
            since = f"&since={asked.query['since'].replace('+', '%2B')}" if "since" in asked.query else ""
            headers["Link"] = f'<{self._server.url}/things?begin={begin + 2}{since}>; rel="next"'
        if self._broken is not None and any(
            json.dumps(RECORDS[self._broken], ensure_ascii=False).encode() == text for text in texts[begin : begin + 2]
        ):
            self._broken = None
            return Answer(200, body, headers, cut=len(body) // 2)
        return Answer(200, body, {"Content-Type": "application/json", **headers})

    def _after(self, since: str | None) -> list[Any]:
        if since is None:
            return RECORDS
        first = MINUTES[next(index for index, record in enumerate(RECORDS) if record["at"] == since)]
        return [
            record
            for record, seconds in zip(RECORDS, MINUTES, strict=True)
            if seconds > first or (self.inclusive and seconds == first)
        ]


class OrderedOrigin(ApiOrigin):
    options: ClassVar[dict[str, Any]] = {
        "pagination": {"type": "link"},
        "incremental": {"field": "/at", "parameter": "since"},
    }


class ExclusiveOrigin(ApiOrigin):
    inclusive = False
    options: ClassVar[dict[str, Any]] = {
        "pagination": {"type": "link"},
        "incremental": {"field": "/at", "parameter": "since", "inclusive": False},
    }


class UnorderedOrigin(ApiOrigin):
    options: ClassVar[dict[str, Any]] = {
        "pagination": {"type": "offset", "parameter": "begin", "more": "/more"},
        "incremental": {"field": "/at", "parameter": "since", "ordered": False},
    }


class ByValueOrigin(ApiOrigin):
    """Pages by number, left for the first page of the next value wherever two values show their order."""

    options: ClassVar[dict[str, Any]] = {
        "pagination": {"type": "offset", "parameter": "begin"},
        "incremental": {"field": "/at", "parameter": "since"},
    }


class LookingBackOrigin(ApiOrigin):
    options: ClassVar[dict[str, Any]] = {
        "pagination": {"type": "link"},
        "incremental": {"field": "/at", "parameter": "since", "ordered": False, "overlap": "1d"},
    }

    def _after(self, since: str | None) -> list[Any]:
        return RECORDS  # all of them are of the last day


class PostedOrigin(ApiOrigin):
    """What is asked for, and the cursor, stand in the body of a POST."""

    options: ClassVar[dict[str, Any]] = {
        "method": "POST",
        "body": {"page": {"begin": None}},
        "pagination": {"type": "cursor", "field": "/next", "parameter": "/page/begin"},
    }

    def _answer(self, asked: Asked) -> Answer:
        begin = json.loads(asked.body)["page"]["begin"] or 0
        page = super()._answer(Asked(asked.path, {"begin": str(begin)}, {}))
        if page.status != 200 or page.cut is not None:
            return page
        following = b"null" if page.body.endswith(b"0}") else b"%d" % (begin + 2)
        return Answer(200, page.body.removesuffix(b"}") + b', "next": ' + following + b"}", page.headers)


class PagedOrigin(ApiOrigin):
    options: ClassVar[dict[str, Any]] = {"pagination": {"type": "link"}}


class TestRestInOrder(FaultySourceContract):
    @pytest.fixture
    def origin(self) -> Iterator[ApiOrigin]:
        with ApiServer() as server:
            yield OrderedOrigin(server)


class TestRestInOrderFromAnExclusiveApi(FaultySourceContract):
    @pytest.fixture
    def origin(self) -> Iterator[ApiOrigin]:
        with ApiServer() as server:
            yield ExclusiveOrigin(server)


class TestRestInAnyOrder(FaultySourceContract):
    @pytest.fixture
    def origin(self) -> Iterator[ApiOrigin]:
        with ApiServer() as server:
            yield UnorderedOrigin(server)


class TestRestByValueAndOffset(FaultySourceContract):
    @pytest.fixture
    def origin(self) -> Iterator[ApiOrigin]:
        with ApiServer() as server:
            yield ByValueOrigin(server)


class TestRestLookingBack(FaultySourceContract):
    @pytest.fixture
    def origin(self) -> Iterator[ApiOrigin]:
        with ApiServer() as server:
            yield LookingBackOrigin(server)


class TestRestByPages(FaultySourceContract):
    @pytest.fixture
    def origin(self) -> Iterator[ApiOrigin]:
        with ApiServer() as server:
            yield PagedOrigin(server)

    def test_reading_on_from_any_record_gives_exactly_what_follows(self, origin: ApiOrigin) -> None:
        """A round that is over is over: the next one gives all there is again."""
        records = list(origin.source().read(None))
        for count, record in enumerate(records[:-1], 1):
            position = json.loads(encode_json(record.position))
            assert read(origin.source(), position) == origin.expected[count:]
        assert read(origin.source(), json.loads(encode_json(records[-1].position))) == origin.expected


class TestRestByPost(TestRestByPages):
    @pytest.fixture
    def origin(self) -> Iterator[ApiOrigin]:
        with ApiServer() as server:
            yield PostedOrigin(server)


class TestRestByOnePageWithAnETag(FaultySourceContract):
    @pytest.fixture
    def origin(self) -> Iterator[ApiOrigin]:
        with ApiServer() as server:
            origin = PagedOrigin(server)
            whole = origin._answer

            def answer(asked: Asked) -> Answer:
                if asked.headers.get("if-none-match") == '"all"':
                    return Answer(304)
                page = whole(Asked(asked.path, {}, {}))
                if page.status != 200 or page.cut is not None:
                    return page
                pages = [whole(Asked(asked.path, {"begin": str(begin)}, {})).body for begin in range(0, 10, 2)]
                records = b", ".join(body.split(b"[", 1)[1].rsplit(b"]", 1)[0] for body in pages if b"[]" not in body)
                return Answer(200, b'{"things": [' + records + b"]}", {"ETag": '"all"'})

            server.route = answer
            yield origin

    @pytest.mark.parametrize("after", [0, 1])
    def test_a_source_that_breaks_off_neither_loses_nor_doubles_a_record(
        self, origin: FaultyOrigin, after: int
    ) -> None:
        super().test_a_source_that_breaks_off_neither_loses_nor_doubles_a_record(origin, after)
