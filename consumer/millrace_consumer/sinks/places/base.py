"""What a place is, where a sink's files go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import BinaryIO


class Place(ABC):
    """A directory, or what a bucket holds under a prefix. Names in it are relative, their steps parted by slashes."""

    name_limit: int
    """Bytes that a name may have here."""

    @abstractmethod
    def stage(self, files: int) -> Staging:
        """A batch's files, so many, to appear here together."""

    @abstractmethod
    def names(self) -> Iterator[str]:
        """The names of all files, hidden ones too, in a steady order. Raises OSError or SinkUnavailable."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """A file to read, and to seek in. Raises FileNotFoundError, OSError or SinkUnavailable."""

    def holds(self, file: str) -> bool:
        """Whether a file of this name is here, in any directory. Raises as `names` does."""
        return any(name.rpartition("/")[2] == file for name in self.names())

    @abstractmethod
    def check(self) -> None:
        """Raises ConfigError where nothing can be written here, as far as that can be known without trying."""

    @abstractmethod
    def probe(self) -> str:
        """Say what is here, changing nothing. Raises ConfigError, OSError or SinkUnavailable where it isn't."""


class Staging(ABC):
    """The files of one batch: all of them encoded before the first of them appears. Use as a context manager.

    On leaving, what was not committed is dropped.
    """

    def __init__(self) -> None:
        self.size = 0
        """Bytes of all files added."""

    @abstractmethod
    def add(self, name: str, chunks: Iterable[bytes]) -> None:
        """Takes a file that nobody sees yet. Raises OSError."""

    @abstractmethod
    def commit(self) -> None:
        """Lets every file appear under its name, whole and for good. Raises OSError or SinkUnavailable."""

    @abstractmethod
    def drop(self) -> None:
        """Forgets what was not committed."""

    def __enter__(self) -> Staging:
        return self

    def __exit__(self, *_: object) -> None:
        self.drop()
