"""The source contract, by the websocket source: on a server that can go back, and on one that can't."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from websockets.sync.server import ServerConnection

from millrace.testing import FaultyOrigin, FaultySourceContract, value_of
from millrace_pipeline.envelope import DeadLetter
from millrace_producer.sources.websocket import WebsocketSource
from tests.integration.socket_server import SocketServer, break_off, query_of

RECORDS: list[Any] = [
    {"n": 0, "text": "plain"},
    {"n": 1, "text": "žluťoučký 水車 🦆"},
    {"n": 2, "text": "a\u2028b\u0085c"},
    {"n": 3, "big": 2**64 - 1},
    {"n": 4, "text": "x" * 70_000},
    {"n": 5},
    {"n": 6},
    {"n": 90, "text": "cut in half \ud83d, the other \ude00", "\udc00": 1},
]


class SocketOrigin(FaultyOrigin):
    def __init__(self, server: SocketServer, **options: Any) -> None:
        self.expected = list(RECORDS)
        self._server = server
        self._options = options
        self._messages: list[tuple[int, str | bytes]] = [(record["n"], json.dumps(record)) for record in RECORDS]
        self._broken: int | None = None
        server.talk = self._talk

    def source(self) -> WebsocketSource:
        options: dict[str, Any] = {"max_failures": 3, "backoff_initial": 0.01, "backoff_max": 0.05, **self._options}
        return WebsocketSource(url=self._server.url, end_at_close=True, **options)

    def break_off(self, after: int) -> None:
        self._broken = after

    def spoil(self, at: int) -> bytes:
        bad = b'{"n": NaN, "\xff'
        self._messages.insert(at, (at, bad))
        return bad

    def refuse(self) -> None:
        self._server.refuse.append((410, {}))

    def fall_over(self) -> None:
        self._server.refuse.extend([(503, {})] * 3)

    def recover(self) -> None:
        assert not self._server.refuse

    def held(self) -> int:
        return self._server.connections

    def _talk(self, client: ServerConnection) -> None:
        last = int(query_of(client).get("after", -1))
        broken, self._broken = self._broken, None
        for count, (_, message) in enumerate((n, message) for n, message in self._messages if n > last):
            if count == broken:
                break_off(client)
                return
            client.send(message)


class TestWebsocketThatResumes(FaultySourceContract):
    @pytest.fixture
    def origin(self) -> Iterator[SocketOrigin]:
        with SocketServer() as server:
            yield SocketOrigin(server, resume={"field": "/n", "parameter": "after"})

    def test_bad_input_becomes_a_dead_letter_and_what_follows_still_arrives(self, origin: SocketOrigin) -> None:
        """It has no place in the stream of its own, so who goes on from it is given it again."""
        original = origin.spoil(3)
        *before, letter, after, _, _, _, _ = origin.source().read(None)
        assert [value_of(record) for record in (*before, after)] == RECORDS[:4]
        assert isinstance(letter, DeadLetter)
        assert (letter.original, letter.position) == (original, 2)
        again, *rest = origin.source().read(letter.position)
        assert isinstance(again, DeadLetter)
        assert [value_of(record) for record in rest] == RECORDS[3:]


class TestWebsocketWithoutPositions(FaultySourceContract):
    replays: ClassVar[bool] = False

    @pytest.fixture
    def origin(self) -> Iterator[SocketOrigin]:
        with SocketServer() as server:
            yield SocketOrigin(server)
