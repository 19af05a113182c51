"""The source contract, by the scrapy source."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from millrace.practice.site import PracticeSite
from millrace.testing import FaultyOrigin, FaultySourceContract
from millrace_producer.sources.scrapy import ScrapySource
from tests.integration.scrapyproject import QUICK, is_locked, make_project

RECORDS: list[Any] = [
    {"n": 0, "text": "plain"},
    {"n": 1, "text": "žluťoučký 水車 🦆"},
    {"n": 2, "text": "a\u2028b\u0085c\nd"},
    {"n": 3, "big": 2**64 - 1, "nothing": None, "deep": [[{"a": [1.5]}]]},
    {"n": 4, "text": "x" * 200_000},
    {"n": 5},
    {"n": 6},
    {"n": 90, "text": "cut in half \ud83d, the other \ude00", "\udc00": 1},
]


SPIDER = '''

class Listed(scrapy.Spider):
    """Crawls the site's pages, one record each, while it holds a lock; may die or meet what JSON can't say."""
    name = "listed"
    custom_settings = {"RETRY_TIMES": 0, "ROBOTSTXT_OBEY": True, "DOWNLOAD_TIMEOUT": 5}

    async def start(self):
        self.held = open(os.path.join(self.folder, "lock"), "w")
        fcntl.flock(self.held, fcntl.LOCK_EX)
        yield scrapy.Request(self.url, cb_kwargs={"number": 0})

    def parse(self, response, number):
        if self.noted("die") == number:
            os.remove(os.path.join(self.folder, "die"))
            os.kill(os.getpid(), signal.SIGKILL)
        if self.noted("spoil") == number:
            yield {"n": "spoilt", "bytes": b"not text"}
        record = response.json()
        yield record["data"]
        if record["next"]:
            yield response.follow(record["next"], cb_kwargs={"number": number + 1})

    def noted(self, name):
        try:
            with open(os.path.join(self.folder, name)) as note:
                return int(note.read())
        except FileNotFoundError:
            return None
'''


class CrawlOrigin(FaultyOrigin):
    def __init__(self, site: PracticeSite, project: Path, folder: Path) -> None:
        self.expected = list(RECORDS)
        self._site = site
        self._project = project
        self._folder = folder
        self._down = False

    def source(self) -> ScrapySource:
        url = "http://127.0.0.1:1/" if self._down else self._site.url
        args: dict[str, Any] = {"url": url, "folder": str(self._folder)}
        return ScrapySource(spider="listed", project=self._project, args=args, settings=dict(QUICK))

    def break_off(self, after: int) -> None:
        (self._folder / "die").write_text(str(after))

    def spoil(self, at: int) -> bytes:
        (self._folder / "spoil").write_text(str(at))
        return b"{'n': 'spoilt', 'bytes': b'not text'}"

    def refuse(self) -> None:
        self._site.robots = False

    def fall_over(self) -> None:
        self._down = True

    def recover(self) -> None:
        self._down = False

    def held(self) -> int:
        return int(is_locked(self._folder / "lock"))


class TestScrapySource(FaultySourceContract):
    replays = False

    @pytest.fixture
    def origin(self, tmp_path: Path) -> Iterator[CrawlOrigin]:
        project = make_project(tmp_path / "project", spiders=SPIDER)
        last = len(RECORDS) - 1
        pages = {
            f"/{n}" if n else "/": json.dumps({"data": data, "next": f"/{n + 1}" if n < last else None}).encode()
            for n, data in enumerate(RECORDS)
        }
        with PracticeSite(saved=pages) as site:
            yield CrawlOrigin(site, project, tmp_path)
