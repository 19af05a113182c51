"""Where files are: on a disk, or in a bucket of an object store. Both can be listed by a pattern, and opened."""

from __future__ import annotations

import glob
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple
from zlib import crc32

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.objectstore import StoreOptions
from millrace_producer.sources.base import SourceRefused, SourceUnavailable
from millrace_producer.sources.reading.bucket import Bucket
from millrace_producer.sources.reading.lines import HEAD_BYTES


class File(NamedTuple):
    """A file as a listing shows it. Two that are equal have not been changed between."""

    name: str
    size: int
    changed: int
    """When, in nanoseconds since 1970."""
    identity: str
    """A file's inode, an object's ETag."""


class Files(ABC):
    """All files whose names fit a pattern."""

    growing: bool
    """Whether files here may grow while they are read."""

    @abstractmethod
    def found(self, since: str | None = None) -> list[File]:
        """Those that are there now, in no order. Raises SourceUnavailable, SourceRefused.

        Those whose names come before `since` may be left out, where that spares work.
        """

    @abstractmethod
    def look(self, name: str) -> File | None:
        """One of them as it is now; None if it is gone. Raises SourceUnavailable, SourceRefused."""

    @abstractmethod
    def open(self, file: File) -> BinaryIO:
        """It, to be read and sought in. Raises FileNotFoundError, SourceUnavailable, SourceRefused."""

    @abstractmethod
    def mark(self, file: File, opened: BinaryIO) -> str:
        """What tells its content from any other that may stand under its name later. Leaves it at its beginning."""


class LocalFiles(Files):
    """Files on a disk, through plain calls of the operating system."""

    growing = True

    def __init__(self, pattern: str) -> None:
        self._pattern = str(Path(pattern).expanduser())

    def check(self, *, may_come: bool) -> None:
        """Raise ConfigError where there is nothing to read, and nothing that may come."""
        magic = glob.has_magic(self._pattern)
        path = Path(self._pattern)
        if not magic and path.is_dir():
            raise ConfigError(f"path: {path} is a folder: name a file, or a pattern such as {path}/*.jsonl")
        if may_come:
            return
        if not magic and not path.exists():
            raise ConfigError(f"path: there is no file {path} (looked for {path.absolute()})")
        if not self._root().is_dir():
            raise ConfigError(f"path: there is no folder {self._root()} (looked for {self._root().absolute()})")
        if not magic and not os.access(path, os.R_OK):
            raise ConfigError(f"path: {path} can't be read: give the producer's user the right to")

    def _root(self) -> Path:
        return Path(os.path.dirname(re.split(r"[*?[]", self._pattern)[0]) or ".")  # noqa: PTH120 - up to the wildcard

    def found(self, since: str | None = None) -> list[File]:  # noqa: ARG002 - all are listed anyway
        """See `Files.found`. Names that begin with a dot are hidden from wildcards."""
        root = self._root()
        if not root.is_dir():
            raise SourceUnavailable(f"there is no directory {root}")
        magic = glob.has_magic(self._pattern)
        names = glob.iglob(self._pattern, recursive=True) if magic else [self._pattern]  # noqa: PTH207 - finds no hidden
        return [file for name in names if (file := self.look(name)) is not None]

    def look(self, name: str) -> File | None:
        """See `Files.look`. A directory is no file."""
        try:
            found = Path(name).stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unreadable(name, error) from error
        if not Path(name).is_file():
            if name == self._pattern:
                raise SourceRefused(f"{name} is no file: name one, or a pattern such as {name}/*.jsonl")
            return None
        return File(name, found.st_size, found.st_mtime_ns, str(found.st_ino))

    def open(self, file: File) -> BinaryIO:
        """See `Files.open`."""
        try:
            return Path(file.name).open("rb", buffering=1 << 18)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise unreadable(file.name, error) from error

    def mark(self, file: File, opened: BinaryIO) -> str:
        """See `Files.mark`. Its size, its beginning and its end: a copy of the same is the same."""
        head = opened.read(HEAD_BYTES)
        opened.seek(max(0, file.size - HEAD_BYTES))
        tail = opened.read(HEAD_BYTES)
        opened.seek(0)
        return f"{file.size:x}-{crc32(head):08x}-{crc32(tail):08x}"


