"""The source contract, by the python source: a user's generator that asks an API for one record after the other."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from millrace.testing import FaultyOrigin, FaultySourceContract
from millrace_producer.sources.python import PythonSource
from tests.integration.api_server import Answer, ApiServer, Asked, json_answer

RECORDS: list[Any] = [
    {"n": 0, "text": "plain"},
    {"n": 1, "text": "žluťoučký 水車 🦆"},
    {"n": 2, "big": 2**64 - 1, "nothing": None},
    ["a list"],
    "a string",
    {"n": 5, "text": "x" * 70_000},
    {"n": 6},
    {"n": 90, "text": "cut in half \ud83d, the other \ude00", "\udc00": 1},
]

THEIRS = '''\
import requests
from millrace_producer.sources.base import DeadLetter, Record, SourceRefused, SourceUnavailable

BAD = b"\\xffbad\\xff"


def numbered(url, resume_from=None):
    """Asks for one record after the other. Where bad input comes before a record, it has a position of its own."""
    number, past_the_bad = resume_from or (0, False)
    with requests.Session() as session:
        while (text := asked_for(session, f"{url}/{number}")) is not None:
            if text.startswith(BAD):
                if not past_the_bad:
                    yield DeadLetter(BAD, "spoilt", [number, True])
                text = text.removeprefix(BAD)
            number, past_the_bad = number + 1, False
            yield Record(text, position=[number, False])


def plain(url):
    """The same, without a word of positions."""
    for record in numbered(url):
        record.position = None
        yield record


def asked_for(session, url):
    try:
        answer = session.get(url, timeout=30)
    except requests.RequestException as error:
        raise SourceUnavailable(type(error).__name__) from None
    status, text = answer.status_code, answer.content
    del answer  # it holds the connection, and a traceback would hold it
    if status == 410:
        raise SourceRefused("it is gone")
    if status == 503:
        raise SourceUnavailable(f"answered {status}")
    return text if status == 200 else None
'''


class FunctionOrigin(FaultyOrigin):
    def __init__(self, server: ApiServer, module: str, **options: Any) -> None:
        self.expected = list(RECORDS)
        self._server = server
        self._options = {"arguments": {"url": server.url}, **options, "function": f"{module}:{options['function']}"}
        self._spoilt: int | None = None
        self._broken: int | None = None
        self._status = 200
        server.route = self._answer

    def source(self) -> PythonSource:
        return PythonSource(**self._options)

    def break_off(self, after: int) -> None:
        self._broken = after

    def spoil(self, at: int) -> bytes:
        self._spoilt = at
        return b"\xffbad\xff"

    def refuse(self) -> None:
        self._status = 410

    def fall_over(self) -> None:
        self._status = 503

    def recover(self) -> None:
        self._status = 200

    def held(self) -> int:
        return self._server.connections

    def _answer(self, asked: Asked) -> Answer:
        number = int(asked.path[1:])
        if self._status != 200 or number >= len(RECORDS):
            return Answer(self._status if self._status != 200 else 404)
        if number == self._broken:
            self._broken = None
            return Answer(200, b"half", cut=2)
        whole = json_answer(RECORDS[number])
        if number == self._spoilt:
            return Answer(200, b"\xffbad\xff" + whole.body)
        return whole


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "theirs_python.py").write_text(THEIRS)
    monkeypatch.syspath_prepend(tmp_path)
    yield "theirs_python"
    sys.modules.pop("theirs_python", None)


class TestFunctionWithPositions(FaultySourceContract):
    @pytest.fixture
    def origin(self, module: str) -> Iterator[FunctionOrigin]:
        with ApiServer() as server:
            yield FunctionOrigin(server, module, function="numbered")


class TestFunctionThatIsCounted(FaultySourceContract):
    @pytest.fixture
    def origin(self, module: str) -> Iterator[FunctionOrigin]:
        with ApiServer() as server:
            yield FunctionOrigin(server, module, function="plain", counted=True)

    def test_bad_input_becomes_a_dead_letter_and_what_follows_still_arrives(self, origin: FunctionOrigin) -> None:
        origin.spoil(3)
        came = list(origin.source().read(None))
        assert [record.position for record in came] == list(range(1, len(RECORDS) + 2))
        assert [record.data for record in origin.source().read(4)] == [record.data for record in came[4:]]


class TestFunctionWithoutPositions(FaultySourceContract):
    replays = False

    @pytest.fixture
    def origin(self, module: str) -> Iterator[FunctionOrigin]:
        with ApiServer() as server:
            yield FunctionOrigin(server, module, function="plain")
