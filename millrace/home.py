"""Home: `.millrace/`, where the embedded Valkey of a folder's flows keeps its data, and how all who need it share it.

Nobody who uses the server owns it: `run`, a `status` beside it, a program with a reader. Each holds a shared lock on
one file while it does, which the kernel takes back from who is killed. The first starts a keeper
(`millrace/keeper.py`), which starts the server, leaves its address here, and ends it once the lock is free.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from millrace.embedded import STOP_GRACE, Embedded, info
from millrace_pipeline.errors import ConfigError

FOLDER = Path(".millrace")
"""Below the working directory."""

POLL = 0.01
BUSY_SECONDS = 5.0
"""How long a server that holds the data may take to answer."""


class Home:
    """One such folder. It need not be there."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder
        self.data = folder / "valkey"
        self.users = folder / "users.lock"
        """Held by each who uses the server, shared; by the keeper that ends it, alone."""
        self._starting = folder / "start.lock"
        self._address = folder / "address.json"

    @property
    def used(self) -> bool:
        """Whether flows have ever run here."""
        return self.data.is_dir()

    def visit(self, *, port: int | None = None, preferred: int | None = None) -> Visit:
        """The server, for as long as the visit lasts: the one that runs, or else a new one on the data that is here.

        A new one listens on `port`, or else on `preferred` or the last one's, if nobody has that, or on any free one.
        Raises ConfigError where it can't be had: see `millrace.embedded`; or where it runs on another port than `port`.
        """
        file = self._open(self.users)
        try:
            fcntl.flock(file, fcntl.LOCK_SH)  # waits while a keeper is about to end one
            keeper = None
            with self._open(self._starting) as starting:
                fcntl.flock(starting, fcntl.LOCK_EX)  # one starts it, the others find it
                if (url := self.running()) is None:
                    url, keeper = self._start(port, preferred)
        except BaseException:
            file.close()
            raise
        visit = Visit(url, file, keeper)
        if port is not None and f":{port}/" not in url:
            visit.close()
            raise ConfigError(f"the embedded Valkey of this folder runs already, at {url}: leave --port {port} out")
        return visit

    @contextlib.contextmanager
    def running_flow(self, name: str) -> Iterator[None]:
        """The right to be the one `millrace run` of this flow here. Raises ConfigError where there is another."""
        path = self.folder / f"run-{name}.lock"
        with self._open(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = _left_in(path)
                who = f"millrace run is running here already{f' (pid {pid})' if pid else ''}"
                raise ConfigError(f"{who}, with flow {name}: stop it first") from None
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield

    def running(self) -> str | None:
        """The address that was left here, if the very server that it is of still answers there."""
        try:
            left = json.loads(self._address.read_text())
            url, port, run_id = str(left["url"]), int(left["port"]), str(left["run_id"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return url if info(("127.0.0.1", port)).get("run_id") == run_id else None

    def start(self, port: int | None, preferred: int | None) -> Embedded:
        """Starts a server and leaves its address: what a keeper does. Raises ConfigError."""
        server = self._started(port, preferred)
        self.leave_address(server)
        return server

    def start_again(self, server: Embedded) -> bool:
        """Start a server that has died, where it was. Return False where another keeper has one, or is about to.

        Raises ConfigError where it can't be started now.
        """
        with self._open(self._starting) as starting:
            try:
                fcntl.flock(starting, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            if self.running() is not None:
                return False
            server.start()
            self.leave_address(server)
            return True

    def leave_address(self, server: Embedded) -> None:
        """Leave the address of a server for who visits."""
        assert server.port is not None
        said = {"url": server.url, "port": server.port, "run_id": info(("127.0.0.1", server.port)).get("run_id", "")}
        beside = self._address.with_suffix(".new")
        beside.write_text(json.dumps(said))
        beside.replace(self._address)

    def _started(self, port: int | None, preferred: int | None) -> Embedded:
        if port is not None:
            server = Embedded(port=port, data_dir=self.data, aof=True)
            server.start()
            return server
        for wanted in filter(None, (preferred, self._last_port())):  # who waits for the last one finds this one
            server = Embedded(port=wanted, data_dir=self.data, aof=True)
            with contextlib.suppress(ConfigError):
                server.start()
                return server
        server = Embedded(data_dir=self.data, aof=True)
        server.start()
        return server

    def _last_port(self) -> int | None:
        try:
            return int(json.loads(self._address.read_text())["port"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _start(self, port: int | None, preferred: int | None) -> tuple[str, subprocess.Popen[bytes] | None]:
        """The address of a server that a keeper of ours keeps, or of one that was there but too busy to answer."""
        ours = str(Path(__file__).resolve().parents[1])
        path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), ours)))
        keeper = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "millrace.keeper"),
                *(str(self.folder.absolute()), str(port or ""), str(preferred or "")),
            ],
            env={**os.environ, "PYTHONPATH": path},  # whatever folder, and whatever program, this is
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # it may outlive us, and must hold nothing open that others wait for
            start_new_session=True,  # Ctrl-C is for us
        )
        assert keeper.stdout is not None
        with keeper.stdout as line:
            said = json.loads(line.readline() or b"{}")
        if "url" in said:
            return str(said["url"]), keeper
        keeper.wait()
        give_up = time.monotonic() + BUSY_SECONDS
        while self._data_is_held() and time.monotonic() < give_up:
            if (url := self.running()) is not None:
                return url, None
            time.sleep(POLL)
        raise ConfigError(said.get("error", "the embedded Valkey could not be started: set REDIS_URL to a Redis"))

    def _data_is_held(self) -> bool:
        try:
            with (self.data / "valkey.lock").open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def _open(self, path: Path) -> IO[str]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return path.open("a")
        except OSError as error:
            mend = "make it writable, or set REDIS_URL to a Redis"
            raise ConfigError(f"can't write {path} ({error.strerror}): {mend}") from None


class Visit:
    """A time with the server at `url`, which is there until `close`, or until this process ends."""

    def __init__(self, url: str, lock: IO[str], keeper: subprocess.Popen[bytes] | None) -> None:
        self.url = url
        self._lock = lock
        self._keeper = keeper

    def close(self) -> None:
        """Ends it. Where we started the server and nobody else uses it, returns once it is down."""
        if self._lock.closed:
            return
        path = self._lock.name
        self._lock.close()
        if self._keeper is None:
            return
        give_up = time.monotonic() + STOP_GRACE + 5
        while self._keeper.poll() is None and time.monotonic() < give_up:
            if _others_hold(path):
                _left.append(self._keeper)  # it goes on for them
                return
            time.sleep(POLL)


def _left_in(path: Path) -> str:
    """Return the process id that the holder of a lock left in its file; nothing where there is none."""
    try:
        found = path.read_text().strip()
    except OSError:
        return ""
    return found if found.isdigit() else ""


_left: list[subprocess.Popen[bytes]] = []
"""Keepers that go on without us: Python warns of children that are forgotten."""


def _others_hold(path: str) -> bool:
    """Whether others share the lock; False where nobody has it, or the keeper has got it."""
    try:
        with Path(path).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return True
    except OSError:  # BlockingIOError too
        return False
    return False
