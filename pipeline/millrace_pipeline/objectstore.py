"""Object stores: how one is reached, for whoever reads objects or writes them."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.extras import need
from millrace_pipeline.flows.units import Duration
from millrace_pipeline.proxy import ProxyOption, of_an_object_store

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES = ("s3", "gs", "az")
"""Amazon S3 and what speaks as it does, Google Cloud Storage, Azure Blob Storage."""

_ONLY_S3 = ("region", "access_key_id", "secret_access_key", "session_token")

_BRIEFLY = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}
"""For one request. What lasts longer is the runner's to wait for."""


class StoreOptions(ProxyOption):
    """How to reach an object store. What isn't said here is taken from the environment, where its own tools look."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    endpoint: Annotated[
        str | None, Field(description="The address of the service, for one that isn't Amazon's, Google's or Azure's.")
    ] = None
    region: Annotated[str | None, Field(description="The bucket's region; s3 only.")] = None
    access_key_id: Annotated[str | None, Field(description="Name of the key to sign with; s3 only.")] = None
    secret_access_key: Annotated[SecretStr | None, Field(description="The key itself; s3 only.")] = None
    session_token: Annotated[SecretStr | None, Field(description="Goes with temporary keys; s3 only.")] = None
    allow_http: Annotated[
        bool, Field(description="Whether the endpoint may be plain http: what is sent there can be read on the way.")
    ] = False
    timeout: Annotated[Duration, Field(gt=0, description="Longest time for one request, with its answer.")] = 60.0

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
    def _plain_http_is_meant(self) -> StoreOptions:
        if self.endpoint and self.endpoint.startswith("http:") and not self.allow_http:
            raise ValueError("endpoint is plain http: add `allow_http: true` if that is meant, else say https")
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key belong together")
        return self

    def check_scheme(self, scheme: str) -> None:
        """Raises ValueError for options that a store of this kind doesn't take."""
        for option in _ONLY_S3:
            if scheme != "s3" and getattr(self, option) is not None:
                raise ValueError(f"{option} is for s3://; for {scheme}:// it is taken from the environment")


def is_url(path: str) -> bool:
    """Whether it is the address of objects, and not a path on disk."""
    return "://" in path


def checked_bucket(url: str, otherwise: str) -> tuple[str, str]:
    """Scheme and bucket of a URL. Raises ValueError, telling no password, where it is none of an object store.

    `otherwise` is what else was possible there, such as "a directory".
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"expected {otherwise}, or a URL that begins with {', '.join(f'{s}://' for s in SCHEMES)}")
    if not parts.netloc or not parts.netloc.isprintable() or set(parts.netloc) & set(" @:"):
        raise ValueError(f"expected {parts.scheme}:// and the name of a bucket: credentials go into `store`")
    return parts.scheme, parts.netloc


def client(scheme: str, bucket: str, options: StoreOptions, prefix: str | None = None) -> ObjectStore:
    """A client for a bucket, or what it holds under a prefix. Asks nobody yet. Raises ConfigError."""
    need("obstore", "objects", f"{scheme}://")
    from obstore.store import AzureStore, GCSStore, S3Store

    family = {"s3": "AWS", "gs": "GOOGLE", "az": "AZURE"}[scheme]
    plain = options.allow_http or os.environ.get(f"{family}_ALLOW_HTTP", "").lower() in ("true", "1")
    common: dict[str, Any] = {
        "client_options": {
            "timeout": timedelta(seconds=options.timeout),
            "allow_http": plain,
            **of_an_object_store(options.proxy),
        },
        "retry_config": _BRIEFLY,
        "prefix": prefix or None,
    }
    name = "base_url" if scheme == "gs" else "endpoint"
    endpoint: dict[str, Any] = {name: options.endpoint} if options.endpoint else {}
    try:
        if scheme == "gs":
            return GCSStore(bucket, **common, **endpoint)
        if scheme == "az":
            return AzureStore(bucket, **common, **endpoint)
        return S3Store(bucket, **common, **s3_options(options))
    except store_errors() as error:
        raise ConfigError(f"{scheme}://{bucket}: {told(error)}") from None


def s3_options(options: StoreOptions) -> dict[str, Any]:
    """What was said of S3, by the names that it has in the libraries; the rest they take from the environment."""
    said = {
        "endpoint": options.endpoint,
        "region": options.region,
        "access_key_id": options.access_key_id,
        "secret_access_key": options.secret_access_key and options.secret_access_key.get_secret_value(),
        "session_token": options.session_token and options.session_token.get_secret_value(),
    }
    return {name: value for name, value in said.items() if value is not None}


def store_errors() -> tuple[type[BaseException], ...]:
    """What obstore raises: its own, and Python's where they say the same; and a panic of its Rust.

    To be asked for where an error is caught, since the kind of a panic isn't known before the first.
    """
    from obstore.exceptions import BaseError

    return (BaseError, OSError, ValueError, *panics())


def panics() -> tuple[type[BaseException], ...]:
    """What a library written in Rust raises where it is at its wits' end, which is no `Exception`."""
    return tuple(kind for kind in BaseException.__subclasses__() if kind.__name__ == "PanicException")


def told(error: BaseException) -> str:
    """What a store said, in one line: without the debugging view, and without queries, which may hold signatures."""
    text = str(error)
    status = re.search(r"status code: (\d+ [A-Za-z ]+)", text)
    code = re.search(r"<Code>(\w+)</Code>", text)
    if status:
        return status[1].strip() + (f", {code[1]}" if code else "")
    line = text.split("\n", 1)[0].rpartition(" - ")[2]
    if line.endswith("builder error"):
        return "its address can't be used: if it is plain http, say `allow_http: true`"
    return re.sub(r"\?\S+", "?…", line)[:300]
