"""The power cut that tests and `millrace chaos` make: it takes what a power failure could, and no more."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from millrace.cli import powercut
from millrace.cli.powercut import EmbeddedPower, PowerCut, Watch, _await_stopped, current_file
from millrace.embedded import Embedded
from millrace_pipeline.errors import MillraceError
from tests.conftest import eventually

SECONDS = 14.0
SERVERS = 4
SYNC_SECONDS = 1.15
"""After so long a sync was begun of whatever was written: every second, when Redis looks, ten times a second."""


class Writer(threading.Thread):
    """Writes numbers, and knows which of them are on disk, by what Redis says of its syncs."""

    def __init__(self, url: str, key: str) -> None:
        super().__init__(daemon=True)
        self.key = key
        self.written = self.on_disk = 0
        self._client = redis.Redis.from_url(url)
        self._idle: deque[tuple[float, int]] = deque()  # when no sync was under way, and what had been written
        self.start()

    def run(self) -> None:
        try:
            for number in itertools.count(1):
                self._client.rpush(self.key, number)
                self.written = number
                if self._client.info("persistence")["aof_pending_bio_fsync"] == 0:
                    self._idle.append((time.monotonic(), number))
                    # A sync of these has been begun since, and none is under way any more.
                    while self._idle[0][0] < time.monotonic() - SYNC_SECONDS:
                        self.on_disk = self._idle.popleft()[1]
        except redis.RedisError:
            self._client.close()


def cut_again_and_again(folder: Path, fsync: str, until: float) -> tuple[int, int]:
    """How many power cuts there were, and how many took something that had been written."""
    cuts = took = 0
    with (
        Embedded(aof=True, data_dir=folder, config={"appendfsync": fsync}) as server,
        PowerCut(EmbeddedPower(server)) as power,
        redis.Redis.from_url(server.url) as client,
    ):
        while time.monotonic() < until:
            writer = Writer(server.url, f"round {cuts}")
            enough = 1 if cuts % 2 else 30  # some cuts come when the first sync of all is just over
            eventually(lambda writer=writer, enough=enough: writer.on_disk >= enough)
            power.cut()
            writer.join()
            server.start()
            on_disk = writer.written if fsync == "always" else writer.on_disk
            left = client.llen(writer.key)
            assert left >= on_disk, f"{on_disk} were on disk, {left} are there: cut {cuts}"
            took += left < writer.written
            cuts += 1
    return cuts, took


@pytest.mark.parametrize("fsync", ["everysec", "always"])
def test_no_power_cut_takes_what_was_on_disk_and_most_take_the_last_moment(tmp_path: Path, fsync: str) -> None:
    until = time.monotonic() + SECONDS
    with ThreadPoolExecutor(SERVERS) as pool:
        done = list(pool.map(lambda n: cut_again_and_again(tmp_path / str(n), fsync, until), range(SERVERS)))
    cuts, took = (sum(counts) for counts in zip(*done, strict=True))
    assert cuts > 2 * SERVERS
    assert took == 0 if fsync == "always" else took > cuts / 2, f"{took} of {cuts} took something"


@pytest.mark.parametrize("stopping_seconds", [0.0, 0.2])
def test_a_power_cut_takes_what_was_written_since_the_last_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopping_seconds: float
) -> None:
    def await_stopped_on_a_busy_machine(pid: int) -> None:
        _await_stopped(pid)
        threading.Event().wait(stopping_seconds)

    monkeypatch.setattr(powercut, "_await_stopped", await_stopped_on_a_busy_machine)
    with (
        Embedded(aof=True, data_dir=tmp_path / "valkey") as server,
        PowerCut(EmbeddedPower(server)) as power,
        redis.Redis.from_url(server.url) as client,
    ):
        for number in range(3):
            await_sync(client, power, number)
            client.config_set("appendfsync", "no")  # or another sync comes before the cut, where that takes a second
            eventually(lambda: client.info("persistence")["aof_pending_bio_fsync"] == 0)
            eventually(lambda: power.since_sync > 0.5)  # and its end has been seen
            client.set("since", number)
            assert power.cut() > 0
            server.start()
            assert (client.get("before"), client.get("since")) == (b"%d" % number, None)


def test_a_power_cut_takes_nothing_where_all_was_synced(tmp_path: Path) -> None:
    with (
        Embedded(aof=True, data_dir=tmp_path / "valkey") as server,
        PowerCut(EmbeddedPower(server)) as power,
        redis.Redis.from_url(server.url) as client,
    ):
        await_sync(client, power, 1)
        eventually(lambda: power.since_sync > 3.0)  # were anything left to sync, there would have been one
        assert power.cut() == 0
        server.start()
        assert client.get("before") == b"1"


def await_sync(client: redis.Redis, power: PowerCut, number: int) -> None:
    """Sets `before`, and returns when a sync has been seen since."""
    client.set("before", number)
    written = time.monotonic()
    # Again and again: a sync that comes at once may have been seen before we looked at the clock.
    eventually(lambda: client.set("before", number) and 0 < power.since_sync < time.monotonic() - written)


def test_a_file_that_a_rewrite_has_put_in_place_is_not_cut(tmp_path: Path) -> None:
    with Embedded(aof=True, data_dir=tmp_path / "valkey") as server, redis.Redis.from_url(server.url) as client:
        folder = server.data_dir / "appendonlydir"
        watch, noted = Watch(folder), current_file(folder)
        watch.look(server.pid)
        client.bgrewriteaof()
        eventually(lambda: current_file(folder) != noted)
        client.set("since", 1)
        assert watch.kept(server.pid) == (current_file(folder), current_file(folder).stat().st_size)


def test_a_server_that_never_syncs_is_refused_for_nothing_tells_what_it_would_lose(tmp_path: Path) -> None:
    with (
        Embedded(aof=True, data_dir=tmp_path / "valkey", config={"appendfsync": "no"}) as server,
        pytest.raises(MillraceError, match="appendfsync is no"),
    ):
        PowerCut(EmbeddedPower(server)).start()


def test_a_server_whose_syncs_cannot_be_seen_is_refused_and_not_cut_by_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(powercut, "SYNCERS", ("of another name",))
    with (
        Embedded(aof=True, data_dir=tmp_path / "valkey") as server,
        pytest.raises(MillraceError, match="no thread of another name"),
    ):
        PowerCut(EmbeddedPower(server)).start()
