"""Power cut: takes from a Redis' append-only file what a power failure could, and never more.

What was synced to the disk stays; of what came behind, nothing does. How much was synced is not asked of Redis, since
`WAITAOF` of some confirms what was only written (docs/decisions/0012-what-is-on-disk.md). It is seen from outside, on
Linux: with `appendfsync everysec` one thread of the server does all syncs and sleeps in between, and the kernel counts
how often that went to sleep. While the count stands, no sync has begun that could cover more than the file held when
the count last changed.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
import time
from pathlib import Path
from typing import NamedTuple, Protocol

from millrace.embedded import Embedded
from millrace_pipeline.errors import MillraceError

SYNCERS = ("bio_aof", "bio_aof_fsync")
"""The server's thread that syncs the append-only file; Redis 7.0 has the second name for it."""

LOOK_SECONDS = 0.005
STOP_SECONDS = 5.0


class Noted(NamedTuple):
    """How large a file was when its server's syncs had this count."""

    pid: int
    syncs: int
    file: Path
    size: int
    at: float


class Watch:
    """Knows how much of a server's append-only file a power failure leaves, at least.

    `folder` is the server's `appendonlydir`; `pid` its process, which may be another one after each start.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.noted: Noted | None = None

    def look(self, pid: int) -> None:
        """Notes the size of the file, if there was a sync since the last look. To be called every few milliseconds."""
        try:
            syncs = _count(pid)
            if self.noted and (self.noted.pid, self.noted.syncs) == (pid, syncs):
                return
            file = current_file(self._folder)
            size = file.stat().st_size
            if _count(pid) == syncs:
                self.noted = Noted(pid, syncs, file, size, time.monotonic())
        except OSError:
            self.noted = None  # it has just ended, or has not come up

    def kept(self, pid: int) -> tuple[Path, int]:
        """The file, and how many bytes of it a power cut leaves. The process must have been stopped by SIGSTOP."""
        file = current_file(self._folder)
        size, noted = file.stat().st_size, self.noted
        # Being stopped is one sleep more. Another file is that of a rewrite since, which synced on its way.
        if noted and (noted.pid, noted.syncs + 1, noted.file) == (pid, _count(pid), file):
            size = min(noted.size, size)
        return file, size


class Powered(Protocol):
    """A server whose power can be cut: it runs on this machine, and its files are within reach."""

    append_folder: Path
    """Its `appendonlydir`."""

    @property
    def pid(self) -> int:
        """Its process. Raises MillraceError while it doesn't run."""

    @property
    def appendfsync(self) -> str:
        """When it syncs."""

    def kill(self) -> None:
        """End it by SIGKILL."""


class EmbeddedPower:
    """The power of an embedded server."""

    def __init__(self, server: Embedded) -> None:
        self._server = server
        self.append_folder = server.data_dir / "appendonlydir"
        self.kill = server.kill

    @property
    def pid(self) -> int:
        """See `Powered.pid`."""
        return self._server.pid

    @property
    def appendfsync(self) -> str:
        """See `Powered.appendfsync`."""
        return _fsync(("127.0.0.1", self._server.port or 0))


class PowerCut:
    """Cuts the power of a server that has an append-only file and syncs it every second, or always.

    With `always` it takes nothing: what Redis has answered is on disk. Use it as a context manager, or `start` it.
    """

    def __init__(self, server: Powered) -> None:
        self._server = server
        self._syncs_always = False
        self._watch = Watch(server.append_folder)
        self._looking = threading.Lock()  # held while we cut: being stopped would look like a sync
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch the append-only file", daemon=True)

    def start(self) -> None:
        """Watch the server. Raises MillraceError where this is not Linux, or the server's syncs can't be seen."""
        if not can_be_cut():
            raise MillraceError("a power cut needs Linux, whose kernel tells when a server syncs: leave it out here")
        if (fsync := self._server.appendfsync) not in ("everysec", "always"):
            raise MillraceError(f"appendfsync is {fsync}: a power cut can be made with everysec and always")
        self._syncs_always = fsync == "always"
        try:
            _count(self._server.pid)
            os.kill(self._server.pid, 0)
            with current_file(self._server.append_folder).open("r+b"):
                pass  # we may cut it
        except OSError as error:  # else every cut would take nothing, and prove nothing
            out_of_reach = f"its syncs, its process or its file are out of reach: {error}"
            raise MillraceError(f"no power cut of this server, for {out_of_reach}") from error
        self._thread.start()

    @property
    def since_sync(self) -> float:
        """Seconds since the last sync, as it is now; 0 where a cut would take nothing."""
        self._look()
        noted = self._watch.noted
        return time.monotonic() - noted.at if noted and not self._syncs_always else 0.0

    def cut(self) -> int:
        """Ends the server as a power failure does. Returns how many bytes it took; `start` of the server goes on."""
        pid = self._server.pid
        with self._looking:
            self._watch.look(pid)
            os.kill(pid, signal.SIGSTOP)
            _await_stopped(pid)
            file, kept = self._watch.kept(pid)
        self._server.kill()
        return 0 if self._syncs_always else truncate(file, kept)

    def close(self) -> None:
        """Ends the watching; the server lives on."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def __enter__(self) -> PowerCut:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        while not self._closing.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        with self._looking, contextlib.suppress(MillraceError):  # it is not running
            self._watch.look(self._server.pid)


def can_be_cut() -> bool:
    """Whether this machine tells when a server syncs."""
    return Path("/proc/self/task").is_dir()


def current_file(folder: Path) -> Path:
    """The file that Redis appends to now. Raises FileNotFoundError where there is none."""
    named = ((re.search(r"\.(\d+)\.incr\.aof$", path.name), path) for path in folder.iterdir())
    found = [(int(match[1]), path) for match, path in named if match]
    if not found:
        raise FileNotFoundError(f"no append-only file in {folder}")
    return max(found)[1]


def truncate(file: Path, size: int) -> int:
    """Cuts the file to this size. Returns how many bytes went."""
    taken = max(0, file.stat().st_size - size)
    if taken:
        os.truncate(file, size)
    return taken


def _count(pid: int) -> int:
    """How often the thread that syncs has gone to sleep. Raises OSError where there is no such process or thread."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().strip() in SYNCERS:
            told = re.search(r"^voluntary_ctxt_switches:\s*(\d+)", (task / "status").read_text(), re.MULTILINE)
            assert told
            return int(told[1])
    raise FileNotFoundError(f"process {pid} has no thread {' or '.join(SYNCERS)}")


def _await_stopped(pid: int) -> None:
    """Returns once all threads of the process stand still: a signal needs a moment."""
    deadline = time.monotonic() + STOP_SECONDS
    while not all(_state(task) == "T" for task in Path(f"/proc/{pid}/task").iterdir()):
        if time.monotonic() > deadline:
            raise MillraceError(f"process {pid} does not stop: no power cut without that")


def _state(task: Path) -> str:
    return (task / "stat").read_text().rpartition(")")[2].split()[0]


def _fsync(address: tuple[str, int]) -> str:
    """The server's `appendfsync`."""
    with socket.create_connection(address, timeout=STOP_SECONDS) as connection, connection.makefile("rb") as said:
        connection.sendall(b"CONFIG GET appendfsync\r\n")
        return [said.readline() for _ in range(5)][-1].decode().strip()
