"""A directory on disk: its files are there whole or not at all, whatever dies in the middle.

A file is written under a hidden name of its own in the directory where it will stand, synced, and renamed; then the
directory is synced. A reader sees the finished file or none, and once `commit` has returned a power cut can't take it.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from millrace_consumer.sinks.places.base import Place, Staging
from millrace_consumer.sinks.places.writable import check_folder
from millrace_pipeline.killpoints import killpoint

AT_ONCE = 8
"""Files that are synced at the same time."""

STALE_AFTER = 3600.0
"""Seconds since its last change after which a temporary file belongs to nobody who is alive."""

TEMPORARY = re.compile(r"\..+\.tmp-[0-9a-f]{8}")
"""The hidden name of a file that is being written, or was when its writer died."""

_SLICE = 1 << 18
_PATH_MAX = os.pathconf("/", "PC_PATH_MAX")
_ROOM_FOR_TEMPORARY = 16
_WRITE_THROUGH: int = getattr(os, "RWF_DSYNC", 0)  # Linux
_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)  # macOS: fsync alone leaves data in the disk's cache


class Disk(Place):
    """A directory, made where there is none."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.name_limit = _PATH_MAX - len(os.fsencode(self.path.absolute())) - _ROOM_FOR_TEMPORARY
        self._directories = Directories()

    def stage(self, files: int) -> Staging:
        """A batch's files: written and synced under hidden names first."""
        return DiskStaging(str(self.path), self._directories, files)

    def names(self) -> Iterator[str]:
        """The names of all files, directory by directory. One that can't be listed is passed over."""
        for folder, folders, names in os.walk(self.path):
            folders.sort()
            for name in sorted(names):
                yield Path(folder, name).relative_to(self.path).as_posix()

    def open(self, name: str) -> BinaryIO:
        """The file. Raises OSError."""
        return (self.path / name).open("rb")

    def check(self) -> None:
        """Refuse a path that is something else than a directory, or where this user can't write."""
        check_folder(self.path)

    def probe(self) -> str:
        """Say whether the folder is there."""
        self.check()
        return f"{self.path} is there, and can be written to" if self.path.is_dir() else f"{self.path} will be made"


class DiskStaging(Staging):
    """Files under hidden names, in the directories where they will stand."""

    def __init__(self, path: str, directories: Directories, files: int) -> None:
        super().__init__()
        self._path = path
        self._directories = directories
        self._alone = files == 1
        self._staged: list[tuple[str, str]] = []  # paths as text: of a small batch a Path would be a good part
        self._unsynced: list[str] = []

    def drop(self) -> None:
        """Removes the hidden files."""
        for temporary, _final in self._staged:
            with suppress(OSError):
                Path(temporary).unlink()

    def add(self, name: str, chunks: Iterable[bytes]) -> None:
        """Writes the file under its hidden name, and closes it. Raises OSError."""
        final = f"{self._path}/{name}"
        directory, _, file_name = final.rpartition("/")
        temporary = f"{directory}/.{file_name}.tmp-{secrets.token_hex(4)}"
        # Not mkstemp: that would make a file for this user only, where the umask is what the operator chose.
        descriptor = self._directories.create(directory, temporary)
        self._staged.append((temporary, final))
        with io.FileIO(descriptor, "w") as file:
            pieces = iter(chunks)
            first, second = next(pieces, b""), next(pieces, None)
            if self._alone and second is None and _written_through(descriptor, first):
                self.size += len(first)
                return
            self._unsynced.append(temporary)
            for chunk in chain([first], [] if second is None else [second], pieces):
                view = memoryview(chunk)
                self.size += view.nbytes
                while view:
                    view = view[file.write(view[:_SLICE]) :]
                    killpoint("sink.mid_write")

    def commit(self) -> None:
        """Syncs every file and gives it its name, for good. Raises OSError."""
        _each(sync_file, self._unsynced)
        directories = dict.fromkeys(final.rpartition("/")[0] for _, final in self._staged)
        while self._staged:
            killpoint("sink.before_rename")
            temporary, final = self._staged[0]
            os.replace(temporary, final)  # noqa: PTH105
            del self._staged[0]
        killpoint("sink.after_rename")
        _each(sync_directory, directories)
        self._directories.settle()


