"""How an object store is reached: the options of every sink whose path may be a URL."""

from __future__ import annotations

import re
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from pipeline.units import Duration, Size

SCHEMES = ("s3", "gs", "az")
"""Amazon S3 and what speaks as it does, Google Cloud Storage, Azure Blob Storage."""

_ONLY_S3 = ("region", "access_key_id", "secret_access_key", "session_token")


class Store(BaseModel):
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
    conditional_put: Annotated[
        bool,
        Field(
            description="Let the store itself refuse a second object of one name (If-None-Match). Where it can't, say "
            "false: then its presence is checked before."
        ),
    ] = True
    multipart_from: Annotated[Size, Field(ge=5 << 20, description="Objects of this size on are sent in parts.")] = (
        64 << 20
    )
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
    def _plain_http_is_meant(self) -> Store:
        if self.endpoint and self.endpoint.startswith("http:") and not self.allow_http:
            raise ValueError("endpoint is plain http: add `allow_http: true` if that is meant, else say https")
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key belong together")
        return self

    def checked_for(self, path: str | None) -> Store:
        """These options, if a path takes them. Raises ValueError."""
        if path is None:  # it was refused itself
            return self
        if not is_url(path):
            raise ValueError("it is for a path that begins with s3://, gs:// or az://")
        scheme = url_of(path).scheme
        for option in _ONLY_S3:
            if scheme != "s3" and getattr(self, option) is not None:
                raise ValueError(f"{option} is for s3://; for {scheme}:// it is taken from the environment")
        return self


class Url(NamedTuple):
    """`s3://bucket/prefix`, in parts."""

    scheme: str
    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")


def is_url(path: str) -> bool:
    """Whether it is the address of objects, and not a path on disk."""
    return "://" in path


def url_of(path: str) -> Url:
    """The address in parts. Raises ValueError where it is none of an object store."""
    parts = urlsplit(path)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"expected a directory, or a URL that begins with {', '.join(f'{s}://' for s in SCHEMES)}")
    if not parts.netloc or not parts.netloc.isprintable() or set(parts.netloc) & set(" @:"):
        raise ValueError(f"expected {parts.scheme}:// and the name of a bucket: credentials go into `store`")
    steps = path.split("://", 1)[1].split("/")[1:]
    prefix = "/".join(step for step in steps if step)
    if set(steps) & {".", ".."} or not prefix.isprintable():
        raise ValueError("expected a plain prefix after the bucket's name")
    return Url(parts.scheme, parts.netloc, prefix)


def s3_options(options: Store) -> dict[str, Any]:
    """What was said of S3, by the names that it has in the libraries; the rest they take from the environment."""
    said = {
        "endpoint": options.endpoint,
        "region": options.region,
        "access_key_id": options.access_key_id,
        "secret_access_key": options.secret_access_key and options.secret_access_key.get_secret_value(),
        "session_token": options.session_token and options.session_token.get_secret_value(),
    }
    return {name: value for name, value in said.items() if value is not None}


def told(error: Exception) -> str:
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
