"""Lab: the server, the data and the scratch folder of a benchmark, and processes that run on them.

The clock of every run is the same (`time.monotonic` counts alike in all processes of a machine). A consumer is started
on an empty list and waits; then the list, filled under another name, is renamed, and the clock starts. So no side pays
for its start, its imports or its first connection.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import redis

from bench import check
from bench.data import KEY, Events, Form, chunks
from bench.rounds import WrongAnswer
from bench.server import serving
from millrace_pipeline.queue.keys import Keys

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (ROOT, *(ROOT / folder for folder in ("producer", "consumer", "pipeline")))
"""The place of the code that is measured: this folder's, whatever else is installed."""

FLOW = "events"
TEMPLATES = 1
"""The database that keeps filled lists, so that each is made once and copied for every run."""

POLL_SECONDS = 0.002
LAZY_POLL_SECONDS = 0.1
PATIENCE_SECONDS = 300.0


class Lab:
    """`rounds` is how often each side of a row runs; `quick` makes everything smaller."""

    def __init__(self, url: str, scratch: Path, *, rounds: int, quick: bool, say: Callable[[str], None]) -> None:
        self.url = url
        self.scratch = scratch
        self.rounds = rounds
        self.quick = quick
        self.say = say
        self.events = Events()
        self.redis = redis.Redis.from_url(url)
        self.keys = Keys(KEY)
        self._templates = redis.Redis.from_url(url, db=TEMPLATES, socket_timeout=PATIENCE_SECONDS)  # COPY of a gigabyte
        self._sums: dict[tuple[Any, ...], check.Sum] = {}
        self._folders = 0

    @contextlib.contextmanager
    def durable(self) -> Iterator[Lab]:
        """A lab on a fresh server that keeps an append-only file, as those have it who ask for `queue.fsync`."""
        with self.folder() as folder, serving(folder, aof=True) as url:
            scratch = folder / "runs"
            scratch.mkdir()
            lab = Lab(url, scratch, rounds=self.rounds, quick=self.quick, say=self.say)
            lab.events, lab._sums = self.events, self._sums
            yield lab

    def empty(self) -> None:
        """Empties the database, and returns when its memory is free: a server that still frees is slower."""
        self.redis.execute_command("FLUSHDB", "SYNC")
        while self.redis.info("memory")["lazyfree_pending_objects"]:
            time.sleep(POLL_SECONDS)

    @contextlib.contextmanager
    def folder(self) -> Iterator[Path]:
        """An empty folder for one run, removed after it."""
        self._folders += 1
        path = self.scratch / f"run-{self._folders:04d}"
        path.mkdir()
        try:
            yield path
        finally:
            shutil.rmtree(path)

    def fill(self, form: Form, count: int) -> None:
        """Empties the database and puts so many events on a list that `release` hands out, the oldest at its tail."""
        self.empty()
        self.fill_again(form, count)

    def fill_again(self, form: Form, count: int) -> None:
        """The same, without emptying the database: for consumers that are there already."""
        template = f"{form.__name__}-{count}"
        if not self._templates.exists(template):
            self.say(f"filling a list of {count:,} records")
            for chunk in chunks(form(self.events.some(count)), 500):
                self._templates.lpush(template, *chunk)
        if not self._templates.copy(template, self._filled, destination_db=0):
            raise WrongAnswer("the server could not copy the list")

    def forget(self) -> None:
        """Drops the filled lists: the next row has others."""
        self._templates.flushdb()
        self.empty()

    def release(self) -> float:
        """Gives the list its name. Returns the moment before."""
        moment = time.monotonic()
        self.redis.rename(self._filled, KEY)
        return moment

    def sum_of(self, form: Form, count: int, spelling: Callable[[bytes], bytes] = check.exactly) -> check.Sum:
        """The sum of so many events in a form."""
        what = (form, count, spelling)
        if what not in self._sums:
            self._sums[what] = check.total(form(self.events.some(count)), spelling)
        return self._sums[what]

    def counter(self, name: str) -> int:
        """One of the flow's counters in Redis."""
        return int(self.redis.hget(self.keys.counters, name) or 0)  # type: ignore[arg-type]

    def millrace(self, folder: Path, *arguments: str, **flow: Any) -> Process:
        """Starts `millrace ARGUMENTS` on a flow with these options; what it leaves out is the default."""
        _write_flow(folder, flow)
        return Process(["-P", "-m", "millrace", *arguments], folder, {"REDIS_URL": self.url})

    def again(self, folder: Path, *arguments: str) -> Process:
        """Starts `millrace ARGUMENTS` on the flow that another process has in this folder."""
        return Process(["-P", "-m", "millrace", *arguments], folder, {"REDIS_URL": self.url})

    def stripped(self, folder: Path, count: int, **flow: Any) -> Process:
        """Starts `millrace consume` without books, leases and fencing."""
        _write_flow(folder, flow)
        return Process(["-m", "bench.ours.stripped", str(folder), str(count)], folder, {"REDIS_URL": self.url})

    def peer(self, folder: Path, name: str, *arguments: object, without: str = "") -> Process:
        """Starts `bench/peers/NAME.py URL KEY FOLDER ARGUMENTS`, `without` a library that happens to be installed."""
        words = [self.url, KEY, str(folder), *map(str, arguments)]
        return Process(["-m", f"bench.peers.{name}", *words], folder, {"BENCH_WITHOUT": without})

    def await_idle(self, *consumers: Process) -> None:
        """Returns once all of these wait inside Redis."""
        self.await_blocked(len(consumers), *consumers)

    def await_blocked(self, count: int, *processes: Process) -> None:
        """Returns once so many connections wait inside Redis."""
        _until(lambda: self._blocked() == count, processes, "consumers that wait for records")

    def await_delivered(self, keys: Sequence[str], count: int, *processes: Process) -> None:
        """Returns once the flow of each of these lists has delivered so many. Looks seldom, to cost Redis nothing."""
        counters = [Keys(key).counters for key in keys]

        def all_delivered() -> bool:
            return all(int(self.redis.hget(counter, "delivered") or 0) >= count for counter in counters)  # type: ignore[arg-type]

        _until(all_delivered, processes, f"{count:,} records delivered", LAZY_POLL_SECONDS)

    def await_counter(self, name: str, count: int, *processes: Process) -> float:
        """Returns the moment at which a counter of the flow has come so far."""
        _until(lambda: self.counter(name) >= count, processes, f"{count:,} records {name}")
        return time.monotonic()

    def await_key(self, key: str, *processes: Process) -> None:
        """Returns once there is this key."""
        _until(lambda: bool(self.redis.exists(key)), processes, key)

    def await_words(self, words: str, process: Process) -> None:
        """Returns once the process has said this."""
        _until(lambda: words in process.log_path.read_text(errors="replace"), [process], words, LAZY_POLL_SECONDS)

    def await_file(self, path: Path, *processes: Process) -> str:
        """The text of a file that a process writes in one go, once it is there."""
        _until(path.exists, processes, path.name)
        return path.read_text()

    def _blocked(self) -> int:
        return int(self.redis.info("clients")["blocked_clients"])

    @property
    def _filled(self) -> str:
        return f"{KEY}-filled"


