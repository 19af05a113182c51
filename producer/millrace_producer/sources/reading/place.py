"""A place in files: the position of the files source."""

from __future__ import annotations

from math import inf

import msgspec

from millrace_producer.sources.base import Position, SourceRefused
from millrace_producer.sources.reading.lines import HEAD_BYTES

CHECKSUM = 8
"""So long is the mark of a file that may grow."""


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


def is_behind(position: Position, checkpoint: Position) -> bool:
    """Return True where the record at this position was read before the checkpoint, in files that are read by name."""
    at, up_to = place_of(position), place_of(checkpoint)
    assert at is not None
    assert up_to is not None
    if at.file != up_to.file:
        return at.file < up_to.file
    if at.mark != up_to.mark:
        # Of a file that may grow it is the checksum of its first bytes, as far as they were read by then.
        young = len(at.mark) == len(up_to.mark) == CHECKSUM and min(_end(at), _end(up_to)) < HEAD_BYTES
        if not young:
            return False  # it is another file by now
    return _end(at) <= _end(up_to)


def _end(place: FilePlace) -> float:
    return inf if place.offset is None else place.offset
