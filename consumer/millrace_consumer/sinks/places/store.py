"""Where in an object store a sink writes, and how: the options of every sink whose path may be a URL."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import Field

from millrace_pipeline.flows.units import Size
from millrace_pipeline.objectstore import StoreOptions, checked_bucket, is_url


class Store(StoreOptions):
    """How to reach an object store and write to it. What isn't said here is taken from the environment."""

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

    def checked_for(self, path: str | None) -> Store:
        """These options, if a path takes them. Raises ValueError."""
        if path is None:  # it was refused itself
            return self
        if not is_url(path):
            raise ValueError("it is for a path that begins with s3://, gs:// or az://")
        self.check_scheme(url_of(path).scheme)
        return self


class Url(NamedTuple):
    """`s3://bucket/prefix`, in parts."""

    scheme: str
    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")


def url_of(path: str) -> Url:
    """The address in parts. Raises ValueError where it is none of an object store."""
    scheme, bucket = checked_bucket(path, "a directory")
    steps = path.split("://", 1)[1].split("/")[1:]
    prefix = "/".join(step for step in steps if step)
    if set(steps) & {".", ".."} or not prefix.isprintable():
        raise ValueError("expected a plain prefix after the bucket's name")
    return Url(scheme, bucket, prefix)
