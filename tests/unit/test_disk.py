"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from consumer.sinks.places.disk import STALE_AFTER, Directories, DiskStaging


def stage(directories: Directories, path: Path, text: bytes = b"text") -> None:
    with DiskStaging(path.parent, directories) as staging:
        staging.add(path.name, [text])
        staging.commit()
        assert staging.size == len(text)


def test_nothing_appears_before_the_commit_and_nothing_stays_without_it(tmp_path: Path) -> None:
    with DiskStaging(tmp_path, Directories()) as staging:
        staging.add("a/file", [b"1", b"2"])
        staging.add("b/file", [b"3"])
        assert not list(tmp_path.rglob("file"))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_file_that_is_there_is_replaced(tmp_path: Path) -> None:
    for text in (b"first", b"second"):
        stage(Directories(), tmp_path / "file", text)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"second")]


def test_a_consumer_that_runs_for_hours_sweeps_again_what_others_left_since(tmp_path: Path) -> None:
    directories = Directories()
    stage(directories, tmp_path / "yesterday" / "file")
    left = tmp_path / "yesterday" / ".file.tmp-0123abcd"
    left.write_bytes(b"half")
    os.utime(left, (time.time() - STALE_AFTER - 1,) * 2)
    stage(directories, tmp_path / "today" / "file")
    assert left.exists(), "not at every write: a directory may hold a great many files"
    directories._swept -= STALE_AFTER
    stage(directories, tmp_path / "today" / "file")
    assert not left.exists()


def test_a_directory_in_the_way_of_a_file_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="file"):
        stage(Directories(), tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
