"""A bucket of an object store: objects named by their batch, put if they are absent.

A put is atomic: a reader finds the whole object or none, whatever dies in the middle. "Already there" is success, since
what is there under a batch's id was put there by an earlier delivery of the same batch.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from millrace_consumer.sinks.places.base import Place, Staging
from millrace_consumer.sinks.places.store import Store, url_of
from millrace_pipeline.errors import SinkUnavailable
from millrace_pipeline.killpoints import killpoint
from millrace_pipeline.objectstore import client, store_errors, told

if TYPE_CHECKING:
    pass

AT_ONCE = 16
"""Objects, or parts of one, that are on their way at the same time."""

KEY_LIMIT = 1024
"""Bytes of an object's whole name that every store takes."""

PARTS_LIMIT = 10_000
_PART = 5 << 20
_READ_AHEAD = 8 << 20


class Bucket(Place):
    """The objects under a URL."""

    def __init__(self, path: str, options: Store) -> None:
        self.url = url_of(path)
        self.name_limit = KEY_LIMIT - len(self.url.prefix.encode()) - 1
        self._options = options
        self.store = client(self.url.scheme, self.url.bucket, options, self.url.prefix)

    def probe(self) -> str:
        """List one page: whoever may not, or names a bucket that isn't there, is told so."""
        import obstore

        try:
            found = len(next(iter(obstore.list(self.store, chunk_size=1000)), []))
        except store_errors() as error:
            raise self._unavailable("list", "", error) from error
        return f"{self.url} answers; {f'{found:,} or more' if found >= 1000 else found} objects there"

    def stage(self, files: int) -> Staging:  # noqa: ARG002 - it is told for what only disks do
        """A batch's objects: encoded in memory, and put when they are all there."""
        return BucketStaging(self)

    def names(self) -> Iterator[str]:
        """The names of all objects, in order."""
        import obstore

        try:
            for page in obstore.list(self.store, chunk_size=1000):
                yield from (found["path"] for found in page)
        except store_errors() as error:
            raise self._unavailable("list", "", error) from error

    def open(self, name: str) -> BinaryIO:
        """The object, read in ranges of several megabytes."""
        import obstore

        try:
            reader = obstore.open_reader(self.store, name, buffer_size=_READ_AHEAD)
        except FileNotFoundError:
            raise FileNotFoundError(name) from None
        except store_errors() as error:
            raise self._unavailable("read", name, error) from error
        return cast("BinaryIO", io.BufferedReader(_Reading(reader)))

    def check(self) -> None:
        """Nothing is known of a bucket until it is asked."""

    def holds(self, file: str) -> bool:
        """Whether there is an object of this name under any prefix: first where it is without partitions."""
        return self._is_there(file) or super().holds(file)

    def put_all(self, objects: list[tuple[str, bytes]]) -> None:
        """Puts each that is absent, several at a time. Raises SinkUnavailable."""
        if len(objects) == 1:
            self._put(objects[0])
            return
        with ThreadPoolExecutor(min(AT_ONCE, len(objects))) as pool:
            for _ in pool.map(self._put, objects):  # the first failure cancels those that wait
                pass

    def _put(self, named: tuple[str, bytes]) -> None:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        name, body = named
        killpoint("sink.before_put")
        try:
            if len(body) >= self._options.multipart_from:
                self._put_in_parts(name, body)
            elif self._options.conditional_put:
                with suppress(AlreadyExistsError):
                    obstore.put(self.store, name, body, mode="create", use_multipart=False)
            elif not self._is_there(name):
                obstore.put(self.store, name, body, use_multipart=False)
        except store_errors() as error:
            raise self._unavailable("write to", name, error) from error
        killpoint("sink.after_put")

    def _put_in_parts(self, name: str, body: bytes) -> None:
        """Checked before, since what obstore offers can't complete an upload on condition.

        Two consumers that do so at the same time put the same bytes, one over the other: readers see either, whole.
        """
        import obstore

        if self._is_there(name):
            return
        size = max(_PART, -(-len(body) // PARTS_LIMIT))

        def parts() -> Iterator[memoryview]:
            for start in range(0, len(body), size):
                killpoint("sink.mid_write")
                yield memoryview(body)[start : start + size]

        obstore.put(self.store, name, parts(), use_multipart=True, chunk_size=size, max_concurrency=4)

    def _is_there(self, name: str) -> bool:
        import obstore

        try:
            obstore.head(self.store, name)
        except FileNotFoundError:
            return False
        except store_errors() as error:
            raise self._unavailable("look for", name, error) from error
        return True

    def _unavailable(self, verb: str, name: str, error: BaseException) -> SinkUnavailable:
        return SinkUnavailable(f"can't {verb} {self.url}{'/' if name else ''}{name}: {told(error)}")


class BucketStaging(Staging):
    """Objects in memory."""

    def __init__(self, bucket: Bucket) -> None:
        super().__init__()
        self._bucket = bucket
        self._objects: list[tuple[str, bytes]] = []

    def add(self, name: str, chunks: Iterable[bytes]) -> None:
        """Takes an object."""
        body = b"".join(chunks)
        self.size += len(body)
        self._objects.append((name, body))

    def commit(self) -> None:
        """Puts all of them. Killed on the way, some are there: the next delivery puts the same ones and the others."""
        self._bucket.put_all(self._objects)

    def drop(self) -> None:
        """Forgets them."""
        self._objects = []


class _Reading(io.RawIOBase):
    """An object as a file of Python's."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return int(self._reader.seek(offset, whence))

    def tell(self) -> int:
        return int(self._reader.tell())

    def readinto(self, buffer: Any, /) -> int:
        try:
            piece = memoryview(self._reader.read(len(buffer)))
        except store_errors() as error:
            raise SinkUnavailable(f"can't read: {told(error)}") from error
        buffer[: len(piece)] = piece
        return len(piece)