class Directories:
    """The directories this process writes to: each made durable, and swept of what dead processes left there.

    Each is swept at its first use, and an hour after its last one at the latest: a batch whose consumer was killed is
    delivered again into the same directories, so someone who is alive comes by there.
    """

    def __init__(self) -> None:
        self._used: dict[str, float] = {}
        self._young: set[str] = set()
        self._lasting: set[str] = set()
        self._swept = time.monotonic()

    def create(self, directory: str, path: str) -> int:
        """The descriptor of a new file in a directory, which is made where there is none. Raises OSError."""
        self._sweep_when_due()
        if directory not in self._used:
            self._make(directory)
            sweep(directory)
        self._used[directory] = time.monotonic()
        try:
            return _create(path)
        except FileNotFoundError:  # somebody removed the directory under us
            self._lasting.clear()
            self._make(directory)
            return _create(path)

    def settle(self) -> None:
        """Makes sure that the names of the directories made since last time outlast a power cut."""
        _each(_sync_if_ours, self._young)
        self._lasting |= self._young
        self._young.clear()

    def _make(self, directory: str) -> None:
        """Makes a directory and its parents.

        Parents are to be synced even where they are not new: another consumer may have made them this very moment.
        """
        Path(directory).mkdir(parents=True, exist_ok=True)
        for parent in map(str, Path(directory).absolute().parents):
            self._young.add(parent)
            if parent in self._lasting:
                break

    def _sweep_when_due(self) -> None:
        now = time.monotonic()
        if now - self._swept < STALE_AFTER:
            return
        self._swept = now
        for directory, used in list(self._used.items()):
            sweep(directory)
            if now - used > STALE_AFTER:
                del self._used[directory]


def _create(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def _written_through(descriptor: int, text: bytes) -> bool:
    """Writes a whole file and makes it durable in one call, where the system has one for it; says whether it did.

    That is as good as a write and a sync, but while the disk works nothing of ours has to run: between two calls this
    thread would wait for its turn among the others. Raises OSError.
    """
    if not _WRITE_THROUGH or _FULL_SYNC is not None or not text:
        return False
    killpoint("sink.mid_write", half_done=lambda: os.write(descriptor, text[: len(text) // 2]))
    try:
        return os.pwritev(descriptor, [text], 0, _WRITE_THROUGH) == len(text)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):
            return False
        raise


def sync_file(path: str | Path) -> None:
    """Makes what a file holds durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(directory: str | Path) -> None:
    """Makes the names in a directory durable. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _sync(descriptor)
    except OSError as error:
        # Some network and FUSE file systems have no such thing as syncing a directory, and say so.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def sweep(directory: str) -> None:
    """Removes temporary files that nobody has changed for an hour. What can't be removed stays: it is hidden anyway."""
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if not TEMPORARY.fullmatch(entry.name):
                continue
            with suppress(OSError):
                if time.time() - entry.stat(follow_symlinks=False).st_mtime > STALE_AFTER:
                    Path(entry.path).unlink()


def _sync_if_ours(directory: str) -> None:
    with suppress(OSError):  # far enough up it isn't
        sync_directory(directory)


def _each(sync: Callable[[str], None], paths: Collection[str]) -> None:
    """Syncs many at the same time, which a file system does in little more time than one. Raises OSError."""
    if len(paths) < 2:
        for path in paths:
            sync(path)
        return
    with ThreadPoolExecutor(min(AT_ONCE, len(paths))) as pool:
        for _ in pool.map(sync, paths):
            pass


def _sync(descriptor: int) -> None:
    if _FULL_SYNC is not None:
        try:
            fcntl.fcntl(descriptor, _FULL_SYNC)
            return
        except OSError:
            pass  # a file system without it: the plain one below
    os.fsync(descriptor)
