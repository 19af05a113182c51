"""The source contract, by the schedule source: a function that asks an API at each tick of three days gone by."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from millrace.testing import FaultyOrigin, FaultySourceContract
from millrace_producer.sources.schedule import ScheduleSource
from tests.integration.api_server import Answer, ApiServer, Asked, json_answer

DAYS: dict[str, list[Any]] = {
    "2026-03-01": [{"n": 0, "text": "plain"}],
    "2026-03-02": [{"n": 1, "text": "žluťoučký 水車 🦆"}, {"n": 2, "big": 2**64 - 1}, ["a list"], "a string"],
    "2026-03-03": [],
    "2026-03-04": [{"n": 5, "text": "x" * 70_000}, {"n": 6}],
}

THEIRS = '''\
import requests
from millrace_producer.sources.base import DeadLetter, Record, SourceRefused, SourceUnavailable

BAD = b"\\xffbad\\xff"


def quotes(tick, url):
    """Asks for one quote of the day after the other."""
    number = 0
    with requests.Session() as session:
        while (text := asked_for(session, f"{url}/{tick:%Y-%m-%d}/{number}")) is not None:
            if text.startswith(BAD):
                yield DeadLetter(BAD, "spoilt")
                text = text.removeprefix(BAD)
            yield Record(text)
            number += 1


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


class TickOrigin(FaultyOrigin):
    def __init__(self, server: ApiServer, module: str) -> None:
        self.expected = [record for records in DAYS.values() for record in records]
        self._server = server
        self._function = f"{module}:quotes"
        self._spoilt: int | None = None
        self._broken: int | None = None
        self._status = 200
        server.route = self._answer

    def source(self) -> ScheduleSource:
        days = {"since": "2026-03-01", "until": "2026-03-04T23:59:59Z"}
        options: dict[str, Any] = {"function": self._function, "arguments": {"url": self._server.url}, **days}
        return ScheduleSource(every="1d", missed="all", **options)

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
        _, day, number = asked.path.split("/")
        if self._status != 200 or int(number) >= len(DAYS[day]):
            return Answer(self._status if self._status != 200 else 404)
        record = DAYS[day][int(number)]
        if self.expected.index(record) == self._broken:
            self._broken = None
            return Answer(200, b"half", cut=2)
        whole = json.dumps(record).encode()
        if self.expected.index(record) == self._spoilt:
            return Answer(200, b"\xffbad\xff" + whole)
        return json_answer(record)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "theirs_schedule.py").write_text(THEIRS)
    monkeypatch.syspath_prepend(tmp_path)
    yield "theirs_schedule"
    sys.modules.pop("theirs_schedule", None)


class TestScheduleSource(FaultySourceContract):
    @pytest.fixture
    def origin(self, module: str) -> Iterator[TickOrigin]:
        with ApiServer() as server:
            yield TickOrigin(server, module)
