"""What all sinks have in common whose output is files: a path, on disk or in a bucket."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator

from millrace_consumer.sinks.base import Sink
from millrace_consumer.sinks.places.store import Store, url_of
from millrace_pipeline.objectstore import is_url


class PlacedSink(Sink):
    """Writes below its path."""

    path: Annotated[
        str,
        Field(
            description="The directory to write to, made where there is none; or s3://bucket/prefix, gs:// or az://."
        ),
    ]
    store: Annotated[Store | None, Field(description="How to reach the object store that `path` is in.")] = None

    @field_validator("path", mode="before")
    @classmethod
    def _path_is_text(cls, path: Any) -> Any:
        return str(path) if isinstance(path, Path) else path

    @field_validator("path")
    @classmethod
    def _path_is_a_place(cls, path: str) -> str:
        if is_url(path):
            url_of(path)
        return path

    @field_validator("store")
    @classmethod
    def _store_is_of_the_path(cls, store: Store | None, info: ValidationInfo) -> Store | None:
        return store and store.checked_for(info.data.get("path"))
