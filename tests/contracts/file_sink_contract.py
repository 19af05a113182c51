"""What every sink that writes files must do besides."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest

from millrace_consumer.sinks.base import RecordsRejected, SinkUnavailable
from millrace_consumer.sinks.places.disk import STALE_AFTER
from millrace_pipeline.errors import ConfigError
from tests.contracts.sink_contract import SinkContract, as_nobody, no_room_for_files
from tests.contracts.sink_records import bulk, sink_of

HOSTILE_VALUES = ["..", ".", "/", "a/../../b", "\x00", "x" * 300, "é" * 300, "", None, "a=b", "%2F", "trailing. ", "\n"]


class FileSinkContract(SinkContract):
    """The claims about files."""

    kill_points: ClassVar[tuple[str, ...]] = (
        "sink.before_write",
        "sink.mid_write",
        "sink.before_rename",
        "sink.after_rename",
    )

    @contextmanager
    def full(self, destination: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
        """A file system of 64 KiB, all of it taken, where we may mount one; else a limit to the size of files."""
        disk = destination / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=0777", "tmpfs", str(disk)]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            with no_room_for_files() as free:
                yield disk, free
            return
        filler = disk / "filler"
        try:
            with suppress(OSError), filler.open("wb") as file:
                file.write(bytes(1 << 20))
            yield disk, filler.unlink
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=True)

    def partitioned(self, destination: Path, partition: list[str]) -> Any:
        return sink_of(self.sink, self.options(destination) | {"partition": partition})

    def test_a_batch_is_one_file_named_by_its_id(self, tmp_path: Path) -> None:
        self.write(tmp_path, "batch-1", self.ordinary)
        assert [file.name.split(".")[0] for file in files_in(tmp_path)] == ["batch-1"]

    def test_the_same_batch_makes_the_same_bytes(self, tmp_path: Path) -> None:
        contents = []
        for _ in range(2):
            self.write(tmp_path, "batch-1", self.ordinary)
            contents.append([file.read_bytes() for file in files_in(tmp_path)])
        assert contents[0] == contents[1] != []

    def test_killed_between_two_of_its_files_it_is_whole_when_delivered_again(self, tmp_path: Path) -> None:
        records = bulk(40, 10)

        class Partitioned(type(self)):  # type: ignore[misc]
            def options(self, destination: Path) -> dict[str, Any]:
                return super().options(destination) | {"partition": ["id"]}

        contract = Partitioned()
        contract.write_and_be_killed(tmp_path, "sink.before_rename:20", "batch-1", records)
        assert len(self.read_back(tmp_path)) == 19
        contract.write(tmp_path, "batch-1", records)
        assert self.found(tmp_path) == self.wanted(records)

    def test_a_killed_write_leaves_only_a_hidden_file(self, tmp_path: Path) -> None:
        self.write_and_be_killed(tmp_path, "sink.mid_write", "batch-1", bulk(1000))
        [half] = tmp_path.iterdir()
        assert half.name.startswith(".batch-1.")
        assert ".tmp-" in half.name
        self.write(tmp_path, "batch-1", bulk(1000))
        [whole] = files_in(tmp_path)
        assert 0 < half.stat().st_size < whole.stat().st_size, "the kill point was not in the middle"

    def test_hidden_files_of_the_dead_go_after_an_hour_and_those_of_the_living_stay(self, tmp_path: Path) -> None:
        dead, living = tmp_path / ".batch-7.jsonl.tmp-0123abcd", tmp_path / ".batch-8.jsonl.tmp-0123abcd"
        others = tmp_path / ".hidden"
        for file in (dead, living, others):
            file.write_bytes(b"half")
        for file in (dead, others):
            os.utime(file, (time.time() - STALE_AFTER - 60,) * 2)
        self.write(tmp_path, "batch-1", bulk(2))
        assert not dead.exists()
        assert living.exists()
        assert others.exists(), "not ours to remove"

    def test_a_reader_beside_it_never_sees_half_a_file(self, tmp_path: Path) -> None:
        done = threading.Event()
        failures: list[BaseException] = []

        def writer() -> None:
            try:
                sink = self.make(tmp_path)
                for number in range(15):
                    sink.write(self.batch(f"batch-{number % 5}", bulk(300)))
            except BaseException as failure:
                failures.append(failure)
            finally:
                done.set()

        thread = threading.Thread(target=writer)
        thread.start()
        looks = 0
        while not done.is_set() or looks < 2:
            assert len(self.read_back(tmp_path)) % 300 == 0
            looks += 1
        thread.join()
        assert not failures
        assert len(self.read_back(tmp_path)) == 5 * 300

    def test_a_failed_write_leaves_no_file_behind(self, tmp_path: Path) -> None:
        with self.full(tmp_path) as (destination, free):
            with pytest.raises(SinkUnavailable, match=str(destination)):
                self.make(destination).write(self.batch("batch-1", bulk(5)))
            free()
            assert [file for file in destination.rglob("*") if file.is_file()] == []

    def test_a_directory_that_it_may_not_write_to_makes_it_unavailable_until_it_may(self, tmp_path: Path) -> None:
        destination = tmp_path / "closed"
        destination.mkdir(mode=0o555)
        sink = self.make(destination)
        with as_nobody(), pytest.raises(SinkUnavailable, match="closed"):
            sink.write(self.batch("batch-1", bulk(5)))
        destination.chmod(0o755)
        sink.write(self.batch("batch-1", bulk(5)))
        assert self.found(destination) == self.wanted(bulk(5))

    def test_a_directory_that_is_removed_under_it_is_made_again(self, tmp_path: Path) -> None:
        sink = self.make(tmp_path / "deep" / "er")
        sink.write(self.batch("batch-1", bulk(5)))
        [file] = files_in(tmp_path)
        file.unlink()
        file.parent.rmdir()
        sink.write(self.batch("batch-2", bulk(5)))
        assert self.found(tmp_path) == self.wanted(bulk(5))

    @pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o007, 0o660)])
    def test_the_umask_says_who_may_read(self, tmp_path: Path, umask: int, mode: int) -> None:
        before = os.umask(umask)
        try:
            self.make(tmp_path / "new").write(self.batch("batch-1", bulk(2)))
        finally:
            os.umask(before)
        [file] = files_in(tmp_path)
        assert stat.S_IMODE(file.stat().st_mode) == mode
        assert stat.S_IMODE(file.parent.stat().st_mode) == mode | (mode & 0o444) >> 2

    def test_a_path_that_is_a_file_is_refused_when_the_flow_is_checked(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.touch()
        with pytest.raises(ConfigError, match="not a directory"):
            self.make(file).check(self.model)

    def test_no_partition_value_leaves_the_directory_or_loses_a_record(self, tmp_path: Path) -> None:
        destination = tmp_path / "in" / "side"
        records = [{"id": f"{n}", "text": value} for n, value in enumerate(HOSTILE_VALUES)]
        for _ in range(2):
            self.partitioned(destination, ["text", "date"]).write(self.batch("batch-1", records))
        assert self.found(destination) == self.wanted(records)
        assert [entry.name for entry in tmp_path.iterdir()] == ["in"]
        assert [entry.name for entry in (tmp_path / "in").iterdir()] == ["side"]
        assert all(file.parent.name == "date=2026-11-21" for file in files_in(destination))
        assert all(file.parents[2] == destination for file in files_in(destination))

    def test_more_partitions_than_files_it_may_open_are_all_written(self, tmp_path: Path) -> None:
        records = bulk(60, 10)
        sink = self.partitioned(tmp_path, ["id"])
        self.partitioned(tmp_path / "warm", []).write(self.batch("batch-1", records))  # loads what it needs first
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/dev/fd").iterdir())) + 10, before[1]))
        try:
            sink.write(self.batch("batch-1", records))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert len(files_in(tmp_path)) == 61

    def test_records_rejected_in_one_partition_hold_back_all_of_them(self, tmp_path: Path) -> None:
        good = bulk(3, 10)
        mixed = [good[0], self.unwritable[-1], good[1], good[2]]
        with pytest.raises(RecordsRejected) as rejection:
            self.partitioned(tmp_path, ["id"]).write(self.batch("batch-1", mixed))
        assert list(rejection.value.reasons) == [1]
        assert files_in(tmp_path) == []


def files_in(directory: Path) -> list[Path]:
    """The files that a reader's pattern finds: not the hidden ones."""
    return sorted(file for file in directory.rglob("[!.]*") if file.is_file())