class Objects(Files):
    """Objects under `s3://bucket/…`, `gs://` or `az://`."""

    growing = False

    def __init__(self, pattern: str, store: StoreOptions) -> None:
        self._bucket = Bucket(pattern, store)
        self._pattern = self._bucket.path
        self._fits = re.compile(glob_pattern(self._pattern)).fullmatch

    def found(self, since: str | None = None) -> list[File]:
        """See `Files.found`. Asks for what begins as the pattern does up to its first wildcard."""
        if not glob.has_magic(self._pattern):
            since = self._pattern
        begun = self.look(since) if since is not None and self._fits(since) else None
        files = [] if begun is None else [begun]
        if glob.has_magic(self._pattern):
            prefix = re.split(r"[*?[]", self._pattern)[0].rpartition("/")[0]
            files += [File(*found) for found in self._bucket.listed(prefix, since) if self._fits(found[0])]
        return files

    def look(self, name: str) -> File | None:
        """See `Files.look`."""
        found = self._bucket.look(name)
        return None if found is None else File(*found)

    def open(self, file: File) -> BinaryIO:
        """See `Files.open`. Read in ranges, each on condition that the object is still the same."""
        return self._bucket.open(file.name, file.size, file.identity)

    def mark(self, file: File, opened: BinaryIO) -> str:  # noqa: ARG002 - the store knows it
        """See `Files.mark`. The ETag."""
        return file.identity


def files_at(path: str, store: StoreOptions | None) -> Files:
    """The files that a pattern means."""
    return Objects(path, store or StoreOptions()) if "://" in path else LocalFiles(path)


def glob_pattern(pattern: str) -> str:
    """A shell pattern as a regular expression: `*` and `?` within a name, `**` across folders, `[a-z]`.

    What a wildcard stands for is settled once the part behind it, up to the next one, is found: whatever else it could
    stand for, the next one takes as well. So a match takes a few passes over a name, whatever that name is.
    """
    # The pattern is chunks between wildcards across folders, these are names, and these are parts between stars.
    chunks: list[tuple[str, str]] = []
    names: list[str] = []
    parts: list[tuple[str, str]] = []
    folders = wildcard = text = ""
    for found in re.finditer(r"(?:(?<=/)|^)\*\*(?:/|$)|\*+|\[!?\]?[^]]*\]|.", pattern, re.DOTALL):
        part = found[0]
        begins = found.start() == 0 or pattern[found.start() - 1] == "/"
        visible = r"(?!\.)" if begins else ""
        if begins and part in ("**/", "**"):
            chunks.append((folders, "".join(names) + _settled([*parts, (wildcard, text)])))
            names, parts, wildcard, text, folders = [], [], "", "", _FOLDERS
            if part == "**":
                parts, wildcard = [("", visible)], "[^/]+"
        elif part.startswith("*"):
            parts.append((wildcard, text + visible))
            wildcard, text = "[^/]*", ""
        elif part == "/":
            names.append(_settled([*parts, (wildcard, text)]) + "/")
            parts, wildcard, text = [], "", ""
        else:
            text += _one(part, visible)
    chunks.append((folders, "".join(names) + _settled([*parts, (wildcard, text)])))
    return _settled(chunks)


_FOLDERS = r"(?:(?!\.)[^/]*/)*"  # an object's folder may have no name


def _settled(parts: Sequence[tuple[str, str]]) -> str:
    """Wildcards, each with what follows it, of which only the last is tried more than once."""
    *others, (last, end) = parts
    return "".join(f"(?>{wildcard}?{text})" if wildcard else text for wildcard, text in others) + last + end


def _one(part: str, visible: str) -> str:
    """What stands for one character."""
    if part == "?":
        return visible + "[^/]"
    if len(part) == 1:
        return re.escape(part)
    inner = re.sub(r"([\\^\[])", r"\\\1", part[1:-1])
    return visible + (f"[^/{inner[1:]}]" if inner.startswith("!") else f"[{inner}]")


def unreadable(name: str, error: OSError) -> SourceUnavailable:
    """A file that can't be read now, in one line."""
    return SourceUnavailable(f"can't read {name}: {error.strerror or error}")
