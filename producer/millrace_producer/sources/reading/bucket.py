"""Buckets of object stores, to read from: `s3://`, `gs://`, `az://`, through obstore."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO, cast

from millrace_pipeline.objectstore import StoreOptions, checked_bucket, client, store_errors, told
from millrace_producer.sources.base import SourceRefused, SourceUnavailable

RANGE_BYTES = 4 << 20
"""So much of an object is asked for at once: no connection has to last while the producer is held back."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def checked_url(path: str, store: StoreOptions | None) -> None:
    """Raises ValueError, telling no password, unless it is `scheme://bucket/…` and the options fit it."""
    scheme, _ = checked_bucket(path, "a path on disk")
    if not path.split("://", 1)[1].partition("/")[2].strip("/"):
        raise ValueError("expected the names of objects after the bucket's, such as logs/*.jsonl")
    if store:
        store.check_scheme(scheme)


class Bucket:
    """The bucket of a URL; `path` is what comes after its name. Asks nobody until it is asked.

    Every method raises SourceUnavailable where the store can't be reached or has trouble, SourceRefused where it says
    that the bucket doesn't exist or isn't ours to read.
    """

    def __init__(self, url: str, options: StoreOptions) -> None:
        self._scheme, _, rest = url.partition("://")
        self._name, _, path = rest.partition("/")
        self.path = path.lstrip("/")
        self._store = client(self._scheme, self._name, options)

    def listed(self, prefix: str, behind: str | None) -> Iterator[tuple[str, int, int, str]]:
        """Name, size, time of the last change (ns since 1970) and ETag of each object under a folder, behind a name."""
        import obstore

        try:
            for page in obstore.list(self._store, prefix or None, offset=behind, chunk_size=1000):
                yield from map(_described, page)
        except store_errors() as error:
            raise self._failed("list", prefix, error) from None

    def look(self, name: str) -> tuple[str, int, int, str] | None:
        """The same of one object; None if there is none."""
        import obstore

        try:
            return _described(obstore.head(self._store, name))
        except FileNotFoundError:
            return None
        except store_errors() as error:
            raise self._failed("look for", name, error) from None

    def open(self, name: str, size: int, etag: str) -> BinaryIO:
        """The object with that ETag. Reading it raises SourceUnavailable once another stands in its place."""
        return cast(BinaryIO, io.BufferedReader(_Ranges(self, name, size, etag), RANGE_BYTES))

    def range(self, name: str, start: int, end: int, etag: str) -> memoryview:
        """Some bytes of an object, if it is still the same."""
        import obstore
        from obstore.exceptions import PreconditionError

        try:
            return memoryview(
                obstore.get(self._store, name, options={"range": (start, end), "if_match": etag or None}).bytes()
            )
        except (FileNotFoundError, PreconditionError):
            raise SourceUnavailable(f"{self._url(name)} was replaced or removed while it was read") from None
        except store_errors() as error:
            raise self._failed("read", name, error) from None

    def _url(self, name: str) -> str:
        return f"{self._scheme}://{self._name}/{name}"

    def _failed(self, verb: str, name: str, error: BaseException) -> SourceUnavailable | SourceRefused:
        from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

        reason = told(error)
        lasting = isinstance(error, FileNotFoundError | PermissionError | PermissionDeniedError | UnauthenticatedError)
        kind = SourceRefused if lasting or re.match("40[134] ", reason) else SourceUnavailable
        return kind(f"can't {verb} {self._url(name)}: {reason}")


class _Ranges(io.RawIOBase):
    """An object as a file of Python's."""

    def __init__(self, bucket: Bucket, name: str, size: int, etag: str) -> None:
        self._bucket = bucket
        self._name = name
        self._size = size
        self._etag = etag
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        piece = self._bucket.range(self._name, self._at, end, self._etag)
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def _described(found: Any) -> tuple[str, int, int, str]:
    changed = (found["last_modified"] - _EPOCH) // timedelta(microseconds=1) * 1000
    return found["path"], found["size"], changed, found["e_tag"] or found["version"] or f"{found['size']}-{changed}"
