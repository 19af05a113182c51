"""Buckets of object stores, to read from: `s3://`, `gs://`, `az://`, through obstore."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from pipeline.errors import ConfigError
from pipeline.extras import need
from pipeline.units import Duration
from producer.sources.base import SourceRefused, SourceUnavailable

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES = ("s3", "gs", "az")
"""Amazon S3 and what speaks as it does, Google Cloud Storage, Azure Blob Storage."""

RANGE_BYTES = 4 << 20
"""So much of an object is asked for at once: no connection has to last while the producer is held back."""

_BRIEFLY = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}
"""Within one call. What lasts longer is the runner's to wait for."""

_ONLY_S3 = ("region", "access_key_id", "secret_access_key", "session_token")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Store(BaseModel):
    """How to reach an object store. What isn't said here is taken from the environment, where its own tools look."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    endpoint: str | None = Field(
        default=None, description="The address of the service, for one that isn't Amazon's, Google's or Azure's."
    )
    region: str | None = Field(default=None, description="The bucket's region; s3 only.")
    access_key_id: str | None = Field(default=None, description="Name of the key to sign with; s3 only.")
    secret_access_key: SecretStr | None = Field(default=None, description="The key itself; s3 only.")
    session_token: SecretStr | None = Field(default=None, description="Goes with temporary keys; s3 only.")
    allow_http: bool = Field(
        default=False,
        description="Whether the endpoint may be plain http: what is sent there can be read on the way.",
    )
    timeout: Duration = Field(default=60.0, gt=0, description="Longest time for one request, with its answer.")

    @field_validator("endpoint")
    @classmethod
    def _endpoint_is_an_address(cls, endpoint: str | None) -> str | None:
        if endpoint is not None:
            parts = urlsplit(endpoint)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("expected an address such as https://s3.example.org")
            if "@" in parts.netloc or parts.query:
                raise ValueError("expected no user, password or query in it: use access_key_id and secret_access_key")
        return endpoint

    @model_validator(mode="after")
    def _what_belongs_together(self) -> Store:
        if self.endpoint and self.endpoint.startswith("http:") and not self.allow_http:
            raise ValueError("endpoint is plain http: add `allow_http: true` if that is meant, else say https")
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key belong together")
        return self


def checked_url(path: str, store: Store | None) -> None:
    """Raises ValueError, with no part of a password, unless it is `scheme://bucket/…` and the options fit it."""
    parts = urlsplit(path)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"expected a path on disk, or a URL that begins with {', '.join(f'{s}://' for s in SCHEMES)}")
    if not parts.netloc or set(parts.netloc) & set(" @:"):
        raise ValueError(f"expected {parts.scheme}:// and the name of a bucket: credentials go into `store`")
    if not path.split("://", 1)[1].partition("/")[2].strip("/"):
        raise ValueError("expected the names of objects after the bucket's, such as logs/*.jsonl")
    for option in _ONLY_S3:
        if store and parts.scheme != "s3" and getattr(store, option) is not None:
            raise ValueError(f"store.{option} is for s3://; for {parts.scheme}:// it is taken from the environment")


class Bucket:
    """The bucket of a URL; `path` is what comes after its name. Asks nobody until it is asked.

    Every method raises SourceUnavailable where the store can't be reached or has trouble, SourceRefused where it says
    that the bucket doesn't exist or isn't ours to read.
    """

    def __init__(self, url: str, options: Store) -> None:
        self._scheme, _, rest = url.partition("://")
        self._name, _, path = rest.partition("/")
        self.path = path.lstrip("/")
        need("obstore", "objects", f"source files with {self._scheme}://")
        self._store = self._connect(options)

    def listed(self, prefix: str, behind: str | None) -> Iterator[tuple[str, int, int, str]]:
        """Name, size, time of the last change (ns since 1970) and ETag of each object under a folder, behind a name."""
        import obstore

        try:
            for page in obstore.list(self._store, prefix or None, offset=behind, chunk_size=1000):
                yield from map(_described, page)
        except _errors() as error:
            raise self._failed("list", prefix, error) from None

    def look(self, name: str) -> tuple[str, int, int, str] | None:
        """The same of one object; None if there is none."""
        import obstore

        try:
            return _described(obstore.head(self._store, name))
        except FileNotFoundError:
            return None
        except _errors() as error:
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
        except _errors() as error:
            raise self._failed("read", name, error) from None

    def _connect(self, options: Store) -> ObjectStore:
        from obstore.store import AzureStore, GCSStore, S3Store

        client: dict[str, Any] = {"timeout": timedelta(seconds=options.timeout)}
        common: dict[str, Any] = {
            "client_options": client | ({"allow_http": True} if options.allow_http else {}),
            "retry_config": _BRIEFLY,
        }
        try:
            if self._scheme == "s3":
                return S3Store(self._name, **common, **_said_of_s3(options))
            elsewhere: dict[str, Any] = {"base_url" if self._scheme == "gs" else "endpoint": options.endpoint}
            store = GCSStore if self._scheme == "gs" else AzureStore
            return store(self._name, **common, **(elsewhere if options.endpoint else {}))
        except _errors() as error:
            raise ConfigError(f"{self._url('')}: {_told(error)}") from None

    def _url(self, name: str) -> str:
        return f"{self._scheme}://{self._name}/{name}"

    def _failed(self, verb: str, name: str, error: Exception) -> SourceUnavailable | SourceRefused:
        from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

        told = _told(error)
        lasting = isinstance(error, FileNotFoundError | PermissionError | PermissionDeniedError | UnauthenticatedError)
        kind = SourceRefused if lasting or re.match("40[134] ", told) else SourceUnavailable
        return kind(f"can't {verb} {self._url(name)}: {told}")


def _said_of_s3(options: Store) -> dict[str, Any]:
    """What the options say of S3; the rest is taken from the environment."""
    secrets = {name: getattr(options, name) for name in ("secret_access_key", "session_token")}
    said = {name: getattr(options, name) for name in ("endpoint", "region", "access_key_id")}
    said |= {name: secret and secret.get_secret_value() for name, secret in secrets.items()}
    return {name: value for name, value in said.items() if value is not None}


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


def _told(error: Exception) -> str:
    """What a store said, in one line: without the debugging view, and without queries, which may hold signatures."""
    text = str(error)
    status = re.search(r"status code: (\d+ [A-Za-z ]+)", text)
    code = re.search(r"<Code>(\w+)</Code>", text)
    if status:
        return status[1].strip() + (f", {code[1]}" if code else "")
    line = text.split("\n", 1)[0].rpartition(" - ")[2]
    return re.sub(r"\?\S+", "?…", line)[:300]


def _errors() -> tuple[type[Exception], ...]:
    """What obstore raises: its own, and Python's where they say the same."""
    from obstore.exceptions import BaseError

    return (BaseError, OSError, ValueError)
