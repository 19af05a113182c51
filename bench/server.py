"""The server of a benchmark: a fresh one of its own, and the same for both sides."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import redis

from millrace.embedded import Embedded

OLDEST = 7
START_SECONDS = 20.0


@contextlib.contextmanager
def serving(folder: Path, *, clients: int = 10_000, aof: bool = False) -> Iterator[str]:
    """The URL of a server: `redis-server` 7 or later from the PATH, else the embedded.

    It keeps nothing on disk, or with `aof` an append-only file in the folder, synced every second and never rewritten:
    a rewrite would meet one run and spare another.
    """
    binary = shutil.which("redis-server")
    if binary is None or _version_of(binary) < OLDEST:
        config = {"maxclients": clients, "auto-aof-rewrite-percentage": 0}
        with Embedded(data_dir=folder / "data", aof=aof, config=config) as embedded:
            yield embedded.url
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    options += ["--appendonly", "yes" if aof else "no", "--appendfsync", "everysec"]
    options += ["--auto-aof-rewrite-percentage", "0", "--maxclients", str(clients)]
    process = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"redis://127.0.0.1:{port}/0"
        _await(url)
        yield url
    finally:
        process.terminate()
        process.wait()


def version_of(client: redis.Redis) -> str:
    """What answers, such as `Valkey 9.1.0`."""
    said = client.info("server")
    name = str(said.get("server_name", "redis")).capitalize()
    return f"{name} {said.get('valkey_version') or said['redis_version']}"


def _version_of(binary: str) -> int:
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"v=(\d+)", said)
    return int(found[1]) if found else 0


def _await(url: str) -> None:
    give_up = time.monotonic() + START_SECONDS
    with redis.Redis.from_url(url) as client:
        while True:
            try:
                client.ping()
                return
            except redis.ConnectionError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.02)