class Process:
    """A Python process of a run, which ends with the block. Its output is in `process-N.log` of the folder."""

    def __init__(self, arguments: Sequence[str], folder: Path, environ: Mapping[str, str]) -> None:
        self.log_path = folder / f"process-{len(list(folder.glob('process-*.log')))}.log"
        # Nothing of who measures but where the recordings are: some sides read them themselves.
        mine = {
            name: value
            for name, value in os.environ.items()
            if name == "MILLRACE_TEST_DATA" or not name.startswith(("MILLRACE_", "REDIS_"))
        }
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=folder,
                env={**mine, "PYTHONPATH": os.pathsep.join(map(str, PACKAGES)), **environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def wait(self) -> None:
        """Returns once it has ended by itself. Raises WrongAnswer unless it did so in good order."""
        try:
            code = self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            raise WrongAnswer(f"{self} did not end{self.last_words}") from None
        if code:
            raise WrongAnswer(f"{self} ended with exit code {code}{self.last_words}")

    def stop(self) -> None:
        """SIGTERM, and waits. Raises WrongAnswer unless it ends in good order."""
        self._process.send_signal(signal.SIGTERM)
        self.wait()

    @property
    def last_words(self) -> str:
        said = self.log_path.read_text(errors="replace").strip().splitlines()[-20:]
        return "".join(f"\n  {line}" for line in said)

    def __str__(self) -> str:
        return " ".join(map(str, self._process.args[1:4]))  # type: ignore[index]

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.ended:
            self._process.kill()
            self._process.wait()


def _write_flow(folder: Path, flow: Mapping[str, Any]) -> None:
    options = {"source": {"type": "sse", "url": "http://127.0.0.1:9/"}, "queue": {"key": KEY}, **flow}
    (folder / "flows.yaml").write_text(json.dumps({"flows": {FLOW: options}}))  # JSON is YAML too


def _until(
    claim: Callable[[], bool], processes: Sequence[Process], what: str, poll_seconds: float = POLL_SECONDS
) -> None:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not claim():
        for process in processes:
            if process.ended and not claim():
                raise WrongAnswer(f"{process} ended before there were {what}{process.last_words}")
        if time.monotonic() > give_up:
            raise WrongAnswer(f"no {what} within {PATIENCE_SECONDS:.0f} s")
        time.sleep(poll_seconds)
