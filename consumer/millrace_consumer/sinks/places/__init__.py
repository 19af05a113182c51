"""Places: where a sink's files go. Every sink that writes files gets each of them.

| file | the place |
|---|---|
| `disk.py` | a directory: hidden file, sync, rename, sync |
| `bucket.py` | a bucket of an object store: put if absent |
"""

from __future__ import annotations

from millrace_consumer.sinks.places.base import Place
from millrace_consumer.sinks.places.disk import Disk
from millrace_consumer.sinks.places.store import Store
from millrace_pipeline.objectstore import is_url

__all__ = ["Place", "place_of"]


def place_of(path: str, store: Store | None) -> Place:
    """The place that a sink's `path` names. Raises ConfigError where it takes a library that isn't there."""
    if not is_url(path):
        return Disk(path)
    from millrace_consumer.sinks.places.bucket import Bucket  # loads nothing for those who write to a disk

    return Bucket(path, store or Store())
