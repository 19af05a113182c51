"""A Scrapy project of somebody else's, as the tests of the scrapy source and the item pipeline find it."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Sequence
from pathlib import Path

QUICK = {"DOWNLOAD_DELAY": 0, "AUTOTHROTTLE_ENABLED": False}
"""Settings for a site on this machine, which needs no manners."""

SETTINGS = """\
BOT_NAME = "theirs"
SPIDER_MODULES = ["theirs.spiders"]
TELNETCONSOLE_ENABLED = False
"""

PIPELINES = """\
class Shout:
    def process_item(self, item):
        item["name"] = item["name"].upper()
        return item
"""

SPIDERS = '''\
import dataclasses, fcntl, os, signal, threading

import attrs, scrapy
from pydantic import BaseModel
from scrapy.exceptions import CloseSpider


class Field(scrapy.Item):
    name = scrapy.Field()

@dataclasses.dataclass
class Data:
    name: str

@attrs.define
class Attrs:
    name: str

class Model(BaseModel):
    name: str


class Kinds(scrapy.Spider):
    """An item of every kind, and one that JSON can't say."""
    name = "kinds"

    async def start(self):
        for kind in (dict, Field, Data, Attrs, Model):
            yield kind(name=kind.__name__)
        yield {"name": object()}


class Names(scrapy.Spider):
    name = "names"

    async def start(self):
        print("a print in a spider")
        yield {"name": "ada"}
        yield {"name": "grace"}


class Old(scrapy.Spider):
    """As they were written before Scrapy 2.16."""
    name = "old"

    def start_requests(self):
        yield scrapy.Request("data:,never")


class Needy(scrapy.Spider):
    name = "needy"

    def __init__(self, wanted, **others):
        super().__init__(**others)
        self.wanted = wanted


class Endless(scrapy.Spider):
    """Holds a lock while it lives; crawls until it is stopped, or on the sixth page blocks or dies."""
    name = "endless"
    custom_settings = {"SCRAPER_SLOT_MAX_ACTIVE_SIZE": 20_000}

    async def start(self):
        self.held = open(self.lock, "w")
        fcntl.flock(self.held, fcntl.LOCK_EX)
        yield self.page(1)

    def page(self, number):
        return scrapy.Request(f"data:,{number}", dont_filter=True, cb_kwargs={"number": number})

    def parse(self, response, number):
        if number == 6 and getattr(self, "then", "") == "block":
            threading.Event().wait(600)
        if number == 6 and getattr(self, "then", "") == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        yield {"number": number, "filler": "x" * 1000}
        yield self.page(number + 1)
'''


def make_project(folder: Path, *, settings: str = "", spiders: str = "") -> Path:
    """Writes the project, as `scrapy startproject theirs` would lay it out, and returns its folder.

    `settings` and `spiders` are added to those that it has.
    """
    package = folder / "theirs"
    (package / "spiders").mkdir(parents=True)
    (folder / "scrapy.cfg").write_text("[settings]\ndefault = theirs.settings\n")
    (package / "__init__.py").write_text("")
    (package / "settings.py").write_text(SETTINGS + settings)
    (package / "pipelines.py").write_text(PIPELINES)
    (package / "spiders" / "__init__.py").write_text(SPIDERS + spiders)
    return folder


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock on this file: as long as it does, it lives."""
    if not path.exists():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def settled(growing: Sequence[object], seconds: float = 1.0) -> int:
    """Waits until nothing was added for so long, and returns the length."""
    pause, length, quiet = threading.Event(), -1, 0.0
    while quiet < seconds:
        quiet = quiet + 0.05 if len(growing) == length else 0.0
        length = len(growing)
        pause.wait(0.05)
    return length
