"""A crawl in a process of its own, seen from the process that wants its items.

Scrapy's reactor can't be started twice in a process and needs its main thread, so each crawl gets a child process
(`millrace_producer.sources.crawl`). It is told what to do in one line of JSON on its standard input, which then stays
open for as long as somebody wants the items: when it closes, because the reader is done or was killed, the child ends.
Messages come back as JSON lines over a pipe, and the child writes no faster than they are read.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, Any, TypeAlias

import msgspec

from millrace_pipeline.surrogates import well_formed
from millrace_producer.itemfields import ItemFields

log = logging.getLogger(__name__)

OWN_SETTINGS = "millrace_producer.settings"
"""Millrace's own project, which is found by its settings: installed from a wheel it has no folder with a scrapy.cfg."""

GRACE_SECONDS = 3.0
"""A crawl that nobody wants any more has so long to close in good order."""

LOG_FORMAT = "%(levelname)s [%(name)s] %(message)s"
LINE_BREAK = "\x1e"
"""Stands for a line break within a log record."""

LAST_WORDS = 6

RESUMED = "millrace/resumed"
"""A counter of ours among Scrapy's: the crawl went on from what an earlier one left in its JOBDIR."""

_LEVEL = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL) \[")
_USER_INFO = re.compile(r"(?<=://)[^/\s@]+@|\b[^/\s@:'\"]+:[^/\s@]+@(?=[\w\[])")
_SECRET_PARAMETER = re.compile(r"(?i)\b([\w.-]*(?:key|token|secret|passw|signature|auth)[\w.-]*)=[^&\s'\"<>]+")


class Job(msgspec.Struct):
    """What the child is to do: run this spider with these `-a` arguments and `-s` settings.

    `fields` are where its items have their key and time.

    `path` is where this process finds modules, those beside the flows file among them: the project's spiders find them
    too, after the project's own.
    """

    spider: str
    args: dict[str, str]
    settings: dict[str, Any]
    fields: ItemFields
    path: list[str]
    shared: dict[str, Any] | None = None
    """Settings of a crawl that this spider shares with others; it puts its items on the list by itself then."""


class Item(msgspec.Struct, tag_field="says", tag="item"):
    """An item as JSON, with the key, type and time of its record."""

    data: msgspec.Raw
    key: str | None = None
    type: str | None = None
    time: datetime | None = None


class NoItem(msgspec.Struct, tag_field="says", tag="dead"):
    """An item that JSON can't say."""

    original: bytes
    reason: str


class Under(msgspec.Struct, tag_field="says", tag="under"):
    """The crawl is under way: so far it has come, as Scrapy counts, and so many requests are to be fetched."""

    stats: dict[str, int | float]
    waiting: int


class Ended(msgspec.Struct, tag_field="says", tag="ended"):
    """The crawl has closed: Scrapy's finish reason, its counters, and the longest Retry-After of a 429 or 503."""

    finish_reason: str
    stats: dict[str, int | float]
    retry_after: float | None = None


class Failed(msgspec.Struct, tag_field="says", tag="failed"):
    """The crawl could not be run. `lasting` where trying again won't help: an import error, an unknown spider."""

    message: str
    lasting: bool


Message: TypeAlias = Item | NoItem | Under | Ended | Failed


class CrawlProcess:
    """Runs a job in a child process for as long as the block lasts; iterating gives what the child says.

    `project` is the folder that holds its `scrapy.cfg`; None is Millrace's own project. `environ` is its environment
    beside ours. Leaving the block ends the
    child and all that it started.
    """

    def __init__(self, job: Job, project: Path | None, *, environ: Mapping[str, str] | None = None) -> None:
        self._job = job
        self._environ = environ or {}
        self._project = project
        self._last_words: deque[str] = deque(maxlen=LAST_WORDS)

    def __enter__(self) -> CrawlProcess:
        reading, writing = os.pipe()
        self._messages = os.fdopen(reading, "rb")
        # The project is the one that was asked for, whatever this process's own environment says.
        environment = {name: value for name, value in os.environ.items() if name != "SCRAPY_SETTINGS_MODULE"}
        environment |= self._environ
        if self._project is None:
            environment["SCRAPY_SETTINGS_MODULE"] = OWN_SETTINGS
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "millrace_producer.sources.crawl", str(writing)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(writing,),
                cwd=self._project,
                env=environment,
                start_new_session=True,  # Ctrl-C is for Millrace, which then ends the crawl
            )
        finally:
            os.close(writing)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._listener = threading.Thread(
            target=self._listen, args=(self._process.stdout,), name=f"log of {self._job.spider}", daemon=True
        )
        self._listener.start()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(msgspec.json.encode(self._job) + b"\n")
            self._process.stdin.flush()
        return self

    def __iter__(self) -> Iterator[Message]:
        for line in self._messages:
            if line.endswith(b"\n"):  # else the child died in the middle of it
                yield message_of(line)

    def exit_status(self) -> int:
        """Waits for the child, which has said all it will say. -n where signal n ended it."""
        try:
            status = self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()
            status = self._process.wait()
        self._listener.join(GRACE_SECONDS)
        return status

    @property
    def last_words(self) -> list[str]:
        """The last lines of the child's log, without secrets."""
        return list(self._last_words)

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._messages.close()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(GRACE_SECONDS + 2.0)
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.wait()
        self._listener.join(GRACE_SECONDS)

    def _kill(self) -> None:
        """The child leads a process group of its own, and is not reaped yet: nobody else can be hit."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _listen(self, output: IO[bytes]) -> None:
        """Passes the child's log on to ours; what is no log record, such as a print, counts as INFO."""
        with output:
            for line in output:
                text = without_secrets(line.decode(errors="replace").rstrip().replace(LINE_BREAK, "\n"))
                level = _LEVEL.match(text)
                if text:
                    self._last_words.append(_shortened(text))
                    number = logging.getLevelNamesMapping()[level[1]] if level else logging.INFO
                    log.log(number, "%s: %s", self._job.spider, text)


_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
_BEFORE_DATA = len(b'{"says":"item","data":')


def message_of(line: bytes) -> Message:
    """The message that a line says, the JSON of an item as it stands in it, halves of characters too."""
    message = _decoder.decode(mended := well_formed(line))
    if isinstance(message, Item) and mended is not line:
        message.data = msgspec.Raw(line[_BEFORE_DATA : _BEFORE_DATA + len(bytes(message.data))])
    return message


def _shortened(text: str) -> str:
    """A log record in one line: what it says, and what its traceback ends with."""
    first, *traceback = text.splitlines()
    return f"{first}: {traceback[-1]}" if traceback else first


def without_secrets(text: str) -> str:
    """The text with passwords in URLs, and the values of parameters that sound like secrets, left out."""
    return _SECRET_PARAMETER.sub(r"\1=***", _USER_INFO.sub("***@", text))
