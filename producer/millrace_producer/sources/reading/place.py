"""A place in files: the position of the files source."""

from __future__ import annotations

import msgspec

from millrace_producer.sources.base import Position, SourceRefused


class FilePlace(msgspec.Struct, omit_defaults=True, frozen=True):
    """Behind a record of a file. Small however many files there are: those before it in their order are done."""

    file: str
    """Its name, as the listing shows it."""
    offset: int | None
    """Bytes (unpacked), or rows of Parquet, up to here. None: all of it, though it couldn't be read to its end."""
    mark: str
    """What tells its content from any other under the same name."""
    changed: int | None = None
    """When the file was changed last, in nanoseconds since 1970: what goes before it, where they are read by time."""
    inode: int | None = None
    """Of a file that is followed, to find it again under another name."""


def place_of(position: Position | None) -> FilePlace | None:
    """A checkpoint as Redis gave it back. Raises SourceRefused for that of another kind of source."""
    if position is None:
        return None
    try:
        return msgspec.convert(position, FilePlace)
    except msgspec.ValidationError as error:
        raise SourceRefused(f"the checkpoint is not a place in a file: {error}") from None
