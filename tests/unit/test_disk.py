"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from millrace_consumer.sinks.places.disk import STALE_AFTER, Directories, DiskStaging


def stage(directories: Directories, path: Path, text: bytes = b"text") -> None:
    with DiskStaging(str(path.parent), directories, 1) as staging:
        staging.add(path.name, [text])
        staging.commit()
        assert staging.size == len(text)


def test_nothing_appears_before_the_commit_and_nothing_stays_without_it(tmp_path: Path) -> None:
    with DiskStaging(str(tmp_path), Directories(), 2) as staging:
        staging.add("a/file", [b"1", b"2"])
        staging.add("b/file", [b"3"])
        assert not list(tmp_path.rglob("file"))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("pieces", [[], [b""], [b"whole"], [b"in ", b"pieces"], [b"x" * 3_000_000]], ids=len)
@pytest.mark.parametrize("files", [1, 2])
def test_every_file_has_its_bytes_and_was_synced_before_it_got_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pieces: list[bytes], files: int
) -> None:
    synced: set[int] = set()
    fsync, pwritev, replace = os.fsync, os.pwritev, os.replace

    def synced_later(descriptor: int) -> None:
        fsync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    def synced_at_once(descriptor: int, buffers: list[bytes], offset: int, flags: int) -> int:
        assert flags == os.RWF_DSYNC
        synced.add(os.fstat(descriptor).st_ino)
        return pwritev(descriptor, buffers, offset, flags)

    def named(temporary: str, final: str) -> None:
        assert Path(temporary).stat().st_ino in synced
        replace(temporary, final)

    monkeypatch.setattr(os, "fsync", synced_later)
    monkeypatch.setattr(os, "pwritev", synced_at_once)
    monkeypatch.setattr(os, "replace", named)
    with DiskStaging(str(tmp_path), Directories(), files) as staging:
        for number in range(files):
            staging.add(f"{number}", iter(pieces))
        staging.commit()
    text = b"".join(pieces)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(map(str, range(files)), text)
    assert staging.size == files * len(text)


@pytest.mark.parametrize("refusal", [errno.EOPNOTSUPP, errno.EINVAL])
def test_where_the_system_can_not_write_through_a_file_is_written_and_then_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    def refuses(*_: object) -> int:
        raise OSError(refusal, "no such flag")

    monkeypatch.setattr(os, "pwritev", refuses)
    stage(Directories(), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"text"


def test_what_only_half_fits_when_written_through_is_written_again_from_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwritev = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda file, buffers, *more: pwritev(file, [buffers[0][:2]], *more))
    stage(Directories(), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"text"


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
